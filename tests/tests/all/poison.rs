//! Events that nobody can read: they stop their own aggregate and nothing else.

use kontor_domain::{Order, OrderCommand, OrderId};
use kontor_eventstore::{Resumed, StreamKey, dead_letters};
use kontor_projections::rebuild::rebuild;
use kontor_projections::views;
use kontor_tests::examples::reason;
use kontor_tests::{Opening, Shop};

use crate::notifications::mails_sent;

/// Appends an event as a bug might have.
async fn append_poison(shop: &Shop, id: OrderId, sequence: i64, event_type: &str, payload: &str) {
    let inserted = sqlx::query(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position)
         SELECT 'order', $1, $2, $3, '1', $4::json,
                '{\"command_id\":\"bug\",\"correlation_id\":\"bug\",\"actor\":\"system:bug\",\"time\":\"2026-01-01T00:00:00.000000Z\"}',
                max(position) + 1 FROM events",
    )
    .bind(id.to_string())
    .bind(sequence)
    .bind(event_type)
    .bind(payload)
    .execute(&shop.pool)
    .await;
    inserted.unwrap();
}

/// Mends it.
async fn mend(shop: &Shop, id: &str, sequence: i64, payload: &str) {
    let mended =
        sqlx::query("UPDATE events SET payload = $3::json WHERE aggregate_id = $1 AND sequence = $2")
            .bind(id)
            .bind(sequence)
            .bind(payload)
            .execute(&shop.pool)
            .await;
    assert_eq!(mended.unwrap().rows_affected(), 1);
}

const SHIPPED: &str = r#"{"Shipped":{"tracking_number":"T-1"}}"#;

const DELIVERED: &str = r#"{"Delivered":{}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_event_parks_its_order_and_nothing_else_until_it_is_mended_and_resumed_in_order() {
    let shop = Shop::start().await;
    shop.may_park();
    let lamp = shop.product("LAMP").stock(100).price(10_00).await;
    let customer = shop.customer().await;
    let poisoned = shop.order(customer, &[(&lamp, 2)]).await;
    let healthy = shop.order(customer, &[(&lamp, 3)]).await;
    shop.caught_up().await;
    let before = shop.order_row(poisoned).await;

    // A Shipped that nobody can read, and what follows it; all of it about one order.
    append_poison(&shop, poisoned, 3, "Shipped", r#"{"Shipped":{"tracking_no":17}}"#).await;
    append_poison(&shop, poisoned, 4, "Delivered", DELIVERED).await;
    append_poison(
        &shop,
        poisoned,
        5,
        "ItemsReturned",
        &format!(
            r#"{{"ItemsReturned":{{"lines":[{{"line":0,"product_id":"{}","quantity":2}}],"refund":{{"amount_minor":2000,"currency":"GBP"}},"refunded":{{"amount_minor":2000,"currency":"GBP"}},"reason":"broken","restock":true}}}}"#,
            lamp.id
        ),
    )
    .await;
    // The shop goes on, with the same product and the same customer.
    shop.ship(healthy).await;
    let later = shop.order(customer, &[(&lamp, 4)]).await;
    shop.until_status(later, "CONFIRMED").await;
    shop.caught_up().await;
    assert_eq!(shop.order_row(healthy).await.status, "SHIPPED");
    assert_eq!(shop.order_row(poisoned).await, before, "the row stays as it was");
    assert_eq!(
        shop.stock(lamp.id).await,
        (97, 6),
        "the healthy one's 3 left; 2 and 4 are reserved"
    );

    let mut letters = shop.dead_letters().await;
    letters.sort_by(|a, b| a.consumer.cmp(&b.consumer));
    let of: Vec<_> = letters
        .iter()
        .map(|it| (it.consumer.as_str(), it.events, it.stream.aggregate_id.as_str()))
        .collect();
    let id = poisoned.to_string();
    // The process does not care for Delivered; whether it waits too depends on the batch it came in.
    let by_process = of[1].1;
    assert!((2..=3).contains(&by_process));
    assert_eq!(
        of,
        [
            ("notifications", 3, &*id),
            ("order_process", by_process, &*id),
            ("orders", 3, &*id),
            ("sales", 3, &*id)
        ]
    );
    assert!(
        letters.iter().all(|it| it.error.contains("tracking_number")),
        "{letters:?}"
    );
    shop.views_are_true().await;

    // The process keeps going for others, though it can do nothing for this one, also when asked.
    let cancel = shop
        .try_send::<Order>(
            poisoned,
            OrderCommand::Cancel {
                reason: reason("late"),
            },
        )
        .await;
    assert!(cancel.is_err(), "nobody decides on what cannot be read");
    let stream = letters[0].stream.clone();
    let still = shop.resume("orders", &stream).await;
    assert!(matches!(still, Resumed::StillParked { .. }), "{still:?}");
    assert_eq!(shop.dead_letters().await.len(), 4);

    mend(&shop, &poisoned.to_string(), 3, SHIPPED).await;
    for letter in &letters {
        let done = shop.resume(&letter.consumer, &stream).await;
        assert_eq!(done, Resumed::Done(letter.events), "{}", letter.consumer);
    }
    shop.caught_up().await;
    let row = shop.order_row(poisoned).await;
    assert_eq!(
        (row.status.as_str(), row.refunded_minor, row.version),
        ("DELIVERED", 20_00, 5)
    );
    assert_eq!(row.timeline.len(), 5);
    assert_eq!(
        shop.stock(lamp.id).await,
        (97, 4),
        "two were committed, and came back"
    );
    // Registered; three orders confirmed; two shipped; one delivered and refunded.
    assert_eq!(mails_sent(&shop).await, 8);
    shop.views_are_true().await;
    shop.finish().await;
}

/// The order process has not seen the order yet when its stream is spoilt: it cannot confirm what it cannot load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_cannot_be_loaded_does_not_hold_up_the_others() {
    let shop = Shop::quiet().await;
    shop.may_park();
    let lamp = shop.product("LAMP").stock(10).await;
    let spoilt = shop.product("SPOILT").stock(10).await;
    let customer = shop.customer().await;
    let of_spoilt = shop.order(customer, &[(&spoilt, 1), (&lamp, 1)]).await;
    let poisoned = shop.order(customer, &[(&lamp, 1)]).await;
    append_poison(&shop, poisoned, 2, "Shipped", r#"{"Shipped":17}"#).await;
    sqlx::query(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position)
         SELECT 'product', $1, 3, 'StockAdjusted', '1', '{\"StockAdjusted\":17}', '{}', max(position) + 1 FROM events",
    )
    .bind(spoilt.id.to_string())
    .execute(&shop.pool)
    .await
    .unwrap();
    let healthy = shop.order(customer, &[(&lamp, 1)]).await;

    let worker = shop.branch(Opening::default()).await;
    shop.until_status(healthy, "CONFIRMED").await;
    worker.caught_up().await;
    let parked = worker.dead_letters().await;
    let by_process: Vec<_> = parked
        .iter()
        .filter(|it| it.consumer == "order_process")
        .collect();
    let streams: Vec<_> = by_process
        .iter()
        .map(|it| it.stream.aggregate_id.clone())
        .collect();
    assert_eq!(streams, [of_spoilt.to_string(), poisoned.to_string()]);
    assert!(
        parked
            .iter()
            .any(|it| it.consumer == "products" && it.stream.aggregate_id == spoilt.id.to_string())
    );

    // Mended, both are seen through.
    let confirmed = r#"{"Confirmed":{"total":{"amount_minor":500,"currency":"GBP"},"pieces":1}}"#;
    mend(&shop, &poisoned.to_string(), 2, confirmed).await;
    mend(
        &shop,
        &spoilt.id.to_string(),
        3,
        r#"{"StockAdjusted":{"delta":1,"on_hand":11,"reason":"counted"}}"#,
    )
    .await;
    for letter in &parked {
        worker.resume(&letter.consumer, &letter.stream).await;
    }
    for id in [of_spoilt, poisoned] {
        shop.until_status(id, "CONFIRMED").await;
    }
    worker.caught_up().await;
    assert_eq!(worker.dead_letters().await, []);
    worker.views_are_true().await;
    worker.close().await;
    shop.finish().await;
}

/// Rebuilding finds the same poison the live view found, and verifying expects no more of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_parks_what_the_live_view_parks() {
    let shop = Shop::start().await;
    shop.may_park();
    let lamp = shop.product("LAMP").stock(100).await;
    let customer = shop.customer().await;
    let poisoned = shop.order(customer, &[(&lamp, 1)]).await;
    shop.caught_up().await;
    append_poison(&shop, poisoned, 3, "Shipped", r#"{"Shipped":17}"#).await;
    append_poison(&shop, poisoned, 4, "Delivered", DELIVERED).await;
    shop.order(customer, &[(&lamp, 1)]).await;
    shop.caught_up().await;
    let before = shop.dead_letters().await;
    let all = views();
    let rebuilt = rebuild(&shop.pool, &all, |_, _| {}).await.unwrap();
    let parked = |name| rebuilt.iter().find(|it| it.view == name).unwrap().parked;
    assert_eq!((parked("orders"), parked("sales"), parked("products")), (2, 2, 0));
    let key =
        |it: &dead_letters::DeadLetter| (it.consumer.clone(), it.stream.clone(), it.position, it.events);
    let mut now: Vec<_> = shop.dead_letters().await.iter().map(key).collect();
    let mut then: Vec<_> = before.iter().map(key).collect();
    now.sort();
    then.sort();
    assert_eq!(now, then);
    shop.views_are_true().await;

    mend(&shop, &poisoned.to_string(), 3, SHIPPED).await;
    let stream = StreamKey {
        aggregate_type: "order".to_owned(),
        aggregate_id: poisoned.to_string(),
    };
    for view in ["orders", "sales"] {
        assert_eq!(shop.resume(view, &stream).await, Resumed::Done(2));
    }
    assert_eq!(shop.order_row(poisoned).await.status, "DELIVERED");
    shop.views_are_true().await;
    shop.finish().await;
}
