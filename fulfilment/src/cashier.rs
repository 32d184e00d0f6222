//! Sees to the payments of orders: asks the gateway what is due, oldest first, and tells the orders what it said.
//!
//! The table of pending orders is its list of things to do. It writes down that it is about to ask before it asks; what it asks
//! has a key that follows from the order; and what it hears goes to the order as one command, which records what is new
//! in it. So whoever takes over, after a crash at whatever moment or with a stolen lease, asks the same questions again and
//! gets the same answers, and no money moves twice. See decisions 012 and 013.
//!
//! While the gateway's circuit breaker is open nobody asks; the probe that may close it is the order that has waited
//! longest. Then all the others follow in order of age, as many at a time as the gateway has places.

mod attend;
mod diary;

use std::time::Duration;

use futures::future::join_all;
use kontor_domain::{OrderCommand, OrderId};
use kontor_eventstore::lease::Lease;
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{Worker, crash};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::order_process;
use crate::payments::{BreakerState, DeskError, PaymentDesk};
use crate::pending::Wait;
use crate::under_way::UnderWay;
use attend::{Done, Plan, Task};

/// The name of the lease it works under.
pub const LEASE: &str = "cashier";
/// How often to look for what has become due; what is new is announced.
const POLL: Duration = Duration::from_millis(250);
/// How long to leave Postgres alone after it failed.
const REST: Duration = Duration::from_secs(1);
/// How often to look for orders whose time to pay is over. They are to be rejected within a second.
const EXPIRY: Duration = Duration::from_millis(200);
/// Orders rejected in one go.
const EXPIRED_AT_ONCE: i64 = 256;

/// Works through the pending orders whenever its lease can be had, until `stop`. At most `places` orders are attended to
/// at the same time.
pub async fn run(worker: Worker, desk: PaymentDesk, places: usize, stop: CancellationToken) {
    let cashier = Cashier {
        worker: &worker,
        desk,
        places,
    };
    worker
        .hold_lease(LEASE, &stop, |lease| cashier.work(lease, &stop))
        .await;
}

struct Cashier<'a> {
    worker: &'a Worker,
    desk: PaymentDesk,
    places: usize,
}

/// Orders that are being attended to.
type Busy = UnderWay<OrderId, Done>;

impl Cashier<'_> {
    async fn work(&self, lease: Lease, stop: &CancellationToken) {
        tokio::select! {
            () = self.see_to_payments(&lease, stop) => {}
            () = self.reject_what_is_not_paid(stop) => {}
        }
    }

    /// Returns when the lease is lost, or at `stop`. What is under way then is left alone: it will be asked again.
    async fn see_to_payments(&self, lease: &Lease, stop: &CancellationToken) {
        let mut news = self.worker.progress().watch(order_process::NAME);
        let mut busy = Busy::new();
        let mut was_open = false;
        while !stop.is_cancelled() {
            news.mark_unchanged();
            match self.take(lease, &mut busy, &mut was_open).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    warn!(%error, "payments held up, trying again");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            }
            let room = busy.len() < self.places;
            tokio::select! {
                () = stop.cancelled() => {}
                done = busy.next() => {
                    if !self.settle(lease, done).await {
                        return;
                    }
                }
                _ = news.changed(), if room => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Begins to see to what is due, as far as there is room; false if the lease is lost.
    async fn take(&self, lease: &Lease, busy: &mut Busy, was_open: &mut bool) -> Result<bool, ReadError> {
        let pool = self.worker.store().pool();
        let closed = matches!(self.desk.breaker(), BreakerState::Closed);
        if closed && *was_open {
            diary::hurry(pool).await?;
        }
        *was_open = !closed;
        let room = self.desk.room(self.places, busy.len());
        if room == 0 {
            return Ok(true);
        }
        let ids: Vec<String> = busy.about().map(ToString::to_string).collect();
        let due = diary::due(pool, &ids, room).await?;
        if due.is_empty() {
            return Ok(true);
        }
        let plans = join_all(due.into_iter().map(|due| attend::plan(&self.desk, due))).await;
        let (mut tasks, mut stale): (Vec<Task>, Vec<Wait>) = (Vec::new(), Vec::new());
        for plan in plans {
            match plan? {
                Plan::Sync(wait) => stale.push(wait),
                Plan::Do(task) => tasks.push(task),
            }
        }
        if !stale.is_empty() && !diary::settle(pool, lease, stale, &[], self.desk.terms().pay_within).await? {
            return Ok(Self::lost(lease));
        }
        if tasks.is_empty() {
            return Ok(true);
        }
        crash::point("cashier.planned");
        let claims: Vec<_> = tasks.iter().map(Task::claim).collect();
        let Some(claimed) = diary::claim(pool, lease, &claims).await? else {
            return Ok(Self::lost(lease));
        };
        for task in tasks {
            if claimed.contains(&task.due.order_id) {
                let (order_id, desk) = (task.due.order_id, self.desk.clone());
                busy.begin(order_id, async move { attend::attend(&desk, task).await });
            }
        }
        Ok(true)
    }

    fn lost(lease: &Lease) -> bool {
        warn!(lease.epoch, "somebody else sees to payments now");
        false
    }

    /// Writes down what came of it; false if that is not ours to do any more.
    async fn settle(&self, lease: &Lease, done: Vec<Done>) -> bool {
        let (mut waits, mut notes) = (Vec::new(), Vec::new());
        for done in done {
            match done {
                Done::Moved(wait) => waits.push(wait),
                Done::Noted(note) => notes.push(note),
            }
        }
        let pool = self.worker.store().pool();
        let pay_within = self.desk.terms().pay_within;
        crash::point("cashier.settle");
        let settled = diary::settle(pool, lease, waits, &notes, pay_within).await;
        crash::point("cashier.settled");
        match settled {
            Ok(ours) => ours || Self::lost(lease),
            Err(error) => {
                // It will be asked again, and answered as before.
                warn!(%error, "what came of payments was not written down");
                tokio::time::sleep(REST).await;
                true
            }
        }
    }

    /// Rejects orders whose time to pay is over, whatever else is under way.
    async fn reject_what_is_not_paid(&self, stop: &CancellationToken) {
        let pool = self.worker.store().pool();
        while !stop.is_cancelled() {
            let expired = match diary::expired(pool, EXPIRED_AT_ONCE).await {
                Ok(expired) => expired,
                Err(error) => {
                    warn!(%error, "cannot look for orders that were not paid in time, trying again");
                    Vec::new()
                }
            };
            let rejections = expired.into_iter().map(|(order_id, cause)| async move {
                let context = attend::caused(&self.desk, format!("{}/expire", cause.event), &cause);
                crash::point("cashier.expire");
                let told = self.desk.tell(order_id, OrderCommand::Expire, context).await;
                crash::point("cashier.expired");
                match told {
                    // Paid or cancelled at the last moment: its row is on its way out.
                    Ok(_) | Err(DeskError::Refused(_)) => {}
                    Err(error) => warn!(order.id = %order_id, %error, "not rejected yet"),
                }
            });
            join_all(rejections).await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(EXPIRY) => {}
            }
        }
    }
}
