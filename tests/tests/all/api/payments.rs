//! Orders that are paid, from the token to the refund.

use kontor_domain::{Order, PaymentReference};
use kontor_fulfilment::payments::{PaymentGateway, PaymentsConfig, Resilience, Simulator};
use kontor_tests::api::{ApiShop, Client, Door, Placed};
use kontor_tests::{Item, Opening, eventually};
use serde_json::{Value, json};

pub(super) const PAYMENT: &str = "status payment { status paidByHand declineReason
    authorised { amountMinor } captured { amountMinor } refunded { amountMinor }
    nextAction { kind url clientSecret } attempts { outcome amount { amountMinor } declineReason } }
    pending { step attempts nextAttemptAt lastError }";

/// A shop whose gateway may fail for long: nobody tries again but the cashier, and the breaker stays closed.
pub(super) async fn patient() -> ApiShop {
    let resilience = Resilience {
        retries: 0,
        failures_to_open: 100_000,
        ..Resilience::default()
    };
    let payments = PaymentsConfig {
        resilience,
        ..PaymentsConfig::default()
    };
    ApiShop::over(
        Opening::default().payments(payments).open().await,
        Door::default(),
    )
    .await
}

/// The bank that only pretends.
pub(super) fn bank(api: &ApiShop) -> &Simulator {
    api.runtime.payments.simulator.as_ref().unwrap()
}

pub(super) fn paying(client: &Client, items: &[(&Item, u32)], payment: Value) -> Value {
    let mut input = client.placing(items);
    input["payment"] = payment;
    input
}

pub(super) async fn pay(client: &Client, items: &[(&Item, u32)], token: &str) -> Placed {
    let input = paying(client, items, json!({ "token": token }));
    client.mutation("placeOrder", input).await.placed()
}

/// Waits until an order is as it is wished to be.
pub(super) async fn until(
    client: &Client,
    order: &str,
    what: &str,
    wished: impl Fn(&Value) -> bool,
) -> Value {
    eventually(&format!("{order}: {what}"), async || {
        let seen = client.order(order, PAYMENT).await;
        wished(&seen).then_some(seen)
    })
    .await
}

pub(super) async fn until_payment(client: &Client, order: &str, status: &str) -> Value {
    until(client, order, status, |seen| seen["payment"]["status"] == status).await
}

/// What the gateway calls the payment of an order.
async fn reference(api: &ApiShop, order: &Placed) -> PaymentReference {
    let look = |order: &Order, _| order.payment().unwrap().reference().unwrap().clone();
    api.store
        .inspect::<Order, _>(order.order_id(), look)
        .await
        .unwrap()
}

fn pence(seen: &Value) -> [i64; 3] {
    let payment = &seen["payment"];
    ["authorised", "captured", "refunded"].map(|it| payment[it]["amountMinor"].as_i64().unwrap())
}

fn gbp(amount: i64) -> Value {
    json!({ "amountMinor": amount, "currency": "GBP" })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_held_taken_and_paid_back_but_never_more_than_was_taken() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let order = pay(&shopper, &[(&lamp, 3)], "tok_approved").await;
    api.until_status(order.order_id(), "CONFIRMED").await;
    let seen = shopper.order(&order.id, PAYMENT).await;
    assert_eq!(seen["payment"]["status"], "AUTHORISED");
    assert_eq!(pence(&seen), [30_00, 0, 0]);
    let held = json!({ "outcome": "AUTHORISED", "amount": { "amountMinor": 30_00 }, "declineReason": null });
    assert_eq!(seen["payment"]["attempts"], json!([held]));
    assert_eq!(
        (&seen["payment"]["nextAction"], &seen["pending"]),
        (&Value::Null, &Value::Null)
    );

    let _ = staff.ship(&order.id).await.done();
    let seen = until_payment(&shopper, &order.id, "CAPTURED").await;
    assert_eq!(pence(&seen), [30_00, 30_00, 0]);
    let _ = staff.deliver(&order.id).await.done();
    let refund = |amount| json!({ "amount": gbp(amount), "reason": "scratched" });
    let _ = staff.change("refundOrder", &order.id, refund(4_00)).await.done();
    let back = json!({ "items": [{ "item": 0, "quantity": 1 }], "refund": gbp(6_00), "reason": "broken", "restock": false });
    let _ = staff.change("returnItems", &order.id, back).await.done();
    let seen = until(&shopper, &order.id, "10.00 are back", |seen| {
        pence(seen)[2] == 10_00
    })
    .await;
    assert_eq!(pence(&seen), [30_00, 30_00, 10_00]);

    let mut more = refund(20_01);
    more["orderId"] = order.id.clone().into();
    let telling = "... on RefundTooLarge { refundable { amountMinor } }";
    let refusal = staff
        .mutation("refundOrder", more.clone())
        .telling(telling)
        .await
        .refusal();
    assert_eq!(refusal["refundable"]["amountMinor"], 20_00);
    assert_eq!(refusal["path"], json!(["input", "amount"]));
    more["amount"]["currency"] = "EUR".into();
    let refusal = staff.mutation("refundOrder", more).await.refusal();
    assert_eq!(
        (&refusal["code"], &refusal["path"]),
        (&json!("WRONG_CURRENCY"), &json!(["input", "amount", "currency"]))
    );
    let _ = staff.change("refundOrder", &order.id, refund(20_00)).await.done();
    let seen = until(&shopper, &order.id, "all is back", |seen| pence(seen)[2] == 30_00).await;
    assert_eq!(seen["payment"]["status"], "CAPTURED");
    let nothing_left = staff.change("refundOrder", &order.id, refund(1)).await.refusal();
    assert_eq!(nothing_left["code"], "REFUND_TOO_LARGE");
    let promised = shopper.order(&order.id, "refunded { amountMinor }").await;
    assert_eq!(promised["refunded"]["amountMinor"], 30_00);

    let books = bank(&api).look_up(&reference(&api, &order).await).await.unwrap();
    assert_eq!(
        (books.captured.amount_minor(), books.refunded.amount_minor()),
        (30_00, 30_00)
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_order_is_rejected_and_says_why_and_a_cancelled_one_lets_the_money_go() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let shopper = api.shopper().await;
    let order = pay(&shopper, &[(&lamp, 3)], "tok_insufficient_funds").await;
    api.until_status(order.order_id(), "REJECTED").await;
    let seen = shopper.order(&order.id, PAYMENT).await;
    assert_eq!(seen["payment"]["status"], "DECLINED");
    assert_eq!(seen["payment"]["declineReason"], "INSUFFICIENT_FUNDS");
    let no = json!({ "outcome": "DECLINED", "amount": null, "declineReason": "INSUFFICIENT_FUNDS" });
    assert_eq!(seen["payment"]["attempts"], json!([no]));
    assert_eq!(pence(&seen), [0, 0, 0]);

    let other = pay(&shopper, &[(&lamp, 5)], "tok_approved").await;
    api.until_status(other.order_id(), "CONFIRMED").await;
    let _ = shopper.cancel(&other.id).await.done();
    let seen = until_payment(&shopper, &other.id, "VOIDED").await;
    assert_eq!(
        (&seen["status"], pence(&seen)),
        (&json!("CANCELLED"), [50_00, 0, 0])
    );
    api.caught_up().await;
    assert_eq!(api.stock(lamp.id).await, (5, 0));
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_customer_must_do_is_shown_to_them_and_confirmed_by_them() {
    let api = patient().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let (shopper, other) = (api.shopper().await, api.shopper().await);
    let on_account = shopper.place(&[(&lamp, 1)]).await;
    let refusal = shopper
        .change("confirmPayment", &on_account.id, json!({}))
        .await
        .refusal();
    assert_eq!(refusal["code"], "NOTHING_TO_CONFIRM");

    let order = pay(&shopper, &[(&lamp, 1)], "tok_needs_action").await;
    let seen = until_payment(&shopper, &order.id, "REQUIRES_ACTION").await;
    let action = &seen["payment"]["nextAction"];
    assert_eq!(action["kind"], "REDIRECT_TO_URL");
    let reference = reference(&api, &order).await;
    assert!(
        action["url"].as_str().unwrap().ends_with(reference.as_str()),
        "{action}"
    );
    let waits = until(&shopper, &order.id, "is noted", |seen| {
        seen["pending"]["step"] == "CUSTOMER_ACTION"
    })
    .await;
    assert_eq!(waits["status"], "PENDING");
    assert_eq!(other.order(&order.id, PAYMENT).await, Value::Null);
    let refusal = other
        .change("confirmPayment", &order.id, json!({}))
        .await
        .refusal();
    assert_eq!(refusal["code"], "ORDER_NOT_FOUND");

    // Too early: it is asked, and nothing has changed.
    let returning = format!("order {{ {PAYMENT} }}");
    let confirm = || json!({ "orderId": order.id });
    let early = shopper
        .mutation("confirmPayment", confirm())
        .returning(&returning);
    assert_eq!(
        early.await.done()["order"]["payment"]["status"],
        "REQUIRES_ACTION"
    );
    bank(&api).complete_action(&reference, true).await.unwrap();
    bank(&api).set_down(true);
    let refusal = shopper.mutation("confirmPayment", confirm()).await.refusal();
    assert_eq!(refusal["code"], "PAYMENT_GATEWAY_UNAVAILABLE");
    bank(&api).set_down(false);

    let input = json!({ "orderId": order.id, "idempotencyKey": "once" });
    let confirmed = shopper
        .mutation("confirmPayment", input.clone())
        .returning(&returning)
        .await
        .done();
    assert_eq!(confirmed["order"]["status"], "CONFIRMED");
    assert_eq!(confirmed["order"]["payment"]["nextAction"], Value::Null);
    assert_eq!(pence(&confirmed["order"]), [10_00, 0, 0]);
    let again = shopper
        .mutation("confirmPayment", input)
        .returning("order { status }")
        .await
        .done();
    assert_eq!(again["order"]["status"], "CONFIRMED");
    let asked: Vec<&str> = confirmed["order"]["payment"]["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(asked, ["REQUIRES_ACTION", "AUTHORISED"]);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_what_their_bank_asks_of_them_gets_nothing() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let shopper = api.shopper().await;
    let order = pay(&shopper, &[(&lamp, 5)], "tok_needs_action").await;
    let _ = until_payment(&shopper, &order.id, "REQUIRES_ACTION").await;
    let reference = reference(&api, &order).await;
    bank(&api).complete_action(&reference, false).await.unwrap();
    let returning = format!("order {{ {PAYMENT} }}");
    let confirm = shopper.mutation("confirmPayment", json!({ "orderId": order.id }));
    let rejected = confirm.returning(&returning).await.done()["order"].take();
    assert_eq!(rejected["status"], "REJECTED");
    assert_eq!(rejected["payment"]["declineReason"], "AUTHENTICATION_FAILED");
    api.caught_up().await;
    assert_eq!(api.stock(lamp.id).await, (5, 0));
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_costs_something_is_paid_unless_the_shop_delivers_on_account() {
    let strict = Door {
        unpaid_orders: false,
        ..Door::default()
    };
    let api = ApiShop::over(Opening::default().open().await, strict).await;
    let (lamp, leaflet) = (
        api.product("LAMP").price(10_00).stock(5).await,
        api.product("LEAFLET").price(0).stock(5).await,
    );
    let shopper = api.shopper().await;
    let telling = "... on PaymentRequired { total { amountMinor currency } }";
    let unpaid = shopper
        .mutation("placeOrder", shopper.placing(&[(&lamp, 2)]))
        .telling(telling);
    let refusal = unpaid.await.refusal();
    assert_eq!(refusal["code"], "PAYMENT_REQUIRED");
    assert_eq!(
        (&refusal["path"], &refusal["total"]),
        (&json!(["input", "payment"]), &gbp(20_00))
    );
    assert_eq!(api.orders().await.len(), 0);

    let paid = pay(&shopper, &[(&lamp, 2)], "tok_approved").await;
    api.until_status(paid.order_id(), "CONFIRMED").await;
    // What costs nothing is not paid, whatever is offered.
    let free = shopper.place(&[(&leaflet, 1)]).await;
    let offered = pay(&shopper, &[(&leaflet, 1)], "tok_declined").await;
    for order in [free, offered] {
        api.until_status(order.order_id(), "CONFIRMED").await;
        assert_eq!(shopper.order(&order.id, PAYMENT).await["payment"], Value::Null);
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_payment_is_part_of_what_was_asked_for_and_its_token_is_nowhere_to_be_seen() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let shopper = api.shopper().await;
    let with = |payment: Value| {
        let mut input = paying(&shopper, &[(&lamp, 1)], payment);
        input["idempotencyKey"] = "once".into();
        input
    };
    let approved = json!({ "token": "tok_approved" });
    let order = shopper
        .mutation("placeOrder", with(approved.clone()))
        .await
        .placed();
    let again = shopper.mutation("placeOrder", with(approved)).await.placed();
    assert_eq!(again, order);
    for other in [json!({ "token": "tok_slow" }), Value::Null] {
        let refusal = shopper.mutation("placeOrder", with(other)).await.refusal();
        assert_eq!(refusal["code"], "IDEMPOTENCY_KEY_REUSED");
    }
    let both = json!({ "token": "tok_approved", "savedMethod": "pay_01ARZ3NDEKTSV4RRFFQ69G5FAV" });
    for wrong in [json!({}), both] {
        let answer = shopper.mutation("placeOrder", with(wrong)).answer().await;
        assert!(answer.body["errors"].is_array(), "{}", answer.body);
    }
    for (token, problem) in [("", "EMPTY"), ("tok approved", "FORBIDDEN_CHARACTER")] {
        let input = paying(&shopper, &[(&lamp, 1)], json!({ "token": token }));
        let telling = "... on InvalidInput { problem }";
        let refusal = shopper
            .mutation("placeOrder", input)
            .telling(telling)
            .await
            .refusal();
        assert_eq!(refusal["path"], json!(["input", "payment", "token"]));
        assert_eq!(refusal["problem"], problem);
    }
    api.until_status(order.order_id(), "CONFIRMED").await;
    api.caught_up().await;
    for table in ["orders", "pending_orders", "notifications", "users", "answers"] {
        let rows: Vec<String> = sqlx::query_scalar(&format!("SELECT t::text FROM {table} t"))
            .fetch_all(&api.pool)
            .await
            .unwrap();
        assert!(!rows.concat().contains("tok_approved"), "{table}");
    }
    api.finish().await;
}
