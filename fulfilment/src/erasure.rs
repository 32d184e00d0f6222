//! Forgets people. The command that ends an account is an event like any other; this consumer of the log then destroys the
//! person's key and removes what else is kept of them, and leaves a certificate. Everything it does bears repetition.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use kontor_domain::{User, UserCommand, UserError, UserEvent, UserId};
use kontor_eventstore::erasure::{Destroyed, destroy};
use kontor_eventstore::{
    Actor, Body, Clock, CommandContext, Consumer, ExecuteError, Parked, Recorded, Store, crash,
};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use tracing::info;

use crate::notifications::{account_files, outbox_files};

mod journal;

pub use journal::{Entry, Journal};

/// The consumer's name.
pub const NAME: &str = "erasure";

/// What was erased where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// What the log kept beside its events.
    #[serde(flatten)]
    pub log: Destroyed,
    /// Notifications and mails about the account that will not be sent.
    pub notifications: u64,
    /// Tokens in mails that prove nothing any more.
    pub tokens: u64,
    /// Mails and SMS in the outbox.
    pub messages: u64,
}

/// A certificate, and what it certifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// Position of the event that ended the account.
    pub position: u64,
    /// When the rest was done, by the clock of the database.
    pub at: DateTime<Utc>,
    /// Sessions that were ended, and their records removed; none yet, as long as Redis is away.
    pub sessions: u64,
    /// What was erased where.
    pub certificate: Certificate,
}

/// The consumer that erases.
pub struct Erasure {
    journal: Journal,
    outbox: Option<PathBuf>,
}

impl Erasure {
    /// A consumer that writes down whom it erased, and removes what was sent to them into a folder.
    #[must_use]
    pub fn new(journal: Journal, outbox: Option<PathBuf>) -> Self {
        Self { journal, outbox }
    }

    async fn erase(&self, connection: &mut PgConnection, entry: Entry) -> Result<(), sqlx::Error> {
        let (person, position) = (entry.user_id, entry.position);
        let journal = self.journal.clone();
        on_disk(move || journal.append(&[entry])).await?;
        crash::point("erasure.journalled");
        let log = destroy(connection, person, position).await?;
        let id = person.to_string();
        let notifications = sqlx::query!(
            "UPDATE notifications SET state = 'SKIPPED', last_error = 'the customer was erased'
             WHERE user_id = $1 AND state = 'WAITING'",
            id
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
        sqlx::query!("DELETE FROM notification_choices WHERE user_id = $1", id)
            .execute(&mut *connection)
            .await?;
        let wanted = sqlx::query!("DELETE FROM account_mails WHERE user_id = $1", id)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        let tokens = sqlx::query!("DELETE FROM account_tokens WHERE user_id = $1", id)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        let told = sqlx::query_scalar!(
            "SELECT DISTINCT position FROM notifications WHERE user_id = $1",
            id
        )
        .fetch_all(&mut *connection)
        .await?;
        let messages = match self.outbox.clone() {
            Some(outbox) => on_disk(move || remove(&outbox, person, &told)).await?,
            None => 0,
        };
        let certificate = Certificate {
            log,
            notifications: notifications + wanted,
            tokens,
            messages,
        };
        // The first one counts: a repeat finds nothing more to erase.
        sqlx::query!(
            "INSERT INTO erasures (user_id, position, certificate) VALUES ($1, $2, $3)
             ON CONFLICT (user_id) DO UPDATE SET certificate = excluded.certificate, erased_at = excluded.erased_at
             WHERE erasures.certificate IS NULL",
            id,
            position.cast_signed(),
            Json(&certificate) as _
        )
        .execute(connection)
        .await?;
        info!(user.id = id, position, "erased");
        Ok(())
    }
}

impl Consumer for Erasure {
    fn name(&self) -> &'static str {
        NAME
    }

    fn concerns(&self, event: &Recorded) -> bool {
        matches!(event.body, Body::User(_, UserEvent::Erased { .. }))
    }

    fn handle<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>> {
        Box::pin(async move {
            for event in events {
                if let Body::User(user_id, UserEvent::Erased { .. }) = event.body {
                    let entry = Entry {
                        user_id,
                        position: event.position,
                        at: event.time,
                    };
                    self.erase(connection, entry).await?;
                }
            }
            Ok(Vec::new())
        })
    }
}

/// Notes how many sessions of a person were ended; `position` is that of the event that ended the account. The first time counts.
///
/// # Errors
/// When Postgres is not there.
pub async fn note_sessions(
    connection: &mut PgConnection,
    person: UserId,
    position: u64,
    sessions: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO erasures (user_id, position, sessions) VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE SET sessions = coalesce(erasures.sessions, excluded.sessions)",
        person.to_string(),
        position.cast_signed(),
        sessions.cast_signed()
    )
    .execute(connection)
    .await
    .map(drop)
}

/// What became of a person who was to be erased; `None` if nothing has yet.
///
/// # Errors
/// When Postgres is not there.
pub async fn certificate(pool: &PgPool, person: UserId) -> Result<Option<Erased>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT position, erased_at, coalesce(sessions, 0) AS "sessions!", certificate AS "certificate!: Json<Certificate>"
           FROM erasures WHERE user_id = $1 AND certificate IS NOT NULL"#,
        person.to_string()
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Erased {
        position: row.position.unsigned_abs(),
        at: row.erased_at,
        sessions: row.sessions.unsigned_abs(),
        certificate: row.certificate.0,
    }))
}

/// Why erasures could not be applied again.
#[derive(Debug, thiserror::Error)]
pub enum ReapplyError {
    /// The journal is there and cannot be read or written.
    #[error("the erasure journal {}: {error}", file.display())]
    Journal {
        /// Where.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Postgres was not there.
    #[error("the erasures could not be read: {0}")]
    Database(#[from] sqlx::Error),
    /// The log did not take it.
    #[error("somebody could not be erased again: {0}")]
    Refused(#[from] ExecuteError<UserError>),
}

/// Erases everybody again whom the journal has and the database, restored from a backup, has not; and enters in the journal
/// whom only the database has. Before anything is shown to anybody.
///
/// # Errors
/// See [`ReapplyError`].
pub async fn reapply(store: &Store, journal: &Journal, clock: &dyn Clock) -> Result<u64, ReapplyError> {
    let failed = |error| ReapplyError::Journal {
        file: journal.file().to_owned(),
        error,
    };
    let mut journalled = journal.read().map_err(failed)?;
    let rows = sqlx::query!("SELECT user_id, position, erased_at FROM erasures")
        .fetch_all(store.pool())
        .await?;
    let known: HashMap<UserId, Entry> = rows
        .into_iter()
        .filter_map(|row| {
            let user_id = row.user_id.parse().ok()?;
            let entry = Entry {
                user_id,
                position: row.position.unsigned_abs(),
                at: row.erased_at,
            };
            Some((user_id, entry))
        })
        .collect();
    let missing: Vec<Entry> = known
        .values()
        .filter(|entry| !journalled.contains_key(&entry.user_id))
        .cloned()
        .collect();
    journal.append(&missing).map_err(failed)?;
    journalled.retain(|person, _| !known.contains_key(person));
    let mut erased = 0;
    for person in journalled.into_keys() {
        let id = store.ids().next();
        let context = CommandContext::new(format!("cmd_{id}"), Actor::System("erasure journal"), clock.now());
        match store.execute::<User>(person, UserCommand::Erase, context).await {
            Ok(outcome) => erased += u64::from(!outcome.events.is_empty()),
            // The backup is from before they registered.
            Err(ExecuteError::Refused(UserError::NotFound)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(erased)
}

/// Removes the messages to a person: those about the events at these positions, and about their account. How many there were.
fn remove(outbox: &Path, person: UserId, positions: &[i64]) -> io::Result<u64> {
    let told = positions
        .iter()
        .flat_map(|position| outbox_files(outbox, position.unsigned_abs()));
    let mut removed = 0;
    for file in told.chain(account_files(outbox, person)?) {
        match std::fs::remove_file(file) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, sqlx::Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
        // Tried again like anything else that is away.
        .map_err(sqlx::Error::Io)
}
