//! Readers of the log that remember how far they have come.
//!
//! A consumer's effects and its checkpoint move in one transaction (V1), whoever holds its lease runs it (V5), and an
//! event it cannot apply stops that event's aggregate and nothing else (V3).

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::crash;
use crate::dead_letters::{self, Parked};
use crate::lease::{self, Lease};
use crate::progress::{PROGRESS_CHANNEL, Progress};
use crate::recorded::{Recorded, StreamKey};
use crate::store::Store;

/// Events in one transaction at most.
const BATCH: usize = 1_000;
/// After a batch that was not full, the next gathers for so long: under load a fraction of the transactions, and still
/// far below what a person notices.
const GATHER: Duration = Duration::from_millis(5);
/// How long to wait after a batch that failed; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Something that follows the log.
pub trait Consumer: Send + Sync + 'static {
    /// Its name: that of its checkpoint, its lease and its dead letters.
    fn name(&self) -> &'static str;

    /// Applies `events`, oldest first, on `connection`, which is inside the checkpoint's transaction. Whatever else it
    /// does must bear repetition.
    ///
    /// Events it cannot apply are answered, together with those of the same aggregates behind them; everything else
    /// counts as applied. An error takes the whole batch back: if it lies in the data, the batch is tried again event by
    /// event and the culprit parked; if Postgres is away, later.
    fn handle<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>>;

    /// Applies events that waited in the dead letters, in the transaction that takes them out of there. They come behind
    /// events of other aggregates that follow them in the log.
    fn resume<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>> {
        self.handle(connection, events)
    }
}

/// Notes how far a consumer has come that keeps its checkpoint elsewhere (in Redis), for everybody to see. Not flushed: what
/// counts is in Redis.
///
/// # Errors
/// When Postgres is not there.
pub async fn report(pool: &PgPool, lease: &Lease, position: u64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH moved AS (UPDATE checkpoints SET position = $4, updated_at = clock_timestamp()
                        WHERE consumer = $1
                          AND EXISTS (SELECT FROM leases WHERE consumer = $1 AND owner = $2 AND epoch = $3))
         SELECT set_config('synchronous_commit', 'off', true), pg_notify($5, $6)::text",
        lease.consumer,
        lease.owner,
        lease.epoch,
        position.cast_signed(),
        PROGRESS_CHANNEL,
        format!("{} {position}", lease.consumer)
    )
    .fetch_optional(pool)
    .await?;
    Ok(())
}

/// Where a consumer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its name.
    pub consumer: String,
    /// The last position it has applied.
    pub position: u64,
    /// Aggregates that wait in its dead letters.
    pub parked: u64,
}

/// All consumers' checkpoints, by name.
///
/// # Errors
/// When Postgres is not there.
pub async fn checkpoints(pool: &PgPool) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT consumer, position,
                  (SELECT count(DISTINCT (aggregate_type, aggregate_id)) FROM dead_letters d
                   WHERE d.consumer = c.consumer) AS "parked!"
           FROM checkpoints c ORDER BY consumer"#
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Checkpoint {
            consumer: row.consumer,
            position: row.position.unsigned_abs(),
            parked: row.parked.unsigned_abs(),
        })
        .collect())
}

/// Makes sure that a consumer has a checkpoint, at 0 if it is new.
///
/// # Errors
/// When Postgres is not there.
pub async fn register(pool: &PgPool, consumer: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO checkpoints (consumer, incarnation) SELECT $1, incarnation FROM log ON CONFLICT DO NOTHING",
        consumer
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// A worker: runs consumers whose lease it gets.
#[derive(Debug, Clone)]
pub struct Worker {
    store: Store,
    progress: Arc<Progress>,
    owner: String,
}

/// How a try at one batch ended.
enum Step {
    /// Applied up to this position.
    To(u64),
    /// Nothing new.
    Idle,
    /// Somebody else has the lease now.
    Lost,
}

impl Worker {
    /// A worker called `owner`, which must be unique among all running ones.
    #[must_use]
    pub fn new(store: Store, progress: Arc<Progress>, owner: String) -> Self {
        Self {
            store,
            progress,
            owner,
        }
    }

    /// Runs `consumer` whenever its lease can be had, until `stop`.
    pub async fn run(self, consumer: Arc<dyn Consumer>, stop: CancellationToken) {
        let consumer = consumer.as_ref();
        self.hold(consumer.name(), &stop, |lease| {
            self.consume(consumer, lease, &stop)
        })
        .await;
    }

    /// Does `work` whenever the lease called `name` can be had; drops it when the lease is lost. `work` returns when
    /// `stop` is cancelled.
    pub async fn hold<W: Future<Output = ()>>(
        &self,
        name: &str,
        stop: &CancellationToken,
        work: impl Fn(Lease) -> W,
    ) {
        while !stop.is_cancelled() {
            let held = match register(self.store.pool(), name).await {
                Ok(()) => lease::acquire(self.store.pool(), name, &self.owner).await,
                Err(error) => Err(error),
            };
            match held {
                Ok(Some(lease)) => {
                    debug!(consumer = name, lease.epoch, "consuming");
                    tokio::select! {
                        () = work(lease.clone()) => {}
                        () = self.renew(&lease) => {}
                    }
                    if let Err(error) = lease::release(self.store.pool(), &lease).await {
                        warn!(consumer = name, %error, "lease not given back; it will run out");
                    }
                }
                Ok(None) => {}
                Err(error) => warn!(consumer = name, %error, "no lease to be had, trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(lease::RENEWAL) => {}
            }
        }
    }

    /// The store this worker reads.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The positions this worker knows.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Batch after batch, until `stop` or the lease turns out to be lost.
    async fn consume(&self, consumer: &dyn Consumer, lease: Lease, stop: &CancellationToken) {
        let mut head = self.store.head();
        // Batches still to be taken event by event, after one that Postgres refused.
        let mut singly = 0;
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            head.mark_unchanged();
            let limit = if singly > 0 { 1 } else { BATCH };
            match self.step(consumer, &lease, limit).await {
                Ok(Step::To(position)) => {
                    self.progress.advance(&lease.consumer, position);
                    pause = FIRST_PAUSE;
                    singly = usize::saturating_sub(singly, 1);
                    if singly == 0 {
                        tokio::time::sleep(GATHER).await;
                    }
                }
                Ok(Step::Idle) => tokio::select! {
                    () = stop.cancelled() => return,
                    _ = head.changed() => {}
                },
                Ok(Step::Lost) => return,
                Err(error) if is_data_error(&error) && limit > 1 => {
                    warn!(consumer = consumer.name(), %error, "batch refused by postgres; applying event by event");
                    singly = BATCH;
                }
                Err(error) => {
                    warn!(consumer = consumer.name(), %error, "batch not applied, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Renews the lease; returns when it is gone.
    async fn renew(&self, lease: &Lease) {
        let mut unconfirmed = Duration::ZERO;
        loop {
            tokio::time::sleep(lease::RENEWAL).await;
            match lease::acquire(self.store.pool(), &lease.consumer, &lease.owner).await {
                Ok(Some(renewed)) if renewed.epoch == lease.epoch => unconfirmed = Duration::ZERO,
                Ok(_) => break,
                Err(_) => unconfirmed += lease::RENEWAL,
            }
            if unconfirmed >= lease::TERM {
                break;
            }
        }
        warn!(consumer = lease.consumer, lease.epoch, "lease lost");
    }

    /// One transaction: what comes next, and the checkpoint behind it.
    async fn step(&self, consumer: &dyn Consumer, lease: &Lease, limit: usize) -> Result<Step, sqlx::Error> {
        let name = consumer.name();
        let mut tx = self.store.pool().begin().await?;
        // Views need no flush of their own: after a crash of Postgres they and their checkpoint are as old as each
        // other, and the log is complete.
        sqlx::Executor::execute(
            &mut *tx,
            "SET LOCAL synchronous_commit = off; SET LOCAL idle_in_transaction_session_timeout = '30s'",
        )
        .await?;
        let Some(position) = locked_position(&mut tx, lease).await? else {
            return Ok(Step::Lost);
        };
        let events = self.store.after(position, limit).await?;
        let Some(last) = events.last() else {
            self.progress.advance(name, position);
            return Ok(Step::Idle);
        };
        let last = last.position;
        crash::point("consumer.before_handle");
        let parked = dead_letters::parked_streams(&mut tx, name).await?;
        let (events, mut refused) = set_aside(events, &parked);
        match consumer.handle(&mut tx, &events).await {
            Ok(more) => refused.extend(more),
            Err(error) if limit == 1 && is_data_error(&error) => {
                // The transaction is spoilt; park the event in one of its own.
                drop(tx);
                tx = self.store.pool().begin().await?;
                if locked_position(&mut tx, lease).await? != Some(position) {
                    return Ok(Step::Lost);
                }
                refused.extend(
                    events
                        .iter()
                        .map(|event| Parked::failed(event, error.to_string())),
                );
            }
            Err(error) => return Err(error),
        }
        crash::point("consumer.after_handle");
        for parked in refused.iter().filter(|parked| parked.error.is_some()) {
            error!(consumer = name, position = parked.position, stream = %parked.stream, error = parked.error,
                   "event cannot be applied; its aggregate is parked");
        }
        dead_letters::park(&mut tx, name, &refused).await?;
        if !advance(&mut tx, lease, position, last).await? {
            return Ok(Step::Lost);
        }
        tx.commit().await?;
        crash::point("consumer.after_commit");
        // Apart from the transaction, and not flushed: a commit that notifies holds a database-wide lock, for which the
        // log's writer waits.
        sqlx::query!(
            "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)::text",
            PROGRESS_CHANNEL,
            format!("{name} {last}")
        )
        .fetch_one(self.store.pool())
        .await?;
        metrics::counter!("kontor_events_consumed_total", "consumer" => name).increment(events.len() as u64);
        Ok(Step::To(last))
    }
}

/// The checkpoint, held until the transaction ends, so that resuming dead letters and swapping in a rebuilt view take
/// turns with the worker. `None` if the lease is no longer ours.
async fn locked_position(connection: &mut PgConnection, lease: &Lease) -> Result<Option<u64>, sqlx::Error> {
    let position = sqlx::query_scalar!(
        "SELECT position FROM checkpoints
         WHERE consumer = $1 AND EXISTS (SELECT FROM leases WHERE consumer = $1 AND owner = $2 AND epoch = $3)
         FOR UPDATE",
        lease.consumer,
        lease.owner,
        lease.epoch
    )
    .fetch_optional(connection)
    .await?;
    Ok(position.map(i64::unsigned_abs))
}

/// Compare and swap (V1); false if the lease changed hands in the meantime.
async fn advance(
    connection: &mut PgConnection,
    lease: &Lease,
    from: u64,
    to: u64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE checkpoints SET position = $5, updated_at = clock_timestamp()
         WHERE consumer = $1 AND position = $4
           AND EXISTS (SELECT FROM leases WHERE consumer = $1 AND owner = $2 AND epoch = $3)",
        lease.consumer,
        lease.owner,
        lease.epoch,
        from.cast_signed(),
        to.cast_signed()
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Parts the events of parked aggregates from the rest: they wait.
#[must_use]
#[expect(clippy::implicit_hasher, reason = "the standard one is all there is here")]
pub fn set_aside(
    events: Vec<Arc<Recorded>>,
    parked: &HashSet<StreamKey>,
) -> (Vec<Arc<Recorded>>, Vec<Parked>) {
    if parked.is_empty() {
        return (events, Vec::new());
    }
    let (waiting, free): (Vec<_>, Vec<_>) = events
        .into_iter()
        .partition(|event| parked.contains(&event.stream()));
    (free, waiting.iter().map(|event| Parked::waiting(event)).collect())
}

/// Whether Postgres refused what it was given, rather than being away or busy.
fn is_data_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| ["22", "23", "42"].iter().any(|class| code.starts_with(class))),
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}
