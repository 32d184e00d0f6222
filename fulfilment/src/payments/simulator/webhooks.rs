//! Tells somebody of every payment that changes, as Stripe does: posted, signed, at least once, also after a restart.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kontor_eventstore::Clock;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use tokio_util::sync::CancellationToken;

use super::Simulator;
use super::dialect::event;
use super::payment::Payment;
use crate::payments::webhook::{SIGNATURE_HEADER, WebhookSecret, sign};

/// Payments told of in one go.
const BATCH: i64 = 256;
/// Posts under way at the same time.
const CONCURRENCY: usize = 16;
/// How long a listener may take; Stripe waits about as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a listener that failed is left alone, and how often the books are looked through for what another process
/// entered.
const PAUSE: Duration = Duration::from_secs(1);

/// Delivers webhooks of a [`Simulator`] whose settings ask for them.
pub struct Webhooks {
    simulator: Simulator,
    url: Url,
    secret: WebhookSecret,
    clock: Arc<dyn Clock>,
    client: Client,
}

/// Why webhooks cannot be delivered at all.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    /// The URL is none.
    #[error("{0} is no URL to post webhooks to")]
    Url(String),
    /// The HTTP client could not be made.
    #[error("the HTTP client for webhooks could not be made: {0}")]
    Client(reqwest::Error),
}

impl Webhooks {
    /// Will post to `url`, signed with `secret`.
    ///
    /// # Errors
    /// See [`WebhooksError`].
    pub fn new(
        simulator: Simulator,
        url: &str,
        secret: WebhookSecret,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, WebhooksError> {
        Ok(Self {
            simulator,
            url: Url::parse(url).map_err(|_| WebhooksError::Url(url.to_owned()))?,
            secret,
            clock,
            client: Client::builder()
                .timeout(PATIENCE)
                .build()
                .map_err(WebhooksError::Client)?,
        })
    }

    /// Delivers until it is told to stop. A payment that changes twice in a short time may be told of once, as it is in
    /// the end.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let all_told = self.deliver().await;
            let rest = async {
                match all_told {
                    Some(0) => {
                        // What rang during the look is kept, so nothing is missed.
                        let changed = self.simulator.inner.changed.notified();
                        let _ = tokio::time::timeout(PAUSE, changed).await;
                    }
                    Some(_) => {}
                    None => tokio::time::sleep(PAUSE).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = rest => {}
            }
        }
    }

    /// Tells of what is due; how much that was, or nothing when something went wrong.
    async fn deliver(&self) -> Option<usize> {
        let books = &self.simulator.inner.books;
        let due = match books.untold(BATCH).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(error = %error, "payment simulator: webhooks wait");
                return None;
            }
        };
        let all = due.len();
        let told: Vec<Payment> = futures::stream::iter(due)
            .map(|payment| async move { self.post(&payment).await.then_some(payment) })
            .buffer_unordered(CONCURRENCY)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let noted = told.is_empty() || books.told(&told).await.is_ok();
        (noted && told.len() == all).then_some(all)
    }

    /// Tells of one payment; whether it was taken.
    pub(super) async fn post(&self, payment: &Payment) -> bool {
        let now = self.clock.now();
        let body = event(payment, now).to_string();
        let posted = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(SIGNATURE_HEADER, sign(&self.secret, now, body.as_bytes()))
            .body(body)
            .send()
            .await;
        let problem = match posted {
            Ok(response) if response.status().is_success() => return true,
            Ok(response) => response.status().to_string(),
            Err(error) => error.to_string(),
        };
        tracing::info!(payment = %payment.state.reference, problem, "payment simulator: webhook not taken, again later");
        false
    }
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}
