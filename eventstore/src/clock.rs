//! Time and fresh ids, injected: everything else that wants either is handed one of these.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SubsecRound, Utc};
use rand::{SeedableRng, rngs::StdRng};
use ulid::{Generator, Ulid};

/// Where the time comes from. Time is told, never used to order (L9): positions order.
pub trait Clock: Send + Sync + 'static {
    /// The present moment, in whole microseconds, as Postgres keeps it.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the machine for the time"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}

/// A clock that stands where it is put: for tests, and for imports that write history.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    /// A clock standing at `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(now.trunc_subsecs(6)))
    }

    /// Moves the clock to `now`.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now.trunc_subsecs(6);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fresh ULIDs: sortable by the clock's time, and rising within one process.
#[derive(Clone)]
pub struct Ids {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<(Generator, StdRng)>>,
}

impl Ids {
    /// Ids whose random part comes from the operating system.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with(clock, StdRng::from_os_rng())
    }

    /// The same ids on every run: for tests.
    #[must_use]
    pub fn seeded(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self::with(clock, StdRng::seed_from_u64(seed))
    }

    fn with(clock: Arc<dyn Clock>, rng: StdRng) -> Self {
        Self {
            clock,
            state: Arc::new(Mutex::new((Generator::new(), rng))),
        }
    }

    /// The time of the clock the ids are made with.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// A new id.
    #[must_use]
    pub fn next(&self) -> Ulid {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (generator, rng) = &mut *state;
        // The generator fails only after 2^80 ids in one millisecond; a random id is as good then.
        generator
            .generate_from_datetime_with_source(now.into(), rng)
            .unwrap_or_else(|_| Ulid::from_datetime_with_source(now.into(), rng))
    }
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ids").finish_non_exhaustive()
    }
}
