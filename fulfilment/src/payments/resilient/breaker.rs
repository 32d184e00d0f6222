//! The circuit breaker: while the gateway is down, nobody waits for it to fail.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use kontor_domain::PaymentState;
use kontor_eventstore::Clock;
use metrics::gauge;
use tower::Service;
use tower_resilience_circuitbreaker::{
    CircuitBreaker, CircuitBreakerError, CircuitBreakerLayer, CircuitState, FailureClassifier,
};

use super::{Call, Resilience, ResilienceError};
use crate::payments::gateway::{GatewayError, PaymentGateway};

/// How a circuit breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Calls are refused at once.
    Open {
        /// From when on the next call is a probe.
        until: DateTime<Utc>,
    },
    /// A probe is under way; everything else is refused at once.
    HalfOpen,
}

/// A call that came to nothing.
pub(super) enum Refusal {
    /// It was not let through.
    Open,
    /// It was.
    Out(GatewayError),
}

/// What counts as a failure: nobody there, or no answer. A gateway that declines, refuses or is busy answers.
struct NoAnswer;

impl FailureClassifier<PaymentState, GatewayError> for NoAnswer {
    fn classify(&self, result: &Result<PaymentState, GatewayError>) -> bool {
        matches!(
            result,
            Err(GatewayError::Unreachable(_) | GatewayError::Unknown(_))
        )
    }
}

pub(super) struct Breaker<G> {
    service: CircuitBreaker<Limited<G>, NoAnswer>,
    opened: Arc<Opened>,
    open_for: Duration,
}

/// When the breaker was opened last.
struct Opened {
    at: Mutex<DateTime<Utc>>,
    clock: Arc<dyn Clock>,
}

impl<G: PaymentGateway> Breaker<G> {
    pub(super) fn new(
        gateway: Arc<G>,
        settings: &Resilience,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ResilienceError> {
        let opened = Arc::new(Opened {
            at: Mutex::new(clock.now()),
            clock,
        });
        let tell = Arc::clone(&opened);
        let layer = CircuitBreakerLayer::builder()
            .name("payment gateway")
            .consecutive_failures(settings.failures_to_open)
            .wait_duration_in_open(settings.open_for)
            .permitted_calls_in_half_open(settings.probes)
            .failure_classifier_type(NoAnswer)
            .on_state_transition(move |from, to| tell.changed(from, to))
            .build()
            .map_err(|error| ResilienceError(error.to_string()))?;
        measure(CircuitState::Closed);
        let limited = Limited {
            gateway,
            limit: settings.time_limit,
        };
        Ok(Self {
            service: tower::Layer::layer(&layer, limited),
            opened,
            open_for: settings.open_for,
        })
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.service.state_sync() {
            CircuitState::Closed => BreakerState::Closed,
            CircuitState::HalfOpen => BreakerState::HalfOpen,
            CircuitState::Open => {
                let at = *self.opened.at.lock().unwrap_or_else(PoisonError::into_inner);
                let open_for = TimeDelta::from_std(self.open_for).unwrap_or(TimeDelta::MAX);
                BreakerState::Open {
                    until: at
                        .checked_add_signed(open_for)
                        .unwrap_or(DateTime::<Utc>::MAX_UTC),
                }
            }
        }
    }

    pub(super) async fn call(&self, call: Call) -> Result<PaymentState, Refusal> {
        // A clone is the same breaker. The gateway is always ready, and the breaker looks when it is called.
        let answer = self.service.clone().call(call).await;
        answer.map_err(|error| match error {
            CircuitBreakerError::OpenCircuit => Refusal::Open,
            CircuitBreakerError::Inner(error) => Refusal::Out(error),
        })
    }
}

impl Opened {
    /// Called for each change, once, while the breaker is locked.
    fn changed(&self, from: CircuitState, to: CircuitState) {
        measure(to);
        match to {
            CircuitState::Open => {
                *self.at.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now();
                tracing::warn!(breaker.from = ?from, breaker.to = ?to, "payment gateway: nobody answers, calls stop");
            }
            CircuitState::HalfOpen => {
                tracing::info!(breaker.from = ?from, breaker.to = ?to, "payment gateway: trying again");
            }
            CircuitState::Closed => {
                tracing::info!(breaker.from = ?from, breaker.to = ?to, "payment gateway: calls go through again");
            }
        }
    }
}

fn measure(state: CircuitState) {
    let value = match state {
        CircuitState::Closed => 0.0,
        CircuitState::HalfOpen => 1.0,
        CircuitState::Open => 2.0,
    };
    gauge!("kontor_payment_breaker").set(value);
}

/// The gateway with a time limit, as the breaker wants to see it.
struct Limited<G> {
    gateway: Arc<G>,
    limit: Duration,
}

impl<G> Clone for Limited<G> {
    fn clone(&self) -> Self {
        Self {
            gateway: Arc::clone(&self.gateway),
            limit: self.limit,
        }
    }
}

impl<G: PaymentGateway> Service<Call> for Limited<G> {
    type Response = PaymentState;
    type Error = GatewayError;
    type Future = BoxFuture<'static, Result<PaymentState, GatewayError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { gateway, limit } = self.clone();
        Box::pin(async move {
            let answer = tokio::time::timeout(limit, call.on(&*gateway)).await;
            answer.unwrap_or_else(|_| {
                Err(GatewayError::Unknown(format!(
                    "no answer within {} s",
                    limit.as_secs_f32()
                )))
            })
        })
    }
}
