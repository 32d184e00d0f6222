//! A bank for development and tests, with books of its own (the Postgres schema `simulator`).
//!
//! What happens is chosen by the payment method:
//!
//! | token | the bank |
//! | --- | --- |
//! | `tok_approved` | holds the amount |
//! | `tok_declined`, `tok_insufficient_funds` | declines |
//! | `tok_needs_action` | waits for the customer, until [`Simulator::complete_action`] |
//! | `tok_slow` | holds the amount and takes [`SimulatorSettings::slow`] to say so |
//! | `tok_timeout_after_charge` | holds the amount and says nothing; a repeat is answered at once |
//! | `tok_fails_N` | fails N times for each key, then holds the amount |
//! | `tok_down` | cannot be reached |
//! | anything else | declines: it knows no such payment method |
//!
//! Its rules are a real gateway's: at most the held amount is captured, and once; only what is not yet captured is voided;
//! refunds stay within what was captured. Every write is one statement, so it is whole or not there, and flushed before it
//! is answered. A request with a key that has been used is answered from the books. So whoever is killed, the bank or its
//! customer, at whatever moment, repeats the request and learns what happened the first time.

mod behaviour;
mod books;
mod dialect;
mod movement;
mod payment;
pub mod server;
mod till;
pub mod webhooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kontor_domain::{PaymentReference, PaymentState};
use kontor_eventstore::Ids;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::Notify;

use super::gateway::{Answer, Authorise, Capture, GatewayError, PaymentGateway, Refund, Void};
use behaviour::Behaviour;
use books::Books;
use movement::Movement;
use payment::Payment;
use till::{Opening, Till};

/// How the simulator behaves, beyond what the payment method says.
#[derive(Clone, Debug)]
pub struct SimulatorSettings {
    /// How long every call takes before anything happens.
    pub latency: Duration,
    /// How long `tok_slow` takes to answer.
    pub slow: Duration,
    /// How long `tok_timeout_after_charge` says nothing. Longer than anybody's patience.
    pub silence: Duration,
    /// Where [`server::router`] can be reached by the customer's browser.
    pub public_url: String,
    /// Whether changes are to be told: keeps a note of each until [`webhooks::Webhooks`] has delivered it.
    pub webhooks: bool,
}

impl Default for SimulatorSettings {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            slow: Duration::from_secs(2),
            silence: Duration::from_secs(60),
            public_url: "http://127.0.0.1:4010".to_owned(),
            webhooks: false,
        }
    }
}

/// The bank. Clones are the same bank.
#[derive(Clone)]
pub struct Simulator {
    inner: Arc<Inner>,
}

struct Inner {
    books: Books,
    till: Till,
    ids: Ids,
    settings: SimulatorSettings,
    down: AtomicBool,
    /// Rings when there may be a webhook to deliver.
    changed: Notify,
}

impl Simulator {
    /// A bank with its books in that database, on connections of its own. Call it inside a tokio runtime; nothing is
    /// connected before the first call.
    #[must_use]
    pub fn new(database: PgConnectOptions, ids: Ids, settings: SimulatorSettings) -> Self {
        let pool = pool(database);
        Self {
            inner: Arc::new(Inner {
                till: Till::open(pool.clone(), settings.webhooks, settings.public_url.clone()),
                books: Books::new(pool, settings.webhooks, settings.public_url.clone()),
                ids,
                settings,
                down: AtomicBool::new(false),
                changed: Notify::new(),
            }),
        }
    }

    /// Whether every call finds nobody there.
    pub fn set_down(&self, down: bool) {
        self.inner.down.store(down, Ordering::Relaxed);
    }

    /// The customer has done what was asked of them, or has failed to. Of a payment that does not wait for it (any more),
    /// nothing changes.
    ///
    /// # Errors
    /// As every call.
    pub async fn complete_action(
        &self,
        reference: &PaymentReference,
        approve: bool,
    ) -> Result<PaymentState, GatewayError> {
        Ok(self.complete(reference, approve).await?.state)
    }

    async fn complete(&self, reference: &PaymentReference, approve: bool) -> Result<Payment, GatewayError> {
        self.reached().await?;
        let payment = self.inner.books.complete_action(reference, approve).await?;
        self.inner.changed.notify_one();
        Ok(payment)
    }

    /// Waits out the latency.
    async fn reached(&self) -> Result<(), GatewayError> {
        if !self.inner.settings.latency.is_zero() {
            tokio::time::sleep(self.inner.settings.latency).await;
        }
        if self.inner.down.load(Ordering::Relaxed) {
            return Err(nobody_there());
        }
        Ok(())
    }

    async fn open(&self, request: &Authorise) -> Result<Payment, GatewayError> {
        self.reached().await?;
        let behaviour = Behaviour::of(&request.method);
        match behaviour {
            Behaviour::Down => return Err(nobody_there()),
            Behaviour::Fails(times) if self.inner.books.fails(&request.key, times).await? => {
                return Err(GatewayError::Unknown("it fails, as it was asked to".to_owned()));
            }
            _ => {}
        }
        let reference = format!("pi_{}", self.inner.ids.next());
        let opening = Opening::new(request, reference, behaviour.outcome())?;
        let opened = self.inner.till.open_payment(opening).await?;
        if opened.fresh {
            self.inner.changed.notify_one();
            // Written, but not yet said.
            match behaviour {
                Behaviour::Slow => tokio::time::sleep(self.inner.settings.slow).await,
                Behaviour::TimeoutAfterCharge => {
                    tokio::time::sleep(self.inner.settings.silence).await;
                    return Err(GatewayError::Unknown("it never answered".to_owned()));
                }
                _ => {}
            }
        }
        Ok(opened.payment)
    }

    async fn enter(&self, movement: Movement<'_>) -> Result<Payment, GatewayError> {
        self.reached().await?;
        let payment = self.inner.books.enter(&movement).await?;
        self.inner.changed.notify_one();
        Ok(payment)
    }

    async fn find(&self, reference: &PaymentReference) -> Result<Payment, GatewayError> {
        self.reached().await?;
        self.inner.books.find(reference).await
    }
}

fn nobody_there() -> GatewayError {
    GatewayError::Unreachable("it is down, as it was asked to be".to_owned())
}

fn pool(database: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(Duration::from_secs(5))
        // A round trip for every call otherwise. A connection that is gone shows itself, and the call is repeated.
        .test_before_acquire(false)
        .connect_lazy_with(
            database
                .application_name("kontor-payment-simulator")
                // A bank's word is on the disk before it is given.
                .options([("synchronous_commit", "on")]),
        )
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = &self.inner.settings;
        f.debug_struct("Simulator")
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}

impl PaymentGateway for Simulator {
    fn authorise<'a>(&'a self, request: &'a Authorise) -> Answer<'a> {
        Box::pin(async move { Ok(self.open(request).await?.state) })
    }

    fn capture<'a>(&'a self, request: &'a Capture) -> Answer<'a> {
        Box::pin(async move { Ok(self.enter(Movement::capture(request)?).await?.state) })
    }

    fn void<'a>(&'a self, request: &'a Void) -> Answer<'a> {
        Box::pin(async move { Ok(self.enter(Movement::void(request)?).await?.state) })
    }

    fn refund<'a>(&'a self, request: &'a Refund) -> Answer<'a> {
        Box::pin(async move { Ok(self.enter(Movement::refund(request)?).await?.state) })
    }

    fn look_up<'a>(&'a self, reference: &'a PaymentReference) -> Answer<'a> {
        Box::pin(async move { Ok(self.find(reference).await?.state) })
    }
}
