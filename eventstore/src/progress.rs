//! How far each consumer has come, as this process knows it: for reads that ask for a position (V6) and for lag (V7).

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The channel on which a worker announces `consumer position` after a commit.
pub(crate) const PROGRESS_CHANNEL: &str = "kontor_progress";
/// How often the checkpoints are read although nothing was announced.
const POLL: Duration = Duration::from_millis(500);

/// Positions by consumer. They only rise.
#[derive(Debug, Default)]
pub struct Progress {
    positions: RwLock<HashMap<String, watch::Sender<u64>>>,
}

/// A view did not get there in the time given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{consumer} is at position {reached}, not yet at {wanted}")]
pub struct NotYet {
    /// Whose position.
    pub consumer: String,
    /// The position asked for.
    pub wanted: u64,
    /// The position it has.
    pub reached: u64,
}

impl Progress {
    /// The position of a consumer, to look at or to wait on.
    #[must_use]
    pub fn watch(&self, consumer: &str) -> watch::Receiver<u64> {
        if let Some(position) = self
            .positions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(consumer)
        {
            return position.subscribe();
        }
        let mut positions = self.positions.write().unwrap_or_else(PoisonError::into_inner);
        positions
            .entry(consumer.to_owned())
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// Waits until a consumer has reached `position`.
    ///
    /// # Errors
    /// [`NotYet`] after `patience`.
    pub async fn reach(&self, consumer: &str, position: u64, patience: Duration) -> Result<(), NotYet> {
        let mut watch = self.watch(consumer);
        if *watch.borrow() >= position {
            return Ok(());
        }
        let there = matches!(
            tokio::time::timeout(patience, watch.wait_for(|reached| *reached >= position)).await,
            Ok(Ok(_))
        );
        if there {
            return Ok(());
        }
        Err(NotYet {
            consumer: consumer.to_owned(),
            wanted: position,
            reached: *watch.borrow(),
        })
    }

    /// Notes that a consumer has come to `position`.
    pub fn advance(&self, consumer: &str, position: u64) {
        drop(self.watch(consumer));
        if let Some(known) = self
            .positions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(consumer)
        {
            known.send_if_modified(|known| {
                let rises = position > *known;
                *known = position.max(*known);
                rises
            });
        }
    }

    /// Keeps up with the workers of other processes, until `stop`.
    pub async fn follow(&self, pool: PgPool, stop: CancellationToken) {
        let mut listener = None;
        while !stop.is_cancelled() {
            if listener.is_none() {
                listener = listen(&pool).await;
            }
            match sqlx::query!("SELECT consumer, position FROM checkpoints")
                .fetch_all(&pool)
                .await
            {
                Ok(rows) => rows
                    .iter()
                    .for_each(|row| self.advance(&row.consumer, row.position.unsigned_abs())),
                Err(error) => warn!(%error, "cannot read the checkpoints, trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.announced(&mut listener) => listener = None,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Takes announcements as they come; returns when they stop coming.
    async fn announced(&self, listener: &mut Option<PgListener>) {
        let Some(listener) = listener else {
            return std::future::pending().await;
        };
        while let Ok(Some(notification)) = listener.try_recv().await {
            if let Some((consumer, position)) = notification.payload().split_once(' ')
                && let Ok(position) = position.parse()
            {
                self.advance(consumer, position);
            }
        }
    }
}

async fn listen(pool: &PgPool) -> Option<PgListener> {
    let mut listener = PgListener::connect_with(pool).await.ok()?;
    listener.listen(PROGRESS_CHANNEL).await.ok()?;
    Some(listener)
}
