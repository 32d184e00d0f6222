//! Makes any gateway bearable: time limit, retries, circuit breaker, bulkhead.
//!
//! From the outside in: a call is tried a few times; each try waits for one of a bounded number of places (bulkhead), is
//! let through by the circuit breaker or refused at once, and has a time limit. A retry has the same idempotency key, so
//! the second answer to a question is the first.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use futures::future::BoxFuture;
use kontor_domain::{PaymentReference, PaymentState};
use kontor_eventstore::Clock;
use metrics::{counter, histogram};
use rand::Rng;
use tokio::sync::Semaphore;

use super::gateway::{Answer, Authorise, Capture, GatewayError, PaymentGateway, Refund, Void};
pub use crate::breaker::BreakerState;
use crate::breaker::{Breaker, BreakerSettings, Outside, Refusal, Silence};

/// How much is borne.
#[derive(Clone, Debug)]
pub struct Resilience {
    /// How long one try may take.
    pub time_limit: Duration,
    /// Tries after the first. Few: who calls has retries of their own, which outlive the process.
    pub retries: usize,
    /// The longest pause before the first retry. It doubles with each; the pause is anything up to it (full jitter).
    pub first_pause: Duration,
    /// The longest pause of all.
    pub longest_pause: Duration,
    /// Calls under way at the same time.
    pub places: usize,
    /// How long a call waits for a place before it is refused.
    pub wait_for_place: Duration,
    /// Tries in a row that must fail to open the breaker.
    pub failures_to_open: usize,
    /// How long it stays open before it lets a probe through.
    pub open_for: Duration,
    /// Probes let through at the same time, all of which must succeed to close it.
    pub probes: usize,
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            time_limit: Duration::from_secs(10),
            retries: 2,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(2),
            places: 64,
            wait_for_place: Duration::from_secs(1),
            failures_to_open: 10,
            open_for: Duration::from_secs(5),
            probes: 1,
        }
    }
}

/// Why a [`Resilience`] cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payment gateway's resilience cannot be set up like this: {0}")]
pub struct ResilienceError(String);

/// A gateway, made bearable.
pub struct Resilient<G> {
    gateway: Arc<Asked<G>>,
    settings: Resilience,
    places: Semaphore,
    breaker: Breaker<Asked<G>>,
}

/// A gateway, as the breaker sees it.
struct Asked<G>(G);

impl<G: PaymentGateway> Outside for Asked<G> {
    type Call = Call;
    type Answer = PaymentState;
    type Error = GatewayError;
    const WHO: &'static str = "payment gateway";
    const GAUGE: &'static str = "kontor_payment_breaker";

    fn ask(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<PaymentState, GatewayError>> {
        Box::pin(async move { call.on(&self.0).await })
    }
}

impl Silence for GatewayError {
    fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unknown(_))
    }

    fn too_late(limit: Duration) -> Self {
        Self::Unknown(format!("no answer within {} s", limit.as_secs_f32()))
    }
}

/// One call, owned, so that it can be tried again.
#[derive(Clone, Debug)]
enum Call {
    Authorise(Authorise),
    Capture(Capture),
    Void(Void),
    Refund(Refund),
    LookUp(PaymentReference),
}

impl Call {
    const fn name(&self) -> &'static str {
        match self {
            Self::Authorise(_) => "authorise",
            Self::Capture(_) => "capture",
            Self::Void(_) => "void",
            Self::Refund(_) => "refund",
            Self::LookUp(_) => "look_up",
        }
    }

    async fn on(&self, gateway: &impl PaymentGateway) -> Result<PaymentState, GatewayError> {
        match self {
            Self::Authorise(request) => gateway.authorise(request).await,
            Self::Capture(request) => gateway.capture(request).await,
            Self::Void(request) => gateway.void(request).await,
            Self::Refund(request) => gateway.refund(request).await,
            Self::LookUp(reference) => gateway.look_up(reference).await,
        }
    }
}

/// A try that came to nothing.
enum Failed {
    /// Held back on this side. Another try would be, too.
    HeldBack(GatewayError),
    /// By the gateway, or on the way there.
    Out(GatewayError),
}

impl Failed {
    fn into_error(self) -> GatewayError {
        match self {
            Self::HeldBack(error) | Self::Out(error) => error,
        }
    }
}

impl<G: PaymentGateway> Resilient<G> {
    /// Wraps a gateway. The clock tells until when the breaker is open.
    ///
    /// # Errors
    /// When one of the numbers in the settings that must not be zero is.
    pub fn new(gateway: G, settings: Resilience, clock: Arc<dyn Clock>) -> Result<Self, ResilienceError> {
        for (name, number) in [
            ("places", settings.places),
            ("failures to open", settings.failures_to_open),
            ("probes", settings.probes),
        ] {
            if number == 0 {
                return Err(ResilienceError(format!("no {name}")));
            }
        }
        if settings.time_limit.is_zero() {
            return Err(ResilienceError("no time".to_owned()));
        }
        let gateway = Arc::new(Asked(gateway));
        let breaker = BreakerSettings {
            time_limit: settings.time_limit,
            failures_to_open: settings.failures_to_open,
            open_for: settings.open_for,
            probes: settings.probes,
        };
        Ok(Self {
            breaker: Breaker::new(Arc::clone(&gateway), &breaker, clock).map_err(ResilienceError)?,
            places: Semaphore::new(settings.places),
            gateway,
            settings,
        })
    }

    /// What is behind it.
    #[must_use]
    pub fn gateway(&self) -> &G {
        &self.gateway.0
    }

    /// How the circuit breaker stands. It stays open past its time until somebody calls: that call is the probe.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Calls under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.settings.places - self.places.available_permits()
    }

    async fn call(&self, call: Call) -> Result<PaymentState, GatewayError> {
        let name = call.name();
        let result = (|| self.attempt(call.clone()))
            .retry(self.pauses())
            .when(|failed| matches!(failed, Failed::Out(error) if error.is_transient()))
            .await;
        let outcome = match &result {
            Ok(_) => "answered",
            Err(Failed::HeldBack(_)) => "held_back",
            Err(Failed::Out(GatewayError::Unreachable(_))) => "unreachable",
            Err(Failed::Out(GatewayError::Unknown(_))) => "unknown",
            Err(Failed::Out(GatewayError::Busy(_))) => "busy",
            Err(Failed::Out(GatewayError::Refused { .. })) => "refused",
        };
        counter!("kontor_payment_calls_total", "call" => name, "outcome" => outcome).increment(1);
        result.map_err(Failed::into_error)
    }

    async fn attempt(&self, call: Call) -> Result<PaymentState, Failed> {
        let held_back = |why: &str| Failed::HeldBack(GatewayError::Unreachable(why.to_owned()));
        let place = tokio::time::timeout(self.settings.wait_for_place, self.places.acquire()).await;
        // The semaphore is never closed.
        let Ok(Ok(_place)) = place else {
            return Err(held_back("as many calls as may be are under way"));
        };
        let name = call.name();
        let begun = tokio::time::Instant::now();
        let answer = self.breaker.call(call).await;
        if !matches!(answer, Err(Refusal::Open)) {
            histogram!("kontor_payment_call_seconds", "call" => name).record(begun.elapsed());
        }
        answer.map_err(|refusal| match refusal {
            Refusal::Open => held_back("the circuit breaker is open"),
            Refusal::Out(error) => Failed::Out(error),
        })
    }

    /// Exponential, with full jitter: those who failed together do not come back together.
    fn pauses(&self) -> impl BackoffBuilder {
        let longest = ExponentialBuilder::new()
            .with_min_delay(self.settings.first_pause)
            .with_max_delay(self.settings.longest_pause)
            .with_max_times(self.settings.retries);
        longest.build().map(jittered)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "jitter only; nothing that is stored depends on it"
)]
fn jittered(longest: Duration) -> Duration {
    longest.mul_f64(rand::rng().random_range(0.0..=1.0))
}

impl<G: PaymentGateway> PaymentGateway for Resilient<G> {
    fn authorise<'a>(&'a self, request: &'a Authorise) -> Answer<'a> {
        Box::pin(self.call(Call::Authorise(request.clone())))
    }

    fn capture<'a>(&'a self, request: &'a Capture) -> Answer<'a> {
        Box::pin(self.call(Call::Capture(request.clone())))
    }

    fn void<'a>(&'a self, request: &'a Void) -> Answer<'a> {
        Box::pin(self.call(Call::Void(request.clone())))
    }

    fn refund<'a>(&'a self, request: &'a Refund) -> Answer<'a> {
        Box::pin(self.call(Call::Refund(request.clone())))
    }

    fn look_up<'a>(&'a self, reference: &'a PaymentReference) -> Answer<'a> {
        Box::pin(self.call(Call::LookUp(reference.clone())))
    }
}

impl<G> std::fmt::Debug for Resilient<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = &self.settings;
        f.debug_struct("Resilient")
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
