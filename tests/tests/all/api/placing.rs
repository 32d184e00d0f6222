//! What an order may hold, and what it costs.

use kontor_tests::api::ApiShop;
use serde_json::{Value, json};

fn gbp(amount: i64) -> Value {
    json!({ "amountMinor": amount, "currency": "GBP" })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_prices_stay_those_of_the_moment() {
    let api = ApiShop::start().await;
    let lamp = api
        .product("LAMP")
        .name("The old lamp")
        .price(10_00)
        .stock(5)
        .await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let order = shopper.place(&[(&lamp, 2)]).await;
    let product = json!({ "productId": lamp.id.to_string() });
    let with = |more: Value| {
        let mut input = product.clone();
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        input
    };
    let _ = staff
        .mutation("changeProductPrice", with(json!({ "price": gbp(11_00) })))
        .await
        .done();
    let renamed = json!({ "name": "The new lamp", "description": "Brighter." });
    let _ = staff.mutation("changeProductDetails", with(renamed)).await.done();
    api.caught_up().await;

    let fields = "total { amountMinor } items { name unitPrice { amountMinor } product { name price { amountMinor } } }";
    let seen = shopper.order(&order.id, fields).await;
    assert_eq!(
        seen,
        json!({ "total": { "amountMinor": 20_00 }, "items": [{ "name": "The old lamp", "unitPrice": { "amountMinor": 10_00 },
                "product": { "name": "The new lamp", "price": { "amountMinor": 11_00 } } }] })
    );
    // And the next one pays the new price.
    let next = shopper.place(&[(&lamp, 1)]).await;
    api.caught_up().await;
    assert_eq!(
        shopper.order(&next.id, "total { amountMinor }").await["total"]["amountMinor"],
        11_00
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_pays_another_total_than_they_saw() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let raise = json!({ "productId": lamp.id.to_string(), "price": gbp(11_00) });
    let raised = staff.mutation("changeProductPrice", raise).await.position();
    let _ = shopper.product(lamp.id, "id", raised).await;
    api.caught_up().await;
    let mut placing = shopper.placing(&[(&lamp, 2)]);
    placing["expectedTotal"] = gbp(20_00);
    let telling = "... on PriceChanged { expected { amountMinor currency } actual { amountMinor currency } }";
    let refusal = shopper
        .mutation("placeOrder", placing.clone())
        .telling(telling)
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["path"]),
        (&json!("PRICE_CHANGED"), &json!(["input", "expectedTotal"]))
    );
    assert_eq!(
        (&refusal["expected"], &refusal["actual"]),
        (&gbp(20_00), &gbp(22_00))
    );
    placing["expectedTotal"] = gbp(22_00);
    let placed = shopper.mutation("placeOrder", placing).await.placed();
    api.until_status(placed.order_id(), "CONFIRMED").await;
    assert_eq!(api.orders().await.len(), 1);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_has_1_to_200_items_of_products_that_are_sold() {
    let api = ApiShop::start().await;
    let (lamp, rope) = (
        api.product("LAMP").price(1).stock(500).await,
        api.product("ROPE").stock(5).await,
    );
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let many = |count| shopper.placing(&vec![(&lamp, 1); count]);
    let telling = "... on InvalidInput { problem minimum maximum }";
    for (count, problem) in [(0, "TOO_SHORT"), (201, "TOO_LONG")] {
        let refusal = shopper
            .mutation("placeOrder", many(count))
            .telling(telling)
            .await
            .refusal();
        assert_eq!(
            (&refusal["code"], &refusal["path"]),
            (&json!("INVALID_INPUT"), &json!(["input", "items"]))
        );
        assert_eq!(
            (&refusal["problem"], &refusal["maximum"]),
            (&json!(problem), &json!(200)),
            "{count}: {refusal}"
        );
    }
    // The same product on 200 lines is one reservation.
    let whole = shopper.mutation("placeOrder", many(200)).await.placed();
    api.until_status(whole.order_id(), "CONFIRMED").await;
    assert_eq!(api.stock(lamp.id).await, (500, 200));
    let seen = shopper
        .order(&whole.id, "total { amountMinor } items { index }")
        .await;
    assert_eq!(
        (
            &seen["total"]["amountMinor"],
            seen["items"].as_array().unwrap().len()
        ),
        (&json!(200), 200)
    );

    let gone = json!({ "productId": rope.id.to_string(), "reason": "moths" });
    let _ = staff.mutation("discontinueProduct", gone).await.done();
    api.caught_up().await;
    let never = "prd_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let mut placing = shopper.placing(&[(&lamp, 1), (&rope, 1), (&lamp, 1)]);
    placing["items"][2]["productId"] = never.into();
    let telling =
        "... on ProductNotFound { missing: productId } ... on ProductNotForSale { unsold: productId }";
    let errors = shopper
        .mutation("placeOrder", placing)
        .telling(telling)
        .await
        .refused();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(
        (&errors[0]["code"], &errors[0]["unsold"]),
        (&json!("PRODUCT_NOT_FOR_SALE"), &json!(rope.id.to_string()))
    );
    assert_eq!(
        (&errors[1]["code"], &errors[1]["missing"]),
        (&json!("PRODUCT_NOT_FOUND"), &json!(never))
    );
    assert_eq!(errors[1]["path"], json!(["input", "items", "2", "productId"]));
    assert_eq!(api.orders().await.len(), 1);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_wrong_with_an_order_is_told_at_once_and_nothing_is_written() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(5).await;
    let shopper = api.shopper().await;
    let before = kontor_eventstore::read::head(&api.pool).await.unwrap();
    let mut placing = shopper.placing(&[(&lamp, 0), (&lamp, 1_000_001), (&lamp, 1)]);
    placing["items"][2]["productId"] = "ord_1".into();
    placing["shippingAddress"]["city"] = "".into();
    placing["shippingAddress"]["country"] = "Deutschland".into();
    placing["expectedTotal"] = gbp(-1);
    placing["idempotencyKey"] = "".into();
    let errors = shopper
        .mutation("placeOrder", placing)
        .telling("... on InvalidInput { problem }")
        .await
        .refused();
    let mut told: Vec<String> = errors
        .iter()
        .map(|it| {
            assert_eq!(it["code"], "INVALID_INPUT");
            let path: Vec<&str> = it["path"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_str)
                .collect();
            format!("{} {}", path.join("."), it["problem"].as_str().unwrap())
        })
        .collect();
    told.sort();
    let expected = [
        "input.expectedTotal.amountMinor NEGATIVE",
        "input.idempotencyKey EMPTY",
        "input.items.0.quantity OUT_OF_RANGE",
        "input.items.1.quantity OUT_OF_RANGE",
        "input.items.2.productId NOT_AN_ID",
        "input.shippingAddress.city EMPTY",
        "input.shippingAddress.country NOT_A_CODE",
    ];
    assert_eq!(told, expected);
    assert_eq!(kontor_eventstore::read::head(&api.pool).await.unwrap(), before);
    assert_eq!(
        api.visitor()
            .mutation("placeOrder", shopper.placing(&[(&lamp, 1)]))
            .answer()
            .await
            .code(),
        "UNAUTHENTICATED"
    );
    api.finish().await;
}
