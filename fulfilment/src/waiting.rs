//! What orders wait for, for people to look at: the table of pending orders, and the orders whose products have not answered.

use std::time::Duration;

use chrono::{DateTime, Utc};
use kontor_domain::{OrderId, PendingStep};
use kontor_eventstore::transaction::planned_anew;
use sqlx::PgPool;

/// What an order waits for that somebody has to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which order.
    pub order_id: OrderId,
    /// What it waits for.
    pub step: PendingStep,
    /// Since when.
    pub since: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next; none: not before staff say so.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Why the last try came to nothing, in our own words.
    pub last_error: Option<String>,
}

/// What these orders wait for; those that are in no row wait for nobody who has to be asked.
///
/// # Errors
/// When Postgres is not there.
pub async fn by_ids(pool: &PgPool, ids: &[String]) -> Result<Vec<Waiting>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT order_id, step, since, attempts, due_at, last_error FROM pending_orders WHERE order_id = ANY ($1)",
        ids
    )
    .fetch_all(&mut *planned_anew(pool).await?)
    .await?;
    let known = rows.into_iter().filter_map(|row| {
        Some(Waiting {
            order_id: row.order_id.parse().ok()?,
            step: PendingStep::parse(&row.step)?,
            since: row.since,
            attempts: row.attempts.cast_unsigned(),
            next_attempt_at: row.due_at,
            last_error: row.last_error,
        })
    });
    Ok(known.collect())
}

/// Orders that have waited for longer than that, for whatever, and since when: oldest first, at most `limit`, behind `after`.
///
/// Reads all that waits: there is no index for what staff ask now and then of a table that is written all day.
///
/// # Errors
/// When Postgres is not there.
pub async fn longer_than(
    pool: &PgPool,
    time: Duration,
    after: Option<(DateTime<Utc>, &str)>,
    limit: i64,
) -> Result<Vec<(OrderId, DateTime<Utc>)>, sqlx::Error> {
    let (since, id) = after.unzip();
    let rows = sqlx::query!(
        r#"SELECT w.id AS "id!", w.since AS "since!"
           FROM (SELECT p.order_id AS id, p.since
                 FROM pending_orders p JOIN orders o ON o.id = p.order_id
                 UNION ALL
                 SELECT o.id, o.placed_at
                 FROM orders o
                 WHERE o.status = 'PENDING' AND NOT EXISTS (SELECT FROM pending_orders p WHERE p.order_id = o.id)) AS w
           WHERE w.since < clock_timestamp() - $1 * interval '1 second'
             AND ($2::timestamptz IS NULL OR (w.since, w.id) > ($2, $3::text))
           ORDER BY w.since, w.id LIMIT $4"#,
        time.as_secs_f64(),
        since,
        id,
        limit
    )
    .fetch_all(&mut *planned_anew(pool).await?)
    .await?;
    let known = rows
        .into_iter()
        .filter_map(|row| Some((row.id.parse().ok()?, row.since)));
    Ok(known.collect())
}
