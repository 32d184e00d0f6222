//! Orders that are paid, and what can be seen of them.

use std::time::Duration;

use kontor_domain::{Order, OrderCommand, OrderId, Personal, UserId};
use kontor_eventstore::Recorded;
use kontor_eventstore::read::read_stream;
use kontor_fulfilment::payments::{GatewayBy, PaymentsConfig, Resilience};
use kontor_tests::{Item, Shop, eventually};

use super::*;

/// A shop whose bank is the simulator, in its own database.
pub(super) fn simulated(settings: SimulatorSettings, resilience: Resilience) -> PaymentsConfig {
    PaymentsConfig {
        gateway: GatewayBy::Simulator(settings),
        resilience,
        ..PaymentsConfig::default()
    }
}

/// A shop whose gateway is over there.
pub(super) fn by_stripe(base_url: String, resilience: Resilience) -> PaymentsConfig {
    let settings = StripeSettings {
        base_url,
        ..StripeSettings::new(SecretKey::new(KEY))
    };
    PaymentsConfig {
        gateway: GatewayBy::Stripe(settings),
        resilience,
        ..PaymentsConfig::default()
    }
}

/// No call ends before the test does, and none is repeated.
pub(super) fn endless() -> Resilience {
    Resilience {
        time_limit: Duration::from_secs(3_600),
        retries: 0,
        ..Resilience::default()
    }
}

/// Places an order that is paid with `method`.
pub(super) async fn place(shop: &Shop, customer: UserId, items: &[(&Item, u32)], method: &str) -> OrderId {
    let OrderCommand::Place {
        customer_id,
        items,
        shipping_address,
        ..
    } = shop.placing(customer, items)
    else {
        unreachable!("placing places")
    };
    let id = OrderId::from_ulid(shop.store.ids().next());
    let place = OrderCommand::Place {
        customer_id,
        items,
        shipping_address,
        payment: Some(Personal::new(method.parse().unwrap())),
    };
    shop.store
        .create::<Order>(id, place, shop.context())
        .await
        .unwrap();
    id
}

/// The types of an order's events, oldest first.
pub(super) async fn history(shop: &Shop, order: OrderId) -> Vec<String> {
    let events = read_stream(&shop.pool, "order", &order.to_string())
        .await
        .unwrap();
    events.iter().map(Recorded::event_type).collect()
}

/// Waits until something has happened to an order.
pub(super) async fn until(shop: &Shop, order: OrderId, event: &str) {
    eventually(&format!("{event} of {order}"), async || {
        history(shop, order)
            .await
            .iter()
            .any(|it| it == event)
            .then_some(())
    })
    .await;
}

/// How often something happened to an order.
pub(super) async fn times(shop: &Shop, order: OrderId, event: &str) -> usize {
    history(shop, order)
        .await
        .iter()
        .filter(|it| *it == event)
        .count()
}

/// What the bank with its books there moved for an order: kind and pence, oldest first.
pub(super) async fn moved(books: &PgPool, order: OrderId) -> Vec<(String, i64)> {
    sqlx::query_as("SELECT kind, amount_minor FROM simulator.ledger WHERE order_id = $1 ORDER BY entered_at")
        .bind(order.to_string())
        .fetch_all(books)
        .await
        .unwrap()
}

/// Waits until the bank has opened a payment for an order.
pub(super) async fn reference(books: &PgPool, order: OrderId) -> PaymentReference {
    eventually(&format!("a payment for {order}"), async || {
        let found: Option<String> =
            sqlx::query_scalar("SELECT reference FROM simulator.payments WHERE order_id = $1")
                .bind(order.to_string())
                .fetch_optional(books)
                .await
                .unwrap();
        found.map(|reference| reference.parse().unwrap())
    })
    .await
}

/// Waits until an order waits for a step.
pub(super) async fn until_it_waits_for(shop: &Shop, order: OrderId, step: &str) {
    eventually(&format!("{order} waits for {step}"), async || {
        let waits: Option<String> = sqlx::query_scalar("SELECT step FROM pending_orders WHERE order_id = $1")
            .bind(order.to_string())
            .fetch_optional(&shop.pool)
            .await
            .unwrap();
        (waits.as_deref() == Some(step)).then_some(())
    })
    .await;
}

/// A webhook in the inbox: id, whether it is dealt with, and why nothing came of it.
pub(super) type Kept = (String, bool, Option<String>);

/// Everything in the inbox, by id.
pub(super) async fn inbox(shop: &Shop) -> Vec<Kept> {
    sqlx::query_as("SELECT event_id, done_at IS NOT NULL, last_error FROM payment_webhooks ORDER BY event_id")
        .fetch_all(&shop.pool)
        .await
        .unwrap()
}

/// Waits until so many webhooks were taken, and all of them dealt with.
pub(super) async fn inbox_done(shop: &Shop, count: usize) -> Vec<Kept> {
    eventually(&format!("{count} webhooks dealt with"), async || {
        let kept = inbox(shop).await;
        (kept.len() == count && kept.iter().all(|(_, done, _)| *done)).then_some(kept)
    })
    .await
}
