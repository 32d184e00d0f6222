//! One worker at a time per consumer; one that dies is replaced within seconds (V5).

use std::time::Duration;

use sqlx::PgPool;

/// How long a lease lasts without being renewed.
pub(crate) const TERM: Duration = Duration::from_secs(4);
/// How often its holder renews it, and others try for it.
pub(crate) const RENEWAL: Duration = Duration::from_secs(1);

/// The right to move one consumer's checkpoint, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose checkpoint.
    pub consumer: String,
    /// The worker that has it.
    pub owner: String,
    /// Rises each time the lease changes hands.
    pub epoch: i64,
}

/// Takes the lease if it is free or already `owner`'s; renews it then. The database's clock decides.
///
/// Not flushed, for a lease need not survive a crash of Postgres: whoever takes it next gets an epoch no lower, and an
/// owner is never called the same twice.
///
/// # Errors
/// When Postgres is not there.
pub async fn acquire(pool: &PgPool, consumer: &str, owner: &str) -> Result<Option<Lease>, sqlx::Error> {
    let row = sqlx::query!(
        r#"INSERT INTO leases AS l (consumer, owner, epoch, expires_at)
         VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 second')
         ON CONFLICT (consumer) DO UPDATE
         SET owner = excluded.owner, expires_at = excluded.expires_at,
             epoch = l.epoch + CASE WHEN l.owner = excluded.owner THEN 0 ELSE 1 END
         WHERE l.owner = excluded.owner OR l.expires_at < clock_timestamp()
         RETURNING epoch, set_config('synchronous_commit', 'off', true) AS "unflushed!""#,
        consumer,
        owner,
        TERM.as_secs_f64()
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Lease {
        consumer: consumer.to_owned(),
        owner: owner.to_owned(),
        epoch: row.epoch,
    }))
}

/// Gives the lease back at once, so that a clean stop leaves no gap.
///
/// # Errors
/// When Postgres is not there; the lease then runs out by itself.
pub async fn release(pool: &PgPool, lease: &Lease) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE leases SET expires_at = '-infinity' WHERE consumer = $1 AND owner = $2 AND epoch = $3",
        lease.consumer,
        lease.owner,
        lease.epoch
    )
    .execute(pool)
    .await?;
    Ok(())
}
