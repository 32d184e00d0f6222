//! Mail by SMTP, against a server that refuses, dawdles and dies.

use std::time::Duration;

use kontor_fulfilment::notifications::{self, Channel, Counts, MailBy, NotificationId, NotificationsConfig};
use kontor_tests::children::kontor;
use kontor_tests::smtp::{MailServer, mails_in};
use kontor_tests::{Opening, PATIENCE, Shop, eventually};

use super::{Row, all_told, of, record, somebody};
use crate::HELPER;

/// By that server, with so little patience that a test sees it end.
pub(super) fn by(url: &str) -> NotificationsConfig {
    NotificationsConfig {
        mail: MailBy::Smtp(url.into()),
        mail_from: "The Shop <shop@kontor.example>".to_owned(),
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(50),
        time_limit: PATIENCE,
        open_for: Duration::from_millis(50),
        // Into a folder only what is no mail.
        ..NotificationsConfig::to_outbox(std::env::temp_dir())
    }
}

/// A shop whose mails go to that server.
pub(super) async fn shop_by(post: NotificationsConfig) -> Shop {
    Opening::default().post(post).open().await
}

fn mail_of(rows: &[Row]) -> Row {
    let mails = of(rows, "EMAIL");
    assert_eq!(mails.len(), 1, "{rows:#?}");
    mails[0].clone()
}

/// The only mail in the record, once its state is this.
async fn until(shop: &Shop, state: &str) -> Row {
    eventually(&format!("the mail is {state}"), async || {
        let rows = record(shop).await;
        rows.iter()
            .find(|row| row.channel == "EMAIL" && row.state == state)
            .cloned()
    })
    .await
}

fn message_id(row: &Row) -> String {
    format!("Message-ID: <{}@kontor.example>\n", row.message_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_go_to_a_mail_server_with_login_and_all_over_few_connections() {
    let server = MailServer::with_login().await;
    let shop = shop_by(by(&server.url("kontor:p%40ss%2Fword@"))).await;
    for n in 0..40 {
        somebody(&shop, &format!("customer-{n}@example.com"), None).await;
    }
    let rows = all_told(&shop).await;
    for row in of(&rows, "EMAIL") {
        assert_eq!((row.state.as_str(), row.attempts), ("SENT", 1), "{row:?}");
    }
    let mails = server.mails();
    assert_eq!(mails.len(), 40);
    for row in of(&rows, "EMAIL") {
        let mine: Vec<_> = mails
            .iter()
            .filter(|mail| mail.contains(&message_id(row)))
            .collect();
        assert_eq!(mine.len(), 1);
        for part in [
            "From: \"The Shop\" <shop@kontor.example>\n",
            "Subject: Welcome to The Shop\n",
            "multipart/alternative",
        ] {
            assert!(mine[0].contains(part), "{part} is missing in:\n{}", mine[0]);
        }
    }
    assert_eq!(mails_in(shop.outbox()), [] as [String; 0]);
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_missing_encryption_are_not_the_mails_fault() {
    for (login, options, error) in [
        ("kontor:wrong@", "", "no mail server: smtp answered 535 5.7.8"),
        ("", "?tls=required", "no mail server: smtp: "),
    ] {
        let server = MailServer::with_login().await;
        let shop = shop_by(by(&format!("{}{options}", server.url(login)))).await;
        somebody(&shop, "ada@example.com", None).await;
        let row = until(&shop, "DEAD").await;
        assert_eq!(row.attempts, 8, "every try was made");
        assert!(
            row.last_error.as_ref().is_some_and(|it| it.starts_with(error)),
            "{row:?}"
        );
        assert_eq!(server.mails(), [] as [String; 0]);
        shop.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_refuses_for_ever_is_given_up_at_once_and_sent_when_the_operator_says_so() {
    let server = MailServer::start().await;
    let shop = shop_by(by(&server.url(""))).await;
    let customer = somebody(&shop, "refused@example.com", None).await;
    let row = mail_of(&all_told(&shop).await);
    assert_eq!((row.state.as_str(), row.attempts), ("DEAD", 1));
    // The code, and not the address that the server repeats.
    assert_eq!(row.last_error.as_deref(), Some("smtp answered 550 5.1.1"));
    assert_eq!(
        notifications::counts(&shop.pool).await.unwrap(),
        Counts { waiting: 0, dead: 1 }
    );
    let id = NotificationId {
        position: row.position.unsigned_abs(),
        channel: Channel::Email,
    };
    let dead = notifications::dead(&shop.pool).await.unwrap();
    assert_eq!((dead.len(), dead[0].id), (1, id));

    let typed = async |line: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        kontor(HELPER, &shop, &arguments, &[]).await
    };
    let listed = typed("notifications list").await.said;
    assert_eq!(
        listed,
        format!("{id} REGISTERED to {customer}: given up after 1 attempts: smtp answered 550 5.1.1\n")
    );
    let status = typed("status").await.said;
    assert!(status.contains("notifications  waiting 0 dead 1\n"), "{status}");
    let other = typed("notifications retry 999/sms").await;
    assert_eq!(other.code, Some(1));
    assert!(
        other.complained.contains("999/sms was not given up"),
        "{}",
        other.complained
    );
    assert!(
        typed("notifications retry nonsense")
            .await
            .complained
            .contains("as in 42/email")
    );
    assert_eq!(
        typed("notifications retry").await.code,
        Some(2),
        "neither one nor all"
    );

    server.be_lenient();
    let again = typed(&format!("notifications retry {id}")).await;
    assert_eq!(again.said, format!("{id} is sent again\n"));
    let row = until(&shop, "SENT").await;
    assert_eq!((row.attempts, row.last_error.clone()), (1, None));
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains(&message_id(&row)));
    assert_eq!(typed("notifications list").await.said, "nothing was given up\n");
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_busy_is_asked_again() {
    let server = MailServer::start().await;
    let shop = shop_by(by(&server.url(""))).await;
    somebody(&shop, "busy@example.com", None).await;
    let row = mail_of(&all_told(&shop).await);
    assert_eq!(
        (row.state.as_str(), row.attempts, row.last_error),
        ("SENT", 2, None)
    );
    assert_eq!(server.mails().len(), 1);
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_last_try_a_mail_waits_for_the_operator_and_others_are_not_held_up() {
    let server = MailServer::start().await;
    let post = NotificationsConfig {
        attempts: 3,
        ..by(&server.url(""))
    };
    let shop = shop_by(post).await;
    somebody(&shop, "jammed@example.com", None).await;
    somebody(&shop, "ada@example.com", None).await;
    let rows = all_told(&shop).await;
    let told: Vec<_> = of(&rows, "EMAIL")
        .iter()
        .map(|row| (row.state.clone(), row.attempts, row.last_error.clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("DEAD".to_owned(), 3, Some("smtp answered 451 4.3.2".to_owned())),
            ("SENT".to_owned(), 1, None)
        ]
    );
    server.be_lenient();
    assert_eq!(notifications::retry(&shop.pool, None).await.unwrap(), 1);
    let rows = all_told(&shop).await;
    assert!(
        of(&rows, "EMAIL").iter().all(|row| row.state == "SENT"),
        "{rows:#?}"
    );
    assert_eq!(server.mails().len(), 2);
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_in_time_is_left_and_asked_again() {
    let server = MailServer::start().await;
    let post = NotificationsConfig {
        time_limit: Duration::from_secs(1),
        attempts: 100,
        ..by(&server.url(""))
    };
    let shop = shop_by(post).await;
    somebody(&shop, "slow@example.com", None).await;
    let row = until(&shop, "SENT").await;
    assert!(row.attempts >= 2, "{row:?}");
    assert!(!server.mails().is_empty());
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_the_middle_of_a_mail_gets_it_when_it_is_back() {
    let mut server = MailServer::start().await;
    let post = NotificationsConfig {
        attempts: 10_000,
        ..by(&server.url(""))
    };
    let shop = shop_by(post).await;
    somebody(&shop, "fatal@example.com", None).await;
    server.rise_again().await;
    let row = until(&shop, "SENT").await;
    assert!(row.attempts >= 2, "{row:?}");
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains(&message_id(&row)));
    shop.finish().await;
}

/// The server has the mail and has not said so when the lease is stolen: the loser does not note it, so it is sent again,
/// under the same id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_lost_its_lease_writes_nothing_down() {
    let server = MailServer::start().await;
    let shop = shop_by(by(&server.url(""))).await;
    somebody(&shop, "held@example.com", None).await;
    let mails = async |number| {
        eventually(&format!("the server has {number} mails"), async || {
            (server.mails().len() == number).then_some(())
        })
        .await;
    };
    mails(1).await;
    let lease = notifications::lease_of(Channel::Email);
    let steal =
        "UPDATE leases SET owner = 'thief', epoch = epoch + 1, expires_at = 'infinity' WHERE consumer = $1";
    sqlx::query(steal).bind(lease).execute(&shop.pool).await.unwrap();
    server.be_lenient();
    // The thief gives up.
    let give_up = "UPDATE leases SET expires_at = '-infinity' WHERE consumer = $1";
    sqlx::query(give_up)
        .bind(lease)
        .execute(&shop.pool)
        .await
        .unwrap();
    mails(2).await;
    let row = until(&shop, "SENT").await;
    assert_eq!(row.attempts, 1, "the loser's try is not in the record");
    let id = message_id(&row);
    assert!(server.mails().iter().all(|mail| mail.contains(&id)));
    shop.finish().await;
}
