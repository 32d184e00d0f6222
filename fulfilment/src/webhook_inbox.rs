//! What the payment gateway tells of its own accord: written down before it is thanked, dealt with afterwards.
//!
//! [`take`] keeps each event once, by the gateway's id of it, whoever brings it how often. [`run`] goes through what was
//! kept, oldest first: it asks the gateway how the payment is, as an event may be old and come in any order, tells the
//! order, and marks every event of that payment that was there before it asked. Killed in between, it asks again and tells
//! the order what it knows already. See decision 014.

mod deal;
mod record;

use std::time::Duration;

use kontor_domain::PaymentReference;
use kontor_eventstore::lease::Lease;
use kontor_eventstore::{Worker, crash};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::payments::{BreakerState, PaymentDesk};
use crate::under_way::UnderWay;
use deal::Settled;

pub use record::{Taken, take, waiting};

/// The name of the lease it works under.
pub const LEASE: &str = "payment_webhooks";
/// How often to look for what has come.
const POLL: Duration = Duration::from_millis(100);
/// How long to leave Postgres alone after it failed.
const REST: Duration = Duration::from_secs(1);
/// Events looked at in one go.
const AT_ONCE: i64 = 256;
/// Payments asked about at the same time at most, and which part of the gateway's places that may be: the orders that wait
/// for it come first.
const MOST: usize = 16;
const PART: usize = 4;
/// How often old events are thrown away.
const CLEANING: Duration = Duration::from_secs(60);

/// Deals with what was taken whenever its lease can be had, until `stop`. `places` is how many calls the gateway bears.
pub async fn run(worker: Worker, desk: PaymentDesk, places: usize, stop: CancellationToken) {
    let inbox = Inbox {
        worker: &worker,
        desk,
        places: (places / PART).clamp(1, MOST),
    };
    worker
        .hold_lease(LEASE, &stop, |lease| inbox.work(lease, &stop))
        .await;
}

struct Inbox<'a> {
    worker: &'a Worker,
    desk: PaymentDesk,
    places: usize,
}

/// Payments that are being asked about.
type Busy = UnderWay<PaymentReference, Vec<Settled>>;

impl Inbox<'_> {
    async fn work(&self, lease: Lease, stop: &CancellationToken) {
        tokio::select! {
            () = self.deal(&lease, stop) => {}
            () = self.throw_away(stop) => {}
        }
    }

    /// Returns when the lease is lost, or at `stop`. What is under way then is left alone: it will be asked again.
    async fn deal(&self, lease: &Lease, stop: &CancellationToken) {
        let mut busy = Busy::new();
        let mut was_open = false;
        while !stop.is_cancelled() {
            if let Err(error) = self.begin(&mut busy, &mut was_open).await {
                warn!(%error, "payment webhooks held up, trying again");
                tokio::time::sleep(REST).await;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                settled = busy.next() => {
                    let settled: Vec<Settled> = settled.into_iter().flatten().collect();
                    if !self.settle(lease, &settled).await {
                        return;
                    }
                }
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Begins to deal with what has come, as far as there is room.
    async fn begin(&self, busy: &mut Busy, was_open: &mut bool) -> Result<(), sqlx::Error> {
        let pool = self.worker.store().pool();
        let closed = matches!(self.desk.breaker(), BreakerState::Closed);
        if closed && *was_open {
            record::hurry(pool).await?;
        }
        *was_open = !closed;
        let room = self.desk.room(self.places, busy.len());
        if room == 0 {
            return Ok(());
        }
        let references: Vec<String> = busy.about().map(ToString::to_string).collect();
        let due = record::due(pool, &references, AT_ONCE).await?;
        for told in deal::by_payment(due).into_iter().take(room) {
            let (reference, desk) = (told.reference.clone(), self.desk.clone());
            busy.begin(reference, async move { deal::deal_with(&desk, told).await });
        }
        Ok(())
    }

    /// Writes down what came of it; false if that is not ours to do any more.
    async fn settle(&self, lease: &Lease, settled: &[Settled]) -> bool {
        crash::point("webhooks.settle");
        match record::settle(self.worker.store().pool(), lease, settled).await {
            Ok(true) => true,
            Ok(false) => {
                warn!(lease.epoch, "somebody else deals with payment webhooks now");
                false
            }
            Err(error) => {
                // The order has been told; it will be told again.
                warn!(%error, "what came of payment webhooks was not written down");
                tokio::time::sleep(REST).await;
                true
            }
        }
    }

    /// Throws away what was done long ago, a little at a time.
    async fn throw_away(&self, stop: &CancellationToken) {
        let pool = self.worker.store().pool();
        while !stop.is_cancelled() {
            let pause = match record::throw_away(pool).await {
                Ok(true) => POLL,
                Ok(false) => CLEANING,
                Err(error) => {
                    warn!(%error, "old payment webhooks are kept for now");
                    CLEANING
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
