//! What the payment gateway tells of its own accord: `POST /webhooks/payments`.
//!
//! Believed by its signature, kept once, thanked when it is on the disk. What follows from it is another's work.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Extension, Router};
use kontor_domain::Personal;
use kontor_eventstore::deeds::Kind;
use kontor_eventstore::{Actor, Deed, Origin};
use kontor_fulfilment::payments::webhook::SIGNATURE_HEADER;
use kontor_fulfilment::payments::{WebhookError, WebhookEvent, WebhookVerifier};
use kontor_fulfilment::webhook_inbox::{self, Taken};
use metrics::counter;
use tracing::{debug, warn};

use crate::App;
use crate::address::Proxies;
use crate::connections::Peer;

/// Where the gateway posts.
pub const PATH: &str = "/webhooks/payments";
/// Bytes. Stripe's events are some kilobytes.
const LARGEST: usize = 256 * 1_024;
/// How long Postgres may take; the gateway gives up after some ten seconds, and asks again.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Door {
    app: Arc<App>,
    verifier: Arc<WebhookVerifier>,
    proxies: Arc<Proxies>,
}

/// `/webhooks/payments`. With a verifier that believes nobody it refuses everything.
pub(crate) fn routes(app: &Arc<App>, verifier: WebhookVerifier, proxies: Proxies) -> Router {
    Router::new()
        .route(PATH, post(hear))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(Door {
            app: Arc::clone(app),
            verifier: Arc::new(verifier),
            proxies: Arc::new(proxies),
        })
}

async fn hear(
    State(door): State<Door>,
    peer: Option<Extension<ConnectInfo<Peer>>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> StatusCode {
    let (status, outcome) = match body {
        Err(rejection) => {
            debug!(error = rejection.body_text(), "payment webhook not read");
            (rejection.status(), "not_read")
        }
        Ok(body) => match door.believe(&headers, &body) {
            // Nothing of it is logged: it may come from anybody, and say anything.
            Err(error) => {
                warn!(
                    reason = error.name(),
                    bytes = body.len(),
                    "payment webhook refused"
                );
                let address =
                    peer.map(|Extension(ConnectInfo(Peer(peer)))| door.proxies.client(peer.ip(), &headers));
                let origin = Origin {
                    request: door.app.store.ids().next().to_string(),
                    address: address.map(Personal::new),
                };
                let refused = Deed::new(Kind::WebhookRefused, Actor::Anonymous, Some(origin));
                door.app.deeds.note(refused.detail(error.name()));
                (StatusCode::BAD_REQUEST, error.name())
            }
            Ok(event) => door.take(&event).await,
        },
    };
    counter!("kontor_payment_webhooks_total", "outcome" => outcome).increment(1);
    status
}

impl Door {
    fn believe(&self, headers: &HeaderMap, body: &[u8]) -> Result<WebhookEvent, WebhookError> {
        let signature = match headers.get(SIGNATURE_HEADER).map(|it| it.to_str()) {
            None => None,
            Some(Ok(signature)) => Some(signature),
            Some(Err(_)) => return Err(WebhookError::Malformed),
        };
        self.verifier.verify(signature, body, self.app.clock.now())
    }

    async fn take(&self, event: &WebhookEvent) -> (StatusCode, &'static str) {
        let taking = webhook_inbox::take(self.app.store.pool(), event);
        let why = match tokio::time::timeout(PATIENCE, taking).await {
            Ok(Ok(Taken::New)) => return (StatusCode::OK, "taken"),
            Ok(Ok(Taken::Repeated)) => return (StatusCode::OK, "repeated"),
            Ok(Ok(Taken::Ignored)) => return (StatusCode::OK, "ignored"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} seconds", PATIENCE.as_secs()),
        };
        warn!(
            webhook.id = event.id,
            error = why,
            "payment webhook not taken; it will come again"
        );
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    }
}
