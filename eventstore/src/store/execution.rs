//! How a command is carried out: decide, propose, and decide again if somebody was faster.

use std::sync::Arc;
use std::time::Duration;

use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{AggregateError, DomainEvent, EventStore as _};
use futures::FutureExt;
use kontor_domain::{Entity, Sealed, UserId};
use postgres_es::PostgresEventRepository;
use rand::Rng;
use sqlx::PgPool;
use tokio::sync::oneshot;
use tracing::debug;

use super::{ExecuteError, Inner, Newest, Outcome, Stored};
use crate::context::{Actor, CommandContext, Metadata};
use crate::group::{Answer, AppendError, Appended, Chain, NewEvent, Proposal};
use crate::read::{ReadError, read};
use crate::upcast;

/// How often a command is decided again when somebody else was faster, before its sender is told (L5).
const ATTEMPTS: u32 = 12;

/// A command that the writer has been asked to write.
struct Proposed<A: Entity> {
    decided: Decided<A>,
    /// The version it was decided on.
    base: u64,
    chain: Arc<Chain>,
    answer: oneshot::Receiver<Result<Appended, AppendError>>,
}

/// How a command was decided, before anything is written.
enum Decided<A: Entity> {
    Events(Vec<A::Event>),
    Refused(A::Error),
    OtherVersion { expected: u64, actual: u64 },
}

impl Inner {
    pub(super) async fn run<A: Stored>(
        &self,
        id: A::Id,
        command: A::Command,
        context: CommandContext,
        fresh: bool,
    ) -> Result<Outcome<A>, ExecuteError<A::Error>> {
        let mut seen = 0;
        for attempt in 0..ATTEMPTS {
            let proposed = self
                .propose::<A>(id, command.clone(), &context, fresh && attempt == 0)
                .await?;
            let base = proposed.base;
            let answer = proposed
                .answer
                .await
                .unwrap_or_else(|_| Err(AppendError::Unavailable("the writer has ended".to_owned())));
            match answer {
                Ok(Appended::Written { position }) => {
                    return self.written(id, base, position, proposed.decided, &proposed.chain);
                }
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
        fresh: bool,
    ) -> Result<Proposed<A>, ExecuteError<A::Error>> {
        let slot = A::slots(&self.slots).slot(id);
        let mut slot = slot.0.lock().await;
        let newest = match slot.take() {
            Some(newest) if !newest.chain.is_broken() => slot.insert(newest),
            _ if fresh => slot.insert(Newest::new(A::default(), 0)),
            _ => slot.insert(self.load(&id).await.map_err(not_loaded)?),
        };
        let base = newest.version;
        let mut decided = match context.expected_version {
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
        if let Decided::Events(events) = &mut decided {
            newest.version += events.len() as u64;
            let about = events.iter().find_map(|event| newest.aggregate.person(id, event));
            let metadata = self.sealed_metadata::<A>(about, context);
            let metadata = metadata.await.inspect_err(|_| newest.chain.break_off())?;
            proposal.metadata = serde_json::to_string(&metadata).map_err(unavailable)?;
            let claims = events.iter().flat_map(A::claim_changes);
            proposal.claims = claims.map(|change| self.keyring.hide(change)).collect();
            for event in events {
                // The state above has the values; from here on nobody does.
                self.seal::<A>(newest.aggregate.person(id, event), event)
                    .await
                    .inspect_err(|_| newest.chain.break_off())?;
                proposal.events.push(NewEvent {
                    event_type: event.event_type(),
                    event_version: event.event_version(),
                    payload: serde_json::to_string(event).map_err(unavailable)?,
                    body: A::body(id, event.clone()),
                });
            }
        }
        let chain = Arc::clone(&newest.chain);
        self.writer.send(proposal).await.map_err(unavailable)?;
        Ok(Proposed {
            decided,
            base,
            chain,
            answer,
        })
    }

    /// The metadata of a command's events. Where it was asked from is sealed with the key of whoever asked, or, if they had no
    /// account yet, of whom the events are about; of strangers and of who is to be forgotten it is not kept.
    pub(super) async fn sealed_metadata<A: Stored>(
        &self,
        about: Option<UserId>,
        context: &CommandContext,
    ) -> Result<Metadata, ExecuteError<A::Error>> {
        let mut metadata = context.metadata();
        if let Some(address) = &mut metadata.address {
            let person = match context.actor {
                Actor::User(person) => Some(person),
                _ => about,
            };
            let sealed = match person {
                Some(person) => self
                    .keyring
                    .seal(person, vec![address])
                    .await
                    .map_err(unavailable)?,
                None => false,
            };
            if !sealed {
                metadata.address = None;
            }
        }
        Ok(metadata)
    }

    /// Seals what is personal in an event with the key of whom it is about. If they were erased, nothing of it is kept.
    pub(super) async fn seal<A: Stored>(
        &self,
        about: Option<UserId>,
        event: &mut A::Event,
    ) -> Result<(), ExecuteError<A::Error>> {
        let Some(person) = about else { return Ok(()) };
        match self.keyring.seal(person, A::personal_in(event)).await {
            Ok(true) => Ok(()),
            Ok(false) if A::outlives_its_person(event) => {
                for value in A::personal_in(event) {
                    value.seal(Sealed::nothing(person));
                }
                Ok(())
            }
            Ok(false) => Err(ExecuteError::Erased),
            Err(error) => Err(unavailable(error)),
        }
    }

    fn written<A: Stored>(
        &self,
        id: A::Id,
        base: u64,
        position: u64,
        decided: Decided<A>,
        chain: &Chain,
    ) -> Result<Outcome<A>, ExecuteError<A::Error>> {
        match decided {
            Decided::Events(events) => {
                let version = base + events.len() as u64;
                chain.written(version);
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
        // A command's events stand side by side in the log. Its aggregate's others may be many thousands: after a crash a process
        // asks for the answers to all that it had done, and must get them sooner than its lease runs out.
        let count = (answer.last_sequence + 1).saturating_sub(answer.first_sequence);
        let events = if count == 0 {
            Vec::new()
        } else {
            let written = read(&self.pool, answer.position.saturating_sub(count), count).await;
            let written = written.map_err(unavailable)?;
            written
                .iter()
                .filter_map(|event| A::event(&event.body).cloned())
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

    pub(super) async fn load<A: Stored>(&self, id: &A::Id) -> Result<Newest<A>, ReadError> {
        let loaded = load::<A>(&self.pool, &id.to_string()).await;
        let (mut aggregate, version) = loaded.map_err(|error| match error {
            AggregateError::DeserializationError(cause) => ReadError::Undecodable(cause.to_string()),
            AggregateError::DatabaseConnectionError(cause) | AggregateError::UnexpectedError(cause) => {
                sqlx::Error::Protocol(cause.to_string()).into()
            }
            other => sqlx::Error::Protocol(other.to_string()).into(),
        })?;
        self.keyring.unseal(aggregate.personal()).await?;
        Ok(Newest::new(aggregate, version))
    }
}

/// Loads an aggregate the way cqrs-es does: newest readable snapshot, then the events behind it. What is personal in it is as
/// it is stored.
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
