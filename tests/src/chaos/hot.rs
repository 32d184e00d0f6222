//! Many more buyers with money than there are pieces.

use std::time::{Duration, Instant};

use futures::future::join_all;
use kontor_domain::{Order, OrderId, OrderStatus};
use tokio::sync::Semaphore;

use super::Report;
use super::house::{Folder, House, Terms, servers};
use super::people::{Endpoint, Person};
use super::quiet::until_quiet;
use super::trouble::or_say_why;
use crate::shop::{Opening, Shop};

/// Requests on the way to the API at the same time; the other buyers stand in line for one of these.
const DOORS: usize = 250;
/// Accounts that orders are placed from.
const CUSTOMERS: usize = 8;

/// Lets many more buy at once than there are pieces, on servers of their own; see [`rush`].
pub async fn hot(program: &str, pieces: u32, buyers: usize) -> Report {
    let (_folder, servers) = servers().await;
    let shop = Opening::default()
        .quiet()
        .redis(servers.redis_url())
        .at(servers.database_url())
        .await;
    let report = rush(&shop, program, pieces, buyers).await;
    shop.finish().await;
    servers.stop().await.unwrap();
    report
}

/// Lets everybody buy one piece over the socket at once, and waits until every order is decided. Panics unless exactly as many are
/// confirmed as there are pieces, the rest is rejected without any money being held, and nothing was decided by a deadlock.
/// Nobody else works in `shop`.
pub async fn rush(shop: &Shop, program: &str, pieces: u32, buyers: usize) -> Report {
    let folder = Folder::new();
    let terms = Terms {
        program,
        workers: &["worker"],
        pay_within: Duration::from_secs(900),
        leases_run_out: true,
        logs: folder.path(),
    };
    let before = deadlocks(shop).await;
    let house = House::open(shop, terms).await;
    let rushing = rush_to(shop, &house, pieces, buyers);
    let mut report = or_say_why(shop, &house, &folder, rushing).await;
    // Whoever saw a deadlock has told of it once they are gone.
    house.close().await;
    let deadlocks = deadlocks(shop).await - before;
    report
        .lines
        .push(("hot product: deadlocks".to_owned(), deadlocks));
    report.print();
    assert_eq!(deadlocks, 0, "deadlocks");
    report
}

/// Of this database, since its statistics began.
async fn deadlocks(shop: &Shop) -> i64 {
    sqlx::query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(&shop.pool)
        .await
        .unwrap()
}

async fn rush_to(shop: &Shop, house: &House, pieces: u32, buyers: usize) -> Report {
    let item = shop.product("HOT").price(10_00).stock(pieces).await;
    let endpoint = Endpoint::at(&house.api.url());
    let mut customers = Vec::new();
    for number in 0..CUSTOMERS {
        customers.push(Person::register(&endpoint, &format!("customer-{number}")).await.0);
    }
    let doors = Semaphore::new(DOORS);
    let started = Instant::now();
    let buy = async |number: usize| {
        let _door = doors.acquire().await;
        let customer = &customers[number % CUSTOMERS];
        let (key, items) = (format!("buyer {number}"), [(&item, 1)]);
        let placed = customer.place(&key, &items, Some("tok_approved")).await;
        placed.parse::<OrderId>().unwrap()
    };
    let orders = join_all((0..buyers).map(&buy)).await;
    let placed = started.elapsed();
    until_quiet(shop, started).await;
    let took = started.elapsed();
    let (mut confirmed, mut rejected, mut open) = (0, 0, 0);
    for order in &orders {
        let status = shop
            .store
            .look(*order, 0, |order: &Order, _| order.status())
            .await
            .unwrap();
        match status {
            Some(OrderStatus::Confirmed) => confirmed += 1,
            Some(OrderStatus::Rejected) => rejected += 1,
            _ => open += 1,
        }
    }
    let all = i64::try_from(buyers).unwrap();
    assert_eq!(
        (confirmed, rejected, open),
        (i64::from(pieces), all - i64::from(pieces), 0)
    );
    assert_eq!(shop.stock(item.id).await, (u64::from(pieces), u64::from(pieces)));
    shop.audit().await.assert_faultless();
    shop.books_balance().await;
    shop.views_are_true().await;
    let milliseconds = |it: Duration| i64::try_from(it.as_millis()).unwrap();
    Report {
        lines: vec![
            ("hot product: pieces".to_owned(), i64::from(pieces)),
            ("hot product: buyers at once".to_owned(), all),
            ("hot product: confirmed, and the money held".to_owned(), confirmed),
            ("hot product: rejected".to_owned(), rejected),
            ("hot product: left open".to_owned(), open),
            (
                "hot product: all orders placed, ms".to_owned(),
                milliseconds(placed),
            ),
            (
                "hot product: all orders decided, ms".to_owned(),
                milliseconds(took),
            ),
        ],
        took,
    }
}
