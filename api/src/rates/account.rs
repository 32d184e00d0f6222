//! What one asker may still use in this process, without asking anybody.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Rate;

/// An allowance that is not used up by then is lost.
const ALLOWANCE_LASTS: Duration = Duration::from_secs(1);

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacking {
    /// The bank has to be asked.
    Allowance,
    /// The bank has refused: so long.
    Time(Duration),
}

/// How an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Units that may be used now.
    pub(super) left: u64,
    /// Whole seconds until it is full.
    pub(super) full_in: u64,
    /// How long it is still refused.
    pub(super) refused: Option<Duration>,
}

/// Units of one kind of one asker.
#[derive(Debug)]
pub(super) struct Account {
    rate: Rate,
    most: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Units that are paid for and not used.
    allowance: u64,
    ends: Instant,
    /// Units to pay for the next time: more and more for who uses them up.
    next: u64,
    refused_until: Option<Instant>,
    /// What the bank had left, and when.
    left: u64,
    seen: Instant,
    /// When the account is full again, kept here while nobody else keeps it.
    full_at: Instant,
}

impl Account {
    pub(super) fn new(rate: Rate, most: u64, now: Instant) -> Self {
        Self {
            rate,
            most: rate.largest_allowance(most),
            state: Mutex::new(State {
                allowance: 0,
                ends: now,
                next: 1,
                refused_until: None,
                left: rate.burst.into(),
                seen: now,
                full_at: now,
            }),
        }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More than a full account holds is a full account.
    fn payable(&self, units: u64) -> u64 {
        units.clamp(1, self.rate.burst.into())
    }

    pub(super) fn take(&self, units: u64, now: Instant) -> Result<(), Lacking> {
        let mut state = self.state();
        if let Some(until) = state.refused_until {
            if now < until {
                return Err(Lacking::Time(until - now));
            }
            state.refused_until = None;
        }
        if now >= state.ends && state.allowance > 0 {
            state.allowance = 0;
            state.next = (state.next / 2).max(1);
        }
        match state.allowance.checked_sub(self.payable(units)) {
            Some(rest) => {
                state.allowance = rest;
                Ok(())
            }
            None => Err(Lacking::Allowance),
        }
    }

    /// What to ask the bank for so that `units` can be taken: no less than the first, rather the second. `None` if there is
    /// enough.
    pub(super) fn lacks(&self, units: u64, now: Instant) -> Option<(u64, u64)> {
        let mut state = self.state();
        let missing = self
            .payable(units)
            .checked_sub(state.allowance)
            .filter(|it| *it > 0)?;
        // Used up before its time.
        if now < state.ends {
            state.next = (state.next * 2).min(self.most);
        }
        Some((missing, missing.max(state.next)))
    }

    pub(super) fn granted(&self, units: u64, left: u64, now: Instant) {
        let mut state = self.state();
        state.allowance += units;
        state.ends = now + ALLOWANCE_LASTS;
        (state.left, state.seen) = (left, now);
    }

    pub(super) fn refused(&self, wait: Duration, now: Instant) {
        let mut state = self.state();
        state.refused_until = Some(now + wait);
        (state.left, state.seen) = (0, now);
    }

    /// The same arithmetic as the bank's script, on this process's own account.
    pub(super) fn fill_here(&self, least: u64, rather: u64, now: Instant) {
        let interval = 1.0 / f64::from(self.rate.per_second);
        let used = {
            let state = self.state();
            state.full_at.saturating_duration_since(now).as_secs_f64() / interval
        };
        let left = f64::from(self.rate.burst) - used;
        let (least, rather) = (as_float(least), as_float(rather));
        // What floating point loses must not cost anybody a unit.
        if left + 1e-6 < least {
            let wait = Duration::from_secs_f64(((least - left) * interval).max(1e-3));
            self.refused(wait, now);
            return;
        }
        let units = rather.min(left.floor()).max(least);
        {
            let mut state = self.state();
            state.full_at = state.full_at.max(now) + Duration::from_secs_f64(units * interval);
        }
        self.granted(whole(units), whole(left - units), now);
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let state = self.state();
        let back = now.saturating_duration_since(state.seen).as_secs_f64() * f64::from(self.rate.per_second);
        let allowance = if now < state.ends { state.allowance } else { 0 };
        let burst = u64::from(self.rate.burst);
        let left = (state.left + whole(back) + allowance).min(burst);
        Standing {
            left,
            full_in: (burst - left).div_ceil(self.rate.per_second.into()),
            refused: state
                .refused_until
                .filter(|until| now < *until)
                .map(|until| until - now),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "units are far below 2^53")]
fn as_float(units: u64) -> f64 {
    units as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded down, and nothing below nothing"
)]
fn whole(units: f64) -> u64 {
    (units + 1e-6).max(0.0) as u64
}
