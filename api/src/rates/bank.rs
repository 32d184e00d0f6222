//! Where accounts are kept: in Redis, for all processes; in this process while Redis does not answer.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kontor_domain::UserId;
use kontor_projections::mirror::Redis;
use tokio::time::Instant;
use tracing::{info, warn};

use super::account::Account;

/// How long a request waits for Redis before it is counted here.
const PATIENCE: Duration = Duration::from_millis(50);
/// After a failure Redis is left alone for so long.
const REST: Duration = Duration::from_secs(1);

/// The generic cell rate algorithm, for several keys in one go. Of each key its *theoretical arrival time* is kept, in
/// microseconds by Redis' own clock, for as long as it lies ahead: an account that is full is no key.
/// ARGV per key: microseconds a unit, units of a full account, units at least, units rather. Answers per key: units granted, units
/// left, microseconds to wait if nothing was granted.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local answer = {}
for i, key in ipairs(KEYS) do
  local a = (i - 1) * 4
  local unit, burst = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local least, rather = tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  local arrival = math.max(tonumber(redis.call('GET', key) or '0'), now)
  local left = burst - (arrival - now) / unit
  if left < least then
    answer[#answer + 1] = 0
    answer[#answer + 1] = math.max(0, math.floor(left))
    answer[#answer + 1] = math.ceil((least - left) * unit)
  else
    local units = math.min(rather, math.floor(left))
    arrival = arrival + units * unit
    redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
    answer[#answer + 1] = units
    answer[#answer + 1] = math.floor(left - units)
    answer[#answer + 1] = 0
  end
end
return answer
";

/// Whose account.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    Address(IpAddr),
    User(UserId),
}

impl Who {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::User(_) => "user",
        }
    }
}

/// Units that somebody wants to use.
pub(super) struct Wish<'a> {
    /// What they are units of.
    pub(super) what: &'static str,
    pub(super) who: Who,
    pub(super) account: &'a Account,
    pub(super) units: u64,
}

impl Wish<'_> {
    /// Seconds may pass before anybody reads a key: an address is in there no longer than that.
    fn key(&self) -> String {
        match self.who {
            Who::Address(address) => format!("rate:{}:{address}", self.what),
            Who::User(user) => format!("rate:{}:{user}", self.what),
        }
    }
}

pub(super) struct Bank {
    redis: Option<Redis>,
    script: redis::Script,
    started: Instant,
    /// Milliseconds since `started` until which Redis is left alone.
    resting: AtomicU64,
}

impl std::fmt::Debug for Bank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bank").finish_non_exhaustive()
    }
}

impl Bank {
    pub(super) fn new(redis: Option<Redis>) -> Self {
        Self {
            redis,
            script: redis::Script::new(TAKE),
            started: Instant::now(),
            resting: AtomicU64::new(0),
        }
    }

    /// Fills every account that lacks what is wished of it, or says until when not: one call for all of them.
    pub(super) async fn fill(&self, wishes: &[Wish<'_>], now: Instant) {
        let lacking: Vec<_> = wishes
            .iter()
            .filter_map(|wish| Some((wish, wish.account.lacks(wish.units, now)?)))
            .collect();
        let answers = match &self.redis {
            Some(redis) if self.milliseconds(now) >= self.resting.load(Ordering::Relaxed) => {
                self.ask(redis, &lacking, now).await
            }
            _ => None,
        };
        match answers {
            Some(answers) => {
                for ((wish, _), answer) in lacking.iter().zip(answers.chunks_exact(3)) {
                    match *answer {
                        [0, _, wait] => wish.account.refused(Duration::from_micros(wait.max(1)), now),
                        [units, left, _] => wish.account.granted(units, left, now),
                        _ => {}
                    }
                }
            }
            None => {
                for (wish, (least, rather)) in lacking {
                    wish.account.fill_here(least, rather, now);
                }
            }
        }
    }

    async fn ask(
        &self,
        redis: &Redis,
        lacking: &[(&Wish<'_>, (u64, u64))],
        now: Instant,
    ) -> Option<Vec<u64>> {
        let mut call = self.script.prepare_invoke();
        for (wish, (least, rather)) in lacking {
            let rate = wish.account.rate();
            call.key(redis.key(&wish.key()))
                .arg(1e6 / f64::from(rate.per_second))
                .arg(rate.burst)
                .arg(*least)
                .arg(*rather);
        }
        let mut connection = redis.connection();
        let failed =
            match tokio::time::timeout(PATIENCE, call.invoke_async::<Vec<u64>>(&mut connection)).await {
                Ok(Ok(answers)) if answers.len() == lacking.len() * 3 => {
                    if self.resting.swap(0, Ordering::Relaxed) > 0 {
                        info!("redis answers again; requests are counted across processes");
                    }
                    return Some(answers);
                }
                Ok(Ok(_)) => "an answer of another length".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
        let rest = self.milliseconds(now) + u64::try_from(REST.as_millis()).unwrap_or(0);
        if self.resting.swap(rest, Ordering::Relaxed) == 0 {
            warn!(
                error = failed,
                "redis does not answer; each process counts requests by itself"
            );
        }
        None
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}
