//! How payments are made, as the operator says it, and what is made of that.

use std::sync::Arc;

use kontor_eventstore::{Clock, Ids, Store};
use sqlx::postgres::PgConnectOptions;

use super::PaymentGateway;
use super::desk::{Gateway, PaymentDesk, PaymentTerms};
use super::resilient::{Resilience, ResilienceError, Resilient};
use super::simulator::{Simulator, SimulatorSettings};
use super::stripe::{Stripe, StripeError, StripeSettings};
use super::webhook::{WebhookSecret, WebhookVerifier};

/// Who holds and moves the money.
#[derive(Clone, Debug)]
pub enum GatewayBy {
    /// Nobody: a bank that only pretends, with books of its own in the shop's database.
    Simulator(SimulatorSettings),
    /// Stripe, or something that speaks like it.
    Stripe(StripeSettings),
}

/// How payments are made.
#[derive(Clone, Debug)]
pub struct PaymentsConfig {
    /// Who holds and moves the money.
    pub gateway: GatewayBy,
    /// How much is borne of them.
    pub resilience: Resilience,
    /// When money is taken, and how long a customer has to pay.
    pub terms: PaymentTerms,
    /// What webhooks may be signed with; without any, none is believed.
    pub webhook_secrets: Vec<WebhookSecret>,
}

impl Default for PaymentsConfig {
    fn default() -> Self {
        Self {
            gateway: GatewayBy::Simulator(SimulatorSettings::default()),
            resilience: Resilience::default(),
            terms: PaymentTerms::default(),
            webhook_secrets: Vec::new(),
        }
    }
}

/// Why no payments can be made like that.
#[derive(Debug, thiserror::Error)]
pub enum PaymentsConfigError {
    /// See [`StripeError`].
    #[error(transparent)]
    Stripe(#[from] StripeError),
    /// See [`ResilienceError`].
    #[error(transparent)]
    Resilience(#[from] ResilienceError),
}

/// Payments, ready to be made.
#[derive(Clone, Debug)]
pub struct Payments {
    /// Where orders and the gateway meet.
    pub desk: PaymentDesk,
    /// The bank, if it only pretends.
    pub simulator: Option<Simulator>,
    /// How many orders may be attended to at the same time.
    pub places: usize,
    /// Tells the gateway's webhooks from anybody's.
    pub webhooks: WebhookVerifier,
}

impl PaymentsConfig {
    /// Makes ready what it says, for the orders of `store`. Talks to nobody yet.
    ///
    /// # Errors
    /// See [`PaymentsConfigError`].
    pub fn open(
        &self,
        store: Store,
        database: PgConnectOptions,
        ids: Ids,
        clock: Arc<dyn Clock>,
    ) -> Result<Payments, PaymentsConfigError> {
        let (gateway, simulator): (Arc<dyn PaymentGateway>, _) = match &self.gateway {
            GatewayBy::Simulator(settings) => {
                let simulator = Simulator::new(database, ids, settings.clone());
                (Arc::new(simulator.clone()), Some(simulator))
            }
            GatewayBy::Stripe(settings) => (Arc::new(Stripe::new(settings.clone())?), None),
        };
        let gateway: Arc<Gateway> = Arc::new(Resilient::new(
            gateway,
            self.resilience.clone(),
            Arc::clone(&clock),
        )?);
        Ok(Payments {
            desk: PaymentDesk::new(store, gateway, clock, self.terms),
            simulator,
            places: self.resilience.places,
            webhooks: WebhookVerifier::new(self.webhook_secrets.clone()),
        })
    }
}
