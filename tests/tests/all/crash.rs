//! Death at any moment, of a worker, of Postgres and of Redis: nothing is lost, doubled or stuck.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kontor::servers::{ServerOptions, Servers};
use kontor_domain::{Order, OrderCommand, OrderId, UserId};
use kontor_eventstore::{ExecuteError, IdempotencyKey};
use kontor_fulfilment::payments::{PaymentTerms, PaymentsConfig};
use kontor_tests::children::Helper;
use kontor_tests::examples::reason;
use kontor_tests::{Item, Opening, Shop, eventually};

use crate::HELPER;
use crate::notifications::all_is_told_once;

/// The signal of `abort`, which is how a crash point dies.
pub(crate) const SIGABRT: i32 = 6;

macro_rules! points {
    ($($test:ident: $point:literal),* $(,)?) => {
        const POINTS: &[&str] = &[$($point),*];

        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            for nth in [1, 8] {
                dies_and_is_replaced(&format!("{}:{nth}", $point)).await;
            }
        })*
    };
}

points! {
    a_worker_dies_before_a_batch: "consumer.before_handle",
    a_worker_dies_before_its_checkpoint: "consumer.after_handle",
    a_worker_dies_behind_its_checkpoint: "consumer.after_commit",
    the_process_dies_between_two_reservations: "process.reserve_one",
    the_process_dies_between_reserving_and_deciding: "process.reserved",
    the_process_dies_behind_its_decision: "process.decided",
    the_process_dies_behind_what_it_told_the_products: "process.told",
    the_cashier_dies_with_a_plan: "cashier.planned",
    the_cashier_dies_between_its_claim_and_the_gateway: "cashier.claimed",
    the_cashier_dies_between_the_gateway_and_the_order: "cashier.answered",
    the_cashier_dies_behind_what_it_told_the_order: "cashier.told",
    the_cashier_dies_before_it_writes_down_what_came_of_it: "cashier.settle",
    the_cashier_dies_behind_what_it_wrote_down: "cashier.settled",
    the_cashier_dies_before_it_rejects_what_is_not_paid: "cashier.expire",
    the_cashier_dies_behind_rejecting_what_is_not_paid: "cashier.expired",
    a_sender_dies_before_it_sends: "notifications.taken",
    a_sender_dies_between_sending_and_writing_it_down: "notifications.delivered",
    a_sender_dies_behind_what_it_wrote_down: "notifications.settled",
}

#[test]
fn every_crash_point_of_the_code_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    for room in ["eventstore", "projections", "fulfilment", "api", "kontor"] {
        for file in crate::architecture::sources(&root.join(room).join("src")) {
            let text = std::fs::read_to_string(file).unwrap();
            found.extend(
                text.split("crash::point(\"")
                    .skip(1)
                    .map(|rest| rest.split('"').next().unwrap().to_owned()),
            );
        }
    }
    let tested = POINTS
        .iter()
        .chain(crate::payments::POINTS)
        .chain(crate::erasure::POINTS);
    assert_eq!(found, tested.map(|point| (*point).to_owned()).collect());
}

/// By what the orders are paid, in turn.
const TOKENS: [Option<&str>; 4] = [
    None,
    Some("tok_approved"),
    Some("tok_needs_action"),
    Some("tok_fails_1"),
];
/// A customer has so long to pay.
const PAY_WITHIN: Duration = Duration::from_millis(800);

fn payments() -> PaymentsConfig {
    PaymentsConfig {
        terms: PaymentTerms {
            pay_within: PAY_WITHIN,
            ..PaymentTerms::default()
        },
        ..PaymentsConfig::default()
    }
}

/// A worker dies at a point while orders are placed, paid, cancelled and shipped; another one takes over.
async fn dies_and_is_replaced(point: &str) {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").stock(6).await;
    let bell = shop.product("BELL").stock(100_000).await;
    let customer = shop.customer().await;
    let confirmed = confirmed_orders(&shop, customer, &bell).await;

    let pay_within = PAY_WITHIN.as_millis().to_string();
    let mut doomed = Helper::worker_with(
        HELPER,
        &shop,
        Some(point),
        &[("KONTOR_TEST_PAY_WITHIN", &pay_within)],
    )
    .await;
    let mut confirmed = confirmed.into_iter();
    let mut placed = Vec::new();
    // Goes on until it is dead, however the events fall into batches.
    let status = loop {
        let items: &[(&Item, u32)] = if placed.len() % 3 == 0 {
            &[(&bell, 1), (&lamp, 1)]
        } else {
            &[(&bell, 2)]
        };
        placed.push(match TOKENS[placed.len() % TOKENS.len()] {
            None => shop.order(customer, items).await,
            Some(token) => shop.paid_order(customer, items, token).await,
        });
        if point.starts_with("cashier.expire") && placed.len() > 60 {
            // These take their time in any case.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if placed.len() % 5 == 0 {
            // Refused if it is rejected already.
            let cancel = OrderCommand::Cancel { reason: reason("no") };
            let _ = shop.try_send::<Order>(placed[placed.len() - 2], cancel).await;
        }
        if let Some(id) = confirmed.next() {
            shop.ship(id).await;
        }
        if let Some(status) = doomed.has_ended() {
            break status;
        }
        assert!(placed.len() < 20_000, "{point} is never passed");
    };
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}");
    // That its leases run out is shown elsewhere; here nobody needs to wait for it.
    sqlx::query("UPDATE leases SET expires_at = '-infinity'")
        .execute(&shop.pool)
        .await
        .unwrap();

    let heir = shop.branch(Opening::default().payments(payments())).await;
    heir.nothing_waits().await;
    heir.books_balance().await;
    heir.views_are_true().await;
    assert_eq!(heir.dead_letters().await, []);
    once_only(&shop).await;
    all_is_told_once(&heir).await;
    heir.audit().await.assert_faultless();
    heir.close().await;
    shop.finish().await;
}

/// Some orders to be shipped.
async fn confirmed_orders(shop: &Shop, customer: UserId, item: &Item) -> Vec<OrderId> {
    let worker = shop.branch(Opening::default()).await;
    let mut orders = Vec::new();
    for _ in 0..6 {
        orders.push(shop.order(customer, &[(item, 1)]).await);
    }
    worker.caught_up().await;
    worker.close().await;
    orders
}

/// No order was decided twice, and no product asked, told or paid out twice for one.
async fn once_only(shop: &Shop) {
    let twice: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT aggregate_id, event_type || ' ' || coalesce(payload->event_type->>'order_id', ''), count(*)
         FROM events
         WHERE event_type IN ('Confirmed', 'Rejected', 'Cancelled', 'StockReserved', 'ReservationRefused',
                              'ReservationReleased', 'ReservationCommitted')
         GROUP BY 1, 2 HAVING count(*) > 1",
    )
    .fetch_all(&shop.pool)
    .await
    .unwrap();
    assert_eq!(twice, [], "happened more than once");
}

/// `kill -9` of a Postgres backend (Postgres then throws everybody out and recovers), of all of Postgres, and of Redis,
/// while orders come in. Servers of its own, which are brought back as `kontor run` brings them back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_and_redis_die_and_come_back() {
    let folder = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
        .unwrap();
    let options = ServerOptions {
        data: folder.path().to_owned(),
        database_url: None,
        redis_url: None,
    };
    let servers = Servers::start(&options).await.unwrap();
    let shop = Opening::default()
        .redis(servers.redis_url())
        .at(servers.database_url())
        .await;
    let lamp = shop.product("LAMP").stock(40).await;
    let bell = shop.product("BELL").stock(1_000_000).await;
    let customer = shop.customer().await;

    let (acknowledged, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let buyer = async |n: usize| {
        let mut mine = Vec::new();
        while !enough.load(Ordering::Relaxed) {
            let items: &[(&Item, u32)] = if mine.len() % 5 == 0 {
                &[(&bell, 1), (&lamp, 1)]
            } else {
                &[(&bell, 1)]
            };
            mine.push(insist(&shop, customer, items, &format!("{n}/{}", mine.len())).await);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        mine
    };
    let killer = async {
        let more = async |orders: usize| {
            let target = acknowledged.load(Ordering::Relaxed) + orders;
            eventually("orders come in", async || {
                (acknowledged.load(Ordering::Relaxed) >= target).then_some(())
            })
            .await;
        };
        more(50).await;
        let writer: i32 = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'kontor writer' LIMIT 1",
        )
        .fetch_one(&shop.pool)
        .await
        .unwrap();
        kill_9(&writer.to_string());
        more(50).await;
        kill_9(&pid_in(&folder.path().join("postgres/postmaster.pid")));
        more(50).await;
        kill_9(&pid_in(&folder.path().join("redis/redis.pid")));
        more(50).await;
        enough.store(true, Ordering::Relaxed);
    };
    let (first, second, third, ()) = tokio::join!(buyer(1), buyer(2), buyer(3), killer);

    shop.caught_up().await;
    shop.redis_caught_up().await;
    let mut rows: Vec<String> = shop.orders().await.into_iter().map(|row| row.id).collect();
    let mut placed: Vec<String> = [first, second, third]
        .concat()
        .iter()
        .map(ToString::to_string)
        .collect();
    rows.sort_unstable();
    placed.sort_unstable();
    assert_eq!(rows, placed, "every order that was acknowledged is there, once");
    shop.books_balance().await;
    once_only(&shop).await;
    shop.finish().await;
    servers.stop().await.unwrap();
}

/// Places an order, again and again with one key, until it is acknowledged.
async fn insist(shop: &Shop, customer: UserId, items: &[(&Item, u32)], key: &str) -> OrderId {
    let id = OrderId::from_ulid(shop.store.ids().next());
    let context = shop
        .context()
        .once(IdempotencyKey::derived("tests", key, "place"));
    loop {
        match shop
            .store
            .create::<Order>(id, shop.placing(customer, items), context.clone())
            .await
        {
            Ok(outcome) => return outcome.id,
            Err(ExecuteError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn pid_in(file: &Path) -> String {
    std::fs::read_to_string(file)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .trim()
        .to_owned()
}

fn kill_9(pid: &str) {
    let killed = std::process::Command::new("kill")
        .args(["-9", pid])
        .status()
        .unwrap();
    assert!(killed.success(), "process {pid}");
}
