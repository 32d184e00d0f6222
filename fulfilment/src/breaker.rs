//! Circuit breakers: while somebody outside is down, nobody waits for them to fail.
//!
//! `tower-resilience-circuitbreaker` is behind it: of the crates looked at it is the one whose half-open state lets a bounded
//! number of calls through, gives the place of a cancelled one back, and tells of its changes. (`failsafe` and `recloser`
//! let everything through when half-open.)

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use kontor_eventstore::Clock;
use metrics::gauge;
use tower::Service;
use tower_resilience_circuitbreaker::{
    CircuitBreaker, CircuitBreakerError, CircuitBreakerLayer, CircuitState, FailureClassifier,
};

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

/// When a circuit breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BreakerSettings {
    /// How long one call may take.
    pub(crate) time_limit: Duration,
    /// Calls in a row that must come to nothing to open it; at least one.
    pub(crate) failures_to_open: usize,
    /// How long it stays open before it lets a probe through.
    pub(crate) open_for: Duration,
    /// Probes let through at the same time, all of which must succeed to close it; at least one.
    pub(crate) probes: usize,
}

/// Somebody outside the house, as a circuit breaker sees them.
pub(crate) trait Outside: Send + Sync + 'static {
    /// What they are asked.
    type Call: Send + 'static;
    /// What they say.
    type Answer: Send + 'static;
    /// Why they did not do it.
    type Error: Silence + Send + 'static;
    /// Who they are, in the log.
    const WHO: &'static str;
    /// The metric that says how the breaker stands: 0 closed, 1 half-open, 2 open.
    const GAUGE: &'static str;

    /// Asks.
    fn ask(self: Arc<Self>, call: Self::Call) -> BoxFuture<'static, Result<Self::Answer, Self::Error>>;
}

/// An error that may be somebody's silence.
pub(crate) trait Silence {
    /// Whether nobody was there, or nobody answered. Whoever refuses, or is busy, answers.
    fn is_silence(&self) -> bool;

    /// The error of a call that takes longer than it may.
    fn too_late(limit: Duration) -> Self;
}

/// A call that came to nothing.
pub(crate) enum Refusal<E> {
    /// It was not let through.
    Open,
    /// It was.
    Out(E),
}

/// A circuit breaker before somebody, with a time limit for each call.
pub(crate) struct Breaker<O> {
    service: CircuitBreaker<Limited<O>, OfSilence>,
    opened: Arc<Opened>,
    open_for: Duration,
}

/// When the breaker was opened last.
struct Opened {
    at: Mutex<DateTime<Utc>>,
    clock: Arc<dyn Clock>,
}

impl<O: Outside> Breaker<O> {
    /// The clock tells until when it is open.
    ///
    /// # Errors
    /// Which of the settings cannot be.
    pub(crate) fn new(
        outside: Arc<O>,
        settings: &BreakerSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let opened = Arc::new(Opened {
            at: Mutex::new(clock.now()),
            clock,
        });
        let tell = Arc::clone(&opened);
        let layer = CircuitBreakerLayer::builder()
            .name(O::WHO)
            .consecutive_failures(settings.failures_to_open)
            .wait_duration_in_open(settings.open_for)
            .permitted_calls_in_half_open(settings.probes)
            .failure_classifier_type(OfSilence)
            .on_state_transition(move |from, to| tell.changed::<O>(from, to))
            .build()
            .map_err(|error| error.to_string())?;
        measure::<O>(CircuitState::Closed);
        let limited = Limited {
            outside,
            limit: settings.time_limit,
        };
        Ok(Self {
            service: tower::Layer::layer(&layer, limited),
            opened,
            open_for: settings.open_for,
        })
    }

    /// How it stands. It stays open past its time until somebody calls: that call is the probe.
    pub(crate) fn state(&self) -> BreakerState {
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

    /// Whether whoever calls now is refused at once.
    pub(crate) fn holds_back(&self) -> bool {
        match self.state() {
            BreakerState::Closed => false,
            BreakerState::Open { until } => until > self.opened.clock.now(),
            BreakerState::HalfOpen => true,
        }
    }

    /// Asks, unless nobody answers these days.
    pub(crate) async fn call(&self, call: O::Call) -> Result<O::Answer, Refusal<O::Error>> {
        // A clone is the same breaker. Who is outside is always ready, and the breaker looks when it is called.
        let answer = self.service.clone().call(call).await;
        answer.map_err(|error| match error {
            CircuitBreakerError::OpenCircuit => Refusal::Open,
            CircuitBreakerError::Inner(error) => Refusal::Out(error),
        })
    }
}

impl Opened {
    /// Called for each change, once, while the breaker is locked.
    fn changed<O: Outside>(&self, from: CircuitState, to: CircuitState) {
        measure::<O>(to);
        let who = O::WHO;
        match to {
            CircuitState::Open => {
                *self.at.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now();
                tracing::warn!(breaker.from = ?from, breaker.to = ?to, "{who}: nobody answers, calls stop");
            }
            CircuitState::HalfOpen => {
                tracing::info!(breaker.from = ?from, breaker.to = ?to, "{who}: trying again");
            }
            CircuitState::Closed => {
                tracing::info!(breaker.from = ?from, breaker.to = ?to, "{who}: calls go through again");
            }
        }
    }
}

fn measure<O: Outside>(state: CircuitState) {
    let value = match state {
        CircuitState::Closed => 0.0,
        CircuitState::HalfOpen => 1.0,
        CircuitState::Open => 2.0,
    };
    gauge!(O::GAUGE).set(value);
}

/// Silence is a failure, and nothing else is.
struct OfSilence;

impl<A, E: Silence> FailureClassifier<A, E> for OfSilence {
    fn classify(&self, result: &Result<A, E>) -> bool {
        result.as_ref().is_err_and(E::is_silence)
    }
}

/// Who is outside with a time limit, as the breaker wants to see them.
struct Limited<O> {
    outside: Arc<O>,
    limit: Duration,
}

impl<O> Clone for Limited<O> {
    fn clone(&self) -> Self {
        Self {
            outside: Arc::clone(&self.outside),
            limit: self.limit,
        }
    }
}

impl<O: Outside> Service<O::Call> for Limited<O> {
    type Response = O::Answer;
    type Error = O::Error;
    type Future = BoxFuture<'static, Result<O::Answer, O::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: O::Call) -> Self::Future {
        let Self { outside, limit } = self.clone();
        Box::pin(async move {
            let answer = tokio::time::timeout(limit, outside.ask(call)).await;
            answer.unwrap_or_else(|_| Err(O::Error::too_late(limit)))
        })
    }
}
