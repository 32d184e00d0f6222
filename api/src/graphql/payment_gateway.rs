//! How the payment gateway is doing.

use async_graphql::{Context, Enum, Object, Result, SimpleObject};
use kontor_fulfilment::payments::BreakerState;

use super::access::{Permission, require};
use super::reads::app;
use super::scalars::{Count, DateTime};

/// How the circuit breaker before the payment gateway stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum PaymentGatewayState {
    /// Calls go through.
    Closed,
    /// The gateway did not answer several times in a row: nobody calls it before `openUntil`, and orders wait. Then one call
    /// tries whether it is back.
    Open,
    /// That one call is under way; everybody else waits for what comes of it.
    HalfOpen,
}

/// The payment gateway, as the process that answers sees it. A process that only works sees its own.
#[derive(Debug, SimpleObject)]
pub(crate) struct PaymentGateway {
    /// Whether it is called.
    state: PaymentGatewayState,
    /// From when on one call tries whether it is back; null unless the state is `OPEN`.
    open_until: Option<DateTime>,
    /// Calls that wait for its answer now.
    calls_under_way: Count,
}

/// The query of the payment gateway.
#[derive(Debug, Default)]
pub(crate) struct PaymentGatewayQuery;

#[Object]
impl PaymentGatewayQuery {
    /// How the payment gateway is doing. For staff; `FORBIDDEN` for customers. Needs `log:read`.
    async fn payment_gateway(&self, ctx: &Context<'_>) -> Result<PaymentGateway> {
        require(ctx, Permission::LogRead)?;
        let desk = &app(ctx).payments;
        let (state, open_until) = match desk.breaker() {
            BreakerState::Closed => (PaymentGatewayState::Closed, None),
            BreakerState::Open { until } => (PaymentGatewayState::Open, Some(DateTime(until))),
            BreakerState::HalfOpen => (PaymentGatewayState::HalfOpen, None),
        };
        let calls = u64::try_from(desk.calls_under_way()).unwrap_or(u64::MAX);
        Ok(PaymentGateway {
            state,
            open_until,
            calls_under_way: calls.into(),
        })
    }
}
