//! What the bank tells on its own.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use kontor_eventstore::Clock;
use kontor_fulfilment::payments::simulator::webhooks::Webhooks;
use kontor_fulfilment::payments::webhook::SIGNATURE_HEADER;
use kontor_fulfilment::payments::{WebhookEvent, WebhookKind, WebhookSecret, WebhookVerifier};
use kontor_tests::eventually;
use tokio_util::sync::CancellationToken;

use super::*;

pub(super) const SECRET: &str = "whsec_of_the_tests";

/// Takes webhooks, once they are believed.
#[derive(Clone, Default)]
pub(super) struct Listener {
    heard: Arc<Mutex<Vec<WebhookEvent>>>,
    deaf: Arc<AtomicBool>,
    /// Posts it did not take.
    missed: Arc<Mutex<usize>>,
}

impl Listener {
    /// The URL to post to.
    pub(super) async fn start(&self) -> String {
        let listener = self.clone();
        let hear = move |headers: HeaderMap, body: Bytes| {
            let listener = listener.clone();
            async move { listener.hear(&headers, &body) }
        };
        let address = listen(Router::new().route("/webhooks", post(hear))).await;
        format!("http://{address}/webhooks")
    }

    fn hear(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        if self.deaf.load(Ordering::SeqCst) {
            *self.missed.lock().unwrap() += 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let verifier = WebhookVerifier::new(vec![WebhookSecret::new(SECRET)]);
        let header = headers.get(SIGNATURE_HEADER).map(|it| it.to_str().unwrap());
        let event = verifier.verify(header, body, SystemClock.now()).unwrap();
        self.heard.lock().unwrap().push(event);
        StatusCode::OK
    }

    /// Waits until it has heard this of that payment.
    pub(super) async fn hears(&self, kind: WebhookKind, reference: &PaymentReference) -> WebhookEvent {
        eventually(kind.name(), async || {
            let heard = self.heard.lock().unwrap();
            let told =
                |it: &&WebhookEvent| it.kind == kind && it.payment_reference.as_ref() == Some(reference);
            heard.iter().find(told).cloned()
        })
        .await
    }
}

fn talkative(database: &Database) -> Simulator {
    bank(
        database,
        SimulatorSettings {
            webhooks: true,
            ..SimulatorSettings::default()
        },
    )
}

/// Tells, until it is dropped.
fn teller(bank: &Simulator, url: &str) -> tokio_util::sync::DropGuard {
    let stop = CancellationToken::new();
    let clock = Arc::new(SystemClock);
    let webhooks = Webhooks::new(bank.clone(), url, WebhookSecret::new(SECRET), clock).unwrap();
    let guard = stop.clone().drop_guard();
    tokio::spawn(async move { webhooks.run(stop).await });
    guard
}

#[tokio::test]
async fn every_change_is_told() {
    let database = Database::fresh().await;
    let bank = talkative(&database);
    let listener = Listener::default();
    let _teller = teller(&bank, &listener.start().await);

    let reference = held(&bank, "a", "tok_approved", pounds_10()).await;
    let event = listener.hears(WebhookKind::Authorised, &reference).await;
    assert_eq!(event.order_id.as_deref(), Some("ord_of_a"));
    bank.capture(&capture("b", &reference, pounds_10()))
        .await
        .unwrap();
    listener.hears(WebhookKind::Captured, &reference).await;
    bank.refund(&refund("c", &reference, gbp(1))).await.unwrap();
    let event = listener.hears(WebhookKind::Refunded, &reference).await;
    assert_eq!(event.order_id.as_deref(), Some("ord_of_a"));

    let declined = bank
        .authorise(&authorise("d", "tok_declined", pounds_10()))
        .await
        .unwrap();
    listener.hears(WebhookKind::Failed, &declined.reference).await;
    let waiting = bank
        .authorise(&authorise("e", "tok_needs_action", pounds_10()))
        .await
        .unwrap();
    listener
        .hears(WebhookKind::RequiresAction, &waiting.reference)
        .await;
    bank.complete_action(&waiting.reference, true).await.unwrap();
    listener.hears(WebhookKind::Authorised, &waiting.reference).await;
    bank.void(&void("f", &waiting.reference)).await.unwrap();
    listener.hears(WebhookKind::Voided, &waiting.reference).await;

    let heard = listener.heard.lock().unwrap().clone();
    let ids: BTreeSet<&str> = heard.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids.len(), 7, "each change has an id of its own: {heard:?}");
    database.remove().await;
}

#[tokio::test]
async fn who_was_away_is_told_later_also_by_a_bank_that_was_restarted() {
    let database = Database::fresh().await;
    let listener = Listener::default();
    listener.deaf.store(true, Ordering::SeqCst);
    let url = listener.start().await;
    let bank = talkative(&database);
    let first = teller(&bank, &url);
    let mut references = Vec::new();
    for n in 0..5 {
        references.push(held(&bank, &n.to_string(), "tok_approved", pounds_10()).await);
    }
    eventually("a webhook that is not taken", async || {
        (*listener.missed.lock().unwrap() > 0).then_some(())
    })
    .await;
    drop((first, bank));

    listener.deaf.store(false, Ordering::SeqCst);
    let reborn = talkative(&database);
    let _second = teller(&reborn, &url);
    for reference in &references {
        listener.hears(WebhookKind::Authorised, reference).await;
    }
    database.remove().await;
}
