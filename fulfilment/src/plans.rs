//! Statements about tables that are empty at one moment and full at the next.

use sqlx::{Executor, PgPool, Postgres, Transaction};

/// A transaction whose statements are planned anew each time: a plan kept from when a table was empty reads it whole.
pub(crate) async fn planned_anew(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    tx.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        .await?;
    Ok(tx)
}
