//! Whose rights have just changed. In memory, for deciding whether an access token still says the truth.
//!
//! A token says what its account might do when it was issued, and which version of the account that was. Asking the account
//! with every request would be a query per request; instead each process follows the log and remembers, for as long as a
//! token lives, the version at which an account last changed. A token of an older version is out of date.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use kontor_domain::{UserEvent, UserId};
use kontor_eventstore::{Body, Store};
use moka::sync::Cache;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Events looked at in one go.
const BATCH: usize = 1_000;
/// How long to wait when the log cannot be read.
const PAUSE: Duration = Duration::from_millis(100);

/// The last change of an account's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountChange {
    /// Version of the account behind it.
    pub version: u64,
    /// Whether it closed the account.
    pub closed: bool,
}

/// Recent changes. Cheap to clone; the default knows of none and watches nothing.
#[derive(Debug, Clone)]
pub struct AccountChanges(Cache<UserId, AccountChange>);

impl Default for AccountChanges {
    fn default() -> Self {
        Self(Cache::new(0))
    }
}

impl AccountChanges {
    /// Reads what has changed within `keep` before `now`, and then watches the log until `stop`. Each change is kept for `keep`:
    /// as long as a token lives. `bell` is rung behind each.
    ///
    /// # Errors
    /// When Postgres is not there.
    pub async fn spawn(
        store: Store,
        now: DateTime<Utc>,
        keep: Duration,
        bell: Arc<watch::Sender<u64>>,
        stop: CancellationToken,
    ) -> Result<Self, sqlx::Error> {
        let changes = Self(Cache::builder().time_to_live(keep).build());
        // Asked before the events are read: what comes in between is seen twice, and nothing never.
        let head = *store.head().borrow();
        let since = now - TimeDelta::from_std(keep).unwrap_or(TimeDelta::MAX);
        let recent = sqlx::query!(
            r#"SELECT aggregate_id, sequence, event_type IN ('Deactivated', 'Erased') AS "closed!" FROM events
               WHERE aggregate_type = 'user' AND timestamp >= $1
                 AND event_type IN ('Deactivated', 'PasswordChanged', 'RoleGranted', 'RoleRevoked', 'Erased')
               ORDER BY position"#,
            since
        )
        .fetch_all(store.pool())
        .await?;
        for row in recent {
            if let Ok(id) = row.aggregate_id.parse() {
                changes.note(id, row.sequence.unsigned_abs(), row.closed);
            }
        }
        tokio::spawn(changes.clone().watch(store, head, bell, stop));
        Ok(changes)
    }

    /// The last change of this account's rights, if it was within a token's life.
    #[must_use]
    pub fn of(&self, id: UserId) -> Option<AccountChange> {
        // Most have not changed, and looking costs less than reading.
        if !self.0.contains_key(&id) {
            return None;
        }
        self.0.get(&id)
    }

    fn note(&self, id: UserId, version: u64, closed: bool) {
        self.0.insert(id, AccountChange { version, closed });
    }

    async fn watch(
        self,
        store: Store,
        mut seen: u64,
        bell: Arc<watch::Sender<u64>>,
        stop: CancellationToken,
    ) {
        let mut head = store.head();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                moved = head.wait_for(|head| *head > seen) => if moved.is_err() { return },
            }
            match store.after(seen, BATCH).await {
                Ok(events) => {
                    let mut changed = false;
                    for event in events {
                        seen = event.position;
                        if let Body::User(id, it) = &event.body
                            && changes_rights(it)
                        {
                            let closed =
                                matches!(it, UserEvent::Deactivated { .. } | UserEvent::Erased { .. });
                            self.note(*id, event.sequence, closed);
                            changed = true;
                        }
                    }
                    if changed {
                        bell.send_modify(|rung| *rung += 1);
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot see whose rights change, trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether a token from before the event says too much, or too little. The query above names the same events.
fn changes_rights(event: &UserEvent) -> bool {
    match event {
        UserEvent::Deactivated { .. }
        | UserEvent::PasswordChanged { .. }
        | UserEvent::RoleGranted { .. }
        | UserEvent::RoleRevoked { .. }
        | UserEvent::Erased { .. } => true,
        // Who was closed out has no token that is good, and one more is given at the next log-in.
        UserEvent::Reactivated {}
        | UserEvent::Registered { .. }
        | UserEvent::ProfileChanged { .. }
        | UserEvent::EmailChanged { .. }
        | UserEvent::EmailVerified {}
        | UserEvent::ChannelsChosen { .. }
        | UserEvent::PaymentMethodSaved { .. }
        | UserEvent::PaymentMethodRemoved { .. } => false,
    }
}
