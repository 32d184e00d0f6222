//! Many more buyers with money than there are pieces.

use std::time::{Duration, Instant};

use futures::future::join_all;
use kontor_domain::OrderStatus;

use super::Report;
use crate::shop::Shop;

/// Lets everybody buy one piece at once, and waits until every order is decided. Panics unless exactly as many are confirmed as
/// there are pieces, the rest is rejected without any money being held, and nothing was decided by a deadlock.
pub async fn rush(shop: &Shop, pieces: u32, buyers: usize) -> Report {
    let item = shop.product("HOT").price(10_00).stock(pieces).await;
    let customer = shop.customer().await;
    let deadlocks = async || -> i64 {
        sqlx::query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            .fetch_one(&shop.pool)
            .await
            .unwrap()
    };
    let (before, started) = (deadlocks().await, Instant::now());
    let buy = async || shop.paid_order(customer, &[(&item, 1)], "tok_approved").await;
    let orders = join_all((0..buyers).map(|_| buy())).await;
    let placed = started.elapsed();
    shop.nothing_waits().await;
    let took = started.elapsed();
    let (mut confirmed, mut rejected, mut open) = (0, 0, 0);
    for order in &orders {
        let status = shop
            .store
            .look(*order, 0, |order: &kontor_domain::Order, _| order.status())
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
    assert_eq!(deadlocks().await, before, "deadlocks");
    shop.everybody_told().await;
    shop.audit().await.assert_faultless();
    let milliseconds = |it: Duration| i64::try_from(it.as_millis()).unwrap();
    Report {
        lines: vec![
            ("hot product: pieces".to_owned(), i64::from(pieces)),
            ("hot product: buyers at once".to_owned(), all),
            ("hot product: confirmed, and the money held".to_owned(), confirmed),
            ("hot product: rejected".to_owned(), rejected),
            ("hot product: left open".to_owned(), open),
            ("hot product: deadlocks".to_owned(), 0),
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
