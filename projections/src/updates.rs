//! Rows as they change: what subscriptions are made of.
//!
//! An update is a row as it was behind one event. Whoever comes back with the position of the last update it saw gets
//! everything after it, once, in order: first out of the log, folded as the view folds, then live. Nothing is pushed
//! before the view has it, so that a client that asks again does not see older data than it was told.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use kontor_domain::UserId;
use kontor_eventstore::read::{ReadError, read_stream};
use kontor_eventstore::{Progress, Recorded, Store};
use sqlx::PgPool;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::orders::{self, Orders};
use crate::products::Products;
use crate::view::View;

/// Events looked at in one go.
const BATCH: usize = 500;
/// Streams read at a time when many rows must be made again.
const READERS: usize = 8;
/// Updates kept for a subscriber that is busy. One that falls further behind reads the log again.
const BUFFER: usize = 16;
/// How long to wait when the log cannot be read.
const PAUSE: Duration = Duration::from_millis(100);
/// Rows remembered between their events.
const REMEMBERED: u64 = 4_096;

/// What to follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// One row, by id.
    One(String),
    /// A customer's rows.
    Customer(UserId),
    /// Every row.
    All,
}

/// A row as it was behind the event at `position`.
#[derive(Debug)]
pub struct Update<R> {
    /// The event's position: the cursor to come back with.
    pub position: u64,
    /// The row.
    pub row: Arc<R>,
}

impl<R> Clone for Update<R> {
    fn clone(&self) -> Self {
        Self {
            position: self.position,
            row: Arc::clone(&self.row),
        }
    }
}

/// Why following ended. Coming back with the last cursor loses nothing.
#[derive(Debug, thiserror::Error)]
pub enum UpdatesError {
    /// The log or the view could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<sqlx::Error> for UpdatesError {
    fn from(error: sqlx::Error) -> Self {
        Self::Read(error.into())
    }
}

/// A view whose rows can be followed.
pub trait Followed: View<Id = String> {
    /// The customer a row belongs to.
    fn customer(_row: &Self::Row) -> Option<&str> {
        None
    }

    /// Ids of a customer's rows with events after `position`.
    #[must_use]
    fn changed_of_customer(
        _pool: &PgPool,
        _customer: UserId,
        _position: u64,
    ) -> impl Future<Output = Result<Vec<String>, sqlx::Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }
}

impl Followed for Products {}

impl Followed for Orders {
    fn customer(row: &Self::Row) -> Option<&str> {
        Some(&row.customer_id)
    }

    async fn changed_of_customer(
        pool: &PgPool,
        customer: UserId,
        position: u64,
    ) -> Result<Vec<String>, sqlx::Error> {
        orders::changed_of_customer(pool, customer, position).await
    }
}

/// The updates of one view, for any number of subscribers of this process. Cheap to clone.
pub struct Updates<V: Followed>(Arc<Inner<V>>);

impl<V: Followed> Clone for Updates<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Followed> std::fmt::Debug for Updates<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Updates")
            .field("view", &V::NAME)
            .finish_non_exhaustive()
    }
}

struct Inner<V: Followed> {
    store: Store,
    progress: Arc<Progress>,
    live: Mutex<Live<V::Row>>,
    /// Newest row by id, with its version, so that the next event needs no reading.
    rows: moka::sync::Cache<String, (u64, Arc<V::Row>)>,
}

/// The subscribers, and up to where events are being or have been handed to those who were there then.
struct Live<R> {
    upto: u64,
    topics: Topics<R>,
}

type Topics<R> = HashMap<Topic, broadcast::Sender<Update<R>>>;

impl<V: Followed> Updates<V> {
    /// Starts handing out updates, until `stop`.
    #[must_use]
    pub fn spawn(store: Store, progress: Arc<Progress>, stop: CancellationToken) -> Self {
        // Nobody is there yet to be told what is in the log already; whoever comes back for it reads it there.
        let upto = *store.head().borrow();
        let live = Mutex::new(Live {
            upto,
            topics: HashMap::new(),
        });
        let rows = moka::sync::Cache::new(REMEMBERED);
        let updates = Self(Arc::new(Inner {
            store,
            progress,
            live,
            rows,
        }));
        tokio::spawn(updates.clone().push(stop));
        updates
    }

    /// Follows a topic behind position `after`. Without one, [`Topic::One`] starts with the row as it is now, the others
    /// with what happens next. Never ends by itself but on an error or when the process stops.
    #[must_use]
    pub fn follow(
        &self,
        topic: Topic,
        after: Option<u64>,
    ) -> BoxStream<'static, Result<Update<V::Row>, UpdatesError>> {
        let updates = self.clone();
        // What is done once, at the beginning, has its memory to itself: a subscriber waits for the rest of the day.
        Box::pin(async_stream::try_stream! {
            let mut last = after;
            'joined: loop {
                // Joins first, then reads what came before: nothing can fall between the two.
                let (mut live, upto) = updates.join(&topic);
                let applied = updates.has_applied(upto);
                let mut reached = match last {
                    Some(position) => position,
                    None => match Box::pin(updates.present(&topic, upto)).await? {
                        Some(update) => {
                            let position = update.position;
                            yield update;
                            // A row read from a view that has it all lacks nothing.
                            if applied { position.max(upto) } else { position }
                        }
                        None => upto,
                    },
                };
                if reached < upto {
                    Box::pin(updates.applied(upto)).await;
                }
                while reached < upto {
                    let (page, to) = Box::pin(updates.missed(&topic, reached, upto)).await?;
                    for update in page {
                        yield update;
                    }
                    reached = to;
                }
                loop {
                    last = Some(reached);
                    match live.recv().await {
                        Ok(update) if update.position > reached => {
                            reached = update.position;
                            yield update;
                        }
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Lagged(_)) => continue 'joined,
                        Err(broadcast::error::RecvError::Closed) => break 'joined,
                    }
                }
            }
        })
    }

    /// Whether the view has come to `position`. What is read from it afterwards has all up to there.
    fn has_applied(&self, position: u64) -> bool {
        *self.0.progress.watch(V::NAME).borrow() >= position
    }

    /// Waits until the view has come to `position`: at most for what it lacked when this process started.
    async fn applied(&self, position: u64) {
        let mut view = self.0.progress.watch(V::NAME);
        // Fails only when the process ends, and the subscriptions with it.
        let _ = view.wait_for(|reached| *reached >= position).await.is_ok();
    }

    fn join(&self, topic: &Topic) -> (broadcast::Receiver<Update<V::Row>>, u64) {
        let mut live = self.live();
        let receiver = live
            .topics
            .entry(topic.clone())
            .or_insert_with(|| broadcast::Sender::new(BUFFER))
            .subscribe();
        (receiver, live.upto)
    }

    fn live(&self) -> MutexGuard<'_, Live<V::Row>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row that is followed, as it is now. If the view lacks it, it may yet be among what the log had when this
    /// process started.
    async fn present(&self, topic: &Topic, upto: u64) -> Result<Option<Update<V::Row>>, UpdatesError> {
        let Topic::One(id) = topic else {
            return Ok(None);
        };
        let mut row = self.load(id).await?;
        if row.is_none() {
            self.applied(upto).await;
            row = self.load(id).await?;
        }
        Ok(row.map(|row| Update {
            position: V::position(&row),
            row: Arc::new(row),
        }))
    }

    async fn load(&self, id: &String) -> Result<Option<V::Row>, UpdatesError> {
        let mut connection = self.0.store.pool().acquire().await?;
        let rows = V::load(&mut connection, std::slice::from_ref(id)).await?;
        Ok(rows.into_iter().next())
    }

    /// Updates after `after`, and up to where they reach: `upto`, or less if there are too many for one page.
    async fn missed(
        &self,
        topic: &Topic,
        after: u64,
        upto: u64,
    ) -> Result<(Vec<Update<V::Row>>, u64), UpdatesError> {
        let (ids, to) = match topic {
            Topic::One(id) => (vec![id.clone()], upto),
            Topic::Customer(customer) => (
                V::changed_of_customer(self.0.store.pool(), *customer, after).await?,
                upto,
            ),
            Topic::All => {
                let events = self.0.store.after(after, BATCH).await?;
                let to = events.last().map_or(upto, |event| event.position.min(upto));
                let mut ids: Vec<String> = events.iter().filter_map(|event| V::id_of(event)).collect();
                ids.sort_unstable();
                ids.dedup();
                (ids, to)
            }
        };
        let histories: Vec<_> = futures::stream::iter(ids)
            .map(|id| async move { self.history(&id).await })
            .buffer_unordered(READERS)
            .try_collect()
            .await?;
        let mut page: Vec<_> = histories
            .into_iter()
            .flatten()
            .filter(|update| update.position > after && update.position <= to)
            .collect();
        page.sort_unstable_by_key(|update| update.position);
        Ok((page, to))
    }

    /// A row behind each of its events.
    async fn history(&self, id: &str) -> Result<Vec<Update<V::Row>>, UpdatesError> {
        let mut row = None;
        let mut updates = Vec::new();
        for event in read_stream(self.0.store.pool(), V::AGGREGATE, id).await? {
            // An event that cannot be applied has parked the row in the view too; it moves on when that is mended.
            if V::fold(&mut row, &event).is_err() {
                break;
            }
            updates.extend(row.iter().map(|row| Update {
                position: event.position,
                row: Arc::new(row.clone()),
            }));
        }
        Ok(updates)
    }

    /// Hands out updates as the view moves.
    async fn push(self, stop: CancellationToken) {
        let mut view = self.0.progress.watch(V::NAME);
        let mut log = self.0.store.head();
        loop {
            let moved = async {
                let upto = self.live().upto;
                log.wait_for(|head| *head > upto).await?;
                view.wait_for(|position| *position > upto)
                    .await
                    .map(|position| *position)
            };
            let position = tokio::select! {
                () = stop.cancelled() => break,
                position = moved => position,
            };
            let Ok(position) = position else { break };
            match self.claim(position).await {
                Ok((events, topics)) => self.hand_out(&events, &topics, &stop).await,
                Err(error) => {
                    warn!(view = V::NAME, %error, "updates held up, trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        // Ends every subscription; clients come back with their cursor.
        self.live().topics.clear();
    }

    /// The next events up to `position` and who is there to be told, in one hold of the lock: whoever joins later is
    /// told by `upto` to look for these events in the log.
    async fn claim(&self, position: u64) -> Result<(Vec<Arc<Recorded>>, Topics<V::Row>), UpdatesError> {
        let after = self.live().upto;
        let mut events = self.0.store.after(after, BATCH).await?;
        events.retain(|event| event.position <= position);
        let topics = {
            let mut live = self.live();
            live.upto = events.last().map_or(after, |event| event.position);
            live.topics.retain(|_, sender| sender.receiver_count() > 0);
            live.topics.clone()
        };
        let everything = topics.keys().any(|topic| !matches!(topic, Topic::One(_)));
        events.retain(|event| {
            V::id_of(event)
                .is_some_and(|id| everything || (!topics.is_empty() && topics.contains_key(&Topic::One(id))))
        });
        Ok((events, topics))
    }

    async fn hand_out(&self, events: &[Arc<Recorded>], topics: &Topics<V::Row>, stop: &CancellationToken) {
        let updates = loop {
            match self.updates(events).await {
                Ok(updates) => break updates,
                Err(_) if stop.is_cancelled() => return,
                Err(error) => {
                    warn!(view = V::NAME, %error, "updates held up, trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        for update in updates {
            let one = Topic::One(V::id(&update.row));
            let own = V::customer(&update.row)
                .and_then(|id| id.parse().ok())
                .map(Topic::Customer);
            for sender in [Some(one), own, Some(Topic::All)]
                .into_iter()
                .flatten()
                .filter_map(|topic| topics.get(&topic))
            {
                let _ = sender.send(update.clone());
            }
        }
    }

    async fn updates(&self, events: &[Arc<Recorded>]) -> Result<Vec<Update<V::Row>>, UpdatesError> {
        let mut updates = Vec::with_capacity(events.len());
        for event in events {
            let Some(id) = V::id_of(event) else { continue };
            let known = if event.sequence == 1 {
                Some((0, None))
            } else {
                self.0.rows.get(&id).map(|(v, row)| (v, Some(row)))
            };
            let row = match known {
                Some((version, row)) if version + 1 == event.sequence => {
                    let mut row = row.map(Arc::unwrap_or_clone);
                    V::fold(&mut row, event).ok().and(row).map(Arc::new)
                }
                _ => self
                    .history(&id)
                    .await?
                    .into_iter()
                    .find(|it| it.position == event.position)
                    .map(|it| it.row),
            };
            if let Some(row) = row {
                self.0.rows.insert(id, (event.sequence, Arc::clone(&row)));
                updates.push(Update {
                    position: event.position,
                    row,
                });
            }
        }
        Ok(updates)
    }
}
