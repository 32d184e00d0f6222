//! Transactions on connections of the pool.

use sqlx::{PgPool, Postgres, Transaction};

/// Begins a transaction. Whoever does not wait for it leaves none behind: sqlx (0.8) gives the connection of a `begin` that is
/// dropped half-way back to the pool with its transaction open, and what the next one writes on it would not be committed.
///
/// # Errors
/// When Postgres is not there.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    begin_with(pool, "BEGIN").await
}

/// A transaction whose statements are planned anew each time: a plan kept from when a table was empty reads it whole, and one
/// for conditions that may be left out fits none of those that are there.
///
/// # Errors
/// When Postgres is not there.
pub async fn planned_anew(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    begin_with(pool, "BEGIN; SET LOCAL plan_cache_mode = force_custom_plan").await
}

/// [`planned_anew`] for what may be lost again when Postgres crashes: its commit does not wait for the disk.
///
/// # Errors
/// When Postgres is not there.
pub async fn planned_anew_unflushed(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let statement =
        "BEGIN; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL synchronous_commit = off";
    begin_with(pool, statement).await
}

async fn begin_with(
    pool: &PgPool,
    statement: &'static str,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    #[expect(clippy::disallowed_methods, reason = "the place that is meant")]
    let begun = tokio::spawn(async move { pool.begin_with(statement).await });
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}
