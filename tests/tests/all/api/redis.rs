//! Redis makes answers quicker, and none of them depends on it.

use kontor_tests::api::{ApiShop, Client, Door};
use kontor_tests::{Item, Opening};
use serde_json::{Value, json};

/// Sells something of everything; the shipped order.
async fn sell(api: &ApiShop, shopper: &Client) -> (Item, Item, String) {
    let (lamp, bell) = (
        api.product("LAMP").stock(10).await,
        api.product("BELL").stock(10).await,
    );
    let staff = api.staff().await;
    let order = shopper.place(&[(&lamp, 2), (&bell, 3)]).await;
    api.until_status(order.order_id(), "CONFIRMED").await;
    let _ = staff.ship(&order.id).await.done();
    let _ = shopper.place(&[(&lamp, 1)]).await;
    (lamp, bell, order.id)
}

/// What Redis is usually asked for.
async fn look(client: &Client, lamp: &Item, order: &str) -> Value {
    let query = "query($id: ID!, $order: ID!) {
        product(id: $id) { name available onHand unitsSold } orderStatus(orderId: $order) { orderId status version }
        bestSellers(first: 5) { unitsSold product { id } } }";
    client
        .read(query, json!({ "id": lamp.id.to_string(), "order": order }))
        .await
}

fn expected(lamp: &Item, bell: &Item, order: &str) -> Value {
    let place = |item: &Item, sold| json!({ "unitsSold": sold, "product": { "id": item.id.to_string() } });
    json!({ "product": { "name": lamp.name.as_str(), "available": 7, "onHand": null, "unitsSold": 2 },
        "orderStatus": { "orderId": order, "status": "SHIPPED", "version": 3 },
        "bestSellers": [place(bell, 3), place(lamp, 2)] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_it_is_not_missed_and_fills_itself_again() {
    let api = ApiShop::start().await;
    let shopper = api.shopper().await;
    let (lamp, bell, order) = sell(&api, &shopper).await;
    api.caught_up().await;
    let right = expected(&lamp, &bell, &order);
    assert_eq!(look(&shopper, &lamp, &order).await, right);
    let keys = api.redis_keys().await.len();
    assert!(keys > 3);
    for _ in 0..3 {
        api.empty_redis().await;
        for _ in 0..5 {
            assert_eq!(look(&shopper, &lamp, &order).await, right);
        }
    }
    // What happens while it fills is not lost; `finish` compares every value.
    let sold = shopper.place(&[(&lamp, 7)]).await;
    api.until_status(sold.order_id(), "CONFIRMED").await;
    api.caught_up().await;
    // Without a position, so that Redis may answer: it has heard of the sale.
    let query = "query($id: ID!) { product(id: $id) { available } }";
    let seen = shopper.read(query, json!({ "id": lamp.id.to_string() })).await;
    assert_eq!(seen["product"]["available"], 0);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_reach_everything_is_answered_from_postgres() {
    // A port that was free a moment ago, and that nobody listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let home = ApiShop::start().await;
    let away = home
        .branch_with(
            Opening::default().quiet().redis(&format!("redis://{closed}/0")),
            Door::default(),
        )
        .await;
    let shopper = home.shopper().await.at(&away);
    let (lamp, bell, order) = sell(&home, &shopper).await;
    home.caught_up().await;
    for _ in 0..3 {
        assert_eq!(
            look(&shopper, &lamp, &order).await,
            expected(&lamp, &bell, &order)
        );
    }
    let (status, page) = away.page("/readyz").await;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(
        (status, &page["ready"], &page["status"]),
        (200, &json!(true), &json!("degraded"))
    );
    let reason = page["parts"]["redis"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("Redis") && reason.contains("Postgres"),
        "{reason}"
    );
    assert_eq!(page["parts"]["postgres"], json!({ "status": "ok" }));
    away.close().await;
    home.finish().await;
}
