//! What customers are told: each thing once, where they want it, whoever dies or says no on the way.

use std::collections::BTreeSet;

use kontor_domain::{Email, Order, PersonName, Phone};
use kontor_domain::{OrderCommand, OrderId, ReturnLine, User, UserCommand, UserId};
use kontor_eventstore::{Actor, CommandContext, read};
use kontor_tests::children::kontor;
use kontor_tests::examples::{gbp, pieces, reason};
use kontor_tests::smtp::mails_in;
use kontor_tests::{Item, Opening, Shop, eventually};

use crate::HELPER;

mod mail;
mod proving;
mod sms;
mod trust;

/// One row of the record.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Row {
    position: i64,
    channel: String,
    occasion: String,
    state: String,
    attempts: i32,
    last_error: Option<String>,
    message_id: String,
}

pub(crate) async fn record(shop: &Shop) -> Vec<Row> {
    sqlx::query_as(
        "SELECT position, channel, occasion, state, attempts, last_error, message_id FROM notifications
         ORDER BY position, channel",
    )
    .fetch_all(&shop.pool)
    .await
    .unwrap()
}

/// Waits until nothing is left to be sent; the record then.
pub(crate) async fn all_told(shop: &Shop) -> Vec<Row> {
    shop.caught_up().await;
    eventually("every notification is sent or given up", async || {
        let rows = record(shop).await;
        rows.iter().all(|row| row.state != "WAITING").then_some(rows)
    })
    .await
}

/// Waits until nothing is left to be sent; how many mails were, and no other was given up or skipped.
pub(crate) async fn mails_sent(shop: &Shop) -> usize {
    let rows = all_told(shop).await;
    let mails = of(&rows, "EMAIL");
    assert!(mails.iter().all(|row| row.state == "SENT"), "{mails:#?}");
    mails.len()
}

fn of<'a>(rows: &'a [Row], channel: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.channel == channel).collect()
}

/// Somebody who can be called; the mail address decides what the mail server of the tests does.
pub(crate) async fn somebody(shop: &Shop, email: &str, phone: Option<&str>) -> UserId {
    let id = UserId::from_ulid(shop.store.ids().next());
    let register = UserCommand::Register {
        email: email.parse::<Email>().unwrap().into(),
        name: "Ada Customer".parse::<PersonName>().unwrap().into(),
        phone: phone.map(|phone| phone.parse::<Phone>().unwrap().into()),
        password_hash: None,
    };
    shop.send::<User>(id, register).await;
    id
}

pub(crate) async fn choose(shop: &Shop, id: UserId, email: bool, sms: bool) {
    shop.send::<User>(id, UserCommand::ChooseChannels { email, sms })
        .await;
}

/// What a mail program makes of quoted-printable (RFC 2045).
fn readable(mail: &str) -> String {
    mail.replace("=\n", "").replace("=3D", "=")
}

/// An order that was delivered, and of which a piece came back.
async fn returned(shop: &Shop, customer: UserId, item: &Item) -> OrderId {
    let order = shop.order(customer, &[(item, 2)]).await;
    shop.until_status(order, "CONFIRMED").await;
    let ship = OrderCommand::Ship {
        tracking_number: "TRACK-1".parse().unwrap(),
        carrier: Some("Hermes".parse().unwrap()),
    };
    shop.send::<Order>(order, ship).await;
    shop.send::<Order>(order, OrderCommand::Deliver).await;
    let returning = |refund| OrderCommand::ReturnItems {
        lines: vec![ReturnLine {
            line: 0,
            quantity: pieces(1),
        }],
        refund: gbp(refund),
        reason: reason("broken"),
        restock: false,
    };
    shop.send::<Order>(order, returning(4_00)).await;
    // For nothing: nobody is told.
    shop.send::<Order>(order, returning(0)).await;
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_occasion_of_an_order_is_told_once_by_mail() {
    let shop = Shop::start().await;
    let lamp = shop
        .product("LAMP")
        .name("Brass Lamp")
        .price(10_00)
        .stock(5)
        .await;
    let customer = somebody(&shop, "ada@example.com", None).await;
    let there_and_back = returned(&shop, customer, &lamp).await;
    let too_many = shop.order(customer, &[(&lamp, 5)]).await;
    shop.until_status(too_many, "REJECTED").await;
    let called_off = shop.order(customer, &[(&lamp, 1)]).await;
    shop.until_status(called_off, "CONFIRMED").await;
    let cancel = OrderCommand::Cancel {
        reason: reason("changed my mind"),
    };
    shop.send::<Order>(called_off, cancel).await;

    let rows = all_told(&shop).await;
    let mails = mails_in(shop.outbox());
    let a = there_and_back;
    let expected = [
        (
            "REGISTERED",
            "Welcome to Kontor".to_owned(),
            "Your account is open",
        ),
        (
            "ORDER_CONFIRMED",
            format!("Your order {a} is confirmed"),
            "  2 x Brass Lamp (LAMP), 10.00 GBP each: 20.00 GBP\n",
        ),
        (
            "ORDER_SHIPPED",
            format!("Your order {a} is on its way"),
            "Carrier:         Hermes\nTracking number: TRACK-1\n",
        ),
        (
            "ORDER_DELIVERED",
            format!("Your order {a} was delivered"),
            "  Total: 20.00 GBP\n",
        ),
        (
            "ORDER_REFUNDED",
            format!("Refund for your order {a}"),
            "We pay back 4.00 GBP for your order. So far you have been paid back 4.00 GBP of 20.00 GBP.",
        ),
        (
            "ORDER_REJECTED",
            format!("Your order {too_many} could not be accepted"),
            "  Brass Lamp: 5 wanted, 3 left\n",
        ),
        (
            "ORDER_CONFIRMED",
            format!("Your order {called_off} is confirmed"),
            "  Total: 10.00 GBP\n",
        ),
        (
            "ORDER_CANCELLED",
            format!("Your order {called_off} is cancelled"),
            "Your order is cancelled: changed my mind.",
        ),
    ];
    let sent = of(&rows, "EMAIL");
    assert_eq!(sent.len(), expected.len(), "{rows:#?}");
    assert_eq!(mails.len(), expected.len());
    for ((row, mail), (occasion, subject, says)) in sent.iter().zip(&mails).zip(&expected) {
        assert_eq!(
            (row.occasion.as_str(), row.state.as_str(), row.attempts),
            (*occasion, "SENT", 1)
        );
        for line in [
            format!("Message-ID: <{}@example.com>\n", row.message_id),
            format!("Subject: {subject}\n"),
            "From: Kontor <kontor@example.com>\n".to_owned(),
            "To: \"Ada Customer\" <ada@example.com>\n".to_owned(),
            "Auto-Submitted: auto-generated\n".to_owned(),
            "Hello Ada Customer,".to_owned(),
            "<p>Hello Ada Customer,</p>".to_owned(),
        ] {
            assert!(mail.contains(&line), "{line} is missing in:\n{mail}");
        }
        assert!(readable(mail).contains(says), "{says} is missing in:\n{mail}");
    }
    assert_eq!(of(&rows, "SMS").len(), 0, "nobody asked for SMS");
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_are_told_where_they_want_it_and_by_sms_only_with_a_number() {
    let shop = Shop::quiet().await;
    for (email, phone, by_mail, by_sms) in [
        ("both@example.com", Some("+49 40 1"), true, true),
        ("sms@example.com", Some("+49 40 2"), false, true),
        ("no-number@example.com", None, false, true),
        ("neither@example.com", Some("+49 40 3"), false, false),
        ("usual@example.com", Some("+49 40 4"), true, false),
    ] {
        let id = somebody(&shop, email, phone).await;
        choose(&shop, id, by_mail, by_sms).await;
    }
    let worker = shop.branch(Opening::default()).await;
    let rows = all_told(&worker).await;
    let states = |channel| {
        of(&rows, channel)
            .iter()
            .map(|row| row.state.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(states("EMAIL"), ["SENT", "SENT"]);
    assert_eq!(states("SMS"), ["SENT", "SENT", "SKIPPED"]);
    let why = of(&rows, "SMS")[2].last_error.clone();
    assert_eq!(why.as_deref(), Some("the account has no phone number"));
    let sms =
        std::fs::read_to_string(shop.outbox().join(format!("{:012}.sms.txt", rows[1].position))).unwrap();
    assert_eq!(
        sms,
        format!(
            "To: +49 40 1\nMessage-ID: {}\n\nKontor: your account is open. Welcome!\n",
            rows[1].message_id
        )
    );
    assert_eq!(std::fs::read_dir(shop.outbox()).unwrap().count(), 4);
    worker.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_noted_once_however_often_it_comes_and_history_not_at_all() {
    let shop = Shop::quiet().await;
    let customer = shop.customer().await;
    let imported = UserId::from_ulid(shop.store.ids().next());
    let register = UserCommand::Register {
        email: "old@example.com".parse::<Email>().unwrap().into(),
        name: "An Old Customer".parse::<PersonName>().unwrap().into(),
        phone: None,
        password_hash: None,
    };
    let mut then = CommandContext::new(
        "import/1".to_owned(),
        Actor::System("import"),
        shop.runtime.clock.now(),
    );
    then.backdated = true;
    shop.store.create::<User>(imported, register, then).await.unwrap();

    let consumers = shop.runtime.consumers();
    let notifications = consumers.iter().find(|it| it.name() == "notifications").unwrap();
    let events: Vec<_> = read::read(&shop.pool, 0, 10).await.unwrap();
    let events: Vec<_> = events.into_iter().map(std::sync::Arc::new).collect();
    assert_eq!(events.len(), 2);
    let mut connection = shop.pool.acquire().await.unwrap();
    for _ in 0..2 {
        let parked = notifications.handle(&mut connection, &events).await.unwrap();
        assert_eq!(parked, []);
    }
    let rows = record(&shop).await;
    let users: Vec<String> = sqlx::query_scalar("SELECT user_id FROM notifications")
        .fetch_all(&shop.pool)
        .await
        .unwrap();
    assert_eq!(users, [customer.to_string()]);
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.message_id.as_str()).collect();
    let log = shop.store.incarnation();
    assert_eq!(ids, BTreeSet::from([&*format!("1.email.{log}")]));

    // Who chose otherwise before it was sent is not written to.
    choose(&shop, customer, false, false).await;
    let worker = shop.branch(Opening::default()).await;
    let rows = all_told(&worker).await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| (&*row.state, row.last_error.as_deref()))
        .collect();
    assert_eq!(told, [("SKIPPED", Some("the customer does not want it here"))]);
    assert_eq!(mails_in(shop.outbox()).len(), 0);
    worker.close().await;
    shop.finish().await;
}

/// The migration that brings notifications to a shop that was open before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_that_learns_to_notify_does_not_begin_with_its_past() {
    let shop = Shop::quiet().await;
    shop.customer().await;
    let migration = include_str!("../../../migrations/0007_notifications.sql");
    let (_, last) = migration.split_once("-- A shop that was open before").unwrap();
    let begin = &last[last.find("INSERT").unwrap()..];
    sqlx::query("DELETE FROM checkpoints WHERE consumer = 'notifications'")
        .execute(&shop.pool)
        .await
        .unwrap();
    sqlx::query(begin).execute(&shop.pool).await.unwrap();
    let worker = shop.branch(Opening::default()).await;
    let newcomer = worker.customer().await;
    all_told(&worker).await;
    let told: Vec<String> = sqlx::query_scalar("SELECT DISTINCT user_id FROM notifications")
        .fetch_all(&shop.pool)
        .await
        .unwrap();
    assert_eq!(told, [newcomer.to_string()]);
    worker.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuilding_views_sends_nothing() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(5).await;
    let customer = shop.customer().await;
    let order = shop.order(customer, &[(&lamp, 1)]).await;
    shop.until_status(order, "CONFIRMED").await;
    let before = all_told(&shop).await;
    assert_eq!(mails_in(shop.outbox()).len(), 2);
    for file in std::fs::read_dir(shop.outbox()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let replayed = kontor(HELPER, &shop, &["replay"], &[]).await;
    assert_eq!(replayed.code, Some(0), "{}", replayed.complained);
    // Whatever the rebuild might have set off comes before this.
    shop.ship(order).await;
    let after = all_told(&shop).await;
    assert_eq!(after[..before.len()], before);
    assert_eq!(after.len(), before.len() + 1);
    let mails = mails_in(shop.outbox());
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains(&format!("Subject: Your order {order} is on its way\n")));
    shop.finish().await;
}

/// After whatever happened: everything worth telling is in the record once, and sent, and each mail is there.
pub(crate) async fn all_is_told_once(shop: &Shop) {
    let rows = all_told(shop).await;
    let worth: Vec<i64> = sqlx::query_scalar(
        "SELECT position FROM events
         WHERE event_type IN ('Registered', 'Confirmed', 'Rejected', 'Cancelled', 'Shipped', 'Delivered',
                              'PaymentActionRequired') ORDER BY 1",
    )
    .fetch_all(&shop.pool)
    .await
    .unwrap();
    let told: Vec<i64> = rows.iter().map(|row| row.position).collect();
    assert_eq!(told, worth);
    let states: BTreeSet<(&str, &str)> = rows.iter().map(|row| (&*row.channel, &*row.state)).collect();
    assert_eq!(states, BTreeSet::from([("EMAIL", "SENT")]));
    assert_eq!(mails_in(shop.outbox()).len(), worth.len());
}
