//! The database's schema, and which log it holds.

use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};

use crate::transaction::begin;

/// `migrations/`, compiled in. Forward only; expand, then contract.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Another, newer Kontor has migrated it.
    #[error(
        "the database's schema (version {found}) is newer than this Kontor (version {known}): \
         run the newer Kontor, or point DATABASE_URL at another database"
    )]
    Newer {
        /// The newest migration the database has.
        found: i64,
        /// The newest migration this binary has.
        known: i64,
    },
    /// A migration failed, or was changed after it was applied.
    #[error("the database could not be migrated: {0}")]
    Migrate(MigrateError),
    /// Postgres was not there.
    #[error("the database could not be asked for its schema: {0}")]
    Database(#[from] sqlx::Error),
}

/// Brings the schema up to this binary's version. Several processes may do so at once: one does, the rest wait.
///
/// # Errors
/// See [`SchemaError`]; nothing is half-applied.
pub async fn migrate(pool: &PgPool) -> Result<(), SchemaError> {
    MIGRATOR.run(pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => {
            let known = MIGRATOR
                .iter()
                .map(|migration| migration.version)
                .max()
                .unwrap_or(0);
            SchemaError::Newer { found, known }
        }
        other => SchemaError::Migrate(other),
    })
}

/// The id of the log (L11). Drawn anew when the database is not on the cluster and timeline it was on before: then it
/// has been restored, and what was derived from it elsewhere may know events that no longer exist.
///
/// # Errors
/// When Postgres is not there.
pub async fn incarnation(pool: &PgPool) -> Result<String, sqlx::Error> {
    let mut tx = begin(pool).await?;
    let log = sqlx::query!(
        r#"SELECT incarnation, cluster, timeline,
                  (SELECT system_identifier FROM pg_control_system()) AS "cluster_now!",
                  (SELECT timeline_id::bigint FROM pg_control_checkpoint()) AS "timeline_now!"
           FROM log FOR UPDATE"#
    )
    .fetch_one(&mut *tx)
    .await?;
    if (log.cluster, log.timeline) == (log.cluster_now, log.timeline_now) {
        return Ok(log.incarnation);
    }
    // The checkpoints were restored together with the log they belong to, so they stay true.
    let incarnation = sqlx::query_scalar!(
        "UPDATE log SET incarnation = gen_random_uuid()::text, cluster = $1, timeline = $2 RETURNING incarnation",
        log.cluster_now,
        log.timeline_now
    )
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query!("UPDATE checkpoints SET incarnation = $1", incarnation)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(incarnation)
}
