//! Snapshots: a cache of aggregates, written off the command's path (L7).

use std::fmt::Display;

use futures::future::BoxFuture;
use kontor_domain::Entity;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tracing::warn;

use crate::store::load;

/// A snapshot every so many events.
const EVERY: u64 = 500;
/// Snapshots waiting to be written; further ones are left out, as the next will do.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(PgPool) -> BoxFuture<'static, ()> + Send>;

#[derive(Debug)]
pub(crate) struct Snapshots(mpsc::Sender<Job>);

impl Snapshots {
    pub(crate) fn spawn(pool: PgPool) -> Self {
        let (sender, mut jobs) = mpsc::channel::<Job>(QUEUE);
        tokio::spawn(async move {
            while let Some(job) = jobs.recv().await {
                job(pool.clone()).await;
            }
        });
        Self(sender)
    }

    /// Has a snapshot written if the aggregate has just passed a multiple of [`EVERY`].
    pub(crate) fn consider<A: Entity>(&self, id: &impl Display, before: u64, after: u64) {
        if before / EVERY == after / EVERY {
            return;
        }
        let id = id.to_string();
        let job: Job = Box::new(move |pool| {
            Box::pin(async move {
                if let Err(error) = write::<A>(&pool, &id).await {
                    warn!(%error, aggregate.r#type = A::TYPE, aggregate.id = id, "snapshot not written");
                }
            })
        });
        // A full queue means that snapshots are plenty already.
        let _ = self.0.try_send(job);
    }
}

/// Loads the committed state afresh rather than taking the cached one, which may be ahead of the log.
async fn write<A: Entity>(pool: &PgPool, id: &str) -> Result<(), sqlx::Error> {
    let protocol = |error: String| sqlx::Error::Protocol(error);
    let (mut aggregate, version) = load::<A>(pool, id).await.map_err(|e| protocol(e.to_string()))?;
    if aggregate.personal().iter().any(|value| value.sealed().is_none()) {
        // From events that were written before anything was sealed: not to be had twice in the clear.
        return Ok(());
    }
    let payload = serde_json::to_value(&aggregate).map_err(|e| protocol(e.to_string()))?;
    sqlx::query!(
        "INSERT INTO snapshots (aggregate_type, aggregate_id, last_sequence, current_snapshot, payload)
         VALUES ($1, $2, $3, 1, $4)
         ON CONFLICT (aggregate_type, aggregate_id) DO UPDATE
         SET last_sequence = excluded.last_sequence, payload = excluded.payload,
             current_snapshot = snapshots.current_snapshot + 1
         WHERE snapshots.last_sequence < excluded.last_sequence",
        A::TYPE,
        id,
        version.cast_signed(),
        payload
    )
    .execute(pool)
    .await?;
    Ok(())
}
