//! Commands in, events out: the typed front of the log.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use kontor_domain::{ClaimKind, Entity, Order, Product, User, UserId};
use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Ids;
use crate::context::CommandContext;
use crate::group::{Answer, Proposal};
use crate::keyring::Keyring;
use crate::read::ReadError;
use crate::recorded::{Body, Recorded};
use crate::snapshots::Snapshots;
use crate::tail::Tail;
use crate::{schema, statements, writer};

mod cache;
mod execution;
mod framework;

use cache::Newest;
pub use cache::{Cache, Slot};
pub(crate) use execution::load;

/// An aggregate this store keeps. Implemented for the domain's three.
pub trait Stored: Entity {
    #[doc(hidden)]
    fn slots(slots: &Slots) -> &Cache<Self>;
    #[doc(hidden)]
    fn body(id: Self::Id, event: Self::Event) -> Body;
    #[doc(hidden)]
    fn event(body: &Body) -> Option<&Self::Event>;
}

macro_rules! stored {
    ($($aggregate:ident in $slots:ident),*) => {
        /// The newest known state of recently used aggregates.
        #[derive(Debug)]
        pub struct Slots {
            $($slots: Cache<$aggregate>,)*
        }

        impl Slots {
            fn new() -> Self {
                Self { $($slots: Cache::default(),)* }
            }
        }

        $(impl Stored for $aggregate {
            fn slots(slots: &Slots) -> &Cache<Self> {
                &slots.$slots
            }

            fn body(id: Self::Id, event: Self::Event) -> Body {
                Body::$aggregate(id, event)
            }

            fn event(body: &Body) -> Option<&Self::Event> {
                match body {
                    Body::$aggregate(_, event) => Some(event),
                    _ => None,
                }
            }
        })*
    };
}

stored!(User in users, Product in products, Order in orders);

/// The event store. Cheap to clone; all clones share one writer.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    writer: mpsc::Sender<Proposal>,
    tail: Arc<Tail>,
    slots: Slots,
    snapshots: Snapshots,
    keyring: Keyring,
    ids: Ids,
    incarnation: String,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<A: Entity> {
    /// The aggregate that took it. A repeated creation answers with the first one's.
    pub id: A::Id,
    /// Its version behind the command's last event.
    pub version: u64,
    /// Where the log stood behind the command's last event. Reads that ask for this position see it.
    pub position: u64,
    /// What it appended; empty when it changed nothing.
    pub events: Vec<A::Event>,
    /// Whether this is the answer to an earlier command with the same key.
    pub repeated: bool,
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E: std::error::Error> {
    /// The aggregate said no.
    #[error(transparent)]
    Refused(E),
    /// The sender saw another version than there is now.
    #[error("the version is {actual}, not {expected}")]
    VersionConflict {
        /// What the sender expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// Something that may exist only once exists already.
    #[error("{} is taken", kind.as_str())]
    ClaimTaken {
        /// What it is.
        kind: ClaimKind,
        /// Id of the aggregate that has it.
        holder: String,
    },
    /// The idempotency key was used for something else.
    #[error("the idempotency key was used with another input")]
    KeyReused,
    /// Others kept being faster.
    #[error("too many commands at once on one aggregate; its version is now {version}")]
    Contended {
        /// The newest version seen.
        version: u64,
    },
    /// The log cannot be written or read now. Nothing is known to be lost; the same key may be sent again.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// The aggregate's stream holds an event that this binary cannot read. Waiting does not help.
    #[error("the aggregate cannot be loaded: {0}")]
    Unreadable(String),
    /// It is about somebody who is to be forgotten, of whom nothing can be kept any more.
    #[error("the person it is about was erased")]
    Erased,
}

impl Store {
    /// Opens the log and starts its writer and its tail. They end when `stop` is cancelled and the store dropped.
    ///
    /// # Errors
    /// When Postgres is not there.
    pub async fn open(
        pool: PgPool,
        ids: Ids,
        keyring: Keyring,
        stop: CancellationToken,
    ) -> Result<Self, sqlx::Error> {
        let incarnation = schema::incarnation(&pool).await?;
        let (sender, erased) = mpsc::unbounded_channel();
        let tail = Tail::start(pool.clone(), sender).await?;
        tokio::spawn(Arc::clone(&tail).follow(stop));
        let writer = writer::spawn(&pool, Arc::clone(&tail));
        let snapshots = Snapshots::spawn(pool.clone());
        let slots = Slots::new();
        let inner = Arc::new(Inner {
            pool,
            writer,
            tail,
            slots,
            snapshots,
            keyring,
            ids,
            incarnation,
        });
        tokio::spawn(forget(Arc::downgrade(&inner), erased));
        Ok(Self { inner })
    }

    /// Carries out a command, in a task of its own: a sender that goes away does not stop it half-way (L5).
    ///
    /// # Errors
    /// See [`ExecuteError`]; nothing was written then.
    pub async fn execute<A: Stored>(
        &self,
        id: A::Id,
        command: A::Command,
        context: CommandContext,
    ) -> Result<Outcome<A>, ExecuteError<A::Error>> {
        self.in_own_task(id, command, context, false).await
    }

    /// [`Self::execute`] for an id just made: skips looking for what cannot be there.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn create<A: Stored>(
        &self,
        id: A::Id,
        command: A::Command,
        context: CommandContext,
    ) -> Result<Outcome<A>, ExecuteError<A::Error>> {
        self.in_own_task(id, command, context, true).await
    }

    /// Looks at an aggregate and its version, as the log has them.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn inspect<A: Stored, T>(
        &self,
        id: A::Id,
        look: impl FnOnce(&A, u64) -> T,
    ) -> Result<T, ReadError> {
        let loaded = self.inner.load::<A>(&id).await?;
        Ok(look(&loaded.aggregate, loaded.version))
    }

    /// Looks at an aggregate as this process last knew it: for what never changes once it is there.
    ///
    /// # Errors
    /// When it is not in memory and cannot be loaded.
    pub async fn recall<A: Stored, T>(&self, id: A::Id, look: impl Fn(&A) -> T) -> Result<T, ReadError> {
        if let Some(slot) = A::slots(&self.inner.slots).known(&id)
            && let Some(newest) = slot
                .0
                .lock()
                .await
                .as_ref()
                .filter(|newest| !newest.chain.is_broken())
        {
            return Ok(look(&newest.aggregate));
        }
        self.inspect(id, |aggregate, _| look(aggregate)).await
    }

    /// Looks at an aggregate as the log has it, `at_least` up to that version: what is not written yet is not seen, however
    /// sure to be written it seems.
    ///
    /// # Errors
    /// When it is not in memory like that and cannot be loaded.
    pub async fn look<A: Stored, T>(
        &self,
        id: A::Id,
        at_least: u64,
        look: impl Fn(&A, u64) -> T,
    ) -> Result<T, ReadError> {
        let slot = A::slots(&self.inner.slots).slot(id);
        let mut slot = slot.0.lock().await;
        let known = slot.as_ref().filter(|newest| !newest.chain.is_broken());
        if let Some(newest) = known
            && newest.version >= at_least
            && newest.chain.is_written(newest.version)
        {
            return Ok(look(&newest.aggregate, newest.version));
        }
        let unwritten = known.is_some_and(|newest| !newest.chain.is_written(newest.version));
        let loaded = self.inner.load::<A>(&id).await?;
        let seen = look(&loaded.aggregate, loaded.version);
        // Whoever looks is likely to come back with a command.
        if !unwritten {
            *slot = Some(loaded);
        }
        Ok(seen)
    }

    /// Who holds a claim, by the log itself rather than a view.
    ///
    /// # Errors
    /// When Postgres is not there.
    pub async fn holder(&self, kind: ClaimKind, value: &str) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar!(
            "SELECT aggregate_id FROM claims WHERE kind = $1 AND value = $2",
            kind.as_str(),
            self.inner.keyring.claimed(kind, value)
        )
        .fetch_optional(&self.inner.pool)
        .await
    }

    /// Which of these idempotency keys have been answered, and how: whoever has many commands to repeat need not send
    /// those.
    ///
    /// # Errors
    /// When Postgres is not there.
    pub async fn answered(&self, keys: &[String]) -> Result<HashMap<String, Answer>, sqlx::Error> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        statements::answers(&mut *self.inner.pool.acquire().await?, &keys).await
    }

    /// The head of the log as this process knows it; changes as events arrive.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.inner.tail.watch()
    }

    /// The events after a position, oldest first, at most `limit`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn after(&self, position: u64, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.inner.tail.after(position, limit).await
    }

    /// The events at these positions, in any order. Where the log has nothing, nothing is answered.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn at(&self, positions: &[u64]) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.inner.tail.at(positions).await
    }

    /// The pool the store reads with.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// What people's data is sealed with.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.inner.keyring
    }

    /// Which log this is (L11).
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.inner.incarnation
    }

    /// Fresh ids.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.inner.ids
    }

    async fn in_own_task<A: Stored>(
        &self,
        id: A::Id,
        command: A::Command,
        context: CommandContext,
        fresh: bool,
    ) -> Result<Outcome<A>, ExecuteError<A::Error>> {
        let inner = Arc::clone(&self.inner);
        let outcome = tokio::spawn(async move { inner.run(id, command, context, fresh).await })
            .await
            .unwrap_or_else(|panic| Err(ExecuteError::Unavailable(panic.to_string())));
        let told = match &outcome {
            Ok(Outcome { repeated: true, .. }) => "repeated",
            Ok(_) => "done",
            Err(ExecuteError::Contended { .. } | ExecuteError::Unavailable(_)) => "failed",
            Err(_) => "refused",
        };
        metrics::counter!("kontor_commands_total", "aggregate" => A::TYPE, "outcome" => told).increment(1);
        outcome
    }
}

/// Drops from memory whoever is to be forgotten, as soon as this process hears of it.
async fn forget(inner: Weak<Inner>, mut erased: mpsc::UnboundedReceiver<UserId>) {
    while let Some(person) = erased.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.keyring.forget(person);
        User::slots(&inner.slots).forget(&person);
        // They know by which means they are paid.
        let theirs = |order: &Order| order.customer_id() == Some(person);
        Order::slots(&inner.slots).forget_all(theirs).await;
    }
}
