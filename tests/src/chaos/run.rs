//! From the opening of the house until it is quiet again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kontor::terminal::say;
use kontor_domain::{Role, User, UserCommand};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::customers::{Customers, Observer};
use super::house::{Folder, House, Terms, servers};
use super::killer::{Killed, Killer};
use super::people::{Endpoint, Person};
use super::quiet::until_quiet;
use super::trouble::or_say_why;
use super::{Plan, Report};
use crate::audit::Audit;
use crate::shop::{Opening, Shop};

/// Accounts that orders are placed from.
const CUSTOMERS: usize = 8;
/// Pieces of what there is enough of, for each order.
const ENOUGH: usize = 4;

/// Opens a house with servers of its own, lets customers order and pay while everything is killed, waits until it is quiet,
/// and holds everything against everything. Panics if anything is not as it must be.
pub async fn run(plan: Plan) -> Report {
    let started = Instant::now();
    let (folder, servers) = servers().await;
    let shop = Opening::default()
        .quiet()
        .redis(servers.redis_url())
        .at(servers.database_url())
        .await;
    let terms = Terms {
        program: &plan.program,
        workers: &["worker", "other worker"],
        pay_within: plan.pay_within,
        leases_run_out: plan.leases_run_out,
        logs: folder.path(),
    };
    let house = House::open(&shop, terms).await;
    let living = live(&plan, &shop, &house, &folder, started);
    let report = or_say_why(&shop, &house, &folder, living).await;
    house.close().await;
    shop.finish().await;
    servers.stop().await.unwrap();
    report
}

async fn live(plan: &Plan, shop: &Shop, house: &House, folder: &Folder, started: Instant) -> Report {
    let watched = CancellationToken::new();
    let _watched = watched.clone().drop_guard();
    let customers = customers(plan, shop, house, watched).await;
    let killer = Killer {
        plan,
        customers: &customers,
        house,
        data: folder.path().to_owned(),
    };
    let buying = futures::stream::iter(0..plan.orders)
        .map(|number| customers.order(number))
        .buffer_unordered(plan.customers)
        .collect::<()>();
    let finished = CancellationToken::new();
    let buying = async {
        buying.await;
        finished.cancel();
    };
    let watching = progress(&customers, plan, started, &finished);
    let (killed, (), ()) = tokio::join!(killer.work(), buying, watching);
    say(format!(
        "every customer is done after {} s",
        started.elapsed().as_secs()
    ));
    until_quiet(shop, started).await;

    let audit = shop.audit().await;
    let mut report = Report::of(house, &killed, &customers, &audit);
    report.took = started.elapsed();
    for (why, number) in folder.incidents() {
        report.lines.push((format!("INTERNAL: {why}"), number));
    }
    let webhooks = webhooks_taken(shop).await;
    report.lines.push(("webhooks taken".to_owned(), webhooks));
    report.print();
    assert!(webhooks > 0, "the gateway told the shop of nothing");
    audit.assert_faultless();
    assert_all_there(&audit, plan.orders);
    assert_eq!(
        kept_by_the_api(&customers.staff).await,
        audit.number("captured less refunded, pence, by the orders"),
        "captured less refunded, by the API and by the orders"
    );
    shop.books_balance().await;
    shop.views_are_true().await;
    report
}

async fn webhooks_taken(shop: &Shop) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM payment_webhooks")
        .fetch_one(&shop.pool)
        .await
        .unwrap()
}

/// The people of the house, and what they can buy.
async fn customers(plan: &Plan, shop: &Shop, house: &House, watched: CancellationToken) -> Customers {
    let stock = u32::try_from(plan.orders * ENOUGH).unwrap();
    let common = shop.product("COMMON").price(5_00).stock(stock).await;
    let scarce = shop.product("SCARCE").price(9_00).stock(stock / 200).await;
    let endpoint = Endpoint::at(&house.api.url());
    let mut shoppers = Vec::new();
    for number in 0..CUSTOMERS {
        shoppers.push(Person::register(&endpoint, &format!("customer-{number}")).await.0);
    }
    let (staff, id) = Person::register(&endpoint, "staff").await;
    let grant = UserCommand::GrantRole { role: Role::Staff };
    shop.send::<User>(id.parse().unwrap(), grant).await;
    Customers {
        observer: Observer::follow(shop.store.clone(), watched),
        endpoint,
        gateway: house.gateway.url(),
        shoppers,
        staff,
        common,
        scarce,
        seed: plan.seed,
        placed: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        tokens: std::sync::Mutex::default(),
    }
}

/// Pence that were taken and have not gone back, over all orders, as staff are told by the API.
async fn kept_by_the_api(staff: &Person) -> i64 {
    let query = "query($after: String) { orders(first: 100, after: $after) {
        nodes { payment { captured { amountMinor } refunded { amountMinor } } }
        pageInfo { hasNextPage endCursor } } }";
    let (mut kept, mut after) = (0, Value::Null);
    loop {
        let mut page = staff.read(query, json!({ "after": after })).await["orders"].take();
        for order in page["nodes"].as_array().expect("a page of orders") {
            let pence = |of: &str| order["payment"][of]["amountMinor"].as_i64().unwrap_or(0);
            kept += pence("captured") - pence("refunded");
        }
        if page["pageInfo"]["hasNextPage"] == false {
            return kept;
        }
        after = page["pageInfo"]["endCursor"].take();
    }
}

fn assert_all_there(audit: &Audit, placed: usize) {
    assert_eq!(
        audit.number("orders"),
        i64::try_from(placed).unwrap(),
        "every order that was acknowledged is there, once"
    );
}

impl Report {
    /// Who died, what was asked for, and what was counted.
    fn of(house: &House, killed: &Killed, customers: &Customers, audit: &Audit) -> Self {
        let mut report = Report::default();
        let mut deaths = 0;
        for post in house.posts() {
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
        for (why, number) in customers.endpoint.repeats.lock().unwrap().iter() {
            report.lines.push((format!("requests repeated: {why}"), *number));
        }
        for (token, number) in customers.tokens.lock().unwrap().iter() {
            // A token has no place in a log, not even this one's.
            let means = token.trim_start_matches("tok_");
            report.lines.push((format!("orders: {means}"), *number));
        }
        report.lines.extend(audit.counts.iter().cloned());
        report
    }
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
