//! Whoever has written reads what they wrote, or hears in time that it is not there yet.

use std::time::{Duration, Instant};

use kontor_tests::Shop;
use kontor_tests::api::{ApiShop, Door};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_at_a_mutations_position_sees_it_at_any_process() {
    let api = ApiShop::start().await;
    let branch = api.branch().await;
    let lamp = api.product("LAMP").stock(1_000).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    for round in 1..=20 {
        let price = json!({ "amountMinor": round, "currency": "GBP" });
        let reprice = json!({ "productId": lamp.id.to_string(), "price": price });
        let changed = staff.mutation("changeProductPrice", reprice).await.position();
        let placed = shopper.place(&[(&lamp, 1)]).await;
        for desk in [shopper.clone(), shopper.at(&branch)] {
            let query = "query($product: ID!, $order: ID!, $changed: Position!, $placed: Position!) {
                product(id: $product, atLeast: $changed) { price { amountMinor } }
                bySku: productBySku(sku: \"lamp\", atLeast: $changed) { price { amountMinor } }
                products(atLeast: $changed) { nodes { price { amountMinor } } }
                order(id: $order, atLeast: $placed) { id }
                orderStatus(orderId: $order, atLeast: $placed) { orderId }
                node(id: $order, atLeast: $placed) { id }
                myOrders(first: 1, atLeast: $placed) { nodes { id } } }";
            let variables = json!({ "product": lamp.id.to_string(), "order": placed.id,
                "changed": changed.to_string(), "placed": placed.position.to_string() });
            let seen = desk.read(query, variables).await;
            let price = json!({ "price": { "amountMinor": round } });
            assert_eq!(
                (&seen["product"], &seen["bySku"], &seen["products"]["nodes"][0]),
                (&price, &price, &price)
            );
            for order in [
                &seen["order"]["id"],
                &seen["orderStatus"]["orderId"],
                &seen["node"]["id"],
                &seen["myOrders"]["nodes"][0]["id"],
            ] {
                assert_eq!(*order, placed.id);
            }
        }
    }
    branch.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_is_not_reached_in_time_is_an_error_that_says_how_far_it_is() {
    let patience = Duration::from_millis(50);
    let door = Door {
        patience,
        ..Door::default()
    };
    let api = ApiShop::over(Shop::start().await, door).await;
    let lamp = api.product("LAMP").await;
    let shopper = api.shopper().await;
    api.caught_up().await;
    let head = kontor_eventstore::read::head(&api.pool).await.unwrap();
    let wanted = (head + 1_000).to_string();
    let id = lamp.id.to_string();
    for (field, consumer) in [
        (
            format!("product(id: {id:?}, atLeast: {wanted:?}) {{ id }}"),
            "products",
        ),
        (
            format!("products(atLeast: {wanted:?}) {{ nodes {{ id }} }}"),
            "products",
        ),
        (
            format!("myOrders(atLeast: {wanted:?}) {{ nodes {{ id }} }}"),
            "orders",
        ),
        (format!("me(atLeast: {wanted:?}) {{ id }}"), "users"),
    ] {
        let started = Instant::now();
        let answer = shopper.ask(&format!("{{ {field} }}"), json!({})).await;
        let took = started.elapsed();
        assert_eq!(answer.code(), "CONSISTENCY_TIMEOUT", "{field}");
        assert_eq!(answer.status, 200);
        let expected = json!({ "code": "CONSISTENCY_TIMEOUT", "consumer": consumer, "wanted": wanted, "reached": head.to_string() });
        assert_eq!(answer.body["errors"][0]["extensions"], expected, "{field}");
        assert!(took >= patience && took < patience * 100, "{field} took {took:?}");
    }
    for wrong in ["\"-1\"", "\"much\"", "1.5", "\"18446744073709551616\""] {
        let answer = shopper
            .ask(&format!("{{ me(atLeast: {wrong}) {{ id }} }}"), json!({}))
            .await;
        assert!(!kontor_tests::api::errors_of(&answer.body).is_empty(), "{wrong}");
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_whose_view_is_late_was_done_all_the_same() {
    let door = Door {
        patience: Duration::from_millis(50),
        ..Door::default()
    };
    let api = ApiShop::over(Shop::quiet().await, door).await;
    let shopper = api.shopper().await;
    let change = json!({ "name": "Another Name" });
    let answer = shopper
        .mutation("changeProfile", change)
        .returning("user { name }")
        .answer()
        .await;
    assert_eq!(answer.code(), "CONSISTENCY_TIMEOUT");
    let payload = &answer.body["data"]["changeProfile"];
    assert_eq!(
        (&payload["user"], &payload["userErrors"]),
        (&json!(null), &json!([]))
    );
    let position: u64 = payload["position"].as_str().unwrap().parse().unwrap();
    assert_eq!(kontor_eventstore::read::head(&api.pool).await.unwrap(), position);
    api.finish().await;
}
