//! Proving that views say what the log says: each is built afresh beside the live one and compared row by row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kontor_eventstore::read::read;
use kontor_eventstore::{Recorded, checkpoint};
use serde::Deserialize;
use sqlx::{Connection, PgConnection, PgPool, Row};

use crate::fill::{FillError, Filling, Scratch, apply};
use crate::mirror::{MirrorOf, Redis, Value};
use crate::view::Rebuildable;

const SCHEMA: &str = "verify";
/// Differences told in full; all are counted.
const TOLD: i64 = 20;
/// Rows of a mirror looked at in one go.
const PAGE: i64 = 500;
/// How often a value in Redis that is still on its way is looked at again.
const LOOKS: u32 = 100;
/// How long a mirror may take to come to where its view is.
const MIRROR_PATIENCE: Duration = Duration::from_secs(2);

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The view.
    pub view: &'static str,
    /// The position at which it was compared.
    pub position: u64,
    /// Where its view was when a mirror in Redis was not there yet, and did not move: then it was not compared.
    pub behind: Option<u64>,
    /// Rows compared.
    pub rows: u64,
    /// Rows that differ.
    pub different: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// A row that is not as the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its key.
    pub key: String,
    /// How it differs. Columns by name, never by value: they may be personal.
    pub how: How,
}

/// How a row can differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// The live view lacks it.
    Missing,
    /// The log knows nothing of it.
    Unfounded,
    /// These columns are different.
    Columns(Vec<String>),
}

/// Compares views in Postgres with what the log makes of them. The worker of a view rests while its rows are being
/// compared, and only then.
///
/// # Errors
/// See [`FillError`].
pub async fn verify(
    pool: &PgPool,
    views: &[Arc<dyn Rebuildable>],
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<Vec<Verdict>, FillError> {
    let checkpoints = checkpoint::checkpoints(pool).await?;
    let position = |name| {
        checkpoints
            .iter()
            .find(|it| it.consumer == name)
            .map_or(0, |it| it.position)
    };
    let to = views.iter().map(|view| position(view.name())).min().unwrap_or(0);
    let mut scratch = Scratch::take(pool, SCHEMA).await?;
    let fillings = scratch.fill(views, to, |done| progress(done, to)).await?;
    let mut verdicts = Vec::new();
    for mut filling in fillings {
        let key = filling.view.key();
        verdicts.push(compare_at_same_position(pool, &mut filling, key).await?);
    }
    scratch.leave().await?;
    Ok(verdicts)
}

async fn compare_at_same_position(
    pool: &PgPool,
    filling: &mut Filling,
    key: &str,
) -> Result<Verdict, FillError> {
    let name = filling.view.name();
    checkpoint::register(pool, name).await?;
    let mut tx = filling.connection.begin().await?;
    let live = sqlx::query_scalar!(
        "SELECT position FROM checkpoints WHERE consumer = $1 FOR UPDATE",
        name
    )
    .fetch_one(&mut *tx)
    .await?
    .unsigned_abs();
    while filling.reached < live {
        let events: Vec<Arc<Recorded>> = read(pool, filling.reached, (live - filling.reached).min(10_000))
            .await?
            .into_iter()
            .map(Arc::new)
            .collect();
        let Some(last) = events.last() else { break };
        filling.reached = last.position;
        let more = apply(filling.view.as_ref(), &mut tx, events, &filling.parked).await?;
        filling.parked.extend(more);
    }
    let verdict = compare(&mut tx, name, key, live).await?;
    tx.rollback().await?;
    Ok(verdict)
}

async fn compare(
    connection: &mut PgConnection,
    name: &'static str,
    key: &str,
    position: u64,
) -> Result<Verdict, FillError> {
    // `name` and `key` are constants of the views. Rows are compared as text, as `json` has no equality.
    let rows: i64 = sqlx::query_scalar(&format!("SELECT count(*) FROM {SCHEMA}.{name}"))
        .fetch_one(&mut *connection)
        .await?;
    let found = sqlx::query(&format!(
        "SELECT concat_ws(' ', {key}) AS key, a IS NULL AS missing, b IS NULL AS unfounded, count(*) OVER () AS different,
                ARRAY(SELECT x.key FROM jsonb_each(to_jsonb(a)) x JOIN jsonb_each(to_jsonb(b)) y USING (key)
                      WHERE x.value <> y.value ORDER BY 1) AS columns
         FROM (SELECT {key}, t AS a FROM public.{name} t) live
         FULL JOIN (SELECT {key}, t AS b FROM {SCHEMA}.{name} t) log USING ({key})
         WHERE a::text IS DISTINCT FROM b::text ORDER BY 1 LIMIT {TOLD}"
    ))
    .fetch_all(connection)
    .await?;
    let mut verdict = Verdict {
        view: name,
        position,
        behind: None,
        rows: rows.unsigned_abs(),
        different: 0,
        differences: Vec::new(),
    };
    for row in found {
        verdict.different = row.try_get::<i64, _>("different")?.unsigned_abs();
        let how = match (row.try_get("missing")?, row.try_get("unfounded")?) {
            (true, _) => How::Missing,
            (_, true) => How::Unfounded,
            _ => How::Columns(row.try_get("columns")?),
        };
        verdict.differences.push(Difference {
            key: row.try_get("key")?,
            how,
        });
    }
    Ok(verdict)
}

#[derive(Deserialize)]
struct Positioned {
    position: i64,
}

/// Compares a mirror in Redis with the view it mirrors. A value that is not in Redis is not wrong (readers ask
/// Postgres); one that stays different is. A mirror that is behind and stays there, for want of a worker, is not
/// compared.
///
/// # Errors
/// When Redis or Postgres does not answer.
pub async fn verify_mirror<M: MirrorOf>(pool: &PgPool, redis: &Redis) -> Result<Verdict, FillError> {
    let (position, source) = caught_up::<M>(pool, redis).await?;
    let mut verdict = Verdict {
        view: M::NAME,
        position,
        behind: None,
        rows: 0,
        different: 0,
        differences: Vec::new(),
    };
    if position < source {
        verdict.behind = Some(source);
        return Ok(verdict);
    }
    let mut after = String::new();
    loop {
        let ids = M::ids(pool, &after, PAGE).await?;
        let Some(last) = ids.last() else {
            return Ok(verdict);
        };
        after.clone_from(last);
        let mut suspects = ids;
        for look in 0.. {
            let values = M::values(pool, &suspects).await?;
            if look == 0 {
                verdict.rows += values.len() as u64;
            }
            let different = differing(redis, &values).await?;
            if different.is_empty() {
                break;
            }
            if look == LOOKS {
                verdict.different += different.len() as u64;
                verdict
                    .differences
                    .extend(different.into_iter().map(|(key, _)| Difference {
                        key,
                        how: How::Columns(vec!["value".to_owned()]),
                    }));
                break;
            }
            // It may have changed between two reads, or be on its way.
            tokio::time::sleep(Duration::from_millis(50)).await;
            suspects = different.into_iter().map(|(_, id)| id).collect();
        }
    }
}

/// Waits a moment for a mirror to come to where its view is. Where the mirror is then, and where the view was.
async fn caught_up<M: MirrorOf>(pool: &PgPool, redis: &Redis) -> Result<(u64, u64), FillError> {
    let source = checkpoint::checkpoints(pool)
        .await?
        .into_iter()
        .find(|it| it.consumer == M::SOURCE)
        .map_or(0, |it| it.position);
    let started = Instant::now();
    loop {
        let position = redis.position(M::NAME).await?.unwrap_or(0);
        if position >= source || started.elapsed() > MIRROR_PATIENCE {
            return Ok((position, source));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The values that are otherwise in Redis: full key, and id of the row.
async fn differing(redis: &Redis, values: &[Value]) -> Result<Vec<(String, String)>, FillError> {
    let mut query = redis::pipe();
    for value in values {
        match value {
            Value::Document { key, .. } => query.hget(redis.key(key), "value"),
            Value::Score { key, member, .. } => query.zscore(redis.key(key), member),
        };
    }
    let found: Vec<Option<String>> = redis.ask(&query).await?;
    let mut different = Vec::new();
    for (value, found) in values.iter().zip(found) {
        match (value, found) {
            (
                Value::Document {
                    key, position, json, ..
                },
                Some(found),
            ) if found != *json => {
                let known = serde_json::from_str::<Positioned>(&found).map_or(0, |it| it.position);
                let id = key.rsplit(':').next().unwrap_or(key).to_owned();
                different.push((format!("{key} (position {known}, should be {position})"), id));
            }
            (Value::Score { key, member, score }, found)
                if found.as_deref() != Some(score.to_string().as_str()) =>
            {
                different.push((format!("{key} {member}"), member.clone()));
            }
            _ => {}
        }
    }
    Ok(different)
}
