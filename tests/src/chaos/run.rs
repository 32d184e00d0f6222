//! From the opening of the house until it is quiet again.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kontor::servers::{ServerOptions, Servers};
use kontor::terminal::say;
use kontor_domain::OrderId;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::customers::{Customers, Observer};
use super::hot::rush;
use super::house::{Place, Post};
use super::killer::{Killed, Killer};
use super::{Plan, Report, insist, payments};
use crate::audit::Audit;
use crate::shop::{Opening, Shop};

/// Pieces of what there is enough of, for each order.
const ENOUGH: usize = 4;

/// Opens a house with servers of its own, lets customers order and pay while everything is killed, waits until it is quiet,
/// and holds everything against everything. Panics if anything is not as it must be.
pub async fn run(plan: Plan) -> Report {
    let started = Instant::now();
    let (house, servers) = servers().await;
    let counter_port = free_port(20_000 + u16::try_from(std::process::id() % 9_000).unwrap());
    let gateway_port = free_port(counter_port + 1);
    let gateway = format!("http://127.0.0.1:{gateway_port}");
    let shop = Opening::default()
        .quiet()
        .redis(servers.redis_url())
        .payments(payments(&gateway))
        .at(servers.database_url())
        .await;
    let stock = u32::try_from(plan.orders * ENOUGH).unwrap();
    let common = shop.product("COMMON").price(5_00).stock(stock).await;
    let scarce = shop.product("SCARCE").price(9_00).stock(stock / 200).await;
    let customer = shop.customer().await;

    let place = Place {
        program: plan.program.clone(),
        database_url: servers.database_url().to_owned(),
        redis_url: servers.redis_url().to_owned(),
        outbox: shop.outbox().to_owned(),
        gateway: gateway.clone(),
        pay_within: plan.pay_within,
        logs: house.0.path().to_owned(),
    };
    let workers = [
        Post::new("worker", &["work"]),
        Post::new("other worker", &["work"]),
    ];
    let counter = Post::new("API", &["counter", &counter_port.to_string()]);
    let bank = Post::new("gateway", &["gateway", &gateway_port.to_string()]);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let posts = [&workers[0], &workers[1], &counter, &bank];
    for post in posts {
        let pool = (!plan.leases_run_out).then(|| shop.pool.clone());
        post.keep(place.clone(), pool, &tasks, stop.clone());
    }
    all_live(&posts).await;

    let customers = Customers {
        observer: Observer::follow(shop.store.clone(), stop.clone()),
        http: reqwest::Client::new(),
        counter: format!("http://127.0.0.1:{counter_port}/"),
        gateway,
        customer,
        common,
        scarce,
        seed: plan.seed,
        placed: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        repeats: AtomicUsize::new(0),
        tokens: std::sync::Mutex::default(),
    };
    let killer = Killer {
        plan: &plan,
        customers: &customers,
        workers: workers.clone(),
        counter: Arc::clone(&counter),
        gateway: Arc::clone(&bank),
        data: house.0.path().to_owned(),
    };
    let buying = futures::stream::iter(0..plan.orders)
        .map(|number| {
            let id = OrderId::from_ulid(shop.store.ids().next());
            customers.order(number, id)
        })
        .buffer_unordered(plan.customers)
        .collect::<()>();
    let finished = CancellationToken::new();
    let buying = async {
        buying.await;
        finished.cancel();
    };
    let watching = progress(&customers, &plan, started, &finished);
    let (killed, (), ()) = tokio::join!(killer.work(), buying, watching);
    say(format!(
        "every customer is done after {} s",
        started.elapsed().as_secs()
    ));

    until_quiet(&shop, started).await;

    let audit = shop.audit().await;
    let mut report = Report::of(&posts, &killed, &customers, &audit);
    report.took = started.elapsed();
    report.print();
    audit.assert_faultless();
    assert_all_there(&audit, plan.orders);
    shop.books_balance().await;
    shop.views_are_true().await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    shop.finish().await;
    servers.stop().await.unwrap();
    report
}

/// Waits until no order waits, everybody has read the log, and everybody is told.
async fn until_quiet(shop: &Shop, started: Instant) {
    // Whoever was frozen or armed may still hold a lease or die: until nothing waits.
    let mut looks = 0;
    insist("no order waits any more", async || {
        let waiting: Vec<String> = sqlx::query_scalar(
            "SELECT concat_ws(' ', order_id, step, attempts, last_error, due_at - clock_timestamp())
             FROM pending_orders ORDER BY since",
        )
        .fetch_all(&shop.pool)
        .await
        .ok()?;
        looks += 1;
        if looks % 200 == 0 {
            say(format!(
                "{} orders still wait, such as {:?}",
                waiting.len(),
                waiting.first()
            ));
        }
        waiting.is_empty().then_some(())
    })
    .await;
    say(format!("no order waits after {} s", started.elapsed().as_secs()));
    shop.nothing_waits().await;
    insist("everybody is told", async || {
        let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM notifications WHERE state = 'WAITING'")
            .fetch_one(&shop.pool)
            .await
            .ok()?;
        (waiting == 0).then_some(())
    })
    .await;
    shop.redis_caught_up().await;
    say(format!("it is quiet after {} s", started.elapsed().as_secs()));
}

async fn all_live(posts: &[&Arc<Post>]) {
    for post in posts {
        insist(post.name, async || (post.lives() > 0).then_some(())).await;
    }
}

fn assert_all_there(audit: &Audit, placed: usize) {
    let orders = audit
        .counts
        .iter()
        .find(|(what, _)| what == "orders")
        .map(|(_, number)| *number);
    assert_eq!(
        orders,
        Some(i64::try_from(placed).unwrap()),
        "every order that was acknowledged is there, once"
    );
}

impl Report {
    /// Who died, what was asked for, and what was counted.
    fn of(posts: &[&Arc<Post>], killed: &Killed, customers: &Customers, audit: &Audit) -> Self {
        let mut report = Report::default();
        let mut deaths = 0;
        for post in posts {
            for (how, number) in post.deaths.lock().unwrap().iter() {
                report
                    .lines
                    .push((format!("{}: {how}", post.name), i64::from(*number)));
                if !how.starts_with("ended") {
                    deaths += i64::from(*number);
                }
            }
        }
        report
            .lines
            .push(("Postgres: kill -9".to_owned(), killed.postgres));
        report.lines.push(("Redis: kill -9".to_owned(), killed.redis));
        report.lines.push((
            "processes killed".to_owned(),
            deaths + killed.postgres + killed.redis,
        ));
        report.lines.push((
            "workers asleep for longer than their leases".to_owned(),
            killed.asleep,
        ));
        let repeats = customers.repeats.load(Ordering::Relaxed);
        report.lines.push((
            "requests that had to be repeated".to_owned(),
            i64::try_from(repeats).unwrap(),
        ));
        for (token, number) in customers.tokens.lock().unwrap().iter() {
            report.lines.push((format!("orders: {token}"), *number));
        }
        report.lines.extend(audit.counts.iter().cloned());
        report
    }
}

/// Lets many more buy at once than there are pieces, on servers of their own; see [`rush`].
pub async fn hot(pieces: u32, buyers: usize) -> Report {
    let (_house, servers) = servers().await;
    let shop = Opening::default()
        .redis(servers.redis_url())
        .at(servers.database_url())
        .await;
    let report = rush(&shop, pieces, buyers).await;
    report.print();
    shop.books_balance().await;
    shop.finish().await;
    servers.stop().await.unwrap();
    report
}

/// Servers' data and the processes' logs. Left for whoever wants to know, if something fails.
struct House(TempDir);

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            say(format!(
                "the processes' own words are in {}",
                self.0.path().display()
            ));
        }
    }
}

/// A Postgres and a Redis that can be killed.
async fn servers() -> (House, Servers) {
    let folder = tempfile::Builder::new()
        .prefix("kontor-chaos.")
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
        .unwrap();
    let options = ServerOptions {
        data: folder.path().to_owned(),
        database_url: None,
        redis_url: None,
    };
    let servers = Servers::start(&options).await.unwrap();
    (House(folder), servers)
}

/// Says every now and then how far it is.
async fn progress(customers: &Customers, plan: &Plan, started: Instant, finished: &CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(30));
    every.tick().await;
    loop {
        tokio::select! {
            () = finished.cancelled() => return,
            _ = every.tick() => say(format!(
                "{} s: {} of {} orders placed, {} done",
                started.elapsed().as_secs(),
                customers.placed.load(Ordering::Relaxed),
                plan.orders,
                customers.done.load(Ordering::Relaxed)
            )),
        }
    }
}

/// A port that nobody listens on, below the range the kernel serves outgoing connections from: it must be free again each time
/// its process comes back.
fn free_port(from: u16) -> u16 {
    (from..30_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
