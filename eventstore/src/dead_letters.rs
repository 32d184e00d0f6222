//! Events that could not be applied, and those of the same aggregates that wait behind them (V3).

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::consumer::Consumer;
use crate::read::{ReadError, read_stream};
use crate::recorded::{Recorded, StreamKey};
use crate::transaction::begin;

/// An event a consumer did not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Where it stands in the log.
    pub position: u64,
    /// The aggregate that waits with it.
    pub stream: StreamKey,
    /// Why; `None` if it only waits behind another.
    pub error: Option<String>,
}

impl Parked {
    /// An event that could not be applied.
    #[must_use]
    pub fn failed(event: &Recorded, error: String) -> Self {
        Self {
            position: event.position,
            stream: event.stream(),
            error: Some(error),
        }
    }

    /// An event of an aggregate that is parked already.
    #[must_use]
    pub fn waiting(event: &Recorded) -> Self {
        Self {
            position: event.position,
            stream: event.stream(),
            error: None,
        }
    }
}

/// One parked aggregate, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Who could not apply it.
    pub consumer: String,
    /// The aggregate.
    pub stream: StreamKey,
    /// The first event that could not be applied.
    pub position: u64,
    /// Why.
    pub error: String,
    /// Events of the aggregate that wait, the first included.
    pub events: u64,
    /// Since when.
    pub parked_at: DateTime<Utc>,
}

/// What came of resuming an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// So many events were applied; nothing waits any more.
    Done(u64),
    /// It still cannot be applied; everything waits as before.
    StillParked {
        /// Where.
        position: u64,
        /// Why.
        error: String,
    },
    /// Nothing was parked under that name.
    NotFound,
}

/// All parked aggregates, oldest first.
///
/// # Errors
/// When Postgres is not there.
pub async fn list(pool: &PgPool) -> Result<Vec<DeadLetter>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT consumer, aggregate_type, aggregate_id, min(position) AS "position!",
                  coalesce((array_agg(error ORDER BY position) FILTER (WHERE error IS NOT NULL))[1], '') AS "error!",
                  count(*) AS "events!", min(parked_at) AS "parked_at!"
           FROM dead_letters GROUP BY 1, 2, 3 ORDER BY 4"#
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| DeadLetter {
            consumer: row.consumer,
            stream: StreamKey {
                aggregate_type: row.aggregate_type,
                aggregate_id: row.aggregate_id,
            },
            position: row.position.unsigned_abs(),
            error: row.error,
            events: row.events.unsigned_abs(),
            parked_at: row.parked_at,
        })
        .collect())
}

/// Applies what waits of one aggregate, in order, in one transaction. The worker takes its turn before or behind it.
///
/// # Errors
/// When Postgres is not there or refuses; everything waits as before then.
pub async fn resume(
    pool: &PgPool,
    consumer: &dyn Consumer,
    stream: &StreamKey,
) -> Result<Resumed, ReadError> {
    let mut tx = begin(pool).await?;
    sqlx::query!(
        "SELECT position FROM checkpoints WHERE consumer = $1 FOR UPDATE",
        consumer.name()
    )
    .fetch_optional(&mut *tx)
    .await?;
    let waiting: HashSet<i64> = sqlx::query_scalar!(
        "DELETE FROM dead_letters WHERE consumer = $1 AND aggregate_type = $2 AND aggregate_id = $3 RETURNING position",
        consumer.name(),
        stream.aggregate_type,
        stream.aggregate_id
    )
    .fetch_all(&mut *tx)
    .await?
    .into_iter()
    .collect();
    if waiting.is_empty() {
        return Ok(Resumed::NotFound);
    }
    let events: Vec<Arc<Recorded>> = read_stream(pool, &stream.aggregate_type, &stream.aggregate_id)
        .await?
        .into_iter()
        .filter(|event| waiting.contains(&event.position.cast_signed()))
        .map(Arc::new)
        .collect();
    let refused = consumer.resume(&mut tx, &events).await?;
    if let Some(first) = refused.into_iter().next() {
        return Ok(Resumed::StillParked {
            position: first.position,
            error: first.error.unwrap_or_default(),
        });
    }
    tx.commit().await?;
    Ok(Resumed::Done(events.len() as u64))
}

pub(crate) async fn parked_streams(
    connection: &mut PgConnection,
    consumer: &str,
) -> Result<HashSet<StreamKey>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT DISTINCT aggregate_type, aggregate_id FROM dead_letters WHERE consumer = $1",
        consumer
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StreamKey {
            aggregate_type: row.aggregate_type,
            aggregate_id: row.aggregate_id,
        })
        .collect())
}

/// Writes events to the dead letters of `consumer`.
///
/// # Errors
/// When Postgres is not there.
pub async fn park(
    connection: &mut PgConnection,
    consumer: &str,
    parked: &[Parked],
) -> Result<(), sqlx::Error> {
    for it in parked {
        sqlx::query!(
            "INSERT INTO dead_letters (consumer, position, aggregate_type, aggregate_id, error)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            consumer,
            it.position.cast_signed(),
            it.stream.aggregate_type,
            it.stream.aggregate_id,
            it.error
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
