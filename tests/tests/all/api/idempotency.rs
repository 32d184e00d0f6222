//! A request that is sent again, because nobody knows whether the first one arrived.

use futures::future::join_all;
use kontor_tests::api::ApiShop;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_gives_the_same_answer_whatever_has_happened_since() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let mut placing = shopper.placing(&[(&lamp, 2)]);
    placing["idempotencyKey"] = "once".into();
    placing["expectedTotal"] = json!({ "amountMinor": 20_00, "currency": "GBP" });
    let first = shopper.mutation("placeOrder", placing.clone()).await.placed();
    assert_eq!(
        shopper.mutation("placeOrder", placing.clone()).await.placed(),
        first
    );

    // What would be refused now was taken then.
    let product = lamp.id.to_string();
    let raise = json!({ "productId": product, "price": { "amountMinor": 99_00, "currency": "GBP" } });
    let _ = staff.mutation("changeProductPrice", raise).await.done();
    let _ = staff
        .mutation("discontinueProduct", json!({ "productId": product }))
        .await
        .done();
    api.until_status(first.order_id(), "CONFIRMED").await;
    let _ = shopper.cancel(&first.id).await.done();
    api.caught_up().await;
    assert_eq!(shopper.mutation("placeOrder", placing).await.placed(), first);
    assert_eq!(api.orders().await.len(), 1);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_at_the_same_moment_and_from_two_processes_places_one_order() {
    let api = ApiShop::start().await;
    let branch = api.branch().await;
    let lamp = api.product("LAMP").stock(100).await;
    let shopper = api.shopper().await;
    let mut placing = shopper.placing(&[(&lamp, 1)]);
    placing["idempotencyKey"] = "once".into();
    let desks = [shopper.clone(), shopper.at(&branch)];
    let answers = join_all((0..20).map(|n| {
        let (desk, placing) = (desks[n % 2].clone(), placing.clone());
        tokio::spawn(async move { desk.mutation("placeOrder", placing).await.placed() })
    }))
    .await;
    let first = answers[0].as_ref().unwrap();
    for answer in &answers {
        assert_eq!(answer.as_ref().unwrap(), first);
    }
    api.caught_up().await;
    assert_eq!(api.orders().await.len(), 1);
    assert_eq!(api.stock(lamp.id).await, (100, 1));
    branch.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_with_another_input_is_refused_and_another_persons_key_is_another_key() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(100).await;
    let (shopper, other) = (api.shopper().await, api.shopper().await);
    let mut placing = shopper.placing(&[(&lamp, 1)]);
    placing["idempotencyKey"] = "once".into();
    let first = shopper.mutation("placeOrder", placing.clone()).await.placed();

    let mut different = Vec::new();
    for change in [
        (
            "items",
            json!([{ "productId": lamp.id.to_string(), "quantity": 2 }]),
        ),
        ("expectedTotal", json!({ "amountMinor": 5_00, "currency": "GBP" })),
    ] {
        let mut placing = placing.clone();
        placing[change.0] = change.1;
        different.push(placing);
    }
    let mut moved = placing.clone();
    moved["shippingAddress"]["line1"] = "2 Quay".into();
    different.push(moved);
    let telling = "... on IdempotencyKeyReused { idempotencyKey }";
    for input in different {
        let refusal = shopper
            .mutation("placeOrder", input)
            .telling(telling)
            .await
            .refusal();
        assert_eq!(refusal["code"], "IDEMPOTENCY_KEY_REUSED");
        assert_eq!(refusal["idempotencyKey"], "once");
    }
    // Another mutation is another input too.
    let cancel = json!({ "orderId": first.id, "reason": "no", "idempotencyKey": "once" });
    assert_eq!(
        shopper.mutation("cancelOrder", cancel).await.refusal()["code"],
        "IDEMPOTENCY_KEY_REUSED"
    );

    let theirs = other.mutation("placeOrder", placing).await.placed();
    assert_ne!(theirs.id, first.id);
    api.caught_up().await;
    assert_eq!(api.orders().await.len(), 2);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_happen_once_too() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(5).await;
    let staff = api.staff().await;
    let receive = json!({ "productId": lamp.id.to_string(), "quantity": 7, "idempotencyKey": "delivery" });
    let adjust = json!({ "productId": lamp.id.to_string(), "delta": -1, "reason": "broken", "idempotencyKey": "count" });
    for (name, input) in [("receiveStock", receive), ("adjustStock", adjust)] {
        let first = staff.mutation(name, input.clone()).await.done();
        assert_eq!(staff.mutation(name, input).await.done(), first, "{name}");
    }
    assert_eq!(api.stock(lamp.id).await, (11, 0));

    let visitor = api.visitor();
    let register = |password: &str| json!({ "email": "once@example.com", "name": "Once", "password": password, "idempotencyKey": "form" });
    let first = visitor
        .mutation("registerUser", register("gravel orchid tundra 42"))
        .await
        .done();
    assert_eq!(
        visitor
            .mutation("registerUser", register("gravel orchid tundra 42"))
            .await
            .done(),
        first
    );
    let refusal = visitor
        .mutation("registerUser", register("plinth saffron oboe 77"))
        .await
        .refusal();
    assert_eq!(refusal["code"], "IDEMPOTENCY_KEY_REUSED");
    api.finish().await;
}
