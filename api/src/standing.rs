//! Whether an access token still says the truth.

use std::sync::Arc;

use kontor_projections::account_changes::AccountChanges;
use tokio::sync::watch;

use crate::auth::{TokenError, Verified};
use crate::sessions::EndedSessions;

/// What has happened to accounts and sessions within a token's life. Cheap to clone; the default knows of nothing.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    changes: AccountChanges,
    ended: EndedSessions,
    bell: Arc<watch::Sender<u64>>,
}

impl Standing {
    /// By these two, which ring `bell` when they hear of something.
    #[must_use]
    pub fn new(changes: AccountChanges, ended: EndedSessions, bell: Arc<watch::Sender<u64>>) -> Self {
        Self { changes, ended, bell }
    }

    /// Whether the token is as good as when it was issued.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, verified: &Verified) -> Result<(), TokenError> {
        if self.ended.contains(verified.viewer.session) {
            return Err(TokenError::SessionEnded);
        }
        match self.changes.of(verified.viewer.user_id) {
            Some(change) if change.version > verified.version => Err(if change.closed {
                TokenError::Deactivated
            } else {
                TokenError::Outdated
            }),
            _ => Ok(()),
        }
    }

    /// Changes whenever a token may have ended.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Waits until the token is good no more; why.
    pub async fn fallen(&self, verified: &Verified) -> TokenError {
        let mut rung = self.watch();
        loop {
            rung.mark_unchanged();
            if let Err(why) = self.check(verified) {
                return why;
            }
            if rung.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
