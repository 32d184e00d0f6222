//! Replaying the log into a new generation of a view while the shop goes on (V4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use kontor_eventstore::read::{head, read};
use kontor_eventstore::{Recorded, checkpoint, dead_letters};
use sqlx::{Connection, Executor, PgPool};
use tracing::{info, warn};

use crate::fill::{FillError, Filling, Scratch, apply};
use crate::view::Rebuildable;

const SCHEMA: &str = "rebuild";
/// Events behind the head at which a rebuilt view is swapped in; the rest is applied during the swap.
const CLOSE: u64 = 2_000;
/// Tries to swap a view in before giving up: long-running readers hold the old table.
const SWAPS: u32 = 20;

/// A view that was rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Its name.
    pub view: &'static str,
    /// The position it was swapped in at.
    pub position: u64,
    /// Events it could not apply.
    pub parked: usize,
    /// How long it took, up to the swap.
    pub took: Duration,
}

/// Rebuilds `views` from the log and swaps each in, in a transaction of its own. Readers see the old view or the new
/// one, never less. `progress` is told the events read and how many there are to read.
///
/// # Errors
/// See [`FillError`]; what was not swapped in stays as it was.
pub async fn rebuild(
    pool: &PgPool,
    views: &[Arc<dyn Rebuildable>],
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<Vec<Rebuilt>, FillError> {
    let started = Instant::now();
    for view in views {
        checkpoint::register(pool, view.name()).await?;
    }
    let mut scratch = Scratch::take(pool, SCHEMA).await?;
    let mut to = head(pool).await?;
    let mut fillings = scratch.fill(views, to, |done| progress(done, to)).await?;
    loop {
        let newer = head(pool).await?;
        if newer.saturating_sub(to) <= CLOSE {
            break;
        }
        fillings = scratch
            .feed(fillings, newer, |done| progress(to + done, newer))
            .await?;
        to = newer;
    }
    let mut rebuilt = Vec::new();
    for mut filling in fillings {
        let position = swap_in(pool, &mut filling).await?;
        info!(
            view = filling.view.name(),
            position, "view rebuilt and swapped in"
        );
        let parked = filling.parked.len();
        rebuilt.push(Rebuilt {
            view: filling.view.name(),
            position,
            parked,
            took: started.elapsed(),
        });
    }
    scratch.leave().await?;
    Ok(rebuilt)
}

async fn swap_in(pool: &PgPool, filling: &mut Filling) -> Result<u64, FillError> {
    let mut tries = 0;
    loop {
        match try_swap(pool, filling).await {
            Err(FillError::Postgres(sqlx::Error::Database(error)))
                if error.code().as_deref() == Some("55P03") && tries < SWAPS =>
            {
                tries += 1;
                warn!(
                    view = filling.view.name(),
                    tries, "readers hold the old table; trying to swap again"
                );
            }
            swapped => return swapped,
        }
    }
}

/// Takes the worker's turn, applies what is still missing, and puts the new table in the place of the old one.
async fn try_swap(pool: &PgPool, filling: &mut Filling) -> Result<u64, FillError> {
    let name = filling.view.name();
    let mut tx = filling.connection.begin().await?;
    // Vacuuming what is about to be dropped gives way to this within a second, while nobody waits for anybody.
    let alone = format!(
        "SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '3s';
         LOCK TABLE public.{name} IN SHARE UPDATE EXCLUSIVE MODE; SET LOCAL lock_timeout = '1s'"
    );
    tx.execute(alone.as_str()).await?;
    let live = sqlx::query_scalar!(
        "SELECT position FROM checkpoints WHERE consumer = $1 FOR UPDATE",
        name
    )
    .fetch_one(&mut *tx)
    .await?
    .unsigned_abs();
    let mut reached = filling.reached;
    let mut parked = filling.parked.clone();
    while reached < live {
        let events: Vec<Arc<Recorded>> = read(pool, reached, (live - reached).min(CLOSE))
            .await?
            .into_iter()
            .map(Arc::new)
            .collect();
        let Some(last) = events.last() else { break };
        reached = last.position;
        let more = apply(filling.view.as_ref(), &mut tx, events, &parked).await?;
        parked.extend(more);
    }
    tx.execute(format!("DROP TABLE public.{name}; ALTER TABLE {SCHEMA}.{name} SET SCHEMA public").as_str())
        .await?;
    sqlx::query!("DELETE FROM dead_letters WHERE consumer = $1", name)
        .execute(&mut *tx)
        .await?;
    dead_letters::park(&mut tx, name, &parked).await?;
    sqlx::query!(
        "UPDATE checkpoints SET position = $2, updated_at = clock_timestamp() WHERE consumer = $1",
        name,
        reached.cast_signed()
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    (filling.reached, filling.parked) = (reached, parked);
    Ok(reached)
}
