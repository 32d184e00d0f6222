//! Commands in, events out: the typed front of the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{AggregateError, DomainEvent, EventStore as _};
use futures::FutureExt;
use kontor_domain::{ClaimKind, Entity, Order, Product, User};
use moka::sync::Cache;
use postgres_es::PostgresEventRepository;
use rand::Rng;
use sqlx::PgPool;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::clock::Ids;
use crate::context::CommandContext;
use crate::group::{Answer, AppendError, Appended, Chain, NewEvent, Proposal};
use crate::read::{ReadError, read_stream};
use crate::recorded::{Body, Recorded};
use crate::snapshots::Snapshots;
use crate::tail::Tail;
use crate::{schema, statements, upcast, writer};

/// Aggregates of one type kept in memory; the least used go first (L6).
const CACHED: u64 = 10_000;
/// How often a command is decided again when somebody else was faster, before its sender is told (L5).
const ATTEMPTS: u32 = 12;

/// An aggregate this store keeps. Implemented for the domain's three.
pub trait Stored: Entity {
    #[doc(hidden)]
    fn slots(slots: &Slots) -> &Cache<Self::Id, Arc<Slot<Self>>>;
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
            $($slots: Cache<<$aggregate as Entity>::Id, Arc<Slot<$aggregate>>>,)*
        }

        impl Slots {
            fn new() -> Self {
                Self { $($slots: Cache::new(CACHED),)* }
            }
        }

        $(impl Stored for $aggregate {
            fn slots(slots: &Slots) -> &Cache<Self::Id, Arc<Slot<Self>>> {
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

/// One aggregate's place in memory. Commands on it are decided one after another under this lock, each on the
/// state the one before it left, whether or not that is written yet.
#[derive(Debug)]
pub struct Slot<A>(Mutex<Option<Newest<A>>>);

#[derive(Debug)]
struct Newest<A> {
    aggregate: A,
    version: u64,
    chain: Arc<Chain>,
}

impl<A> Newest<A> {
    fn new(aggregate: A, version: u64) -> Self {
        Self {
            aggregate,
            version,
            chain: Arc::default(),
        }
    }
}

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
}

impl Store {
    /// Opens the log and starts its writer and its tail. They end when `stop` is cancelled and the store dropped.
    ///
    /// # Errors
    /// When Postgres is not there.
    pub async fn open(pool: PgPool, ids: Ids, stop: CancellationToken) -> Result<Self, sqlx::Error> {
        let incarnation = schema::incarnation(&pool).await?;
        let tail = Tail::start(pool.clone()).await?;
        tokio::spawn(Arc::clone(&tail).follow(stop));
        let writer = writer::spawn(&pool, Arc::clone(&tail));
        let snapshots = Snapshots::spawn(pool.clone());
        let slots = Slots::new();
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                writer,
                tail,
                slots,
                snapshots,
                ids,
                incarnation,
            }),
        })
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
        if let Some(slot) = A::slots(&self.inner.slots).get(&id)
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

    /// Who holds a claim, by the log itself rather than a view.
    ///
    /// # Errors
    /// When Postgres is not there.
    pub async fn holder(&self, kind: ClaimKind, value: &str) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar!(
            "SELECT aggregate_id FROM claims WHERE kind = $1 AND value = $2",
            kind.as_str(),
            value
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

    /// The pool the store reads with.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
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

/// How a command was decided, before anything is written.
enum Decided<A: Entity> {
    Events(Vec<A::Event>),
    Refused(A::Error),
    OtherVersion { expected: u64, actual: u64 },
}

impl Inner {
    async fn run<A: Stored>(
        &self,
        id: A::Id,
        command: A::Command,
        context: CommandContext,
        fresh: bool,
    ) -> Result<Outcome<A>, ExecuteError<A::Error>> {
        let metadata = serde_json::to_string(&context.metadata()).map_err(unavailable)?;
        let mut seen = 0;
        for attempt in 0..ATTEMPTS {
            let (decided, base, answer) = self
                .propose::<A>(id, command.clone(), &context, &metadata, fresh && attempt == 0)
                .await?;
            let answer = answer
                .await
                .unwrap_or_else(|_| Err(AppendError::Unavailable("the writer has ended".to_owned())));
            match answer {
                Ok(Appended::Written { position }) => return self.written(id, base, position, decided),
                Ok(Appended::Repeat(answer)) => return self.repeat(answer).await,
                Err(AppendError::Stale) => {
                    debug!(aggregate.r#type = A::TYPE, aggregate.id = %id, attempt, "somebody was faster; deciding again");
                    seen = base;
                    if attempt > 1 {
                        let pause = rand_pause(attempt);
                        tokio::time::sleep(pause).await;
                    }
                }
                Err(AppendError::ClaimTaken { kind, holder }) => {
                    return Err(ExecuteError::ClaimTaken { kind, holder });
                }
                Err(AppendError::KeyReused) => return Err(ExecuteError::KeyReused),
                Err(AppendError::Unavailable(reason)) => return Err(ExecuteError::Unavailable(reason)),
            }
        }
        Err(ExecuteError::Contended { version: seen })
    }

    /// Decides on the newest state and queues the result for the writer, in one hold of the aggregate's lock, so
    /// that the queue has the commands in the order in which they were decided.
    async fn propose<A: Stored>(
        &self,
        id: A::Id,
        command: A::Command,
        context: &CommandContext,
        metadata: &str,
        fresh: bool,
    ) -> Result<(Decided<A>, u64, oneshot::Receiver<Result<Appended, AppendError>>), ExecuteError<A::Error>>
    {
        let slot = A::slots(&self.slots).get_with(id, || Arc::new(Slot(Mutex::new(None))));
        let mut slot = slot.0.lock().await;
        let newest = match slot.take() {
            Some(newest) if !newest.chain.is_broken() => slot.insert(newest),
            _ if fresh => slot.insert(Newest::new(A::default(), 0)),
            _ => slot.insert(self.load(&id).await.map_err(not_loaded)?),
        };
        let base = newest.version;
        let decided = match context.expected_version {
            Some(expected) if expected != base => Decided::OtherVersion {
                expected,
                actual: base,
            },
            _ => decide(&mut newest.aggregate, command).inspect_err(|_| newest.chain.break_off())?,
        };
        let (reply, answer) = oneshot::channel();
        let mut proposal = Proposal {
            aggregate_type: A::TYPE,
            aggregate_id: id.to_string(),
            expected: base,
            chain: Arc::clone(&newest.chain),
            events: Vec::new(),
            claims: Vec::new(),
            key: context.key.clone(),
            refused: !matches!(decided, Decided::Events(_)),
            time: context.time,
            command_id: context.command_id.clone(),
            metadata: String::new(),
            reply,
        };
        if let Decided::Events(events) = &decided {
            newest.version += events.len() as u64;
            metadata.clone_into(&mut proposal.metadata);
            for event in events {
                proposal.claims.extend(A::claim_changes(event));
                proposal.events.push(NewEvent {
                    event_type: event.event_type(),
                    event_version: event.event_version(),
                    payload: serde_json::to_string(event).map_err(unavailable)?,
                    body: A::body(id, event.clone()),
                });
            }
        }
        self.writer.send(proposal).await.map_err(unavailable)?;
        Ok((decided, base, answer))
    }

    fn written<A: Stored>(
        &self,
        id: A::Id,
        base: u64,
        position: u64,
        decided: Decided<A>,
    ) -> Result<Outcome<A>, ExecuteError<A::Error>> {
        match decided {
            Decided::Events(events) => {
                let version = base + events.len() as u64;
                self.snapshots.consider::<A>(&id, base, version);
                Ok(Outcome {
                    id,
                    version,
                    position,
                    events,
                    repeated: false,
                })
            }
            Decided::Refused(error) => Err(ExecuteError::Refused(error)),
            Decided::OtherVersion { expected, actual } => {
                Err(ExecuteError::VersionConflict { expected, actual })
            }
        }
    }

    /// The answer given before, with the events of then.
    async fn repeat<A: Stored>(&self, answer: Answer) -> Result<Outcome<A>, ExecuteError<A::Error>> {
        let Ok(id) = answer.aggregate_id.parse::<A::Id>() else {
            return Err(ExecuteError::KeyReused);
        };
        if answer.aggregate_type != A::TYPE {
            return Err(ExecuteError::KeyReused);
        }
        let range = answer.first_sequence..=answer.last_sequence;
        let events = if range.is_empty() {
            Vec::new()
        } else {
            let stream = read_stream(&self.pool, A::TYPE, &answer.aggregate_id)
                .await
                .map_err(unavailable)?;
            stream
                .iter()
                .filter(|e| range.contains(&e.sequence))
                .filter_map(|e| A::event(&e.body).cloned())
                .collect()
        };
        Ok(Outcome {
            id,
            version: answer.last_sequence,
            position: answer.position,
            events,
            repeated: true,
        })
    }

    async fn load<A: Stored>(&self, id: &A::Id) -> Result<Newest<A>, ReadError> {
        let loaded = load::<A>(&self.pool, &id.to_string()).await;
        let (aggregate, version) = loaded.map_err(|error| match error {
            AggregateError::DeserializationError(cause) => ReadError::Undecodable(cause.to_string()),
            AggregateError::DatabaseConnectionError(cause) | AggregateError::UnexpectedError(cause) => {
                sqlx::Error::Protocol(cause.to_string()).into()
            }
            other => sqlx::Error::Protocol(other.to_string()).into(),
        })?;
        Ok(Newest::new(aggregate, version))
    }
}

/// Loads an aggregate the way cqrs-es does: newest readable snapshot, then the events behind it.
pub(crate) async fn load<A: Entity>(pool: &PgPool, id: &str) -> Result<(A, u64), AggregateError<A::Error>> {
    let context = stock_store::<A>(pool).load_aggregate(id).await?;
    Ok((context.aggregate, context.current_sequence as u64))
}

/// cqrs-es's own store over postgres-es, used for loading only (L8).
pub(crate) fn stock_store<A: Entity>(pool: &PgPool) -> PersistedEventStore<PostgresEventRepository, A> {
    // The size matters for commits only, and those are ours.
    PersistedEventStore::new_snapshot_store(PostgresEventRepository::new(pool.clone()), usize::MAX)
        .with_upcasters(upcast::steps())
}

/// Runs the aggregate's handler in place. A refused command has changed nothing: handlers decide before they write.
fn decide<A: Entity>(aggregate: &mut A, command: A::Command) -> Result<Decided<A>, ExecuteError<A::Error>> {
    let sink = EventSink::<A>::default();
    // The sink has a lock of Tokio's, which makes a task wait that has done much already. By then the event would be
    // applied and not noted.
    let handled = tokio::task::unconstrained(aggregate.handle(command, &(), &sink)).now_or_never();
    match (handled, sink.collect().now_or_never()) {
        (Some(Ok(())), Some(events)) => Ok(Decided::Events(events)),
        (Some(Err(refusal)), _) => Ok(Decided::Refused(refusal)),
        _ => Err(ExecuteError::Unavailable(format!(
            "the handler of {} waits for something",
            A::TYPE
        ))),
    }
}

fn not_loaded<E: std::error::Error>(error: ReadError) -> ExecuteError<E> {
    match error {
        ReadError::Undecodable(cause) => ExecuteError::Unreadable(cause),
        other => unavailable(other),
    }
}

fn unavailable<E: std::error::Error>(error: impl std::fmt::Display) -> ExecuteError<E> {
    ExecuteError::Unavailable(error.to_string())
}

/// Full jitter, so that the same two do not meet again.
#[expect(
    clippy::disallowed_methods,
    reason = "jitter only; nothing that is stored depends on it"
)]
fn rand_pause(attempt: u32) -> Duration {
    Duration::from_micros(rand::rng().random_range(0..=500 * 2_u64.pow(attempt.min(8))))
}
