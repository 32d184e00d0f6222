//! The shop with its gateway in another process: our own (`kontor gateway`) and one that others wrote.

use std::time::Duration;

use kontor_domain::{Order, OrderCommand};
use kontor_fulfilment::payments::{PaymentsConfig, Resilience, WebhookSecret};
use kontor_tests::api::{ApiShop, Door};
use kontor_tests::children::Helper;
use kontor_tests::examples::reason;
use kontor_tests::{Opening, Shop, eventually};

use super::localstripe::LocalStripe;
use super::paid::*;
use super::webhooks::SECRET;
use super::*;
use crate::HELPER;

/// `kontor gateway`, with its books in a database of its own.
async fn gateway(shop: &Shop, books: &Database, listen: &str, more: &[&str]) -> (Helper, SocketAddr) {
    let arguments = [&["gateway", "--listen", listen][..], more].concat();
    let variables = [("DATABASE_URL", books.url())];
    let mut gateway = Helper::kontor_with(HELPER, shop, &arguments, &variables);
    let address = gateway.says("The payment simulator is open at http://").await;
    let address = address.split(';').next().unwrap().parse().unwrap();
    (gateway, address)
}

async fn shop_paid_by(address: SocketAddr) -> ApiShop {
    let resilience = Resilience {
        open_for: Duration::from_millis(200),
        ..Resilience::default()
    };
    let payments = PaymentsConfig {
        webhook_secrets: vec![WebhookSecret::new(SECRET)],
        ..by_stripe(format!("http://{address}"), resilience)
    };
    let shop = Opening::default().payments(payments).open().await;
    ApiShop::over(shop, Door::default()).await
}

/// Waits until the shop was told of a payment, and has dealt with all it was told.
async fn told_of(shop: &Shop, reference: &PaymentReference) {
    eventually(&format!("a webhook of {reference}"), async || {
        let dealt: Option<bool> = sqlx::query_scalar(
            "SELECT bool_and(done_at IS NOT NULL) FROM payment_webhooks WHERE reference = $1",
        )
        .bind(reference.as_str())
        .fetch_one(&shop.pool)
        .await
        .unwrap();
        (dealt == Some(true)).then_some(())
    })
    .await;
}

/// What the order calls its payment.
async fn known_reference(shop: &Shop, order: kontor_domain::OrderId) -> PaymentReference {
    let look = |order: &Order, _| order.payment().and_then(|it| it.reference().cloned());
    shop.store
        .inspect::<Order, _>(order, look)
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_and_a_gateway_in_processes_of_their_own() {
    let (books, lobby) = (Database::fresh().await, Shop::quiet().await);
    let (first, address) = gateway(&lobby, &books, "127.0.0.1:0", &[]).await;
    let api = shop_paid_by(address).await;
    assert!(first.end().await.success(), "it stops when it is told to");
    let webhook_url = format!("http://{}/webhooks/payments", api.address());
    let telling = [
        "--webhook-url",
        &webhook_url,
        "--webhook-secret",
        SECRET,
        "--latency",
        "5",
    ];
    let place_again = async || gateway(&lobby, &books, &address.to_string(), &telling).await.0;
    let second = place_again().await;

    let (lamp, customer) = (api.product("LAMP").stock(1_000).await, api.customer().await);
    let order = place(&api, customer, &[(&lamp, 2)], "tok_approved").await;
    api.until_status(order, "CONFIRMED").await;
    api.ship(order).await;
    until(&api, order, "PaymentCaptured").await;
    let refund = OrderCommand::Refund {
        amount: gbp(3_00),
        reason: reason("late"),
    };
    api.send::<Order>(order, refund).await;
    until(&api, order, "PaymentRefunded").await;
    told_of(&api, &known_reference(&api, order).await).await;

    let waiting = place(&api, customer, &[(&lamp, 1)], "tok_needs_action").await;
    until_it_waits_for(&api, waiting, "CUSTOMER_ACTION").await;
    let reference = known_reference(&api, waiting).await;
    let page = format!("http://{address}/actions/{reference}");
    let yes = reqwest::Client::new().post(page).form(&[("approve", "true")]);
    assert!(yes.send().await.unwrap().status().is_success());
    api.until_status(waiting, "CONFIRMED").await;
    let declined = place(&api, customer, &[(&lamp, 1)], "tok_declined").await;
    api.until_status(declined, "REJECTED").await;

    // Killed with orders under way, and back.
    let mut orders = Vec::new();
    for _ in 0..20 {
        orders.push(place(&api, customer, &[(&lamp, 1)], "tok_approved").await);
    }
    until(&api, orders[0], "PaymentAuthorised").await;
    second.kill().await;
    for _ in 0..20 {
        orders.push(place(&api, customer, &[(&lamp, 1)], "tok_approved").await);
    }
    let third = place_again().await;
    let pool = PgPool::connect(books.url()).await.unwrap();
    for order in orders {
        api.until_status(order, "CONFIRMED").await;
        assert_eq!(moved(&pool, order).await, [("AUTHORISE".to_owned(), 5_00)]);
        assert_eq!(times(&api, order, "PaymentAuthorised").await, 1);
        told_of(&api, &known_reference(&api, order).await).await;
    }
    let entries = moved(&pool, order).await;
    let entry = |kind: &str, pence| (kind.to_owned(), pence);
    assert_eq!(
        entries,
        [
            entry("AUTHORISE", 10_00),
            entry("CAPTURE", 10_00),
            entry("REFUND", 3_00)
        ]
    );
    assert_eq!(moved(&pool, declined).await, []);
    assert!(inbox(&api).await.iter().all(|(_, _, error)| error.is_none()));
    pool.close().await;
    assert!(third.end().await.success());
    api.finish().await;
    lobby.finish().await;
    books.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_and_localstripe() {
    let (stripe, _) = LocalStripe::start().await;
    let api = shop_paid_by(stripe.server.address()).await;
    let webhook_url = format!("http://{}/webhooks/payments", api.address());
    stripe
        .post(
            "/_config/webhooks/kontor",
            &[("url", &webhook_url), ("secret", SECRET)],
        )
        .await;
    let (lamp, customer) = (api.product("LAMP").stock(10).await, api.customer().await);

    let order = place(&api, customer, &[(&lamp, 2)], "pm_card_visa").await;
    api.until_status(order, "CONFIRMED").await;
    api.ship(order).await;
    until(&api, order, "PaymentCaptured").await;
    let refund = OrderCommand::Refund {
        amount: gbp(4_00),
        reason: reason("scratched"),
    };
    api.send::<Order>(order, refund).await;
    until(&api, order, "PaymentRefunded").await;
    told_of(&api, &known_reference(&api, order).await).await;

    let declined = place(&api, customer, &[(&lamp, 1)], "pm_card_chargeCustomerFail").await;
    api.until_status(declined, "REJECTED").await;

    let card = stripe.card("4000002500003155").await;
    let waiting = place(&api, customer, &[(&lamp, 1)], &card).await;
    until_it_waits_for(&api, waiting, "CUSTOMER_ACTION").await;
    let look = |order: &Order, _| order.payment().unwrap().next_action().cloned().unwrap();
    let action = api.store.inspect::<Order, _>(waiting, look).await.unwrap();
    let form = [
        ("client_secret", action.client_secret.as_deref().unwrap()),
        ("success", "true"),
    ];
    let reference = known_reference(&api, waiting).await;
    stripe
        .post(&format!("/v1/payment_intents/{reference}/_authenticate"), &form)
        .await;
    // It tells nobody that money is held, so somebody has to ask: the customer's app, say.
    api.customer_is_back(waiting).await;
    api.until_status(waiting, "CONFIRMED").await;

    let cancelled = place(&api, customer, &[(&lamp, 1)], "pm_card_visa").await;
    api.until_status(cancelled, "CONFIRMED").await;
    let cancel = OrderCommand::Cancel {
        reason: reason("changed my mind"),
    };
    api.send::<Order>(cancelled, cancel).await;
    until(&api, cancelled, "PaymentVoided").await;
    api.finish().await;
}
