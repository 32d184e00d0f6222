//! What follows the log: one worker at a time, replaced when it dies, and stopped by nobody's poison but its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use kontor_domain::{Order, OrderCommand, OrderId, Product, ProductCommand};
use kontor_eventstore::read::head;
use kontor_eventstore::{Consumer, Parked, Recorded, Resumed, Worker, checkpoint, dead_letters};
use kontor_projections::orders;
use kontor_tests::children::Helper;
use kontor_tests::examples::pieces;
use kontor_tests::{Opening, Shop, eventually};
use sqlx::PgConnection;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::HELPER;

/// V5: a dead worker is replaced within seconds.
const REPLACED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_with_kill_9_is_replaced_within_seconds_and_nothing_is_applied_twice() {
    let shop = Shop::quiet().await;
    let child = Helper::worker(HELPER, &shop, None).await;
    let lamp = shop.product("LAMP").stock(1_000).await;
    let customer = shop.customer().await;
    let first = shop.order(customer, &[(&lamp, 1)]).await;
    shop.until_status(first, "CONFIRMED").await;
    let next = shop.branch(Opening::default()).await;
    let mut owners = owners(&shop).await;
    owners.dedup();
    assert_eq!(owners.len(), 1, "the child holds every lease: {owners:?}");

    for _ in 0..50 {
        shop.order(customer, &[(&lamp, 1)]).await;
    }
    child.kill().await;
    let dead = Instant::now();
    let last = shop.order(customer, &[(&lamp, 1)]).await;
    shop.until_status(last, "CONFIRMED").await;
    next.caught_up().await;
    assert!(dead.elapsed() < REPLACED_WITHIN, "it took {:?}", dead.elapsed());

    for id in [first, last] {
        shop.ship(id).await;
    }
    next.caught_up().await;
    next.views_are_true().await;
    let row = shop.product_row(lamp.id).await;
    assert_eq!(
        (row.on_hand, row.reserved, row.available, row.units_sold),
        (998, 50, 948, 2)
    );
    next.close().await;
    shop.finish().await;
}

async fn owners(shop: &Shop) -> Vec<String> {
    sqlx::query_scalar("SELECT owner FROM leases ORDER BY owner")
        .fetch_all(&shop.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_leaves_is_replaced_at_once() {
    let shop = Shop::quiet().await;
    let first = shop.branch(Opening::default()).await;
    first.caught_up().await;
    let second = shop.branch(Opening::default()).await;
    first.close().await;
    let left = Instant::now();
    let lamp = shop.product("LAMP").stock(1).await;
    let customer = shop.customer().await;
    let order = shop.order(customer, &[(&lamp, 1)]).await;
    shop.until_status(order, "CONFIRMED").await;
    second.caught_up().await;
    assert!(
        left.elapsed() < Duration::from_secs(4),
        "it gave its leases back: {:?}",
        left.elapsed()
    );
    second.views_are_true().await;
    second.close().await;
    shop.finish().await;
}

/// Several processes share the work: each consumer has one worker, whoever it is, and all together do everything once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_come_and_go_apply_everything_once() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").stock(10_000).await;
    let customer = shop.customer().await;
    let mut worker = shop.branch(Opening::default()).await;
    for _ in 0..4 {
        for _ in 0..25 {
            shop.order(customer, &[(&lamp, 1)]).await;
        }
        let next = shop.branch(Opening::default()).await;
        worker.close().await;
        worker = next;
    }
    worker.caught_up().await;
    worker.views_are_true().await;
    assert_eq!(shop.stock(lamp.id).await, (10_000, 100));
    worker.close().await;
    shop.finish().await;
}

/// Writes down what it is handed, once it may.
struct Probe {
    may: Semaphore,
    handed: Semaphore,
    /// Orders by this id are too much for it.
    hates: std::sync::Mutex<Option<OrderId>>,
    hating: AtomicBool,
    /// It has no use for anything.
    bored: AtomicBool,
}

impl Probe {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            may: Semaphore::new(permits),
            handed: Semaphore::new(0),
            hates: std::sync::Mutex::default(),
            hating: AtomicBool::new(true),
            bored: AtomicBool::new(false),
        })
    }
}

impl Consumer for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn concerns(&self, _event: &Recorded) -> bool {
        !self.bored.load(Ordering::Relaxed)
    }

    fn handle<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>> {
        let hated = self
            .hates
            .lock()
            .unwrap()
            .filter(|_| self.hating.load(Ordering::Relaxed));
        Box::pin(async move {
            for event in events {
                let stream = event.stream().to_string();
                let dividend = i32::from(hated.is_none_or(|id| !stream.contains(&id.to_string())));
                sqlx::query("INSERT INTO probe (position, stream, n) VALUES ($1, $2, 1 / $3)")
                    .bind(event.position.cast_signed())
                    .bind(stream)
                    .bind(dividend)
                    .execute(&mut *connection)
                    .await?;
            }
            self.handed.add_permits(1);
            self.may.acquire().await.unwrap().forget();
            Ok(Vec::new())
        })
    }
}

async fn probe_table(shop: &Shop) {
    // No key: what is applied twice is there twice.
    sqlx::query("CREATE TABLE probe (position bigint, stream text, n int)")
        .execute(&shop.pool)
        .await
        .unwrap();
}

async fn probed(shop: &Shop) -> Vec<i64> {
    sqlx::query_scalar("SELECT position FROM probe ORDER BY ctid")
        .fetch_all(&shop.pool)
        .await
        .unwrap()
}

fn run(shop: &Shop, probe: &Arc<Probe>, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let worker = Worker::new(
        shop.store.clone(),
        Arc::clone(&shop.runtime.progress),
        "me".to_owned(),
    );
    tokio::spawn(worker.run(Arc::clone(probe) as Arc<dyn Consumer>, stop.clone()))
}

async fn checkpoint(shop: &Shop, name: &str) -> u64 {
    let all = checkpoint::checkpoints(&shop.pool).await.unwrap();
    all.iter()
        .find(|it| it.consumer == name)
        .map_or(0, |it| it.position)
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing() {
    let shop = Shop::quiet().await;
    probe_table(&shop).await;
    shop.product("LAMP").stock(5).await;
    let (probe, stop) = (Probe::new(0), CancellationToken::new());
    let worker = run(&shop, &probe, &stop);

    // It is in the middle of its batch when a thief comes.
    probe.handed.acquire().await.unwrap().forget();
    let stolen = "UPDATE leases SET owner = 'thief', epoch = epoch + 1, expires_at = 'infinity' WHERE consumer = 'probe'";
    sqlx::query(stolen).execute(&shop.pool).await.unwrap();
    probe.may.add_permits(1);
    // Nor does it go on: it asks for the lease again and again, and must not get it. Its next asking is behind the commit
    // that did not happen.
    eventually("the batch is over, one way or the other", async || {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND state = 'idle in transaction' AND application_name = 'kontor'",
        )
        .fetch_one(&shop.pool)
        .await
        .unwrap();
        (open == 0).then_some(())
    })
    .await;
    assert_eq!(probed(&shop).await, [] as [i64; 0]);
    assert_eq!(checkpoint(&shop, "probe").await, 0);

    // The thief has written meanwhile, and gives up.
    sqlx::query("INSERT INTO probe VALUES (1, 'by the thief', 1)")
        .execute(&shop.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE checkpoints SET position = 1 WHERE consumer = 'probe'")
        .execute(&shop.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE leases SET expires_at = '-infinity'")
        .execute(&shop.pool)
        .await
        .unwrap();
    probe.may.add_permits(10);
    eventually(
        "the worker has the lease again and goes on behind the thief",
        async || (checkpoint(&shop, "probe").await == 2).then_some(()),
    )
    .await;
    assert_eq!(probed(&shop).await, [1, 2]);
    stop.cancel();
    worker.await.unwrap();
    shop.finish().await;
}

/// What it has no use for it is not handed, and is behind it all the same, unless its checkpoint turns out to be elsewhere.
#[tokio::test]
async fn what_a_consumer_has_no_use_for_is_passed_over() {
    let shop = Shop::quiet().await;
    probe_table(&shop).await;
    let lamp = shop.product("LAMP").stock(5).await; // 1, 2
    let (probe, stop) = (Probe::new(100), CancellationToken::new());
    let worker = run(&shop, &probe, &stop);
    let comes_to = async |position: u64| {
        let there = async || (checkpoint(&shop, "probe").await == position).then_some(());
        eventually(&format!("it comes to {position}"), there).await;
    };
    comes_to(2).await;

    probe.bored.store(true, Ordering::Relaxed);
    let customer = shop.customer().await;
    let passed = head(&shop.pool).await.unwrap();
    assert!(passed > 2);
    comes_to(passed).await;
    assert_eq!(probed(&shop).await, [1, 2]);

    // As a crash of Postgres does: nothing a consumer writes is flushed.
    sqlx::query("UPDATE checkpoints SET position = 2 WHERE consumer = 'probe'")
        .execute(&shop.pool)
        .await
        .unwrap();
    shop.order(customer, &[(&lamp, 1)]).await;
    let last = head(&shop.pool).await.unwrap();
    comes_to(last).await;
    assert_eq!(probed(&shop).await, (1..=last.cast_signed()).collect::<Vec<_>>());
    stop.cancel();
    worker.await.unwrap();
    shop.finish().await;
}

/// What Postgres refuses is found event by event; the culprit's aggregate waits, in order, and nothing else does.
#[tokio::test]
async fn an_event_that_postgres_refuses_parks_its_aggregate_only() {
    let shop = Shop::quiet().await;
    shop.may_park();
    probe_table(&shop).await;
    let lamp = shop.product("LAMP").stock(5).await; // 1, 2
    let customer = shop.customer().await; // 3
    let good = shop.order(customer, &[(&lamp, 1)]).await; // 4
    let bad = shop.order(customer, &[(&lamp, 1)]).await; // 5
    let confirm = async |id| shop.send::<Order>(id, OrderCommand::Confirm).await;
    confirm(good).await; // 6
    confirm(bad).await; // 7
    let (probe, stop) = (Probe::new(100), CancellationToken::new());
    *probe.hates.lock().unwrap() = Some(bad);
    let worker = run(&shop, &probe, &stop);
    let at = async |position| {
        eventually("the probe goes on", async || {
            (checkpoint(&shop, "probe").await == position).then_some(())
        })
        .await;
    };
    at(7).await;
    assert_eq!(probed(&shop).await, [1, 2, 3, 4, 6]);
    shop.ship(bad).await; // 8
    shop.ship(good).await; // 9
    at(9).await;
    assert_eq!(probed(&shop).await, [1, 2, 3, 4, 6, 9]);
    let letters = shop.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (
            letters[0].consumer.as_str(),
            letters[0].position,
            letters[0].events
        ),
        ("probe", 5, 3)
    );
    assert_eq!(letters[0].stream.to_string(), format!("order {bad}"));
    assert!(
        letters[0].error.contains("division by zero"),
        "{}",
        letters[0].error
    );

    let stream = letters[0].stream.clone();
    let still = dead_letters::resume(&shop.pool, probe.as_ref(), &stream).await;
    assert!(still.is_err(), "not mended yet: {still:?}");
    assert_eq!(shop.dead_letters().await, letters, "everything waits as before");
    probe.hating.store(false, Ordering::Relaxed);
    let done = dead_letters::resume(&shop.pool, probe.as_ref(), &stream)
        .await
        .unwrap();
    assert_eq!(done, Resumed::Done(3));
    assert_eq!(
        probed(&shop).await,
        [1, 2, 3, 4, 6, 9, 5, 7, 8],
        "what waited is applied in order"
    );
    assert_eq!(shop.dead_letters().await, []);
    let none = dead_letters::resume(&shop.pool, probe.as_ref(), &stream)
        .await
        .unwrap();
    assert_eq!(none, Resumed::NotFound);
    stop.cancel();
    worker.await.unwrap();
    shop.finish().await;
}

/// A consumer that is behind reads from Postgres what is no longer in memory, and everybody knows where it is (V7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_worker_catches_up_from_the_beginning() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    let receive = || ProductCommand::ReceiveStock {
        quantity: pieces(1),
        reference: None,
    };
    futures::future::join_all((0..9_000).map(|_| shop.send::<Product>(lamp.id, receive()))).await;
    let worker = shop.branch(Opening::default()).await;
    worker.caught_up().await;
    worker.views_are_true().await;
    assert_eq!(shop.product_row(lamp.id).await.on_hand, 9_000);
    let late = worker
        .runtime
        .progress
        .reach("products", 100_000, Duration::from_millis(1))
        .await
        .unwrap_err();
    assert_eq!(
        (late.consumer.as_str(), late.wanted, late.reached),
        ("products", 100_000, 9_001)
    );
    let rows = orders::by_ids(&shop.pool, &[]).await.unwrap();
    assert!(rows.is_empty());
    worker.close().await;
    shop.finish().await;
}
