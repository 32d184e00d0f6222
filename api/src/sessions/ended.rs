//! Sessions that have ended, known to every process for as long as one of their access tokens may live.
//!
//! In Postgres, because what has ended must stay so when Redis is emptied. A few rows an hour; each process polls.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use kontor_domain::SessionId;
use moka::sync::Cache;
use sqlx::{PgExecutor, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::auth::LIFETIME;

/// How often to look for what other processes have ended.
const POLL: Duration = Duration::from_secs(1);
/// What was written so long before the newest row that is known may have become visible since.
const OVERLAP: TimeDelta = TimeDelta::seconds(30);
/// How often rows that nobody needs are removed, in polls.
const CLEAN_EVERY: u32 = 60;

/// Ended sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EndedSessions {
    pool: Option<PgPool>,
    known: Cache<SessionId, ()>,
    bell: Arc<watch::Sender<u64>>,
}

impl Default for EndedSessions {
    /// None, for ever.
    fn default() -> Self {
        Self {
            pool: None,
            known: Cache::new(0),
            bell: Arc::default(),
        }
    }
}

impl EndedSessions {
    /// Reads what has ended, and then looks again and again until `stop`. `bell` is rung when there is more.
    ///
    /// # Errors
    /// When Postgres is not there.
    pub async fn spawn(
        pool: PgPool,
        bell: Arc<watch::Sender<u64>>,
        stop: CancellationToken,
    ) -> Result<Self, sqlx::Error> {
        let ended = Self {
            pool: Some(pool.clone()),
            known: Cache::builder().time_to_live(LIFETIME).build(),
            bell,
        };
        let newest = ended.read(&pool, None).await?;
        tokio::spawn(ended.clone().poll(pool, newest, stop));
        Ok(ended)
    }

    /// Whether this session was ended within a token's life.
    #[must_use]
    pub fn contains(&self, id: SessionId) -> bool {
        self.known.contains_key(&id)
    }

    /// Makes known everywhere that sessions have ended; here at once.
    pub(super) async fn add(&self, ids: &[SessionId]) -> Result<(), sqlx::Error> {
        let Some(pool) = self.pool.as_ref().filter(|_| !ids.is_empty()) else {
            return Ok(());
        };
        Self::write(pool, ids).await?;
        self.note(ids.iter().copied());
        Ok(())
    }

    /// Writes down that sessions have ended: every process hears of it when it looks next.
    pub(super) async fn write(to: impl PgExecutor<'_>, ids: &[SessionId]) -> Result<(), sqlx::Error> {
        let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
        sqlx::query!(
            "INSERT INTO ended_sessions (session_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
            &texts
        )
        .execute(to)
        .await
        .map(drop)
    }

    fn note(&self, ids: impl Iterator<Item = SessionId>) {
        let mut changed = false;
        for id in ids {
            if !self.known.contains_key(&id) {
                self.known.insert(id, ());
                changed = true;
            }
        }
        if changed {
            self.bell.send_modify(|rung| *rung += 1);
        }
    }

    /// Notes what ended after `since`; when the last one did.
    async fn read(
        &self,
        pool: &PgPool,
        since: Option<DateTime<Utc>>,
    ) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
        let rows = sqlx::query!(
            "SELECT session_id, ended_at FROM ended_sessions WHERE $1::timestamptz IS NULL OR ended_at >= $1
             ORDER BY ended_at",
            since.map(|since| since - OVERLAP)
        )
        .fetch_all(pool)
        .await?;
        self.note(rows.iter().filter_map(|row| row.session_id.parse().ok()));
        Ok(rows.last().map(|row| row.ended_at).or(since))
    }

    async fn poll(self, pool: PgPool, mut newest: Option<DateTime<Utc>>, stop: CancellationToken) {
        let mut polls = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
            polls = polls.wrapping_add(1);
            let round = async {
                if polls.is_multiple_of(CLEAN_EVERY) {
                    clean(&pool).await?;
                }
                self.read(&pool, newest).await
            };
            match round.await {
                Ok(last) => newest = last,
                Err(error) if !stop.is_cancelled() => {
                    warn!(%error, "cannot see which sessions end, trying again");
                }
                Err(_) => {}
            }
        }
    }
}

/// Twice a token's life, so that no process that starts late misses one.
async fn clean(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM ended_sessions WHERE ended_at < clock_timestamp() - $1 * interval '1 second'",
        2.0 * LIFETIME.as_secs_f64()
    )
    .execute(pool)
    .await
    .map(drop)
}
