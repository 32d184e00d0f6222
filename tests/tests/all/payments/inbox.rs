//! Webhooks at the shop's door, and what comes of them.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use kontor_domain::{OrderId, UserId};
use kontor_eventstore::Clock;
use kontor_fulfilment::payments::webhook::{SIGNATURE_HEADER, sign};
use kontor_fulfilment::payments::{PaymentsConfig, Resilience, WebhookEvent, WebhookKind, WebhookSecret};
use kontor_fulfilment::webhook_inbox;
use kontor_tests::api::{ApiShop, Door};
use kontor_tests::children::Helper;
use kontor_tests::proxy::Proxy;
use kontor_tests::{Item, Opening, Shop, eventually};
use serde_json::json;

use super::paid::*;
use super::webhooks::SECRET;
use super::*;
use crate::HELPER;

mod door;

/// Where whoever deals with a webhook may die, and what is killed then.
pub(crate) const POINTS: &[&str] = &[
    "webhooks.taken",
    "webhooks.asked",
    "webhooks.told",
    "webhooks.settle",
    "webhooks.settled",
];

/// The signal of `abort`, which is how a crash point dies.
const SIGABRT: i32 = 6;

/// A webhook as the gateway would write it.
fn body(id: &str, kind: &WebhookKind, reference: &str, order: Option<&str>) -> String {
    json!({
        "id": id,
        "object": "event",
        "type": kind.name(),
        "data": {"object": {
            "id": reference,
            "object": "payment_intent",
            "metadata": order.map_or(json!({}), |order| json!({"order_id": order})),
        }},
    })
    .to_string()
}

fn signed(body: &str, secret: &str, time: DateTime<Utc>) -> String {
    sign(&WebhookSecret::new(secret), time, body.as_bytes())
}

/// Posts a webhook as if it came from anywhere; the status.
async fn post_to(
    address: SocketAddr,
    http: &reqwest::Client,
    signature: Option<&str>,
    body: &str,
) -> reqwest::Result<u16> {
    let url = format!("http://{address}/webhooks/payments");
    let mut request = http.post(url).body(body.to_owned());
    if let Some(signature) = signature {
        request = request.header(SIGNATURE_HEADER, signature);
    }
    Ok(request.send().await?.status().as_u16())
}

/// Posts a webhook as the gateway does; the status.
async fn tell(api: &ApiShop, body: &str) -> u16 {
    let signature = signed(body, SECRET, SystemClock.now());
    let http = reqwest::Client::new();
    post_to(api.address(), &http, Some(&signature), body)
        .await
        .unwrap()
}

/// Something to sell, and who buys it.
async fn lamp_and_customer(shop: &Shop) -> (Item, UserId) {
    (shop.product("LAMP").stock(1_000).await, shop.customer().await)
}

/// A shop that believes what is signed with [`SECRET`].
async fn listening(payments: PaymentsConfig) -> ApiShop {
    let payments = PaymentsConfig {
        webhook_secrets: vec![WebhookSecret::new(SECRET)],
        ..payments
    };
    let shop = Opening::default().payments(payments).open().await;
    ApiShop::over(shop, Door::default()).await
}

/// What is on a line of `/metrics`; nothing counts as 0.
async fn metric(api: &ApiShop, series: &str) -> u64 {
    let (_, page) = api.page("/metrics").await;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

async fn counted(api: &ApiShop, outcome: &str) -> u64 {
    metric(
        api,
        &format!("kontor_payment_webhooks_total{{outcome=\"{outcome}\"}}"),
    )
    .await
}

/// The same event, ten times on each of ten connections at once.
async fn a_hundred_times(api: &ApiShop, body: &str) {
    let signature = signed(body, SECRET, SystemClock.now());
    let connections = (0..10).map(|_| async {
        let http = reqwest::Client::new();
        for _ in 0..10 {
            let status = post_to(api.address(), &http, Some(&signature), body).await;
            assert_eq!(status.unwrap(), 200);
        }
    });
    join_all(connections).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_comes_a_hundred_times_while_the_bank_answers_counts_once() {
    let bank = SimulatorSettings {
        latency: Duration::from_millis(50),
        slow: Duration::from_millis(500),
        ..SimulatorSettings::default()
    };
    let api = listening(simulated(bank, Resilience::default())).await;
    let (lamp, customer) = lamp_and_customer(&api).await;
    // The bank has it in its books, and takes its time to say so.
    let order = place(&api, customer, &[(&lamp, 2)], "tok_slow").await;
    let reference = reference(&api.pool, order).await;
    let id = order.to_string();
    let held = body("evt_1", &WebhookKind::Authorised, reference.as_str(), Some(&id));
    a_hundred_times(&api, &held).await;
    api.until_status(order, "CONFIRMED").await;

    api.ship(order).await;
    until_it_waits_for(&api, order, "CAPTURE").await;
    let taken = body("evt_2", &WebhookKind::Captured, reference.as_str(), Some(&id));
    a_hundred_times(&api, &taken).await;
    until(&api, order, "PaymentCaptured").await;

    assert_eq!(inbox_done(&api, 2).await.len(), 2);
    assert_eq!(
        (counted(&api, "taken").await, counted(&api, "repeated").await),
        (2, 198)
    );
    api.caught_up().await;
    let history = history(&api, order).await;
    assert_eq!(
        history,
        [
            "Placed",
            "Reserved",
            "PaymentAuthorised",
            "Confirmed",
            "Shipped",
            "PaymentCaptured"
        ]
    );
    let entries = moved(&api.pool, order).await;
    assert_eq!(
        entries,
        [("AUTHORISE".to_owned(), 10_00), ("CAPTURE".to_owned(), 10_00)]
    );
    let letters: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT occasion, channel, count(*) FROM notifications WHERE order_id = $1 GROUP BY 1, 2 ORDER BY 1, 2",
    )
    .bind(&id)
    .fetch_all(&api.pool)
    .await
    .unwrap();
    let once = |occasion: &str| (occasion.to_owned(), "EMAIL".to_owned(), 1);
    assert_eq!(letters, [once("ORDER_CONFIRMED"), once("ORDER_SHIPPED")]);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_enough_when_the_call_is_never_answered() {
    let never = Duration::from_secs(3_600);
    let bank = SimulatorSettings {
        slow: never,
        ..SimulatorSettings::default()
    };
    let api = listening(simulated(bank, endless())).await;
    let (lamp, customer) = lamp_and_customer(&api).await;
    let order = place(&api, customer, &[(&lamp, 1)], "tok_slow").await;
    let reference = reference(&api.pool, order).await;
    assert_eq!(times(&api, order, "PaymentAuthorised").await, 0);
    let id = order.to_string();
    let held = body("evt_1", &WebhookKind::Authorised, reference.as_str(), Some(&id));
    assert_eq!(tell(&api, &held).await, 200);
    api.until_status(order, "CONFIRMED").await;
    assert_eq!(moved(&api.pool, order).await, [("AUTHORISE".to_owned(), 5_00)]);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_nobody_can_do_anything_about_holds_up_nobody() {
    let api = listening(simulated(SimulatorSettings::default(), Resilience::default())).await;
    let (lamp, customer) = lamp_and_customer(&api).await;
    let order = place(&api, customer, &[(&lamp, 1)], "tok_needs_action").await;
    until_it_waits_for(&api, order, "CUSTOMER_ACTION").await;
    let reference = reference(&api.pool, order).await;
    let nobodys = OrderId::from_ulid(api.store.ids().next()).to_string();
    let kind = WebhookKind::Authorised;
    for (event, payment, order) in [
        ("evt_1", "pi_unknown", None),
        ("evt_2", "pi_unknown_too", Some(nobodys.as_str())),
        ("evt_3", "pi_of_another_shop", Some("order 42")),
    ] {
        assert_eq!(tell(&api, &body(event, &kind, payment, order)).await, 200);
    }
    // Another's payment is not taken for the order's.
    let (stranger, id) = (
        place(&api, customer, &[(&lamp, 1)], "tok_approved").await,
        order.to_string(),
    );
    let strange = super::paid::reference(&api.pool, stranger).await;
    assert_eq!(
        tell(&api, &body("evt_4", &kind, strange.as_str(), Some(&id))).await,
        200
    );
    api.runtime
        .payments
        .simulator
        .as_ref()
        .unwrap()
        .complete_action(&reference, true)
        .await
        .unwrap();
    assert_eq!(
        tell(&api, &body("evt_5", &kind, reference.as_str(), Some(&id))).await,
        200
    );
    api.until_status(order, "CONFIRMED").await;
    let kept = inbox_done(&api, 5).await;
    let errors: Vec<Option<&str>> = kept.iter().map(|(_, _, error)| error.as_deref()).collect();
    assert_eq!(
        errors[..3],
        [
            Some("no order named"),
            Some("no such order"),
            Some("no such order")
        ]
    );
    assert_eq!(errors[3..], [Some("this is not the payment of the order"), None]);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inbox_waits_for_a_gateway_that_is_down() {
    let resilience = Resilience {
        retries: 0,
        failures_to_open: 2,
        open_for: Duration::from_millis(200),
        ..Resilience::default()
    };
    let api = listening(simulated(SimulatorSettings::default(), resilience)).await;
    let (lamp, customer) = lamp_and_customer(&api).await;
    let order = place(&api, customer, &[(&lamp, 1)], "tok_needs_action").await;
    until_it_waits_for(&api, order, "CUSTOMER_ACTION").await;
    let reference = reference(&api.pool, order).await;
    let bank = api.runtime.payments.simulator.clone().unwrap();
    bank.complete_action(&reference, true).await.unwrap();
    bank.set_down(true);
    let id = order.to_string();
    let held = body("evt_1", &WebhookKind::Authorised, reference.as_str(), Some(&id));
    assert_eq!(tell(&api, &held).await, 200);
    eventually("a try that fails", async || {
        let (_, done, error) = inbox(&api).await.pop()?;
        assert!(!done);
        error.map(|error| assert!(error.contains("not reached"), "{error}"))
    })
    .await;
    assert_eq!(times(&api, order, "PaymentAuthorised").await, 0);
    assert!(metric(&api, "kontor_payment_webhooks_waiting").await > 0);
    bank.set_down(false);
    api.until_status(order, "CONFIRMED").await;
    assert_eq!(inbox_done(&api, 1).await, [("evt_1".to_owned(), true, None)]);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_customer_does_on_the_simulators_page_is_told_at_once() {
    let api = ApiShop::start().await;
    let (lamp, customer) = lamp_and_customer(&api).await;
    for (answer, status) in [("true", "CONFIRMED"), ("false", "REJECTED")] {
        let order = place(&api, customer, &[(&lamp, 1)], "tok_needs_action").await;
        until_it_waits_for(&api, order, "CUSTOMER_ACTION").await;
        let reference = reference(&api.pool, order).await;
        let path = format!("/simulator/actions/{reference}");
        assert!(api.page(&path).await.1.contains("Is it you?"));
        let done = reqwest::Client::new()
            .post(format!("http://{}{path}", api.address()))
            .form(&[("approve", answer)])
            .send()
            .await
            .unwrap();
        assert!(done.text().await.unwrap().contains("Nothing is left to do"));
        // The row is there already: the cashier, who asks by itself after half a minute, was not needed.
        let told: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM payment_webhooks WHERE reference = $1)")
                .bind(reference.as_str())
                .fetch_one(&api.pool)
                .await
                .unwrap();
        assert!(told);
        api.until_status(order, status).await;
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_long_ago_is_thrown_away() {
    let shop = Shop::quiet().await;
    sqlx::query(
        "INSERT INTO payment_webhooks (event_id, kind, reference, received_at, due_at, done_at)
         SELECT 'old_' || n, 'payment_intent.succeeded', 'pi', now() - interval '31 days', now(), now() - interval '31 days'
         FROM generate_series(1, 2500) AS n",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO payment_webhooks (event_id, kind, reference, due_at, done_at)
         VALUES ('young', 'payment_intent.succeeded', 'pi', now(), now() - interval '29 days')",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    let worker = shop.branch(Opening::default()).await;
    eventually("only the young one is left", async || {
        (inbox(&shop).await.len() == 1).then_some(())
    })
    .await;
    worker.close().await;
    shop.finish().await;
}

/// An order that waits for its customer, who has said yes to the bank; its payment.
async fn approved_behind_the_shops_back(shop: &Shop) -> (OrderId, PaymentReference) {
    let (lamp, customer) = lamp_and_customer(shop).await;
    let worker = shop.branch(Opening::default()).await;
    let order = place(shop, customer, &[(&lamp, 1)], "tok_needs_action").await;
    until_it_waits_for(shop, order, "CUSTOMER_ACTION").await;
    worker.close().await;
    let reference = reference(&shop.pool, order).await;
    let bank = shop.runtime.payments.simulator.as_ref().unwrap();
    bank.complete_action(&reference, true).await.unwrap();
    (order, reference)
}

/// An heir deals with what was left, once.
async fn is_seen_through(shop: &Shop, order: OrderId, point: &str) {
    // That leases run out is shown elsewhere.
    sqlx::query("UPDATE leases SET expires_at = '-infinity'")
        .execute(&shop.pool)
        .await
        .unwrap();
    let heir = shop.branch(Opening::default()).await;
    heir.until_status(order, "CONFIRMED").await;
    assert_eq!(
        inbox_done(&heir, 1).await,
        [("evt_1".to_owned(), true, None)],
        "{point}"
    );
    heir.caught_up().await;
    let history = history(&heir, order).await;
    assert_eq!(
        history,
        [
            "Placed",
            "Reserved",
            "PaymentActionRequired",
            "PaymentAuthorised",
            "Confirmed"
        ],
        "{point}"
    );
    assert_eq!(
        moved(&shop.pool, order).await,
        [("AUTHORISE".to_owned(), 5_00)],
        "{point}"
    );
    heir.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_deals_with_a_webhook_may_die_at_any_moment() {
    for point in &POINTS[1..] {
        let shop = Shop::quiet().await;
        let (order, reference) = approved_behind_the_shops_back(&shop).await;
        let event = WebhookEvent {
            id: "evt_1".to_owned(),
            kind: WebhookKind::Authorised,
            payment_reference: Some(reference),
            order_id: Some(order.to_string()),
        };
        webhook_inbox::take(&shop.pool, &event).await.unwrap();
        let doomed = Helper::worker(HELPER, &shop, Some(point)).await;
        assert_eq!(doomed.ends().await.signal(), Some(SIGABRT), "{point}");
        is_seen_through(&shop, order, point).await;
        shop.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_that_dies_before_it_thanks_the_gateway_has_the_webhook_and_takes_it_once() {
    let point = POINTS[0];
    let shop = Shop::quiet().await;
    let (order, reference) = approved_behind_the_shops_back(&shop).await;
    let (id, http) = (order.to_string(), reqwest::Client::new());
    let held = body("evt_1", &WebhookKind::Authorised, reference.as_str(), Some(&id));
    let signature = signed(&held, SECRET, SystemClock.now());
    let arguments = [
        "run",
        "--api",
        "--listen",
        "127.0.0.1:0",
        "--webhook-secrets",
        SECRET,
    ];
    let open = async |variables: &[(&str, &str)]| {
        let mut shop = Helper::kontor_with(HELPER, &shop, &arguments, variables);
        let address: SocketAddr = shop.says("Kontor is open at http://").await.parse().unwrap();
        (shop, address)
    };
    let (doomed, address) = open(&[("KONTOR_CRASH_AT", point)]).await;
    assert!(post_to(address, &http, Some(&signature), &held).await.is_err());
    assert_eq!(doomed.ends().await.signal(), Some(SIGABRT));
    assert_eq!(inbox(&shop).await, [("evt_1".to_owned(), false, None)]);
    let (reborn, address) = open(&[]).await;
    assert_eq!(
        post_to(address, &http, Some(&signature), &held).await.unwrap(),
        200
    );
    assert!(reborn.end().await.success());
    is_seen_through(&shop, order, point).await;
    shop.finish().await;
}
