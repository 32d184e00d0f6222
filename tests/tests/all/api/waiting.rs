//! Orders that wait: seen, and helped along by staff.

use kontor_tests::api::{ApiShop, Client};
use serde_json::{Value, json};

use super::payments::{PAYMENT, bank, patient, pay, until, until_payment};
use super::without_order_process;

/// The ids of those that have waited for so many seconds, in pages of two.
async fn waiting(client: &Client, seconds: i32) -> Vec<String> {
    let query =
        "query($for: Int!, $after: String) { waitingOrders(longerThan: $for, first: 2, after: $after) {
        nodes { id pending { step } } pageInfo { hasNextPage endCursor } } }";
    let (mut found, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = client
            .read(query, json!({ "for": seconds, "after": after }))
            .await["waitingOrders"]
            .take();
        let nodes = page["nodes"].as_array().unwrap();
        found.extend(nodes.iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        if page["pageInfo"]["hasNextPage"] == false {
            return found;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

/// Waits until the gateway has been asked in vain.
async fn until_tried(client: &Client, order: &str) -> Value {
    until(client, order, "is tried", |seen| {
        seen["pending"]["step"] == "AUTHORISE"
            && seen["pending"]["nextAttemptAt"].is_string()
            && seen["pending"]["attempts"].as_i64() > Some(0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_gateway_is_down_orders_wait_say_so_and_go_on_when_it_is_back() {
    let api = patient().await;
    let lamp = api.product("LAMP").price(10_00).stock(50).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    bank(&api).set_down(true);
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.push(pay(&shopper, &[(&lamp, 1)], "tok_approved").await.id);
    }
    for order in &placed {
        until_tried(&shopper, order).await;
    }
    let seen = until(&staff, &placed[0], "says why", |seen| {
        seen["pending"]["lastError"].is_string()
    })
    .await;
    assert_eq!(
        (&seen["status"], &seen["payment"]["status"]),
        (&json!("PENDING"), &json!("WAITING"))
    );
    assert!(
        seen["pending"]["lastError"]
            .as_str()
            .unwrap()
            .contains("not reached"),
        "{seen}"
    );
    assert_eq!(
        shopper.order(&placed[0], PAYMENT).await["pending"]["lastError"],
        Value::Null
    );

    let mut found = waiting(&staff, 0).await;
    // They came to the gateway's door about together: what counts is that each is there once.
    found.sort();
    assert_eq!(found, placed);
    assert_eq!(waiting(&staff, 3_600).await, Vec::<String>::new());
    let query = |seconds| format!("{{ waitingOrders(longerThan: {seconds}) {{ nodes {{ id }} }} }}");
    assert_eq!(shopper.ask(&query(0), json!({})).await.code(), "FORBIDDEN");
    assert_eq!(staff.ask(&query(-1), json!({})).await.code(), "BAD_USER_INPUT");

    bank(&api).set_down(false);
    for order in &placed {
        // As if it could not be waited for.
        let _ = staff.change("retryOrder", order, json!({})).await;
        until(&shopper, order, "goes on", |seen| {
            seen["status"] == "CONFIRMED" && seen["pending"].is_null()
        })
        .await;
    }
    api.caught_up().await;
    kontor_tests::eventually("nobody waits", async || {
        waiting(&staff, 0).await.is_empty().then_some(())
    })
    .await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_whose_stock_nobody_reserves_wait_as_well_oldest_first() {
    let api = without_order_process().await;
    let lamp = api.product("LAMP").price(10_00).stock(50).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let mut placed = Vec::new();
    for number in 0..5 {
        let order = if number % 2 == 0 {
            pay(&shopper, &[(&lamp, 1)], "tok_approved").await
        } else {
            shopper.place(&[(&lamp, 1)]).await
        };
        placed.push(order);
    }
    for order in &placed {
        api.until_status(order.order_id(), "PENDING").await;
        let seen = shopper
            .order(
                &order.id,
                "placedAt pending { step since attempts nextAttemptAt lastError }",
            )
            .await;
        let waits = json!({ "step": "RESERVE", "since": seen["placedAt"], "attempts": 0, "nextAttemptAt": null, "lastError": null });
        assert_eq!(seen["pending"], waits);
    }
    let ids: Vec<String> = placed.iter().map(|it| it.id.clone()).collect();
    assert_eq!(waiting(&staff, 0).await, ids);
    let cancelled = shopper.cancel(&placed[3].id).await.position();
    api.runtime
        .progress
        .reach("orders", cancelled, kontor_tests::PATIENCE)
        .await
        .unwrap();
    assert_eq!(waiting(&staff, 0).await, [&ids[..3], &ids[4..]].concat());
    assert_eq!(
        shopper.order(&placed[3].id, "pending { step }").await["pending"],
        Value::Null
    );
    let worker = api.branch().await;
    worker.caught_up().await;
    worker.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_retry_give_up_and_settle_what_waits() {
    let api = patient().await;
    let lamp = api.product("LAMP").price(10_00).stock(50).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    bank(&api).set_down(true);
    let mut orders = Vec::new();
    for _ in 0..3 {
        orders.push(pay(&shopper, &[(&lamp, 1)], "tok_approved").await.id);
    }
    for order in &orders {
        until_tried(&staff, order).await;
    }
    let [retried, given_up, settled] = &orders[..] else {
        unreachable!()
    };
    // None of it is for customers.
    let reason = json!({ "reason": "seen at the bank" });
    for (name, more) in [
        ("retryOrder", json!({})),
        ("giveUpOrder", reason.clone()),
        ("settleOrderByHand", reason.clone()),
        (
            "refundOrder",
            json!({ "reason": "sorry", "amount": { "amountMinor": 1, "currency": "GBP" } }),
        ),
    ] {
        let mut input = more;
        input["orderId"] = retried.clone().into();
        assert_eq!(
            shopper.mutation(name, input).answer().await.code(),
            "FORBIDDEN",
            "{name}"
        );
    }
    let actions = staff.order(retried, "availableActions").await;
    assert_eq!(actions["availableActions"], json!(["GIVE_UP", "CANCEL"]));

    let _ = staff
        .change("giveUpOrder", given_up, json!({ "reason": "stuck" }))
        .await
        .done();
    let timeline = "status timeline { __typename ... on OrderRejectedEntry { cause } ... on PaymentSettledByHandEntry { step } }";
    let seen = staff
        .change("giveUpOrder", given_up, json!({ "reason": "again" }))
        .await;
    let _ = seen.done();
    let _ = staff
        .change("settleOrderByHand", settled, reason.clone())
        .await
        .done();
    let seen = until(&staff, settled, "is settled", |seen| {
        seen["status"] == "CONFIRMED"
    })
    .await;
    assert_eq!(
        (&seen["payment"]["paidByHand"], &seen["pending"]),
        (&json!(true), &Value::Null)
    );
    let told = staff.order(settled, timeline).await;
    let by_hand = json!({ "__typename": "PaymentSettledByHandEntry", "step": "AUTHORISE" });
    assert!(told["timeline"].as_array().unwrap().contains(&by_hand), "{told}");

    bank(&api).set_down(false);
    let _ = staff.change("retryOrder", retried, json!({})).await;
    let _ = until_payment(&staff, retried, "AUTHORISED").await;
    let seen = until_payment(&staff, given_up, "VOIDED").await;
    assert_eq!(seen["status"], "REJECTED");
    let told = staff.order(given_up, timeline).await;
    let cause = json!({ "__typename": "OrderRejectedEntry", "cause": "GIVEN_UP" });
    assert!(told["timeline"].as_array().unwrap().contains(&cause), "{told}");

    // What cannot be done is said.
    let on_account = shopper.place(&[(&lamp, 1)]).await;
    api.until_status(on_account.order_id(), "CONFIRMED").await;
    let one = json!({ "reason": "sorry", "amount": { "amountMinor": 1, "currency": "GBP" } });
    let never = "ord_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for (name, order, more, code) in [
        ("retryOrder", retried.as_str(), json!({}), "NOTHING_PENDING"),
        ("giveUpOrder", retried, reason.clone(), "ORDER_ACTION_NOT_ALLOWED"),
        (
            "settleOrderByHand",
            &on_account.id,
            reason.clone(),
            "ORDER_HAS_NO_PAYMENT",
        ),
        ("refundOrder", &on_account.id, one.clone(), "ORDER_HAS_NO_PAYMENT"),
        ("refundOrder", retried, one.clone(), "REFUND_TOO_LARGE"),
        ("refundOrder", given_up, one, "ORDER_ACTION_NOT_ALLOWED"),
        ("retryOrder", never, json!({}), "ORDER_NOT_FOUND"),
        ("giveUpOrder", never, reason.clone(), "ORDER_NOT_FOUND"),
        ("settleOrderByHand", never, reason, "ORDER_NOT_FOUND"),
        ("confirmPayment", never, json!({}), "ORDER_NOT_FOUND"),
    ] {
        let refusal = staff.change(name, order, more).await.refusal();
        assert_eq!(refusal["code"], code, "{name} {order}");
    }
    who_did_it(&api, &staff, settled).await;
    api.caught_up().await;
    api.finish().await;
}

/// What staff do is in the log under their name.
async fn who_did_it(api: &ApiShop, staff: &Client, order: &str) {
    let actor: Value = sqlx::query_scalar(
        "SELECT metadata->'actor' FROM events WHERE aggregate_id = $1 AND event_type = 'SettledByHand'",
    )
    .bind(order)
    .fetch_one(&api.pool)
    .await
    .unwrap();
    assert!(actor.to_string().contains(&staff.id()), "{actor}");
}
