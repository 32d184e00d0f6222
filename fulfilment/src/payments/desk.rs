//! Where orders and the payment gateway meet.

use std::sync::Arc;
use std::time::Duration;

use kontor_domain::{CaptureAt, Order, OrderCommand, OrderError, OrderId, PaymentReference, PaymentState};
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{Clock, CommandContext, ExecuteError, Outcome, Store};

use super::{BreakerState, GatewayError, PaymentGateway, Resilient};

/// The shop's gateway, whichever it is, made bearable.
pub type Gateway = Resilient<Arc<dyn PaymentGateway>>;

/// When money is taken, and how long a customer has to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentTerms {
    /// When the money that is held is taken.
    pub capture: CaptureAt,
    /// How long reserved pieces are kept for an order that is not paid.
    pub pay_within: Duration,
}

impl Default for PaymentTerms {
    fn default() -> Self {
        Self {
            capture: CaptureAt::Shipment,
            pay_within: Duration::from_secs(15 * 60),
        }
    }
}

/// Asks the gateway, and tells orders what it said. Clones share one gateway.
#[derive(Clone)]
pub struct PaymentDesk {
    pub(crate) store: Store,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) clock: Arc<dyn Clock>,
    terms: PaymentTerms,
}

/// Why nothing could be learnt of a payment.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The gateway gave no answer.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The order refuses to believe what the gateway said.
    #[error(transparent)]
    Refused(OrderError),
    /// The log cannot be read or written now.
    #[error("{0}")]
    Unavailable(String),
}

impl DeskError {
    /// Whether the same again may come to something, without anybody looking into it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Gateway(error) => error.is_transient(),
            Self::Refused(_) => false,
            Self::Unavailable(_) => true,
        }
    }
}

impl From<ReadError> for DeskError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl PaymentDesk {
    /// A desk for the orders of `store`.
    #[must_use]
    pub fn new(store: Store, gateway: Arc<Gateway>, clock: Arc<dyn Clock>, terms: PaymentTerms) -> Self {
        Self {
            store,
            gateway,
            clock,
            terms,
        }
    }

    /// When money is taken, and how long a customer has to pay.
    #[must_use]
    pub const fn terms(&self) -> PaymentTerms {
        self.terms
    }

    /// How the gateway's circuit breaker stands, in this process.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        self.gateway.state()
    }

    /// Calls to the gateway that are under way, in this process.
    #[must_use]
    pub fn calls_under_way(&self) -> usize {
        self.gateway.under_way()
    }

    /// How many more may ask the gateway when so many do: up to `places`, nobody while the breaker is open, and then one, who is
    /// the probe.
    pub(crate) fn room(&self, places: usize, asking: usize) -> usize {
        let most = match self.breaker() {
            BreakerState::Closed => places,
            BreakerState::Open { until } if until > self.clock.now() => 0,
            BreakerState::Open { .. } | BreakerState::HalfOpen => 1,
        };
        most.saturating_sub(asking)
    }

    /// Tells an order how its payment is, by whomever it was heard. A repeat changes nothing.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub async fn observe(
        &self,
        order_id: OrderId,
        payment: PaymentState,
        context: CommandContext,
    ) -> Result<Outcome<Order>, DeskError> {
        self.tell(order_id, OrderCommand::ObservePayment { payment }, context)
            .await
    }

    /// Asks the gateway how a payment is.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask_about(&self, reference: &PaymentReference) -> Result<PaymentState, GatewayError> {
        self.gateway.look_up(reference).await
    }

    pub(crate) async fn tell(
        &self,
        order_id: OrderId,
        command: OrderCommand,
        context: CommandContext,
    ) -> Result<Outcome<Order>, DeskError> {
        self.store
            .execute::<Order>(order_id, command, context)
            .await
            .map_err(|error| match error {
                ExecuteError::Refused(refusal) => DeskError::Refused(refusal),
                other => DeskError::Unavailable(other.to_string()),
            })
    }
}

impl std::fmt::Debug for PaymentDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PaymentDesk")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
