//! Destroying what the log keeps of somebody who is to be forgotten. The events stay; what they hold of the person cannot be
//! read by anybody any more.

use kontor_domain::{ClaimKind, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

/// What was destroyed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroyed {
    /// Keys: one, or none if it was destroyed before.
    pub keys: u64,
    /// Snapshots of the account.
    pub snapshots: u64,
    /// Values still claimed. The account gives them back when it ends, so there are none as a rule.
    pub claims: u64,
    /// Fingerprints of what the person asked for: they could confirm a guess.
    pub fingerprints: u64,
    /// Deeds by or about the person of which it was known where they were done from.
    #[serde(default)]
    pub deeds: u64,
    /// Events of the account that hold personal data in the clear, from before that was sealed. These stay readable.
    pub readable_events: u64,
}

/// Destroys a person's key and whatever the log keeps beside its events, in the caller's transaction. `position` is that of
/// the event that ended the account; what came behind it is left alone.
///
/// # Errors
/// When Postgres is not there; nothing is destroyed then.
pub async fn destroy(
    connection: &mut PgConnection,
    person: UserId,
    position: u64,
) -> Result<Destroyed, sqlx::Error> {
    let id = person.to_string();
    // The checkpoint's transaction does not wait for the disk as a rule; this one must.
    sqlx::query!("SELECT set_config('synchronous_commit', 'on', true)")
        .fetch_one(&mut *connection)
        .await?;
    // A row stays, so that nobody makes a new key.
    let keys = sqlx::query!(
        "INSERT INTO person_keys (user_id, erased_at) VALUES ($1, clock_timestamp())
         ON CONFLICT (user_id) DO UPDATE SET wrapped = NULL, kek_id = NULL, erased_at = clock_timestamp()
         WHERE person_keys.erased_at IS NULL",
        id
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let snapshots = sqlx::query!(
        "DELETE FROM snapshots WHERE aggregate_type = 'user' AND aggregate_id = $1",
        id
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let claims = sqlx::query!(
        "DELETE FROM claims WHERE kind = $1 AND aggregate_id = $2",
        ClaimKind::Email.as_str(),
        id
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    // The keys stay: what was done once is never done again.
    let fingerprints = sqlx::query!(
        "UPDATE answers SET fingerprint = ''
         WHERE position < $2 AND fingerprint <> ''
           AND ((aggregate_type = 'user' AND aggregate_id = $1) OR starts_with(key, $1 || '/'))",
        id,
        position.cast_signed()
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let deeds = sqlx::query!(
        "UPDATE deeds SET address = NULL WHERE (actor = $1 OR subject = $1) AND address IS NOT NULL",
        id
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let readable_events = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM events
           WHERE aggregate_type = 'user' AND aggregate_id = $1
             AND event_type IN ('Registered', 'ProfileChanged', 'EmailChanged', 'PasswordChanged', 'Deactivated')
             AND (position('"sealed:v1:' IN payload::text) = 0
                  OR payload->event_type->>'password_hash' NOT LIKE 'sealed:v1:%')"#,
        id
    )
    .fetch_one(&mut *connection)
    .await?
    .unsigned_abs();
    Ok(Destroyed {
        keys,
        snapshots,
        claims,
        fingerprints,
        deeds,
        readable_events,
    })
}
