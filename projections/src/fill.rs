//! Making views again beside the live ones, at the speed of COPY (V4): what rebuilding and verifying share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use kontor_eventstore::read::{RawEvent, ReadError, read_raw};
use kontor_eventstore::{Consumer, Parked, Recorded, consumer};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};
use tokio::sync::mpsc;

use crate::held::Rows;
use crate::view::Rebuildable;

/// Events folded in one go.
const BATCH: usize = 10_000;
/// Rows of a view held in memory. An order with its timeline takes some 2 kB.
const HELD: usize = 20_000;
/// Events decoded by one thread at a time.
const CHUNK: usize = 2_000;
/// Threads that decode.
const DECODERS: usize = 3;

/// Why a view could not be made again. The live one is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// Postgres refused or was not there.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// Redis did not answer.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// Another rebuild or verification holds the place.
    #[error("another replay or verification is running; wait for it, or end it")]
    Busy,
    /// A thread ended early.
    #[error("a worker thread failed: {0}")]
    Thread(String),
}

/// A view being made again in a schema of its own, under its own name.
pub struct Filling {
    /// Its projector.
    pub view: Arc<dyn Rebuildable>,
    /// Sees the new tables before the live ones.
    pub connection: PgConnection,
    /// The last position it has applied.
    pub reached: u64,
    /// What it could not apply.
    pub parked: Vec<Parked>,
    rows: Box<dyn Rows>,
    /// Statements that make its table's indexes, once there is something to index.
    indexes: Vec<String>,
}

/// A place to make views in: a schema, held against others as long as this lives.
pub struct Scratch {
    pool: PgPool,
    /// Its advisory lock keeps everybody else out.
    holder: PgConnection,
    schema: &'static str,
}

impl Scratch {
    /// Takes the place called `schema`, empty.
    ///
    /// # Errors
    /// [`FillError::Busy`] if somebody else has it.
    pub async fn take(pool: &PgPool, schema: &'static str) -> Result<Self, FillError> {
        let mut holder = (*pool.connect_options())
            .clone()
            .application_name("kontor replay")
            .connect()
            .await?;
        let free = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(hashtext($1)) AS "free!""#, schema)
            .fetch_one(&mut holder)
            .await?;
        if !free {
            return Err(FillError::Busy);
        }
        holder
            .execute(format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}").as_str())
            .await?;
        Ok(Self {
            pool: pool.clone(),
            holder,
            schema,
        })
    }

    /// Makes `views` from the log up to position `to`; `progress` is told the number of events read so far.
    ///
    /// # Errors
    /// See [`FillError`].
    pub async fn fill(
        &mut self,
        views: &[Arc<dyn Rebuildable>],
        to: u64,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<Vec<Filling>, FillError> {
        let mut fillings = Vec::new();
        for view in views {
            let indexes = self.create(view.name()).await?;
            fillings.push(Filling {
                view: Arc::clone(view),
                connection: self.connect().await?,
                reached: 0,
                parked: Vec::new(),
                rows: view.rows(HELD),
                indexes,
            });
        }
        let mut fillings = self.feed(fillings, to, progress).await?;
        try_join_all(fillings.iter_mut().map(|filling| filling.finish(self.schema))).await?;
        Ok(fillings)
    }

    /// Makes a table as the live one of that name is, but for its indexes; the statements that make those. One that is filled at
    /// once is cheaper than one that every row is put into.
    async fn create(&mut self, table: &str) -> Result<Vec<String>, sqlx::Error> {
        // LIKE leaves out how full pages are to be.
        let storage = sqlx::query_scalar!(
            r#"SELECT coalesce(' WITH (' || array_to_string(reloptions, ', ') || ')', '') AS "storage!"
               FROM pg_class WHERE oid = ('public.' || $1)::regclass"#,
            table
        )
        .fetch_one(&mut self.holder)
        .await?;
        let new = format!("{}.{table}", self.schema);
        let like = format!("CREATE TABLE {new} (LIKE public.{table} INCLUDING ALL){storage}");
        self.holder.execute(like.as_str()).await?;
        // By its primary key rows are looked up meanwhile.
        let indexes = sqlx::query!(
            r#"SELECT indexrelid::regclass::text AS "name!", pg_get_indexdef(indexrelid) AS "definition!"
               FROM pg_index WHERE indrelid = $1::text::regclass AND NOT indisprimary"#,
            new
        )
        .fetch_all(&mut self.holder)
        .await?;
        for index in &indexes {
            self.holder
                .execute(format!("DROP INDEX {}", index.name).as_str())
                .await?;
        }
        Ok(indexes.into_iter().map(|index| index.definition).collect())
    }

    /// Takes fillings further, up to position `to`, reading the log once for all of them.
    ///
    /// # Errors
    /// See [`FillError`].
    pub async fn feed(
        &self,
        fillings: Vec<Filling>,
        to: u64,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<Vec<Filling>, FillError> {
        let from = fillings.iter().map(|filling| filling.reached).min().unwrap_or(to);
        let mut senders = Vec::new();
        let mut tasks = Vec::new();
        for filling in fillings {
            let (sender, receiver) = mpsc::channel(1);
            senders.push(sender);
            tasks.push(tokio::spawn(filling.follow(receiver)));
        }
        let done = AtomicU64::new(0);
        let chunks = read_raw(&self.pool, from, to, CHUNK)
            .map(|chunk| async move {
                let raw = chunk?;
                let decoded = tokio::task::spawn_blocking(|| {
                    raw.into_iter().map(RawEvent::decode).map(Arc::new).collect()
                });
                decoded
                    .await
                    .map_err(|error| FillError::Thread(error.to_string()))
            })
            .buffered(DECODERS);
        tokio::pin!(chunks);
        let mut batch: Vec<Arc<Recorded>> = Vec::with_capacity(BATCH);
        loop {
            let chunk: Option<Vec<Arc<Recorded>>> = chunks.try_next().await?;
            let last = chunk.is_none();
            batch.extend(chunk.into_iter().flatten());
            if batch.len() >= BATCH || (last && !batch.is_empty()) {
                progress(done.fetch_add(batch.len() as u64, Ordering::Relaxed) + batch.len() as u64);
                let full: Arc<[Arc<Recorded>]> =
                    std::mem::replace(&mut batch, Vec::with_capacity(BATCH)).into();
                for sender in &senders {
                    // A view that failed says so below.
                    let _ = sender.send(Arc::clone(&full)).await;
                }
            }
            if last {
                break;
            }
        }
        drop(senders);
        let mut fillings = Vec::new();
        for task in tasks {
            fillings.push(
                task.await
                    .map_err(|error| FillError::Thread(error.to_string()))??,
            );
        }
        Ok(fillings)
    }

    /// Gives the place back.
    ///
    /// # Errors
    /// When Postgres is not there; the place is free then all the same.
    pub async fn leave(mut self) -> Result<(), FillError> {
        self.holder
            .execute(format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema).as_str())
            .await?;
        self.holder.close().await?;
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options: PgConnectOptions = (*self.pool.connect_options()).clone();
        options
            .application_name("kontor replay")
            .options([
                ("search_path", format!("{},public", self.schema)),
                ("synchronous_commit", "off".to_owned()),
            ])
            .connect()
            .await
    }
}

impl Filling {
    async fn follow(mut self, mut batches: mpsc::Receiver<Arc<[Arc<Recorded>]>>) -> Result<Self, FillError> {
        while let Some(batch) = batches.recv().await {
            let skip = batch.partition_point(|event| event.position <= self.reached);
            let Some(last) = batch[skip..].last() else {
                continue;
            };
            self.reached = last.position;
            let parked = if self.parked.is_empty() {
                self.rows.fold(&mut self.connection, &batch[skip..]).await?
            } else {
                let streams = self.parked.iter().map(|parked| parked.stream.clone()).collect();
                let (events, mut parked) = consumer::set_aside(batch[skip..].to_vec(), &streams);
                parked.extend(self.rows.fold(&mut self.connection, &events).await?);
                parked
            };
            self.parked.extend(parked);
        }
        self.rows.write(&mut self.connection).await?;
        Ok(self)
    }

    /// Makes the indexes, and counts, so that the first queries after a swap are planned with the truth.
    async fn finish(&mut self, schema: &str) -> Result<(), sqlx::Error> {
        for index in std::mem::take(&mut self.indexes) {
            self.connection.execute(index.as_str()).await?;
        }
        let analyse = format!("ANALYZE {schema}.{}", self.view.name());
        self.connection.execute(analyse.as_str()).await?;
        Ok(())
    }
}

/// Applies events as a worker would: those of aggregates that are parked already wait. Answers what is parked in addition.
///
/// # Errors
/// When Postgres refuses or is not there.
pub async fn apply(
    view: &dyn Consumer,
    connection: &mut PgConnection,
    events: Vec<Arc<Recorded>>,
    parked: &[Parked],
) -> Result<Vec<Parked>, sqlx::Error> {
    let streams = parked.iter().map(|parked| parked.stream.clone()).collect();
    let (events, mut more) = consumer::set_aside(events, &streams);
    more.extend(view.handle(connection, &events).await?);
    Ok(more)
}
