//! The view of orders.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use kontor_domain::{
    CaptureAt, DeclineReason, Order, OrderCommand, OrderId, OrderStatus, PaymentState, PaymentStatus,
    Personal, RefusalReason, RefusedItem, RejectionCause, ReturnLine, ReturnedLine, UserId,
};
use kontor_eventstore::ManualClock;
use kontor_projections::orders::{self, Happening, OrderFilter, OrderRow, Orders, TimelineEntry};
use kontor_tests::examples::{address, gbp, line, pieces, reason};
use kontor_tests::{Opening, Shop};

use crate::projecting::project;

fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

async fn quiet(clock: &Arc<ManualClock>) -> Shop {
    Opening::default()
        .quiet()
        .clock(Arc::clone(clock) as _)
        .open()
        .await
}

#[tokio::test]
async fn a_row_tells_the_whole_story_of_an_order() {
    let clock = Arc::new(ManualClock::at(noon()));
    let shop = quiet(&clock).await;
    let lamp = shop.product("LAMP").price(10_00).await; // 1
    let bell = shop.product("BELL").price(2_50).await; // 2
    let customer = shop.customer().await; // 3
    let id = shop.order(customer, &[(&lamp, 2), (&bell, 4)]).await; // 4
    project::<Orders>(&shop).await;
    let placed = TimelineEntry {
        position: 4,
        at: noon(),
        status: OrderStatus::Pending,
        what: Happening::Placed,
    };
    let row = shop.order_row(id).await;
    let goes_to = shop.store.keyring().reveal(&row.shipping_address).await.unwrap();
    assert_eq!(goes_to, address().into_inner());
    let expected = OrderRow {
        id: id.to_string(),
        customer_id: customer.to_string(),
        status: "PENDING".to_owned(),
        total_minor: 30_00,
        refunded_minor: 0,
        currency: "GBP".to_owned(),
        items: sqlx::types::Json(vec![line(&lamp, 2), line(&bell, 4)]),
        // As it is in the event: sealed.
        shipping_address: row.shipping_address.clone(),
        timeline: sqlx::types::Json(vec![placed.clone()]),
        placed_at: noon(),
        updated_at: noon(),
        version: 1,
        position: 4,
        payment_status: None,
        authorised_minor: 0,
        captured_minor: 0,
        paid_back_minor: 0,
    };
    assert_eq!(row, expected);

    let mut timeline = vec![placed];
    let return_bells = OrderCommand::ReturnItems {
        lines: vec![ReturnLine {
            line: 1,
            quantity: pieces(3),
        }],
        refund: gbp(7_50),
        reason: reason("out of tune"),
        restock: true,
    };
    let ship = OrderCommand::Ship {
        tracking_number: "T-1".parse().unwrap(),
        carrier: Some("Cog".parse().unwrap()),
    };
    let shipped = Happening::Shipped {
        tracking_number: "T-1".to_owned(),
        carrier: Some("Cog".to_owned()),
    };
    let returned = Happening::Returned {
        lines: vec![ReturnedLine {
            line: 1,
            product_id: bell.id,
            quantity: pieces(3),
        }],
        refund: gbp(7_50),
        reason: reason("out of tune"),
        restocked: true,
    };
    for (minutes, command, status, what) in [
        (
            1,
            OrderCommand::Confirm,
            OrderStatus::Confirmed,
            Happening::Confirmed,
        ),
        (2, ship, OrderStatus::Shipped, shipped),
        (
            3,
            OrderCommand::Deliver,
            OrderStatus::Delivered,
            Happening::Delivered,
        ),
        (4, return_bells, OrderStatus::Delivered, returned),
    ] {
        let at = noon() + TimeDelta::minutes(minutes);
        clock.set(at);
        let position = shop.send::<Order>(id, command).await.position;
        timeline.push(TimelineEntry {
            position,
            at,
            status,
            what,
        });
        project::<Orders>(&shop).await;
        let row = shop.order_row(id).await;
        assert_eq!(readable(&shop, &row).await, timeline);
        assert_eq!((row.status.as_str(), row.updated_at), (status.as_str(), at));
        assert_eq!((row.version, row.position), (minutes + 1, position.cast_signed()));
    }
    let row = shop.order_row(id).await;
    assert_eq!(
        (row.total_minor, row.refunded_minor, row.placed_at),
        (30_00, 7_50, noon())
    );
    shop.finish().await;
}

fn heard(status: PaymentStatus, authorised: i64, captured: i64, refunded: i64) -> OrderCommand {
    let payment = PaymentState {
        reference: "pi_1".parse().unwrap(),
        status,
        authorised: gbp(authorised),
        captured: gbp(captured),
        refunded: gbp(refunded),
        next_action: None,
    };
    OrderCommand::ObservePayment { payment }
}

/// What happened to an order, as it is shown.
async fn readable(shop: &Shop, row: &OrderRow) -> Vec<TimelineEntry> {
    let mut timeline = row.timeline.0.clone();
    let written = timeline.iter_mut().filter_map(|entry| entry.what.personal());
    shop.store.keyring().unseal(written.collect()).await.unwrap();
    timeline
}

fn settle(why: &str) -> OrderCommand {
    OrderCommand::SettleByHand {
        capture: CaptureAt::Shipment,
        reason: reason(why),
    }
}

#[tokio::test]
async fn a_row_has_the_sums_of_the_payment_by_whomever_they_were_moved() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").price(10_00).await;
    let customer = shop.customer().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = OrderId::from_ulid(shop.store.ids().next());
        let mut placing = shop.placing(customer, &[(&lamp, 3)]);
        if let OrderCommand::Place { payment, .. } = &mut placing {
            *payment = Some(Personal::new("pm_1".parse().unwrap()));
        }
        shop.send::<Order>(id, placing).await;
        ids.push(id);
    }
    let [paid, declined, let_go] = ids[..] else {
        unreachable!()
    };
    let refund = |amount| OrderCommand::Refund {
        amount: gbp(amount),
        reason: reason("scratched"),
    };
    let ship = OrderCommand::Ship {
        tracking_number: "T-1".parse().unwrap(),
        carrier: None,
    };
    let why = || reason("no");
    for (id, command, status, sums) in [
        (paid, OrderCommand::MarkReserved, "WAITING", [0, 0, 0, 0]),
        (
            paid,
            heard(PaymentStatus::RequiresAction, 0, 0, 0),
            "REQUIRES_ACTION",
            [0, 0, 0, 0],
        ),
        (
            paid,
            heard(PaymentStatus::Authorised, 30_00, 0, 0),
            "AUTHORISED",
            [30_00, 0, 0, 0],
        ),
        (paid, ship, "AUTHORISED", [30_00, 0, 0, 0]),
        (
            paid,
            settle("taken at the bank"),
            "CAPTURED",
            [30_00, 30_00, 0, 0],
        ),
        (paid, refund(4_00), "CAPTURED", [30_00, 30_00, 0, 4_00]),
        (
            paid,
            heard(PaymentStatus::Captured, 30_00, 30_00, 4_00),
            "CAPTURED",
            [30_00, 30_00, 4_00, 4_00],
        ),
        (paid, refund(6_00), "CAPTURED", [30_00, 30_00, 4_00, 10_00]),
        (
            paid,
            settle("paid back in cash"),
            "CAPTURED",
            [30_00, 30_00, 10_00, 10_00],
        ),
        (declined, OrderCommand::MarkReserved, "WAITING", [0, 0, 0, 0]),
        (
            declined,
            heard(PaymentStatus::Declined(DeclineReason::CardDeclined), 0, 0, 0),
            "DECLINED",
            [0, 0, 0, 0],
        ),
        (let_go, OrderCommand::MarkReserved, "WAITING", [0, 0, 0, 0]),
        (
            let_go,
            heard(PaymentStatus::Authorised, 30_00, 0, 0),
            "AUTHORISED",
            [30_00, 0, 0, 0],
        ),
        (
            let_go,
            OrderCommand::Cancel { reason: why() },
            "AUTHORISED",
            [30_00, 0, 0, 0],
        ),
        (let_go, settle("let go at the bank"), "VOIDED", [30_00, 0, 0, 0]),
    ] {
        let told = format!("{command:?}");
        shop.send::<Order>(id, command).await;
        project::<Orders>(&shop).await;
        let row = shop.order_row(id).await;
        assert_eq!(row.payment_status.as_deref(), Some(status), "{told}");
        let found = [
            row.authorised_minor,
            row.captured_minor,
            row.paid_back_minor,
            row.refunded_minor,
        ];
        assert_eq!(found, sums, "{told}");
    }
    shop.finish().await;
}

#[tokio::test]
async fn a_row_says_why_an_order_came_to_nothing() {
    let clock = Arc::new(ManualClock::at(noon()));
    let shop = quiet(&clock).await;
    let lamp = shop.product("LAMP").await;
    let customer = shop.customer().await;
    let (rejected, cancelled) = (
        shop.order(customer, &[(&lamp, 2)]).await,
        shop.order(customer, &[(&lamp, 1)]).await,
    );
    let refused = vec![RefusedItem {
        product_id: lamp.id,
        requested: pieces(2),
        available: 1,
        reason: RefusalReason::InsufficientStock,
    }];
    shop.send::<Order>(
        rejected,
        OrderCommand::Reject {
            refused: refused.clone(),
        },
    )
    .await;
    shop.send::<Order>(
        cancelled,
        OrderCommand::Cancel {
            reason: reason("second thoughts"),
        },
    )
    .await;
    project::<Orders>(&shop).await;
    let row = shop.order_row(rejected).await;
    assert_eq!(
        (row.status.as_str(), &row.timeline[1].what),
        (
            "REJECTED",
            &Happening::Rejected {
                refused,
                cause: RejectionCause::Stock
            }
        )
    );
    let row = shop.order_row(cancelled).await;
    assert!(!format!("{:?}", row.timeline).contains("thoughts"));
    let why = Happening::Cancelled {
        reason: reason("second thoughts"),
    };
    let timeline = readable(&shop, &row).await;
    assert_eq!((row.status.as_str(), &timeline[1].what), ("CANCELLED", &why));
    shop.finish().await;
}

#[tokio::test]
async fn lists_are_newest_first_in_pages_and_keep_customers_apart() {
    let clock = Arc::new(ManualClock::at(noon()));
    let shop = quiet(&clock).await;
    let lamp = shop.product("LAMP").await;
    let customers = [shop.customer().await, shop.customer().await];
    let mut placed: Vec<(DateTime<Utc>, OrderId, UserId)> = Vec::new();
    for n in 0..12_usize {
        // Three at a time are as old as each other.
        clock.set(noon() + TimeDelta::minutes(i64::try_from(n / 3).unwrap()));
        let customer = customers[n % 2];
        let id = shop.order(customer, &[(&lamp, 1)]).await;
        placed.push((
            noon() + TimeDelta::minutes(i64::try_from(n / 3).unwrap()),
            id,
            customer,
        ));
        if n % 4 == 0 {
            shop.send::<Order>(id, OrderCommand::Confirm).await;
        }
    }
    project::<Orders>(&shop).await;
    placed.sort_unstable();
    placed.reverse();
    let ids = |of: &dyn Fn(&UserId) -> bool| -> Vec<String> {
        placed
            .iter()
            .filter(|(.., customer)| of(customer))
            .map(|(_, id, _)| id.to_string())
            .collect()
    };
    let pages = async |filter: &OrderFilter, size| {
        let mut found: Vec<OrderRow> = Vec::new();
        loop {
            let after = found.last().map(|row| (row.placed_at, row.id.clone()));
            let after = after.as_ref().map(|(at, id)| (*at, id.as_str()));
            let page = orders::list(&shop.pool, filter, after, size).await.unwrap();
            if page.is_empty() {
                return found;
            }
            found.extend(page);
        }
    };
    for size in [1, 5, 100] {
        let all: Vec<String> = pages(&OrderFilter::default(), size)
            .await
            .into_iter()
            .map(|row| row.id)
            .collect();
        assert_eq!(all, ids(&|_| true));
        for customer in customers {
            let filter = OrderFilter {
                customer_id: Some(customer),
                status: None,
            };
            let theirs: Vec<String> = pages(&filter, size).await.into_iter().map(|row| row.id).collect();
            assert_eq!(theirs, ids(&|it| *it == customer));
        }
        let filter = OrderFilter {
            customer_id: Some(customers[0]),
            status: Some(OrderStatus::Confirmed),
        };
        let confirmed = pages(&filter, size).await;
        assert_eq!(confirmed.len(), 3);
        assert!(
            confirmed
                .iter()
                .all(|row| row.status == "CONFIRMED" && row.customer_id == customers[0].to_string())
        );
    }
    assert_eq!(
        orders::by_ids(&shop.pool, &["ord_nothing".to_owned()])
            .await
            .unwrap(),
        []
    );
    shop.finish().await;
}
