//! What staff do to products.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kontor_eventstore::read::head;
use kontor_tests::api::ApiShop;
use serde_json::{Value, json};

fn gbp(amount: i64) -> Value {
    json!({ "amountMinor": amount, "currency": "GBP" })
}

fn lamp() -> Value {
    json!({ "sku": "LAMP-1", "name": "Lamp", "description": "Two\nlines.", "category": "lights", "price": gbp(12_50) })
}

const PRODUCT: &str =
    "product { id sku name description category price { amountMinor currency } available onHand reserved
    inStock listed unitsSold version }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_product_is_created_stocked_repriced_and_taken_off_sale() {
    let api = ApiShop::start().await;
    let staff = api.staff().await;
    let created = staff
        .mutation("createProduct", lamp())
        .returning(PRODUCT)
        .await
        .done();
    let id = created["id"].as_str().unwrap();
    let mut expected = json!({ "id": id, "sku": "LAMP-1", "name": "Lamp", "description": "Two\nlines.", "category": "lights",
        "price": gbp(12_50), "available": 0, "onHand": 0, "reserved": 0, "inStock": false, "listed": true, "unitsSold": 0,
        "version": 1 });
    assert_eq!(created["product"], expected);
    let steps = [
        (
            "receiveStock",
            json!({ "quantity": 5, "reference": "delivery 7" }),
            json!({ "onHand": 5, "available": 5, "inStock": true }),
        ),
        (
            "adjustStock",
            json!({ "delta": -2, "reason": "broken" }),
            json!({ "onHand": 3, "available": 3 }),
        ),
        (
            "changeProductPrice",
            json!({ "price": gbp(13_00) }),
            json!({ "price": gbp(13_00) }),
        ),
        (
            "changeProductDetails",
            json!({ "name": "Big lamp", "description": "" }),
            json!({ "name": "Big lamp", "description": "" }),
        ),
        (
            "changeProductCategory",
            json!({ "category": "big lights" }),
            json!({ "category": "big lights" }),
        ),
        (
            "discontinueProduct",
            json!({ "reason": "out of fashion" }),
            json!({ "listed": false }),
        ),
        ("relistProduct", json!({}), json!({ "listed": true })),
    ];
    for (index, (name, mut input, change)) in steps.into_iter().enumerate() {
        let version = index + 1;
        input["productId"] = id.into();
        input["expectedVersion"] = (version - 1).into();
        if index > 0 {
            let telling = "... on VersionConflict { expectedVersion currentVersion }";
            let refusal = staff
                .mutation(name, input.clone())
                .telling(telling)
                .await
                .refusal();
            assert_eq!(refusal["code"], "VERSION_CONFLICT", "{name}");
            assert_eq!(
                (&refusal["expectedVersion"], &refusal["currentVersion"]),
                (&json!(version - 1), &json!(version))
            );
        }
        input["expectedVersion"] = version.into();
        let payload = staff.mutation(name, input).returning(PRODUCT).await.done();
        expected
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        expected["version"] = (version + 1).into();
        assert_eq!(payload["product"], expected, "{name}");
    }
    // Stock is for staff to see.
    api.caught_up().await;
    let seen = api.visitor().product(id, "available onHand reserved", 0).await;
    assert_eq!(seen, json!({ "available": 3, "onHand": null, "reserved": null }));
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_with_the_reason() {
    let api = ApiShop::start().await;
    let (staff, shopper) = (api.staff().await, api.shopper().await);
    let first = staff.mutation("createProduct", lamp()).await.done();
    let id = first["id"].clone();
    let mut other_case = lamp();
    other_case["sku"] = "lamp-1".into();
    let telling = "... on SkuTaken { productId }";
    let refusal = staff
        .mutation("createProduct", other_case)
        .telling(telling)
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["productId"]),
        (&json!("SKU_TAKEN"), &id)
    );

    let receive = json!({ "productId": id, "quantity": 5 });
    let stocked = staff.mutation("receiveStock", receive).await.position();
    let placing = json!({ "items": [{ "productId": id, "quantity": 3 }], "shippingAddress": kontor_tests::api::shipping_address() });
    let _ = shopper.product(id.as_str().unwrap(), "id", stocked).await;
    let order = shopper.mutation("placeOrder", placing).await.placed();
    api.until_status(order.order_id(), "CONFIRMED").await;
    let adjust = |delta: i32| json!({ "productId": id, "delta": delta, "reason": "count" });
    let telling = "... on StockBelowReserved { onHand reserved delta }";
    let refusal = staff
        .mutation("adjustStock", adjust(-3))
        .telling(telling)
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["path"]),
        (&json!("STOCK_BELOW_RESERVED"), &json!(["input", "delta"]))
    );
    assert_eq!(
        (&refusal["onHand"], &refusal["reserved"], &refusal["delta"]),
        (&json!(5), &json!(3), &json!(-3))
    );
    let _ = staff.mutation("adjustStock", adjust(-2)).await.done();

    let euros = json!({ "productId": id, "price": { "amountMinor": 1, "currency": "EUR" } });
    let telling = "... on CurrencyCannotChange { currency }";
    let refusal = staff
        .mutation("changeProductPrice", euros)
        .telling(telling)
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["currency"]),
        (&json!("CURRENCY_CANNOT_CHANGE"), &json!("GBP"))
    );
    let never = json!({ "productId": "prd_01ARZ3NDEKTSV4RRFFQ69G5FAV", "quantity": 1 });
    assert_eq!(
        staff.mutation("receiveStock", never).await.refusal()["code"],
        "PRODUCT_NOT_FOUND"
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_wrong_with_a_product_is_told_at_once_and_nothing_is_written() {
    let api = ApiShop::start().await;
    let staff = api.staff().await;
    let before = head(&api.pool).await.unwrap();
    let wrong = json!({ "sku": "", "name": "x".repeat(201), "description": "x".repeat(10_001), "category": "a\nb",
        "price": gbp(-1), "idempotencyKey": "x".repeat(201) });
    let errors = staff
        .mutation("createProduct", wrong)
        .telling("... on InvalidInput { problem maximum }")
        .await
        .refused();
    let mut told: Vec<String> = errors
        .iter()
        .map(|it| {
            format!(
                "{} {} {}",
                it["path"],
                it["problem"].as_str().unwrap(),
                it["maximum"]
            )
        })
        .collect();
    told.sort();
    let expected = [
        r#"["input","category"] FORBIDDEN_CHARACTER null"#,
        r#"["input","description"] TOO_LONG 10000"#,
        r#"["input","idempotencyKey"] TOO_LONG 200"#,
        r#"["input","name"] TOO_LONG 200"#,
        r#"["input","price","amountMinor"] NEGATIVE null"#,
        r#"["input","sku"] EMPTY null"#,
    ];
    assert_eq!(told, expected);
    for (name, input, path) in [
        (
            "receiveStock",
            json!({ "productId": "usr_1", "quantity": 0 }),
            ["productId", "quantity"],
        ),
        (
            "adjustStock",
            json!({ "productId": "", "delta": 0, "reason": "why" }),
            ["delta", "productId"],
        ),
        (
            "changeProductDetails",
            json!({ "productId": "prd_", "name": " ", "description": "" }),
            ["name", "productId"],
        ),
    ] {
        let mut paths: Vec<Value> = staff
            .mutation(name, input)
            .await
            .refused()
            .into_iter()
            .map(|mut it| it["path"].take())
            .collect();
        paths.sort_by_key(ToString::to_string);
        assert_eq!(paths, path.map(|field| json!(["input", field])), "{name}");
    }
    assert_eq!(head(&api.pool).await.unwrap(), before);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_is_written_by_staff_alone() {
    let api = ApiShop::start().await;
    let product = api.product("LAMP").await;
    let before = head(&api.pool).await.unwrap();
    let shopper = api.shopper().await;
    let registered = head(&api.pool).await.unwrap() - before;
    let id = product.id.to_string();
    for (name, input) in [
        ("createProduct", lamp()),
        (
            "changeProductDetails",
            json!({ "productId": id, "name": "x", "description": "x" }),
        ),
        (
            "changeProductCategory",
            json!({ "productId": id, "category": "x" }),
        ),
        ("changeProductPrice", json!({ "productId": id, "price": gbp(1) })),
        ("receiveStock", json!({ "productId": id, "quantity": 1 })),
        (
            "adjustStock",
            json!({ "productId": id, "delta": 1, "reason": "x" }),
        ),
        ("discontinueProduct", json!({ "productId": id })),
        ("relistProduct", json!({ "productId": id })),
    ] {
        for (client, code) in [(&shopper, "FORBIDDEN"), (&api.visitor(), "UNAUTHENTICATED")] {
            let answer = client.mutation(name, input.clone()).answer().await;
            assert_eq!(answer.code(), code, "{name}");
            assert_eq!(answer.body["data"], Value::Null);
        }
    }
    assert_eq!(head(&api.pool).await.unwrap(), before + registered);
    api.finish().await;
}

/// Postgres takes no U+0000, so nobody may be told that the shop is broken for having sent one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_nothing_can_hold_is_a_question_badly_put() {
    let api = ApiShop::start().await;
    let admin = api.admin().await;
    let nul = "a\u{0}b";
    let forged = URL_SAFE_NO_PAD.encode(json!({ "sort": "Name", "name": nul, "id": nul }).to_string());
    for (query, variables) in [
        (
            "query($t: String!) { products(filter: { category: $t }) { nodes { id } } }",
            json!({ "t": nul }),
        ),
        (
            "query($t: String!) { products(filter: { search: $t }) { nodes { id } } }",
            json!({ "t": nul }),
        ),
        (
            "query($t: String!) { products(after: $t) { nodes { id } } }",
            json!({ "t": forged }),
        ),
        (
            "query($t: String!) { audit(filter: { kind: $t }) { nodes { id } } }",
            json!({ "t": nul }),
        ),
        (
            "query($t: String!) { audit(filter: { actor: $t }) { nodes { id } } }",
            json!({ "t": nul }),
        ),
        (
            "query($t: String!) { auditTrail(of: { request: $t }) { end } }",
            json!({ "t": nul }),
        ),
    ] {
        assert_eq!(
            admin.ask(query, variables).await.code(),
            "BAD_USER_INPUT",
            "{query}"
        );
    }
    api.finish().await;
}
