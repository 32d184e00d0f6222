//! The newest stretch of the log, decoded, in memory, shared by every reader of this process.
//!
//! What this process commits goes in straight from the writer; what others commit is read once. Positions have
//! no gaps, so whether the stretch is complete is a comparison of two numbers.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kontor_domain::{UserEvent, UserId};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::read::{ReadError, head, read, read_at};
use crate::recorded::{Body, Recorded};
use crate::writer::LOG_CHANNEL;

/// Events kept: more than a second of what the busiest house does, and some 30 MB. A reader further behind reads from Postgres.
const CAPACITY: usize = 32_768;
/// How long this process's own writer may take to offer what has been announced.
const OWN: Duration = Duration::from_millis(1);
/// How often the head is asked for although no notification came (L12).
const POLL: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(crate) struct Tail {
    pool: PgPool,
    events: RwLock<VecDeque<Arc<Recorded>>>,
    head: watch::Sender<u64>,
    /// Is told who is to be forgotten: every process sees every event pass here.
    erased: mpsc::UnboundedSender<UserId>,
}

impl Tail {
    /// A tail that starts at the present head of the log.
    pub(crate) async fn start(
        pool: PgPool,
        erased: mpsc::UnboundedSender<UserId>,
    ) -> Result<Arc<Self>, sqlx::Error> {
        let head = watch::Sender::new(head(&pool).await?);
        Ok(Arc::new(Self {
            pool,
            events: RwLock::default(),
            head,
            erased,
        }))
    }

    /// Follows the head as this process knows it.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Takes what was committed, in order. What would leave a gap is left to [`Self::follow`].
    pub(crate) fn offer(&self, recorded: Vec<Arc<Recorded>>) {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        let mut head = *self.head.borrow();
        let before = head;
        for event in recorded {
            if event.position == head + 1 {
                head = event.position;
                if let Body::User(id, UserEvent::Erased { .. }) = event.body {
                    // Nobody listens any more when the process ends.
                    let _ = self.erased.send(id);
                }
                if events.len() == CAPACITY {
                    events.pop_front();
                }
                events.push_back(event);
            }
        }
        if head > before {
            // Still under the lock: the next offer must see where this one ended.
            self.head.send_replace(head);
        }
    }

    /// The events after `after`: at most `limit`, none only if there are none.
    pub(crate) async fn after(&self, after: u64, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        if after >= *self.head.borrow() {
            return Ok(Vec::new());
        }
        if let Some(events) = self.remembered(after, limit) {
            return Ok(events);
        }
        Ok(read(&self.pool, after, limit as u64)
            .await?
            .into_iter()
            .map(Arc::new)
            .collect())
    }

    fn remembered(&self, after: u64, limit: usize) -> Option<Vec<Arc<Recorded>>> {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        let first = events.front()?.position;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        Some(events.iter().skip(skip).take(limit).cloned().collect())
    }

    /// The events at these positions; where the log has nothing, nothing is answered.
    pub(crate) async fn at(&self, positions: &[u64]) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let (mut events, missing) = self.remembered_at(positions);
        if !missing.is_empty() {
            let read = read_at(&self.pool, &missing).await?;
            events.extend(read.into_iter().map(Arc::new));
        }
        Ok(events)
    }

    /// Of the events at these positions those that are in memory, and where the others are. One that could not be read is
    /// none of them: it may have been mended.
    fn remembered_at(&self, positions: &[u64]) -> (Vec<Arc<Recorded>>, Vec<u64>) {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        let first = events.front().map_or(u64::MAX, |event| event.position);
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for position in positions {
            let place = position
                .checked_sub(first)
                .and_then(|it| usize::try_from(it).ok());
            match place.and_then(|place| events.get(place)) {
                Some(event) if !matches!(event.body, Body::Unreadable(_)) => found.push(Arc::clone(event)),
                _ => missing.push(*position),
            }
        }
        (found, missing)
    }

    /// Reads what other processes commit, until `stop`.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut listener = None;
        while !stop.is_cancelled() {
            if listener.is_none() {
                listener = self.listen().await;
            }
            if let Err(error) = self.catch_up().await
                && !stop.is_cancelled()
            {
                warn!(%error, "cannot follow the log, trying again");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                alive = self.announced(&mut listener) => if !alive { listener = None; },
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Returns once somebody announces a head this process does not have; false when nobody can any more.
    async fn announced(&self, listener: &mut Option<PgListener>) -> bool {
        let Some(listener) = listener else {
            return std::future::pending().await;
        };
        loop {
            let Ok(Some(notification)) = listener.try_recv().await else {
                return false;
            };
            let announced = notification.payload().parse().unwrap_or(u64::MAX);
            if announced <= *self.head.borrow() {
                continue;
            }
            // Postgres may tell of what this process has written before the writer itself does.
            let mut head = self.head.subscribe();
            let ours = head.wait_for(|head| *head >= announced);
            if !matches!(tokio::time::timeout(OWN, ours).await, Ok(Ok(_))) {
                return true;
            }
        }
    }

    async fn listen(&self) -> Option<PgListener> {
        let mut listener = PgListener::connect_with(&self.pool).await.ok()?;
        listener.listen(LOG_CHANNEL).await.ok()?;
        Some(listener)
    }

    async fn catch_up(&self) -> Result<(), ReadError> {
        let target = head(&self.pool).await?;
        loop {
            let known = *self.head.borrow();
            if known >= target {
                return Ok(());
            }
            let missing = read(&self.pool, known, 1_000).await?;
            if missing.is_empty() {
                return Ok(());
            }
            self.offer(missing.into_iter().map(Arc::new).collect());
        }
    }
}
