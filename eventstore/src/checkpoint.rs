//! How far each consumer has come, as Postgres knows it.

use sqlx::{PgConnection, PgPool};

use crate::lease::Lease;
use crate::progress::PROGRESS_CHANNEL;

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

/// Notes how far a consumer has come that keeps its checkpoint elsewhere (in Redis), for everybody to see. Not flushed:
/// what counts is in Redis.
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
    .fetch_one(pool)
    .await?;
    Ok(())
}

/// The checkpoint, held until the transaction ends, so that resuming dead letters and swapping in a rebuilt view take
/// turns with the worker. `None` if the lease is no longer ours.
///
/// Whatever else depends on the turn is asked in a statement of its own, behind this one: this one's snapshot may be older
/// than its lock.
pub(crate) async fn hold(connection: &mut PgConnection, lease: &Lease) -> Result<Option<u64>, sqlx::Error> {
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

/// Compare and swap (V1), and announce it; false if the lease changed hands in the meantime.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    lease: &Lease,
    from: u64,
    to: u64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "WITH moved AS (UPDATE checkpoints SET position = $5, updated_at = clock_timestamp()
                        WHERE consumer = $1 AND position = $4
                          AND EXISTS (SELECT FROM leases WHERE consumer = $1 AND owner = $2 AND epoch = $3)
                        RETURNING position)
         SELECT pg_notify($6, $1 || ' ' || position)::text FROM moved",
        lease.consumer,
        lease.owner,
        lease.epoch,
        from.cast_signed(),
        to.cast_signed(),
        PROGRESS_CHANNEL
    )
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}
