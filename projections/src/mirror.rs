//! Read models in Redis: rows of a Postgres view, mirrored as they change.
//!
//! Redis cannot share the view's transaction, so the mirror keeps its position in Redis itself and moves it in the same
//! script that writes the values. An emptied Redis has lost both: the mirror notices, fills it again from Postgres and
//! goes on. Nothing reads a value that is not there from anywhere but Postgres, so it may be emptied at any moment.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kontor_eventstore::checkpoint::report;
use kontor_eventstore::gathering::{BATCH, Gathering};
use kontor_eventstore::lease::Lease;
use kontor_eventstore::{Body, Recorded, Worker};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{RedisError, Script};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long to let events gather at most, however busy the house.
const GATHER: Duration = Duration::from_millis(250);
/// Values written at a time: Redis answers nobody else meanwhile.
const PAGE: u16 = 1_000;
/// A reader waits no longer for Redis; Postgres has the answer too.
const READ_PATIENCE: Duration = Duration::from_millis(250);
/// How long whoever has nobody else to ask waits for Redis.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a failure readers leave Redis alone for so long.
const REST: Duration = Duration::from_secs(1);

/// Writes values and moves the position from one to the other, if it is where it is thought to be; 0 if not.
/// KEYS: the position, then one per value. ARGV: old position, new position, then per value: kind, position, content,
/// seconds to live (0: for ever). A value that is newer already is left alone (V2).
const APPLY: &str = r"
local at = redis.call('GET', KEYS[1])
if (at or '') ~= ARGV[1] then return 0 end
for i = 2, #KEYS do
  local a = 3 + (i - 2) * 4
  local kind, position, content, ttl = ARGV[a], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3])
  if kind == 'score' then
    redis.call('ZADD', KEYS[i], position, content)
  elseif tonumber(redis.call('HGET', KEYS[i], 'position') or '0') <= tonumber(position) then
    redis.call('HSET', KEYS[i], 'position', position, 'value', content)
    if ttl > 0 then redis.call('EXPIRE', KEYS[i], ttl) end
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
";

/// Ends a filling: moves from its mark to the mirror's, if the mark is still there; 0 if not.
const FINISH: &str = r"
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
";

/// The connection to Redis, and the prefix that ties keys to this log (L11). Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
    prefix: Arc<str>,
    started: Instant,
    /// Milliseconds since `started` until which readers leave it alone.
    resting: Arc<AtomicU64>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects, now or when it is there. Keys begin with `kontor:{incarnation}:`.
    ///
    /// # Errors
    /// When the URL is not one of Redis.
    pub fn open(url: &str, incarnation: &str) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_max_delay(REST)
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(5)));
        let connection = ConnectionManager::new_lazy_with_config(redis::Client::open(url)?, config)?;
        Ok(Self {
            connection,
            prefix: format!("kontor:{incarnation}:").into(),
            started: Instant::now(),
            resting: Arc::default(),
        })
    }

    /// The full name of a key.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The connection, for who asks something of their own.
    #[must_use]
    pub fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// Forgets how far a mirror has come, so that it is filled again.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn forget(&self, mirror: &str) -> Result<(), RedisError> {
        redis::cmd("DEL")
            .arg(self.key(mirror))
            .exec_async(&mut self.connection.clone())
            .await
    }

    /// Asks Redis something, however long it takes.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub(crate) async fn ask<T: redis::FromRedisValue>(
        &self,
        query: &redis::Pipeline,
    ) -> Result<T, RedisError> {
        query.query_async(&mut self.connection.clone()).await
    }

    /// Runs a script, for what lives in Redis and nowhere else: there is nobody to ask instead.
    ///
    /// # Errors
    /// When Redis does not answer within a second. Whether the script ran is not known then.
    pub async fn run<T: redis::FromRedisValue>(
        &self,
        script: &redis::ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        let mut connection = self.connection.clone();
        let answer = tokio::time::timeout(PATIENCE, script.invoke_async(&mut connection)).await;
        answer.unwrap_or_else(|_| Err((redis::ErrorKind::Io, "no answer in time").into()))
    }

    /// How far a mirror has come; `None` if Redis was emptied.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn position(&self, mirror: &str) -> Result<Option<u64>, RedisError> {
        redis::cmd("GET")
            .arg(self.key(mirror))
            .query_async(&mut self.connection.clone())
            .await
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), RedisError> {
        redis::cmd("PING").exec_async(&mut self.connection.clone()).await
    }

    /// Asks Redis something for a reader. `None` if it does not answer soon; the reader then asks Postgres, and so do
    /// all others for a little while.
    pub async fn read<T: redis::FromRedisValue>(&self, query: &redis::Pipeline) -> Option<T> {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.resting.load(Ordering::Relaxed) {
            return None;
        }
        let mut connection = self.connection.clone();
        match tokio::time::timeout(READ_PATIENCE, query.query_async(&mut connection)).await {
            Ok(Ok(answer)) => Some(answer),
            failed => {
                let rest = u64::try_from(REST.as_millis()).unwrap_or(0);
                if self.resting.fetch_max(now + rest, Ordering::Relaxed) < now {
                    let error = failed.map_or_else(
                        |_| "no answer in time".to_owned(),
                        |it| it.err().map(|e| e.to_string()).unwrap_or_default(),
                    );
                    warn!(error, "redis does not answer; reading from postgres");
                }
                None
            }
        }
    }
}

/// A value on its way to Redis.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A document under a key of its own.
    Document {
        /// Its name, without the prefix.
        key: String,
        /// Position of the row it was made from.
        position: i64,
        /// JSON.
        json: String,
        /// How long it stays; `None`: for ever.
        ttl: Option<Duration>,
    },
    /// A place in a sorted set.
    Score {
        /// The set's name, without the prefix.
        key: String,
        /// Who.
        member: String,
        /// How many.
        score: i64,
    },
}

/// A read model in Redis.
pub trait MirrorOf: Send + Sync + 'static {
    /// Its name: that of its lease, and of its position.
    const NAME: &'static str;
    /// The view in Postgres it is made from.
    const SOURCE: &'static str;

    /// The row an event touches.
    fn id_of(body: &Body) -> Option<String>;
    /// The values of these rows.
    fn values(pool: &PgPool, ids: &[String]) -> impl Future<Output = Result<Vec<Value>, sqlx::Error>> + Send;
    /// Ids of rows worth having, in order, behind `after`: what an emptied Redis is filled with.
    fn ids(
        pool: &PgPool,
        after: &str,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<String>, sqlx::Error>> + Send;
}

/// What may go wrong with a mirror. It passes, and the mirror goes on.
#[derive(Debug, thiserror::Error)]
enum MirrorError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
    #[error(transparent)]
    Log(#[from] kontor_eventstore::read::ReadError),
}

fn emptied() -> RedisError {
    RedisError::from((redis::ErrorKind::Client, "redis was emptied while being filled"))
}

/// Keeps `M` up to date whenever its lease can be had, until `stop`.
pub async fn run<M: MirrorOf>(worker: Worker, redis: Redis, stop: CancellationToken) {
    let mirror = Mirror::<M> {
        worker: &worker,
        redis,
        marker: std::marker::PhantomData,
    };
    worker
        .hold(M::NAME, &stop, |lease| mirror.consume(lease, &stop))
        .await;
}

struct Mirror<'a, M> {
    worker: &'a Worker,
    redis: Redis,
    marker: std::marker::PhantomData<fn() -> M>,
}

impl<M: MirrorOf> Mirror<'_, M> {
    async fn consume(&self, lease: Lease, stop: &CancellationToken) {
        let progress = self.worker.progress();
        let mut source = progress.watch(M::SOURCE);
        let mut pause = Duration::from_millis(50);
        let (mut before, mut reported) = (None, false);
        let mut gathering = Gathering::new(GATHER);
        while !stop.is_cancelled() {
            source.mark_unchanged();
            match self.step(&lease).await {
                Ok(Some(position)) => {
                    progress.advance(M::NAME, position);
                    pause = Duration::from_millis(50);
                    // Behind a crash it may have gone back with its view.
                    let events = before.map_or(0, |before| position.saturating_sub(before));
                    tokio::time::sleep(gathering.behind(events)).await;
                    (before, reported) = (Some(position), true);
                    if source.has_changed().unwrap_or(false) {
                        continue;
                    }
                }
                Ok(None) => {
                    if !reported {
                        // Whoever was here before may have died between Redis and Postgres.
                        let reached = *progress.watch(M::NAME).borrow();
                        reported = report(self.worker.store().pool(), &lease, reached).await.is_ok();
                    }
                }
                Err(error) => {
                    warn!(mirror = M::NAME, %error, "mirror held up, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(REST);
                    continue;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = source.changed() => {}
                // Redis may have been emptied meanwhile.
                () = tokio::time::sleep(REST) => {}
            }
        }
    }

    /// How far the source is, by Postgres itself: nothing its worker writes is flushed, so a crash takes it back behind what was
    /// heard of it, and rows read then are older than the events they are read for.
    async fn source(&self) -> Result<u64, sqlx::Error> {
        let position: Option<i64> =
            sqlx::query_scalar("SELECT position FROM checkpoints WHERE consumer = $1")
                .bind(M::SOURCE)
                .fetch_optional(self.worker.store().pool())
                .await?;
        Ok(position.unwrap_or(0).unsigned_abs())
    }

    /// Mirrors what the source has beyond the mirror's position; `None` if there is nothing.
    async fn step(&self, lease: &Lease) -> Result<Option<u64>, MirrorError> {
        let reached = self.source().await?;
        let marker = self.redis.key(M::NAME);
        let at = self.redis.position(M::NAME).await?;
        let head = *self.worker.store().head().borrow();
        let at = match at {
            // A position the log does not have: Redis knows a future that was restored away.
            Some(at) if at <= head => at,
            _ => return self.fill(lease, reached).await.map(Some),
        };
        let mut events = self.worker.store().after(at, BATCH).await?;
        events.retain(|event| event.position <= reached);
        let Some(last) = events.last().map(|event: &Arc<Recorded>| event.position) else {
            self.worker.progress().advance(M::NAME, at);
            return Ok(None);
        };
        let mut ids: Vec<String> = events.iter().filter_map(|event| M::id_of(&event.body)).collect();
        ids.sort_unstable();
        ids.dedup();
        let values = if ids.is_empty() {
            Vec::new()
        } else {
            M::values(self.worker.store().pool(), &ids).await?
        };
        let from = at.to_string();
        let mut rest = values.as_slice();
        // The position moves with the last page. If it was moved by somebody else meanwhile, no page is written any more.
        while let Some((page, more)) = rest.split_at_checked(PAGE.into())
            && !more.is_empty()
        {
            self.apply(&marker, &from, &from, page).await?;
            rest = more;
        }
        if self.apply(&marker, &from, &last.to_string(), rest).await? {
            report(self.worker.store().pool(), lease, last).await?;
        }
        Ok(Some(last))
    }

    /// Fills an empty Redis from the source's rows as they are now. Starts over if it is emptied again meanwhile.
    async fn fill(&self, lease: &Lease, reached: u64) -> Result<u64, MirrorError> {
        let pool = self.worker.store().pool();
        let (marker, filling) = (
            self.redis.key(M::NAME),
            self.redis.key(&format!("{}:filling", M::NAME)),
        );
        let attempt = format!("{}:{}", lease.epoch, reached);
        redis::pipe()
            .del(&marker)
            .set(&filling, &attempt)
            .exec_async(&mut self.redis.connection.clone())
            .await?;
        let (mut after, mut filled) = (String::new(), 0);
        loop {
            let ids = M::ids(pool, &after, PAGE.into()).await?;
            let Some(last) = ids.last() else { break };
            after.clone_from(last);
            let values = M::values(pool, &ids).await?;
            if !self.apply(&filling, &attempt, &attempt, &values).await? {
                return Err(emptied().into());
            }
            filled += values.len();
        }
        // Only if nobody emptied Redis or began to fill it anew behind the last page: the marker vouches for the values.
        let done: bool = Script::new(FINISH)
            .key(&filling)
            .key(&marker)
            .arg(&attempt)
            .arg(reached)
            .invoke_async(&mut self.redis.connection.clone())
            .await?;
        if !done {
            return Err(emptied().into());
        }
        info!(
            mirror = M::NAME,
            position = reached,
            values = filled,
            "redis filled"
        );
        report(pool, lease, reached).await?;
        Ok(reached)
    }

    async fn apply(&self, marker: &str, from: &str, to: &str, values: &[Value]) -> Result<bool, RedisError> {
        let script = Script::new(APPLY);
        let mut call = script.key(marker);
        call.arg(from).arg(to);
        for value in values {
            match value {
                Value::Document {
                    key,
                    position,
                    json,
                    ttl,
                } => {
                    call.key(self.redis.key(key))
                        .arg("document")
                        .arg(position)
                        .arg(json);
                    call.arg(ttl.map_or(0, |ttl| ttl.as_secs()));
                }
                Value::Score { key, member, score } => {
                    call.key(self.redis.key(key))
                        .arg("score")
                        .arg(score)
                        .arg(member)
                        .arg(0);
                }
            }
        }
        let done: i64 = call.invoke_async(&mut self.redis.connection.clone()).await?;
        Ok(done == 1)
    }
}
