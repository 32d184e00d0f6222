//! The view of sales per hour.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use kontor_domain::{Money, Order, OrderCommand, OrderId, ReturnLine};
use kontor_eventstore::ManualClock;
use kontor_projections::sales::{self, Sales, SalesRow};
use kontor_tests::examples::{address, gbp, line, pieces, reason};
use kontor_tests::{Opening, Shop};

use crate::projecting::project;

fn at(time: &str) -> DateTime<Utc> {
    format!("2026-03-01T{time}Z").parse().unwrap()
}

async fn listed(shop: &Shop) -> Vec<SalesRow> {
    sales::list(&shop.pool, at("00:00:00"), at("23:00:00"), None, None, 100)
        .await
        .unwrap()
}

/// Orders of three hours and two currencies, with all that can happen to them; answers the last position.
async fn a_morning(shop: &Shop, clock: &ManualClock) -> i64 {
    let lamp = shop.product("LAMP").price(10_00).await;
    let customer = shop.customer().await;
    let order = async |pieces| shop.order(customer, &[(&lamp, pieces)]).await;

    clock.set(at("09:59:59.999999"));
    let (good, called_off, refused, early) = (order(3).await, order(2).await, order(1).await, order(4).await);
    shop.send::<Order>(
        early,
        OrderCommand::Cancel {
            reason: reason("at once"),
        },
    )
    .await;
    clock.set(at("10:00:00"));
    shop.send::<Order>(good, OrderCommand::Confirm).await;
    shop.send::<Order>(called_off, OrderCommand::Confirm).await;
    shop.send::<Order>(refused, OrderCommand::Reject { refused: Vec::new() })
        .await;
    shop.send::<Order>(
        called_off,
        OrderCommand::Cancel {
            reason: reason("rain"),
        },
    )
    .await;
    clock.set(at("11:30:00"));
    shop.ship(good).await;
    shop.send::<Order>(good, OrderCommand::Deliver).await;
    let back = |number, refund| OrderCommand::ReturnItems {
        lines: vec![ReturnLine {
            line: 0,
            quantity: pieces(number),
        }],
        refund: gbp(refund),
        reason: reason("broken"),
        restock: false,
    };
    shop.send::<Order>(good, back(1, 10_00)).await;
    shop.send::<Order>(good, back(1, 5_00)).await;
    // Another currency, in the first hour again: time does not order.
    clock.set(at("09:30:00"));
    let mut foreign = line(&lamp, 2);
    foreign.unit_price = Money::new(7_00, "EUR".parse().unwrap()).unwrap();
    let place = OrderCommand::Place {
        customer_id: customer,
        items: vec![foreign],
        shipping_address: address(),
        payment: None,
    };
    let last = shop
        .send::<Order>(OrderId::from_ulid(shop.store.ids().next()), place)
        .await;
    last.position.cast_signed()
}

#[tokio::test]
async fn each_event_counts_in_its_hour_and_currency() {
    let clock = Arc::new(ManualClock::at(at("09:00:00")));
    let shop = Opening::default()
        .quiet()
        .clock(Arc::clone(&clock) as _)
        .open()
        .await;
    let last = a_morning(&shop, &clock).await;
    project::<Sales>(&shop).await;
    let none = SalesRow {
        hour: at("09:00:00"),
        currency: "GBP".to_owned(),
        orders_placed: 0,
        orders_confirmed: 0,
        orders_rejected: 0,
        orders_cancelled: 0,
        pieces: 0,
        placed_minor: 0,
        confirmed_minor: 0,
        cancelled_minor: 0,
        refunded_minor: 0,
        position: 0,
    };
    let expected = [
        SalesRow {
            currency: "EUR".to_owned(),
            orders_placed: 1,
            placed_minor: 14_00,
            position: last,
            ..none.clone()
        },
        SalesRow {
            orders_placed: 4,
            orders_cancelled: 1,
            placed_minor: 10_000,
            position: 7,
            ..none.clone()
        },
        SalesRow {
            hour: at("10:00:00"),
            orders_confirmed: 2,
            orders_rejected: 1,
            orders_cancelled: 1,
            pieces: 5,
            confirmed_minor: 50_00,
            cancelled_minor: 20_00,
            position: 11,
            ..none.clone()
        },
        SalesRow {
            hour: at("11:00:00"),
            refunded_minor: 15_00,
            position: 15,
            ..none
        },
    ];
    assert_eq!(listed(&shop).await, expected);

    let range = sales::list(&shop.pool, at("10:00:00"), at("11:00:00"), None, None, 100)
        .await
        .unwrap();
    assert_eq!(range, [expected[2].clone()], "the end is not part of it");
    let after = (expected[0].hour, expected[0].currency.as_str());
    let page = sales::list(&shop.pool, at("00:00:00"), at("23:00:00"), None, Some(after), 2)
        .await
        .unwrap();
    assert_eq!(page, expected[1..3]);
    for currency in ["GBP", "EUR", "XTS"] {
        let only = sales::list(
            &shop.pool,
            at("00:00:00"),
            at("23:00:00"),
            Some(currency),
            None,
            100,
        )
        .await
        .unwrap();
        let wanted: Vec<_> = expected
            .iter()
            .filter(|it| it.currency == currency)
            .cloned()
            .collect();
        assert_eq!(only, wanted, "{currency}");
    }
    shop.finish().await;
}

/// Orders spread over hours, seen through by the process, add up to what the orders say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hours_add_up_to_the_orders() {
    let clock = Arc::new(ManualClock::at(at("08:00:00")));
    let shop = Opening::default().clock(Arc::clone(&clock) as _).open().await;
    let lamp = shop.product("LAMP").price(3_33).stock(40).await;
    let customer = shop.customer().await;
    for n in 0..30 {
        clock.set(at("08:00:00") + TimeDelta::minutes(n * 7));
        shop.order(customer, &[(&lamp, 2)]).await;
    }
    shop.caught_up().await;
    let hours = listed(&shop).await;
    let sum = |of: fn(&SalesRow) -> i64| hours.iter().map(of).sum::<i64>();
    assert_eq!(sum(|row| row.orders_placed), 30);
    assert_eq!(sum(|row| row.orders_confirmed), 20);
    assert_eq!(sum(|row| row.orders_rejected), 10);
    assert_eq!(sum(|row| row.pieces), 40);
    assert_eq!(sum(|row| row.placed_minor), 30 * 6_66);
    assert_eq!(sum(|row| row.confirmed_minor), 20 * 6_66);
    shop.finish().await;
}
