//! How much one address and one user may ask for: requests of each, and what they cost.
//!
//! The generic cell rate algorithm, kept in Redis so that all processes share it. A process does not ask Redis for each
//! request: it takes an allowance of several, pays for it at once and serves from it ([`Account`]). So nobody is ever served
//! more than the limit says; what is left of an allowance when its second is over is the price (docs/decisions/017).

mod account;
mod bank;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::hash::Hash;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use kontor_domain::UserId;
use kontor_projections::mirror::Redis;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use self::account::{Account, Lacking, Standing};
use self::bank::{Bank, Who, Wish};
use crate::address::household;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Whoever asks is remembered in this process, some 300 bytes each; the least busy are forgotten first.
const REMEMBERED: usize = 100_000;
/// Units of one allowance at most, however high the limit: enough to make Redis cheap.
const MOST_REQUESTS: u64 = 1_024;
const MOST_COST: u64 = 32_768;

/// So many units a second for ever, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units that come back in a second.
    pub per_second: u32,
    /// Units that may be used at once.
    pub burst: u32,
}

impl Rate {
    /// How long an empty account takes to be full again, in whole seconds.
    fn window(self) -> u64 {
        u64::from(self.burst).div_ceil(u64::from(self.per_second)).max(1)
    }

    /// Units of one allowance at most. Whoever comes near the limit uses up a quarter of a second's units well before the
    /// allowance ends, and so loses nothing.
    fn largest_allowance(self, most: u64) -> u64 {
        u64::from(self.burst / 16)
            .min(u64::from(self.per_second / 4))
            .clamp(1, most)
    }
}

/// It is not two positive numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write it as UNITS_PER_SECOND/BURST, such as 100/1000")]
pub struct NoRate;

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let (per_second, burst) = text.split_once('/').ok_or(NoRate)?;
        let rate = Self {
            per_second: per_second.trim().parse().map_err(|_| NoRate)?,
            burst: burst.trim().parse().map_err(|_| NoRate)?,
        };
        if rate.per_second == 0 || rate.burst == 0 {
            return Err(NoRate);
        }
        Ok(rate)
    }
}

/// How much may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests of one address.
    pub address: Rate,
    /// Requests of one user, wherever from.
    pub user: Rate,
    /// What the requests of one user, or of an address that nobody is logged in at, may cost.
    pub cost: Rate,
}

impl Default for RateLimits {
    /// A screen of an app is some ten requests of a cost of some hundred.
    fn default() -> Self {
        Self {
            address: Rate {
                per_second: 300,
                burst: 3_000,
            },
            user: Rate {
                per_second: 100,
                burst: 1_000,
            },
            cost: Rate {
                per_second: 50_000,
                burst: 500_000,
            },
        }
    }
}

/// What somebody has asked for and what it has cost.
#[derive(Debug)]
struct Asker {
    requests: Account,
    cost: Account,
    /// Whoever asks Redis for this one; the others wait and find the allowance there.
    turn: tokio::sync::Mutex<()>,
}

/// Keeps the limits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rates {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: RateLimits,
    policy: HeaderValue,
    bank: Bank,
    addresses: Cache<IpAddr, Arc<Asker>>,
    users: Cache<UserId, Arc<Asker>>,
    #[cfg(test)]
    time: tests::Time,
}

impl Inner {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the tests' time is in there")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[cfg(test)]
    fn now(&self) -> Instant {
        self.time.now()
    }
}

/// What comes of asking.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// When to come back, if this is too much.
    pub retry_after: Option<Duration>,
    headers: [(HeaderName, HeaderValue); 2],
}

impl Verdict {
    /// Says how much is left.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }

    /// In whole seconds, and not too early.
    pub(crate) fn seconds(wait: Duration) -> u64 {
        wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
    }
}

impl Rates {
    /// Shares the accounts with other processes through Redis; without one, and while it does not answer, this process
    /// keeps accounts of its own.
    #[must_use]
    pub fn new(limits: RateLimits, redis: Option<Redis>) -> Self {
        let mut policy = String::new();
        for (name, rate) in [
            ("address", limits.address),
            ("user", limits.user),
            ("cost", limits.cost),
        ] {
            let separator = if policy.is_empty() { "" } else { ", " };
            let _ = write!(
                policy,
                "{separator}\"{name}\";q={};w={}",
                rate.burst,
                rate.window()
            );
        }
        Self {
            inner: Arc::new(Inner {
                limits,
                policy: HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("")),
                bank: Bank::new(redis),
                addresses: Cache::new(REMEMBERED),
                users: Cache::new(REMEMBERED),
                #[cfg(test)]
                time: tests::Time::default(),
            }),
        }
    }

    /// Refuses who has been refused and has not waited, before anything is read of the request.
    #[must_use]
    pub fn still_refused(&self, address: Option<IpAddr>) -> Option<Verdict> {
        let asker = self.inner.addresses.get(&household(address?))?;
        let now = self.inner.now();
        let wait = asker.requests.standing(now).refused?;
        let who = Who::Address(household(address?));
        let wish = Wish {
            what: who.kind(),
            who,
            account: &asker.requests,
            units: 1,
        };
        Some(self.verdict(Some(wait), &[wish], now))
    }

    fn known<K: Clone + Eq + Hash>(&self, among: &Cache<K, Arc<Asker>>, who: &K, rate: Rate) -> Arc<Asker> {
        let asker = among.get_or_insert_with(who, || Ok::<_, Infallible>(self.asker(rate)));
        let Ok(asker) = asker;
        asker
    }

    /// Takes one request and its cost from whom it is taken.
    pub async fn ask(&self, address: Option<IpAddr>, user: Option<UserId>, cost: u64) -> Verdict {
        let inner = &self.inner;
        let address = address.map(|address| {
            let address = household(address);
            let asker = self.known(&inner.addresses, &address, inner.limits.address);
            (Who::Address(address), asker)
        });
        let user = user.map(|user| {
            let asker = self.known(&inner.users, &user, inner.limits.user);
            (Who::User(user), asker)
        });
        let Some((payer, paying)) = user.as_ref().or(address.as_ref()) else {
            return self.verdict(None, &[], inner.now());
        };
        let mut wishes: Vec<Wish<'_>> = Vec::with_capacity(3);
        // The address first: it is charged also for what is refused behind it.
        for (who, asker) in address.iter().chain(&user) {
            wishes.push(Wish {
                what: who.kind(),
                who: *who,
                account: &asker.requests,
                units: 1,
            });
        }
        wishes.push(Wish {
            what: "cost",
            who: *payer,
            account: &paying.cost,
            units: cost,
        });
        let (wait, now) = self.take(&wishes, paying).await;
        self.verdict(wait, &wishes, now)
    }

    /// Takes what is wished for, one after the other; how long to wait for the first that cannot be had.
    async fn take(&self, wishes: &[Wish<'_>], paying: &Asker) -> (Option<Duration>, Instant) {
        let (mut taken, mut now) = (0, self.inner.now());
        let mut turn = None;
        loop {
            let Some(wish) = wishes.get(taken) else {
                return (None, now);
            };
            match wish.account.take(wish.units, now) {
                Ok(()) => taken += 1,
                Err(Lacking::Time(wait)) => return (Some(wait), now),
                // Whoever had the turn before may have filled it for all.
                Err(Lacking::Allowance) if turn.is_none() => turn = Some(paying.turn.lock().await),
                // On the heap: it is seldom, and large for a future that every socket holds.
                Err(Lacking::Allowance) => Box::pin(self.inner.bank.fill(&wishes[taken..], now)).await,
            }
            now = self.inner.now();
        }
    }

    fn asker(&self, requests: Rate) -> Arc<Asker> {
        Arc::new(Asker {
            requests: Account::new(requests, MOST_REQUESTS, self.inner.now()),
            cost: Account::new(self.inner.limits.cost, MOST_COST, self.inner.now()),
            turn: tokio::sync::Mutex::default(),
        })
    }

    fn verdict(&self, retry_after: Option<Duration>, wishes: &[Wish<'_>], now: Instant) -> Verdict {
        // Every answer has it, so it is put together by hand.
        let (mut text, mut digits) = (String::with_capacity(96), itoa::Buffer::new());
        for wish in wishes {
            let Standing { left, full_in, .. } = wish.account.standing(now);
            text.push_str(if text.is_empty() { "\"" } else { ", \"" });
            text.push_str(wish.what);
            text.push_str("\";r=");
            text.push_str(digits.format(left));
            text.push_str(";t=");
            text.push_str(digits.format(full_in));
        }
        Verdict {
            retry_after,
            headers: [
                (POLICY, self.inner.policy.clone()),
                (
                    LIMIT,
                    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("")),
                ),
            ],
        }
    }
}

#[cfg(test)]
mod tests;
