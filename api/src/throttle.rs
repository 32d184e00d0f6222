//! Who tries too often waits: attempts counted per account and per address, each by itself, however many come in one document.
//!
//! GCRA: of each key one number is kept, the time at which all its attempts will have been paid off. An attempt costs an interval;
//! it is refused if more than the burst would be owed. Refused attempts cost nothing, so whoever waits as long as is said gets in.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use kontor_eventstore::Clock;
use kontor_projections::mirror::Redis;
use moka::sync::Cache;
use redis::Script;
use tracing::warn;

use crate::sessions::secret_hash;

/// How often something may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many times at once.
    pub burst: u32,
    /// And once more after each of these.
    pub interval: Duration,
}

/// How often may be tried what can be guessed or what sends mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleTerms {
    /// Passwords of one account.
    pub account: Rate,
    /// Passwords, tokens and mails from one address: a household, or an office behind one address.
    pub address: Rate,
    /// Mails to one account.
    pub mails: Rate,
}

impl Default for ThrottleTerms {
    fn default() -> Self {
        let rate = |burst, seconds| Rate {
            burst,
            interval: Duration::from_secs(seconds),
        };
        Self {
            account: rate(10, 30),
            address: rate(100, 3),
            mails: rate(3, 600),
        }
    }
}

/// Keys that this process remembers while Redis is away.
const REMEMBERED: u64 = 100_000;

/// Charges all keys or none. KEYS: what is counted. ARGV: now, then per key the interval and what may be owed, in ms. How long to wait,
/// in ms; 0 if it was charged.
static CHARGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local now, wait, paid = tonumber(ARGV[1]), 0, {}
for i = 1, #KEYS do
  local interval, most = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  paid[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or '0'), now) + interval
  wait = math.max(wait, paid[i] - now - most)
end
if wait > 0 then return wait end
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], string.format('%.0f', paid[i]), 'PX', math.max(paid[i] - now, 1))
end
return 0
",
    )
});

/// Forgets what one key owes, and takes one attempt off the other. KEYS: both. ARGV: the interval of the second, in ms.
static FORGIVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('DEL', KEYS[1])
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then redis.call('DECRBY', KEYS[2], ARGV[1]) end
return 0
",
    )
});

/// Something that is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    key: String,
    rate: Rate,
}

impl Counted {
    /// Attempts of one kind at one thing: `what` names the kind, `whose` the thing. It is hashed: keys hold no addresses.
    #[must_use]
    pub fn new(what: &str, whose: &str, rate: Rate) -> Self {
        Self {
            key: format!("throttle:{what}:{}", secret_hash(whose.as_bytes())),
            rate,
        }
    }

    fn interval(&self) -> i64 {
        i64::try_from(self.rate.interval.as_millis()).unwrap_or(i64::MAX)
    }

    fn most(&self) -> i64 {
        self.interval().saturating_mul(self.rate.burst.into())
    }
}

/// Counts attempts: in Redis for all processes, and in memory for this one while Redis is away. Cheap to clone.
#[derive(Clone)]
pub struct Throttle {
    redis: Redis,
    clock: Arc<dyn Clock>,
    /// How often may be tried what.
    pub terms: ThrottleTerms,
    local: Cache<String, i64>,
    turn: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl Throttle {
    /// Counts in this Redis.
    #[must_use]
    pub fn new(redis: Redis, clock: Arc<dyn Clock>, terms: ThrottleTerms) -> Self {
        Self {
            redis,
            clock,
            terms,
            local: Cache::new(REMEMBERED),
            turn: Arc::default(),
        }
    }

    /// Counts an attempt against all of these, or, if one of them has had enough, against none.
    ///
    /// # Errors
    /// How long to wait.
    pub async fn charge(&self, counted: &[Counted]) -> Result<(), Duration> {
        let now = self.clock.now().timestamp_millis();
        let mut script = CHARGE.prepare_invoke();
        for it in counted {
            script.key(self.redis.key(&it.key));
        }
        script.arg(now);
        for it in counted {
            script.arg(it.interval()).arg(it.most());
        }
        let wait = self.redis.run(&script).await.unwrap_or_else(|error| {
            warn!(%error, "redis does not count attempts; this process counts its own");
            self.charge_here(counted, now)
        });
        match u64::try_from(wait) {
            Ok(wait) if wait > 0 => Err(Duration::from_millis(wait)),
            _ => Ok(()),
        }
    }

    fn charge_here(&self, counted: &[Counted], now: i64) -> i64 {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let paid: Vec<i64> = counted
            .iter()
            .map(|it| {
                self.local
                    .get(&it.key)
                    .unwrap_or(0)
                    .max(now)
                    .saturating_add(it.interval())
            })
            .collect();
        let wait = counted.iter().zip(&paid).map(|(it, paid)| paid - now - it.most());
        let wait = wait.max().unwrap_or(0).max(0);
        if wait == 0 {
            for (it, paid) in counted.iter().zip(paid) {
                self.local.insert(it.key.clone(), paid);
            }
        }
        wait
    }

    /// It was the right one: `first` owes nothing any more, and this one attempt is taken off `second`. (Not all of them: whoever
    /// has one account could otherwise try any number of others in between.)
    pub async fn forgive(&self, first: &Counted, second: Option<&Counted>) {
        let mut script = FORGIVE.prepare_invoke();
        script.key(self.redis.key(&first.key));
        if let Some(second) = second {
            script.key(self.redis.key(&second.key));
        }
        script.arg(second.map_or(0, Counted::interval));
        // It runs out by itself.
        let _: Result<i64, _> = self.redis.run(&script).await;
        self.local.invalidate(&first.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};
    use kontor_eventstore::ManualClock;

    #[tokio::test]
    async fn without_redis_it_counts_here() {
        let clock = Arc::new(ManualClock::at(
            DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        ));
        let redis = Redis::open("redis://127.0.0.1:1/0", "none").unwrap();
        let throttle = Throttle::new(redis, Arc::<ManualClock>::clone(&clock), ThrottleTerms::default());
        let rate = |burst| Rate {
            burst,
            interval: Duration::from_secs(10),
        };
        let (one, all) = (
            Counted::new("a", "one", rate(2)),
            Counted::new("b", "all", rate(3)),
        );
        let both = [one.clone(), all.clone()];
        for _ in 0..2 {
            assert_eq!(throttle.charge(&both).await, Ok(()));
        }
        for _ in 0..2 {
            // Nothing was charged: the second has one left.
            assert_eq!(throttle.charge(&both).await, Err(Duration::from_secs(10)));
        }
        assert_eq!(throttle.charge(std::slice::from_ref(&all)).await, Ok(()));
        throttle.forgive(&one, None).await;
        assert_eq!(throttle.charge(std::slice::from_ref(&one)).await, Ok(()));
        assert!(throttle.charge(&both).await.is_err());
        clock.set(clock.now() + TimeDelta::seconds(10));
        assert_eq!(throttle.charge(&both).await, Ok(()));
    }
}
