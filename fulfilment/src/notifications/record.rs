//! The record of notifications: what is to be sent, what was, and what could not be.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kontor_domain::{Channels, UserId};
use kontor_eventstore::lease::Lease;
use kontor_eventstore::transaction::planned_anew;
use serde::Serialize;
use sqlx::{Executor, PgConnection, PgPool};

use super::occasion::Channel;

/// A notification: the position of its event, and the channel. Displayed and typed as `42/email`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotificationId {
    /// Of the event.
    pub position: u64,
    /// Where it goes.
    pub channel: Channel,
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.position, self.channel)
    }
}

/// Not the id of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a notification is named by position and channel, as in 42/email or 42/sms")]
pub struct NotAnId;

impl FromStr for NotificationId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (position, channel) = text.split_once('/').ok_or(NotAnId)?;
        Ok(Self {
            position: position.parse().map_err(|_| NotAnId)?,
            channel: channel.parse().map_err(|_| NotAnId)?,
        })
    }
}

/// One event somebody is to be told of, on every channel; one value in each column per event.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) positions: Vec<i64>,
    pub(super) occasions: Vec<&'static str>,
    pub(super) user_ids: Vec<String>,
    pub(super) order_ids: Vec<Option<String>>,
}

/// Notes what is to be sent, once per event and channel that the customer has chosen, however often it is noted.
pub(super) async fn note(connection: &mut PgConnection, log: &str, news: &News) -> Result<(), sqlx::Error> {
    if news.positions.is_empty() {
        return Ok(());
    }
    let usual = Channels::default();
    sqlx::query!(
        "INSERT INTO notifications (position, channel, occasion, user_id, order_id, message_id)
         SELECT position, channel, occasion, user_id, order_id,
                position || '.' || lower(channel) || '.' || $6
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS news (position, occasion, user_id, order_id)
              LEFT JOIN notification_choices USING (user_id)
              CROSS JOIN LATERAL (VALUES ('EMAIL', coalesce(by_email, $5)), ('SMS', coalesce(by_sms, $7)))
                                 AS channels (channel, chosen)
         WHERE chosen
         ON CONFLICT DO NOTHING",
        &news.positions,
        &news.occasions as &[&str],
        &news.user_ids,
        &news.order_ids as &[Option<String>],
        usual.email,
        log,
        usual.sms
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes where a customer wants to be told from now on.
pub(super) async fn choose(
    connection: &mut PgConnection,
    user_id: UserId,
    channels: Channels,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO notification_choices (user_id, by_email, by_sms) VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE SET by_email = excluded.by_email, by_sms = excluded.by_sms",
        user_id.to_string(),
        channels.email,
        channels.sms
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A notification whose time has come.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) position: i64,
    pub(super) occasion: String,
    pub(super) user_id: String,
    pub(super) message_id: String,
    /// How often it was tried.
    pub(super) attempts: i32,
}

/// What is due on a channel by the database's clock, longest due first.
pub(super) async fn due(pool: &PgPool, channel: Channel, limit: i64) -> Result<Vec<Due>, sqlx::Error> {
    let mut tx = planned_anew(pool).await?;
    // The index has them in this order. Postgres, which takes it for nearly empty (see `settle`), would rather read all that
    // waits and sort it, for every quarter of a second's worth.
    tx.execute("SET LOCAL enable_sort = off").await?;
    sqlx::query_as!(
        Due,
        "SELECT position, occasion, user_id, message_id, attempts FROM notifications
         WHERE state = 'WAITING' AND channel = $1 AND due_at <= clock_timestamp()
         ORDER BY due_at, position LIMIT $2",
        channel.as_str(),
        limit
    )
    .fetch_all(&mut *tx)
    .await
}

/// What came of trying a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The provider has it.
    Sent,
    /// It is not wanted, or there is nowhere to send it.
    Skipped(&'static str),
    /// It is to be tried again, after about so long.
    Again { error: String, pause: Duration },
    /// It will not be tried again by itself.
    Dead(String),
}

/// One column per thing to write, one value in each per notification.
#[derive(Debug, Default)]
struct Columns {
    positions: Vec<i64>,
    attempts: Vec<i32>,
    states: Vec<&'static str>,
    tries: Vec<i32>,
    pauses: Vec<f64>,
    errors: Vec<Option<String>>,
}

impl Columns {
    fn push(&mut self, due: &Due, verdict: &Verdict) {
        let (state, tries, pause, error) = match verdict {
            Verdict::Sent => ("SENT", 1, Duration::ZERO, None),
            Verdict::Skipped(why) => ("SKIPPED", 0, Duration::ZERO, Some((*why).to_owned())),
            Verdict::Again { error, pause } => ("WAITING", 1, *pause, Some(error.clone())),
            Verdict::Dead(error) => ("DEAD", 1, Duration::ZERO, Some(error.clone())),
        };
        self.positions.push(due.position);
        self.attempts.push(due.attempts);
        self.states.push(state);
        self.tries.push(tries);
        self.pauses.push(pause.as_secs_f64());
        self.errors.push(error);
    }
}

/// Writes down what came of some notifications; how many there were to write. Fewer than given when the lease is no longer
/// ours, or somebody else wrote first: then nothing of theirs is touched.
///
/// The pause is jittered here: between half of it and all of it.
pub(super) async fn settle(
    pool: &PgPool,
    lease: &Lease,
    channel: Channel,
    verdicts: &[(Due, Verdict)],
) -> Result<u64, sqlx::Error> {
    let mut columns = Columns::default();
    for (due, verdict) in verdicts {
        columns.push(due, verdict);
    }
    let mut tx = planned_anew(pool).await?;
    // Waiting is said by what it is not, so that the rows are looked up by their key. While a backlog grows faster than it is
    // analysed, Postgres takes the index of what waits for nearly empty, and reads all of it for each row.
    let done = sqlx::query!(
        "UPDATE notifications AS n
         SET state = v.state, attempts = n.attempts + v.tries, last_error = v.error,
             due_at = CASE v.state WHEN 'WAITING'
                      THEN clock_timestamp() + v.pause * (0.5 + random() / 2) * interval '1 second' ELSE n.due_at END,
             sent_at = CASE v.state WHEN 'SENT' THEN clock_timestamp() END
         FROM unnest($2::bigint[], $3::int[], $4::text[], $5::int[], $6::float8[], $7::text[])
              AS v (position, attempts, state, tries, pause, error)
         WHERE n.position = v.position AND n.channel = $1 AND n.state NOT IN ('SENT', 'SKIPPED', 'DEAD')
           AND n.attempts = v.attempts
           AND EXISTS (SELECT FROM leases WHERE consumer = $8 AND owner = $9 AND epoch = $10)",
        channel.as_str(),
        &columns.positions,
        &columns.attempts,
        &columns.states as &[&str],
        &columns.tries,
        &columns.pauses,
        &columns.errors as &[Option<String>],
        lease.consumer,
        lease.owner,
        lease.epoch
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(done.rows_affected())
}

/// How many notifications are not done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// To be sent, or to be tried again.
    pub waiting: u64,
    /// Given up, until somebody has them sent again.
    pub dead: u64,
}

/// How many notifications wait, and how many were given up.
///
/// # Errors
/// When Postgres is not there.
pub async fn counts(pool: &PgPool) -> Result<Counts, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM notifications WHERE state = 'WAITING') AS "waiting!",
                  (SELECT count(*) FROM notifications WHERE state = 'DEAD') AS "dead!""#
    )
    .fetch_one(pool)
    .await?;
    Ok(Counts {
        waiting: row.waiting.unsigned_abs(),
        dead: row.dead.unsigned_abs(),
    })
}

/// A notification that was given up, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadNotification {
    /// Which.
    pub id: NotificationId,
    /// What it tells of: the name of an [`super::Occasion`].
    pub occasion: String,
    /// Whom it is for.
    pub user_id: String,
    /// Which order it is about, if it is about one.
    pub order_id: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up. Holds no personal data.
    pub error: String,
}

/// All notifications that were given up, oldest first.
///
/// # Errors
/// When Postgres is not there.
pub async fn dead(pool: &PgPool) -> Result<Vec<DeadNotification>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT position, channel, occasion, user_id, order_id, attempts, coalesce(last_error, '') AS "error!"
           FROM notifications WHERE state = 'DEAD' ORDER BY position, channel"#
    )
    .fetch_all(pool)
    .await?;
    let letters = rows.into_iter().filter_map(|row| {
        Some(DeadNotification {
            id: NotificationId {
                position: row.position.unsigned_abs(),
                // The table takes no other.
                channel: row.channel.parse().ok()?,
            },
            occasion: row.occasion,
            user_id: row.user_id,
            order_id: row.order_id,
            attempts: row.attempts.unsigned_abs(),
            error: row.error,
        })
    });
    Ok(letters.collect())
}

/// What became of a notification, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub id: NotificationId,
    /// What it tells of: the name of an [`super::Occasion`].
    pub occasion: String,
    /// Whom it is for.
    pub user_id: String,
    /// `WAITING`, `SENT`, `SKIPPED` or `DEAD`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was sent, if it was.
    pub sent_at: Option<DateTime<Utc>>,
    /// Why it was not. Holds no personal data.
    pub error: Option<String>,
}

/// What customers are told of the events at these positions, in their order.
///
/// # Errors
/// When Postgres is not there.
pub async fn of_events(pool: &PgPool, positions: &[u64]) -> Result<Vec<Told>, sqlx::Error> {
    let positions: Vec<i64> = positions.iter().map(|position| position.cast_signed()).collect();
    let rows = sqlx::query!(
        "SELECT position, channel, occasion, user_id, state, attempts, sent_at, last_error FROM notifications
         WHERE position = ANY ($1) ORDER BY position, channel",
        &positions
    )
    .fetch_all(&mut *planned_anew(pool).await?)
    .await?;
    let told = rows.into_iter().filter_map(|row| {
        Some(Told {
            id: NotificationId {
                position: row.position.unsigned_abs(),
                // The table takes no other.
                channel: row.channel.parse().ok()?,
            },
            occasion: row.occasion,
            user_id: row.user_id,
            state: row.state,
            attempts: row.attempts.unsigned_abs(),
            sent_at: row.sent_at,
            error: row.last_error,
        })
    });
    Ok(told.collect())
}

/// Has notifications that were given up sent again, as if they had never been tried: one, or all. How many there were.
///
/// # Errors
/// When Postgres is not there.
pub async fn retry(pool: &PgPool, which: Option<NotificationId>) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE notifications SET state = 'WAITING', attempts = 0, due_at = clock_timestamp()
         WHERE state = 'DEAD' AND ($1::bigint IS NULL OR (position, channel) = ($1, $2))",
        which.map(|id| id.position.cast_signed()),
        which.map(|id| id.channel.as_str())
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// What somebody was told, or is to be.
#[derive(Debug, Clone, Serialize)]
pub struct Notified {
    /// Of the event it tells of.
    pub position: i64,
    /// `EMAIL` or `SMS`.
    pub channel: String,
    /// What it tells.
    pub occasion: String,
    /// `WAITING`, `SENT`, `SKIPPED` or `DEAD`.
    pub state: String,
    /// When it was sent, by the clock of the database.
    pub sent_at: Option<DateTime<Utc>>,
}

/// All that somebody was told or is to be told, oldest first.
///
/// # Errors
/// When Postgres is not there.
pub async fn of_person(pool: &PgPool, user_id: UserId) -> Result<Vec<Notified>, sqlx::Error> {
    sqlx::query_as!(
        Notified,
        "SELECT position, channel, occasion, state, sent_at FROM notifications WHERE user_id = $1 ORDER BY position, channel",
        user_id.to_string()
    )
    .fetch_all(pool)
    .await
}
