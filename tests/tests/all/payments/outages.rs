//! A gateway that is slow, silent or away, and the shop that goes on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use kontor_fulfilment::payments::simulator::server;
use kontor_fulfilment::payments::{PaymentsConfig, Resilience};
use kontor_tests::api::{ApiShop, Door};
use kontor_tests::{Opening, eventually};
use serde_json::{Value, json};

use super::paid::*;
use super::*;

/// A gateway's door, at which everybody is counted, and which can be shut.
#[derive(Clone, Default)]
struct Turnstile(Arc<Counts>);

#[derive(Default)]
struct Counts {
    shut: AtomicBool,
    inside: AtomicUsize,
    most: AtomicUsize,
    /// When each call came, and with which key.
    calls: Mutex<Vec<(Instant, String)>>,
}

impl Turnstile {
    fn before(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), pass))
    }

    fn shut(&self, shut: bool) {
        self.0.shut.store(shut, Ordering::SeqCst);
    }

    fn calls(&self) -> Vec<(Instant, String)> {
        self.0.calls.lock().unwrap().clone()
    }

    /// The most calls that were inside at the same time, since this was last asked.
    fn most(&self) -> usize {
        self.0.most.swap(0, Ordering::SeqCst)
    }
}

async fn pass(State(Turnstile(counts)): State<Turnstile>, request: Request, next: Next) -> Response {
    let key = request.headers().get("idempotency-key");
    let key = key.map_or("", |key| key.to_str().unwrap()).to_owned();
    counts.calls.lock().unwrap().push((Instant::now(), key));
    let inside = counts.inside.fetch_add(1, Ordering::SeqCst) + 1;
    counts.most.fetch_max(inside, Ordering::SeqCst);
    let response = if counts.shut.load(Ordering::SeqCst) {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    } else {
        next.run(request).await
    };
    counts.inside.fetch_sub(1, Ordering::SeqCst);
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_that_charges_and_says_nothing_is_found_out_and_charges_once() {
    for retries in [0, 2] {
        let bank = SimulatorSettings {
            silence: Duration::from_secs(3_600),
            ..SimulatorSettings::default()
        };
        let resilience = Resilience {
            time_limit: Duration::from_millis(500),
            retries,
            ..Resilience::default()
        };
        let shop = Opening::default()
            .payments(simulated(bank, resilience))
            .open()
            .await;
        let (lamp, customer) = (shop.product("LAMP").stock(5).await, shop.customer().await);
        let order = place(&shop, customer, &[(&lamp, 2)], "tok_timeout_after_charge").await;
        shop.until_status(order, "CONFIRMED").await;
        shop.ship(order).await;
        until(&shop, order, "PaymentCaptured").await;
        assert_eq!(times(&shop, order, "PaymentAuthorised").await, 1);
        let entries = moved(&shop.pool, order).await;
        assert_eq!(
            entries,
            [("AUTHORISE".to_owned(), 10_00), ("CAPTURE".to_owned(), 10_00)]
        );
        shop.finish().await;
    }
}

const ORDERS: usize = 40;
const PLACES: usize = 4;
const FAILURES: usize = 5;
const OPEN_FOR: Duration = Duration::from_millis(600);

async fn gateway_as_staff_see_it(api: &ApiShop) -> Value {
    let query = "{ paymentGateway { state openUntil callsUnderWay } }";
    api.staff().await.read(query, json!({})).await["paymentGateway"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_wait_for_a_dead_gateway_and_finish_in_order_of_age_when_it_is_back() {
    let books = Database::fresh().await;
    let settings = SimulatorSettings {
        latency: Duration::from_millis(20),
        ..SimulatorSettings::default()
    };
    let bank = bank(&books, settings);
    let turnstile = Turnstile::default();
    turnstile.shut(true);
    let router = server::router(bank, Some(SecretKey::new(KEY)));
    let address = listen(turnstile.before(router)).await;
    let resilience = Resilience {
        retries: 0,
        places: PLACES,
        failures_to_open: FAILURES,
        open_for: OPEN_FOR,
        ..Resilience::default()
    };
    let payments: PaymentsConfig = by_stripe(format!("http://{address}"), resilience);
    let shop = Opening::default().payments(payments).open().await;
    let api = ApiShop::over(shop, Door::default()).await;
    let (lamp, customer) = (api.product("LAMP").stock(1_000).await, api.customer().await);
    let mut orders = Vec::new();
    for _ in 0..ORDERS {
        orders.push(place(&api, customer, &[(&lamp, 1)], "tok_approved").await);
    }

    // It opens after so many failures and what was under way by then; from there on there are only probes, one at a time. A
    // slow machine makes pauses longer, never shorter.
    let last_before = FAILURES + PLACES;
    let calls = eventually("two probes", async || {
        let calls = turnstile.calls();
        (calls.len() >= last_before + 2).then_some(calls)
    })
    .await;
    let pauses: Vec<Duration> = calls.windows(2).map(|two| two[1].0 - two[0].0).collect();
    let opened = (FAILURES..=last_before).find(|before| {
        pauses[before - 1..]
            .iter()
            .all(|pause| *pause >= OPEN_FOR * 9 / 10)
    });
    assert!(opened.is_some(), "calls did not stop: {pauses:?}");
    assert!(turnstile.most() <= PLACES);
    let seen = eventually("an open breaker", async || {
        let seen = gateway_as_staff_see_it(&api).await;
        (seen["state"] == "OPEN").then_some(seen)
    })
    .await;
    assert!(seen["openUntil"].is_string(), "{seen}");
    let customers = api.shopper().await;
    let refused = customers.ask("{ paymentGateway { state } }", json!({})).await;
    assert_eq!(refused.body["errors"][0]["extensions"]["code"], "FORBIDDEN");
    let (_, page) = api.page("/metrics").await;
    assert!(
        ["kontor_payment_breaker 2", "kontor_payment_breaker 1"]
            .iter()
            .any(|it| page.contains(it)),
        "{page}"
    );
    let waiting = format!("kontor_pending_orders{{step=\"AUTHORISE\"}} {ORDERS}");
    eventually("all orders wait", async || {
        api.page("/metrics").await.1.contains(&waiting).then_some(())
    })
    .await;
    let by_age: Vec<String> =
        sqlx::query_scalar("SELECT order_id || '/authorise' FROM pending_orders ORDER BY since, order_id")
            .fetch_all(&api.pool)
            .await
            .unwrap();
    assert_eq!(by_age.len(), ORDERS);

    let dead = turnstile.calls().len();
    turnstile.shut(false);
    for order in &orders {
        api.until_status(*order, "CONFIRMED").await;
    }
    let most = turnstile.most();
    assert!((1..=PLACES).contains(&most), "{most} calls at once");
    // A probe may have found it shut at the last moment, and comes again.
    let mut keys: Vec<String> = turnstile
        .calls()
        .split_off(dead)
        .into_iter()
        .map(|(_, key)| key)
        .collect();
    keys.dedup();
    let last: Vec<&String> = by_age.iter().filter(|key| keys.contains(key)).collect();
    assert_eq!(last.len(), ORDERS, "every order was asked for");
    for (age, key) in by_age.iter().enumerate() {
        let turn = keys.iter().rposition(|it| it == key).unwrap();
        // The probe is whoever was due, and those who are inside together may overtake each other.
        assert!(
            turn.abs_diff(age) <= 3 * PLACES || turn == 0,
            "{age} came as number {turn}"
        );
    }
    assert_eq!(
        gateway_as_staff_see_it(&api).await,
        json!({"state": "CLOSED", "openUntil": null, "callsUnderWay": 0})
    );
    for order in &orders {
        let pool = PgPool::connect(books.url()).await.unwrap();
        assert_eq!(moved(&pool, *order).await, [("AUTHORISE".to_owned(), 5_00)]);
        pool.close().await;
    }
    api.finish().await;
    books.remove().await;
}
