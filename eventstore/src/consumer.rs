//! Readers of the log that remember how far they have come.
//!
//! A consumer's effects and its checkpoint move in one transaction (V1), whoever holds its lease runs it (V5), and an
//! event it cannot apply stops that event's aggregate and nothing else (V3).

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::checkpoint::{self, register};
use crate::crash;
use crate::dead_letters::{self, Parked};
use crate::gathering::{BATCH, Gathering};
use crate::lease::{self, Lease};
use crate::progress::Progress;
use crate::recorded::{Recorded, StreamKey};
use crate::store::Store;

/// A view lets events gather for at most this, however busy the house.
const LONGEST_GATHER: Duration = Duration::from_millis(500);
/// Whoever found nothing looks at its checkpoint again after this, though nobody called: a crash of Postgres may have taken
/// it back, with what was done behind it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long to wait after a batch that failed; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Something that follows the log.
pub trait Consumer: Send + Sync + 'static {
    /// Its name: that of its checkpoint, its lease and its dead letters.
    fn name(&self) -> &'static str;

    /// How long it lets events gather at most between two batches, however busy the house. A view folds the more into one
    /// write the longer it waits; a process keeps somebody waiting.
    fn patience(&self) -> Duration {
        LONGEST_GATHER
    }

    /// Whether it has any use for this event. What nobody has use for is passed over in one statement, without a transaction.
    /// Says yes to what it would park.
    fn concerns(&self, event: &Recorded) -> bool;

    /// Applies `events`, oldest first, on `connection`, which is inside the checkpoint's transaction. Whatever else it
    /// does must bear repetition.
    ///
    /// Events it cannot apply are answered, together with those of the same aggregates behind them; everything else
    /// counts as applied. An error takes the whole batch back: if it lies in the data, ever smaller ones are tried until the
    /// culprit is met alone, and parked; if Postgres is away, later.
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

/// A worker: runs consumers whose lease it gets.
#[derive(Debug, Clone)]
pub struct Worker {
    store: Store,
    progress: Arc<Progress>,
    owner: String,
}

/// What a consumer has in hand from batch to batch.
#[derive(Default)]
struct Turn {
    connection: Option<PgConnection>,
    /// Where its checkpoint is, as far as it knows. Nothing is written that rests on this alone.
    position: Option<u64>,
}

/// How a try at one batch ended.
enum Step {
    /// Applied so many events, up to this position.
    To { position: u64, events: u64 },
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

    /// Does `work` whenever the lease called `name` can be had, and gives it a checkpoint of that name; drops it when the
    /// lease is lost. `work` returns when `stop` is cancelled.
    pub async fn hold<W: Future<Output = ()>>(
        &self,
        name: &str,
        stop: &CancellationToken,
        work: impl Fn(Lease) -> W,
    ) {
        self.hold_with(true, name, stop, work).await;
    }

    /// [`Self::hold`] for work that follows no log and has no checkpoint.
    pub async fn hold_lease<W: Future<Output = ()>>(
        &self,
        name: &str,
        stop: &CancellationToken,
        work: impl Fn(Lease) -> W,
    ) {
        self.hold_with(false, name, stop, work).await;
    }

    async fn hold_with<W: Future<Output = ()>>(
        &self,
        checkpoint: bool,
        name: &str,
        stop: &CancellationToken,
        work: impl Fn(Lease) -> W,
    ) {
        while !stop.is_cancelled() {
            match self.take(checkpoint, name).await {
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

    /// The lease, if it can be had.
    async fn take(&self, checkpoint: bool, name: &str) -> Result<Option<Lease>, sqlx::Error> {
        if checkpoint {
            register(self.store.pool(), name).await?;
        }
        lease::acquire(self.store.pool(), name, &self.owner).await
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
        let mut turn = Turn::default();
        let mut gathering = Gathering::new(consumer.patience());
        // Fewer behind a batch that Postgres refused, until the event it refuses is met alone.
        let mut limit = BATCH;
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            head.mark_unchanged();
            match self.step(&mut turn, consumer, &lease, limit).await {
                Ok(Step::To { position, events }) => {
                    self.progress.advance(&lease.consumer, position);
                    pause = FIRST_PAUSE;
                    let pause = gathering.behind(events);
                    if limit == BATCH {
                        tokio::time::sleep(pause).await;
                    }
                    limit = BATCH.min(limit * 2);
                }
                Ok(Step::Idle) => tokio::select! {
                    () = stop.cancelled() => return,
                    _ = head.changed() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => turn.position = None,
                },
                Ok(Step::Lost) => return,
                Err(error) if is_data_error(&error) && limit > 1 => {
                    warn!(consumer = consumer.name(), limit, %error, "batch refused by postgres; trying a smaller one");
                    limit = (limit / 8).max(1);
                }
                Err(error) => {
                    warn!(consumer = consumer.name(), %error, "batch not applied, trying again");
                    turn = Turn::default();
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

    /// A connection for one consumer alone. Nothing on it is flushed: after a crash of Postgres a view and its checkpoint are
    /// as old as each other, and the log is complete. It also keeps a commit short that notifies, for all others that
    /// do, the log's writer among them, wait for it.
    async fn connect(&self, name: &str) -> Result<PgConnection, sqlx::Error> {
        (*self.store.pool().connect_options())
            .clone()
            .application_name(&format!("kontor {name}"))
            .options([
                ("synchronous_commit", "off"),
                // A plan kept from when the tables were empty reads them whole until somebody analyses them.
                ("plan_cache_mode", "force_custom_plan"),
                ("idle_in_transaction_session_timeout", "30s"),
            ])
            .connect()
            .await
    }

    /// What comes next, and the checkpoint behind it.
    async fn step(
        &self,
        turn: &mut Turn,
        consumer: &dyn Consumer,
        lease: &Lease,
        limit: usize,
    ) -> Result<Step, sqlx::Error> {
        let connection = match &mut turn.connection {
            Some(connection) => connection,
            none => none.insert(self.connect(consumer.name()).await?),
        };
        if let Some(position) = turn.position.take() {
            let events = self.store.after(position, limit).await?;
            let Some(last) = events.last().map(|event| event.position) else {
                turn.position = Some(position);
                return Ok(Step::Idle);
            };
            let concerned = events.iter().any(|event| consumer.concerns(event));
            if !concerned && checkpoint::advance(connection, lease, position, last).await? {
                count(consumer.name(), events.len());
                turn.position = Some(last);
                return Ok(Step::To {
                    position: last,
                    events: last - position,
                });
            }
        }
        let step = self.transact(connection, consumer, lease, limit).await?;
        if let Step::To { position, .. } = step {
            turn.position = Some(position);
        }
        Ok(step)
    }

    /// One transaction: what comes next, and the checkpoint behind it.
    async fn transact(
        &self,
        connection: &mut PgConnection,
        consumer: &dyn Consumer,
        lease: &Lease,
        limit: usize,
    ) -> Result<Step, sqlx::Error> {
        let name = consumer.name();
        let mut tx = connection.begin().await?;
        let Some(position) = checkpoint::hold(&mut tx, lease).await? else {
            return Ok(Step::Lost);
        };
        let events = self.store.after(position, limit).await?;
        let Some(last) = events.last() else {
            self.progress.advance(name, position);
            // At once: dropping it would hold the checkpoint until the next event.
            tx.rollback().await?;
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
                tx.rollback().await?;
                tx = connection.begin().await?;
                if checkpoint::hold(&mut tx, lease).await? != Some(position) {
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
        if !checkpoint::advance(&mut tx, lease, position, last).await? {
            return Ok(Step::Lost);
        }
        tx.commit().await?;
        crash::point("consumer.after_commit");
        count(name, events.len());
        Ok(Step::To {
            position: last,
            events: last - position,
        })
    }
}

fn count(consumer: &'static str, events: usize) {
    metrics::counter!("kontor_events_consumed_total", "consumer" => consumer).increment(events as u64);
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
