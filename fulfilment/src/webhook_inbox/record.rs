//! The table of what the gateway told.

use std::time::Duration;

use kontor_domain::PaymentReference;
use kontor_eventstore::crash;
use kontor_eventstore::lease::Lease;
use kontor_eventstore::transaction::planned_anew;
use sqlx::PgPool;

use super::deal::Settled;
use crate::payments::{WebhookEvent, WebhookKind};

/// For how many days an event is kept once it is dealt with: ten times as long as Stripe repeats itself.
const KEPT_DAYS: i32 = 30;
/// Old events thrown away in one go.
const THROWN_AWAY_AT_ONCE: i64 = 1_000;

/// What became of an event that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Kept, and on the disk.
    New,
    /// It was here before.
    Repeated,
    /// Nothing this shop does anything about.
    Ignored,
}

/// Keeps an event that is known to come from the gateway, once.
///
/// # Errors
/// When it cannot be written down now: the gateway must not be thanked.
pub async fn take(pool: &PgPool, event: &WebhookEvent) -> Result<Taken, sqlx::Error> {
    let reference = match (&event.kind, &event.payment_reference) {
        (WebhookKind::Other(_), _) | (_, None) => return Ok(Taken::Ignored),
        (_, Some(reference)) => reference,
    };
    let done = sqlx::query!(
        "INSERT INTO payment_webhooks (event_id, kind, reference, order_id)
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        event.id,
        event.kind.name(),
        reference.as_str(),
        event.order_id
    )
    .execute(pool)
    .await?;
    crash::point("webhooks.taken");
    Ok(if done.rows_affected() == 1 {
        Taken::New
    } else {
        Taken::Repeated
    })
}

/// How many events wait to be dealt with.
///
/// # Errors
/// When Postgres is not there.
pub async fn waiting(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let count =
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM payment_webhooks WHERE done_at IS NULL"#)
            .fetch_one(pool)
            .await?;
    Ok(count.unsigned_abs())
}

/// An event to be dealt with.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) event_id: String,
    pub(super) kind: WebhookKind,
    pub(super) reference: PaymentReference,
    pub(super) order_id: Option<String>,
    pub(super) attempts: u32,
    /// How long ago it came.
    pub(super) age: Duration,
}

/// The oldest events to be dealt with, beside those of payments that are being asked about.
pub(super) async fn due(pool: &PgPool, busy: &[String], limit: i64) -> Result<Vec<Due>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT event_id, kind, reference, order_id, attempts,
                  extract(epoch FROM clock_timestamp() - received_at)::float8 AS "age!"
           FROM payment_webhooks
           WHERE done_at IS NULL AND due_at <= clock_timestamp() AND reference <> ALL ($1)
           ORDER BY received_at, event_id LIMIT $2"#,
        busy,
        limit
    )
    .fetch_all(&mut *planned_anew(pool).await?)
    .await?;
    let due = rows.into_iter().filter_map(|row| {
        Some(Due {
            kind: WebhookKind::named(&row.kind),
            // Nothing else was put in.
            reference: PaymentReference::new(row.reference).ok()?,
            event_id: row.event_id,
            order_id: row.order_id,
            attempts: row.attempts.cast_unsigned(),
            age: Duration::try_from_secs_f64(row.age).unwrap_or_default(),
        })
    });
    Ok(due.collect())
}

/// Writes down what came of dealing with events; false, and nothing written, if the lease is no longer ours. Pauses are
/// jittered here: between half and all of them.
pub(super) async fn settle(pool: &PgPool, lease: &Lease, settled: &[Settled]) -> Result<bool, sqlx::Error> {
    if settled.is_empty() {
        return Ok(true);
    }
    let ids: Vec<String> = settled.iter().map(|it| it.event_id.clone()).collect();
    let errors: Vec<Option<String>> = settled.iter().map(|it| it.error.clone()).collect();
    let pauses: Vec<Option<f64>> = settled
        .iter()
        .map(|it| it.again_in.map(|pause| pause.as_secs_f64()))
        .collect();
    let mut tx = planned_anew(pool).await?;
    // Taken before the lease is looked at, in everybody's order: whoever loses it meanwhile sees that.
    sqlx::query!(
        "SELECT FROM payment_webhooks WHERE event_id = ANY ($1) ORDER BY event_id FOR UPDATE",
        &ids
    )
    .execute(&mut *tx)
    .await?;
    let ours = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM leases WHERE consumer = $1 AND owner = $2 AND epoch = $3) AS "ours!""#,
        lease.consumer,
        lease.owner,
        lease.epoch
    )
    .fetch_one(&mut *tx)
    .await?;
    if !ours {
        return Ok(false);
    }
    sqlx::query!(
        "UPDATE payment_webhooks AS w
         SET attempts = w.attempts + 1, last_error = v.error,
             done_at = CASE WHEN v.pause IS NULL THEN clock_timestamp() END,
             due_at = clock_timestamp() + coalesce(v.pause, 0) * (0.5 + random() / 2) * interval '1 second'
         FROM unnest($1::text[], $2::text[], $3::float8[]) AS v (id, error, pause)
         WHERE w.event_id = v.id AND w.done_at IS NULL",
        &ids,
        &errors as &[Option<String>],
        &pauses as &[Option<f64>]
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    crash::point("webhooks.settled");
    Ok(true)
}

/// Lets everything that waits after a failure be tried at once: what failed was the gateway, and it is back.
pub(super) async fn hurry(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE payment_webhooks SET due_at = clock_timestamp()
         WHERE event_id IN (SELECT event_id FROM payment_webhooks
                            WHERE done_at IS NULL AND due_at > clock_timestamp()
                            ORDER BY event_id FOR UPDATE)"
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Throws away some of what was done long ago; whether there is more.
pub(super) async fn throw_away(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "DELETE FROM payment_webhooks
         WHERE event_id IN (SELECT event_id FROM payment_webhooks
                            WHERE done_at < clock_timestamp() - make_interval(days => $1)
                            ORDER BY done_at LIMIT $2)",
        KEPT_DAYS,
        THROWN_AWAY_AT_ONCE
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == THROWN_AWAY_AT_ONCE.unsigned_abs())
}
