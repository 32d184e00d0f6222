//! Waits for what the order process decides, in this process or another: its decisions come through the log.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kontor_domain::{OrderEvent, OrderId};
use kontor_eventstore::{Body, Recorded, Store, dead_letters};
use tokio::sync::oneshot;

/// How often to look whether an order waits in the dead letters.
const LOOK: Duration = Duration::from_secs(5);
/// When nothing at all has been decided for so long, nobody works.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events read in one go.
const BATCH: usize = 1_000;
/// As its consumer is called.
const ORDER_PROCESS: &str = "order_process";

/// What became of an order that was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It can be shipped.
    Confirmed,
    /// It was rejected or cancelled.
    NotKept,
    /// The order process could not see to it.
    Parked,
}

/// Orders that are waited for.
#[derive(Debug)]
pub(super) struct Confirmations {
    store: Store,
    /// Where following begins: all that is asked for is decided behind it.
    start: u64,
    waiting: Mutex<HashMap<OrderId, oneshot::Sender<Decision>>>,
}

impl Confirmations {
    /// Nobody waits yet. What is decided from now on will be heard.
    pub(super) fn new(store: Store) -> Self {
        let start = *store.head().borrow();
        Self {
            store,
            start,
            waiting: Mutex::default(),
        }
    }

    /// Hears what is decided about an order; to be asked before it can be.
    pub(super) fn of(&self, id: OrderId) -> oneshot::Receiver<Decision> {
        let (tell, hear) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, tell);
        hear
    }

    /// Follows the log; ends only when it cannot be read, or nobody decides anything.
    pub(super) async fn follow(&self) -> Result<Infallible> {
        let mut head = self.store.head();
        let mut position = self.start;
        let (mut last_look, mut last_decision) = (Instant::now(), Instant::now());
        loop {
            let events = self.store.after(position, BATCH).await?;
            if events.iter().filter(|event| self.hear(event)).count() > 0 || !self.anybody_waits() {
                last_decision = Instant::now();
            }
            if last_look.elapsed() >= LOOK {
                last_look = Instant::now();
                self.look_for_parked().await?;
            }
            if last_decision.elapsed() >= PATIENCE {
                bail!(
                    "no order has been decided for {} s; look at `kontor status` whether the order process works",
                    PATIENCE.as_secs()
                );
            }
            if let Some(last) = events.last() {
                position = last.position;
                continue;
            }
            tokio::select! {
                _ = head.wait_for(|head| *head > position) => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Passes a decision on; whether somebody waited for it.
    fn hear(&self, event: &Recorded) -> bool {
        match &event.body {
            Body::Order(id, OrderEvent::Confirmed { .. }) => self.tell(*id, Decision::Confirmed),
            Body::Order(id, OrderEvent::Rejected { .. } | OrderEvent::Cancelled { .. }) => {
                self.tell(*id, Decision::NotKept)
            }
            _ => false,
        }
    }

    fn tell(&self, id: OrderId, decision: Decision) -> bool {
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        waiting.is_some_and(|waiting| waiting.send(decision).is_ok())
    }

    fn anybody_waits(&self) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, tell| !tell.is_closed());
        !waiting.is_empty()
    }

    async fn look_for_parked(&self) -> Result<()> {
        if !self.anybody_waits() {
            return Ok(());
        }
        for letter in dead_letters::list(self.store.pool()).await? {
            if letter.consumer == ORDER_PROCESS
                && let Ok(id) = letter.stream.aggregate_id.parse::<OrderId>()
            {
                self.tell(id, Decision::Parked);
            }
        }
        Ok(())
    }
}
