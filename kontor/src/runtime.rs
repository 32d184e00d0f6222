//! Everything a process of Kontor is made of, put together in one place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kontor_api::sessions::{ErasedSessions, SessionTerms, Sessions};
use kontor_eventstore::{
    Clock, Consumer, Deeds, Ids, KeyEncryption, Keyring, Progress, Resumed, Store, StreamKey, SystemClock,
    Worker, dead_letters, deeds, schema,
};
use kontor_fulfilment::erasure::{self, Journal};
use kontor_fulfilment::notifications::{self, Channel, Post};
use kontor_fulfilment::payments::{Payments, PaymentsConfig};
use kontor_fulfilment::{Erasure, Notifications, OrderProcess, account_mail, cashier, webhook_inbox};
use kontor_projections::best_sellers::BestSellerMirror;
use kontor_projections::cards::ProductCardMirror;
use kontor_projections::mirror::{self, MirrorOf, Redis};
use kontor_projections::statuses::OrderStatusMirror;
use kontor_projections::views;
use sqlx::Connection;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Connections to Postgres a process keeps at most, beside its writer's, its listeners' and its
/// consumers'.
const CONNECTIONS: u32 = 24;
/// A connection that has rested for longer is tried before it is used.
const FRESH: Duration = Duration::from_millis(500);
/// How long to wait for Postgres at the start.
const PATIENCE: Duration = Duration::from_secs(10);

/// The names of the read models in Redis.
pub const MIRRORS: [&str; 3] = [
    ProductCardMirror::NAME,
    OrderStatusMirror::NAME,
    BestSellerMirror::NAME,
];

/// The names of the read models in Redis that are made from a view in Postgres.
pub fn mirrors_of(view: &str) -> impl Iterator<Item = &'static str> {
    let sources = [
        ProductCardMirror::SOURCE,
        OrderStatusMirror::SOURCE,
        BestSellerMirror::SOURCE,
    ];
    let mirrors = MIRRORS.into_iter().zip(sources);
    mirrors.filter_map(move |(mirror, source)| (source == view).then_some(mirror))
}

/// How people's data is kept.
#[derive(Debug, Clone)]
pub struct Privacy {
    /// What people's keys are encrypted with.
    pub keys: KeyEncryption,
    /// Who was erased, in a file that outlives the database.
    pub journal: Journal,
    /// The folder of messages that nobody carries: those to people who are erased are removed.
    pub outbox: Option<PathBuf>,
}

/// A process: the log, what follows it, and where both live.
pub struct Runtime {
    /// The log.
    pub store: Store,
    /// How far everyone has come.
    pub progress: Arc<Progress>,
    /// The read models in Redis.
    pub redis: Redis,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where orders and the payment gateway meet.
    pub payments: Payments,
    /// How people's data is kept.
    privacy: Privacy,
    /// Notes what is done and is no event.
    pub deeds: Deeds,
    /// Cancelled when the process is to end.
    pub stop: CancellationToken,
    /// Whoever works in this process, by one name.
    worker: Worker,
    tasks: TaskTracker,
}

impl Runtime {
    /// Connects, migrates, and opens the log. Nothing follows it yet.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do.
    pub async fn open(database_url: &str, redis_url: &str, privacy: &Privacy) -> Result<Self> {
        let payments = PaymentsConfig::default();
        Self::with(database_url, redis_url, &payments, privacy, Arc::new(SystemClock)).await
    }

    /// [`Runtime::open`] with other payments than simulated ones, or another clock.
    ///
    /// # Errors
    /// As there.
    pub async fn with(
        database_url: &str,
        redis_url: &str,
        payments: &PaymentsConfig,
        privacy: &Privacy,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let pool = connect(database_url).await?;
        schema::migrate(&pool).await?;
        let stop = CancellationToken::new();
        let ids = Ids::new(Arc::clone(&clock));
        let keyring = Keyring::open(pool.clone(), privacy.keys.clone())
            .await
            .context("the key-encryption key does not fit the database")?;
        let store = Store::open(pool.clone(), ids, keyring, stop.clone()).await?;
        let again = erasure::reapply(&store, &privacy.journal, clock.as_ref()).await?;
        if again > 0 {
            warn!(
                people = again,
                "erased again: the journal knows them, and the database did not"
            );
        }
        let redis = Redis::open(redis_url, store.incarnation())
            .context("REDIS_URL is not a Redis address; write it as redis://host:port")?;
        let progress = Arc::new(Progress::default());
        let owner = format!("{}-{}", std::process::id(), store.ids().next());
        let payments = payments.open(
            store.clone(),
            (*pool.connect_options()).clone(),
            store.ids().clone(),
            Arc::clone(&clock),
        )?;
        let worker = Worker::new(store.clone(), Arc::clone(&progress), owner);
        let tasks = TaskTracker::new();
        let (deeds, writing) = Deeds::open(&store);
        tasks.spawn(writing);
        tasks.spawn({
            let (progress, stop) = (Arc::clone(&progress), stop.clone());
            async move { progress.follow(pool, stop).await }
        });
        Ok(Self {
            store,
            progress,
            redis,
            clock,
            payments,
            privacy: privacy.clone(),
            deeds,
            stop,
            worker,
            tasks,
        })
    }

    /// The pool everything but the writer uses.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    /// Every consumer with a checkpoint in Postgres.
    #[must_use]
    pub fn consumers(&self) -> Vec<Arc<dyn Consumer>> {
        let mut consumers: Vec<Arc<dyn Consumer>> = views()
            .into_iter()
            .map(|view| view as Arc<dyn Consumer>)
            .collect();
        consumers.push(Arc::new(OrderProcess::new(
            self.store.clone(),
            Arc::clone(&self.clock),
            self.payments.desk.terms(),
        )));
        consumers.push(Arc::new(Notifications::new(self.store.clone())));
        consumers.push(Arc::new(Erasure::new(
            self.privacy.journal.clone(),
            self.privacy.outbox.clone(),
        )));
        let sessions = Sessions::new(self.redis.clone(), SessionTerms::default());
        consumers.push(Arc::new(ErasedSessions::new(sessions)));
        consumers
    }

    /// Starts the projectors, the mirrors, the order process, the cashier, what deals with the gateway's webhooks, and what
    /// notes whom to tell. They share the work with the workers of other processes.
    pub fn spawn_workers(&self) {
        for consumer in self.consumers() {
            self.tasks
                .spawn(self.worker.clone().run(consumer, self.stop.clone()));
        }
        self.tasks.spawn(cashier::run(
            self.worker.clone(),
            self.payments.desk.clone(),
            self.payments.places,
            self.stop.clone(),
        ));
        self.tasks.spawn(webhook_inbox::run(
            self.worker.clone(),
            self.payments.desk.clone(),
            self.payments.places,
            self.stop.clone(),
        ));
        self.spawn_mirror::<ProductCardMirror>();
        self.spawn_mirror::<OrderStatusMirror>();
        self.spawn_mirror::<BestSellerMirror>();
    }

    /// Starts what sends notifications, and shares that with other processes too.
    pub fn spawn_senders(&self, post: Post) {
        let post = Arc::new(post);
        for channel in Channel::ALL {
            self.tasks.spawn(notifications::run(
                self.worker.clone(),
                Arc::clone(&post),
                Arc::clone(&self.clock),
                channel,
                self.stop.clone(),
            ));
        }
        self.tasks.spawn(account_mail::run(
            self.worker.clone(),
            post,
            Arc::clone(&self.clock),
            self.stop.clone(),
        ));
    }

    /// Starts what forgets deeds that were done longer ago than `kept`.
    pub fn spawn_trimming(&self, kept: Duration) {
        self.tasks
            .spawn(deeds::keep_trimmed(self.store.clone(), kept, self.stop.clone()));
    }

    fn spawn_mirror<M: MirrorOf>(&self) {
        self.tasks.spawn(mirror::run::<M>(
            self.worker.clone(),
            self.redis.clone(),
            self.stop.clone(),
        ));
    }

    /// Applies what waits of an aggregate behind a consumer. What Redis has of it is read again: the mirrors follow the
    /// log, and are past the events that waited.
    ///
    /// # Errors
    /// When Postgres does not answer, and everything waits as before; or when Redis does not.
    pub async fn resume(&self, consumer: &dyn Consumer, stream: &StreamKey) -> Result<Resumed> {
        let resumed = dead_letters::resume(self.pool(), consumer, stream).await?;
        if let Resumed::Done(_) = resumed {
            for mirror in mirrors_of(consumer.name()) {
                self.redis.forget(mirror).await.with_context(|| {
                    format!("the events are applied, but Redis does not answer: run `kontor replay --view {mirror}`")
                })?;
            }
        }
        Ok(resumed)
    }

    /// Has `signal` cancel [`Self::stop`].
    pub fn stop_on(&self, signal: CancellationToken) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            signal.cancelled().await;
            stop.cancel();
        });
    }

    /// Ends everything that follows the log, cleanly, and has the last deeds written down.
    pub async fn close(self) {
        self.stop.cancel();
        self.deeds.close();
        self.tasks.close();
        // What does not end in time is cut off; its transaction is taken back and its lease runs out.
        let _ = tokio::time::timeout(Duration::from_secs(10), self.tasks.wait()).await;
        self.store.pool().close().await;
    }
}

/// Cancelled at Ctrl-C, SIGTERM, or when the terminal goes away.
///
/// # Errors
/// When the machine gives no signal handlers.
pub fn told_to_stop() -> Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let told = CancellationToken::new();
    let tell = told.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        tell.cancel();
    });
    Ok(told)
}

pub(crate) async fn connect(database_url: &str) -> Result<PgPool> {
    let options: PgConnectOptions = database_url.parse().context(
        "DATABASE_URL is not a Postgres address; write it as postgres://user:password@host:port/database",
    )?;
    let place = format!("{}:{}", options.get_host(), options.get_port());
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        // A connection that was in use a moment ago is there; sqlx would ask each time.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options.application_name("kontor"))
        .await
        .with_context(|| {
            format!(
                "Postgres at {place} cannot be reached; check that it runs and that DATABASE_URL is right"
            )
        })
}
