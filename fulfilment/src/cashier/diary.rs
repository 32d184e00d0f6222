//! What the cashier reads and writes of [`crate::pending`]'s table. All of it only while it holds the lease.

use std::time::Duration;

use kontor_domain::{OrderId, PaymentReference, PendingStep};
use kontor_eventstore::lease::Lease;
use kontor_eventstore::read::ReadError;
use kontor_eventstore::transaction::{planned_anew, planned_anew_unflushed};
use sqlx::{PgConnection, PgPool};

use crate::pending::{self, Cause, Wait};

/// An order whose time has come, as its row says.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) order_id: OrderId,
    pub(super) version: u64,
    pub(super) step: PendingStep,
    pub(super) refunds: u32,
    /// How long ago the gateway was first asked to hold the money, if it was.
    pub(super) asked: Option<Duration>,
    /// How much it was asked to pay back, if it was.
    pub(super) asked_minor: Option<i64>,
    /// Of a payment of which the order knows nothing yet.
    pub(super) reference: Option<PaymentReference>,
    pub(super) attempts: u32,
    pub(super) cause: Cause,
}

/// The oldest orders whose time has come, beside those that are being attended to.
pub(super) async fn due(pool: &PgPool, busy: &[String], limit: usize) -> Result<Vec<Due>, ReadError> {
    let mut tx = planned_anew(pool).await?;
    let rows = sqlx::query!(
        r#"SELECT order_id, version, step, refunds, attempts, asked_minor, reference, correlation_id, cause, traceparent,
                  extract(epoch FROM clock_timestamp() - asked_at)::float8 AS asked
           FROM pending_orders
           WHERE due_at <= clock_timestamp() AND order_id <> ALL ($1)
           ORDER BY since, order_id LIMIT $2"#,
        busy,
        i64::try_from(limit).unwrap_or(i64::MAX)
    )
    .fetch_all(&mut *tx)
    .await?;
    let malformed = |what: String| sqlx::Error::Protocol(format!("pending_orders: {what}"));
    rows.into_iter()
        .map(|row| {
            Ok(Due {
                order_id: row
                    .order_id
                    .parse()
                    .map_err(|_| malformed(row.order_id.clone()))?,
                version: row.version.cast_unsigned(),
                step: PendingStep::parse(&row.step).ok_or_else(|| malformed(row.step.clone()))?,
                refunds: row.refunds.cast_unsigned(),
                asked: row
                    .asked
                    .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
                asked_minor: row.asked_minor,
                reference: row.reference.and_then(|it| PaymentReference::new(it).ok()),
                attempts: row.attempts.cast_unsigned(),
                cause: Cause {
                    event: row.cause,
                    correlation_id: row.correlation_id,
                    traceparent: row.traceparent,
                    retry: false,
                },
            })
        })
        .collect()
}

/// What is about to be asked on behalf of an order.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) order_id: OrderId,
    pub(super) step: PendingStep,
    pub(super) refunds: u32,
    /// Whether the gateway is asked to hold money.
    pub(super) authorises: bool,
    /// How much it is asked to pay back.
    pub(super) refund_minor: Option<i64>,
}

/// Notes that these orders are tried once more; which of them still wait for that. `None` if the lease is no longer ours.
///
/// Flushed if money is to be held or paid back: who was never asked has nothing to let go, and how much was asked for
/// would be decided anew from an order that may know of another refund by then.
pub(super) async fn claim(
    pool: &PgPool,
    lease: &Lease,
    claims: &[Claim],
) -> Result<Option<Vec<OrderId>>, sqlx::Error> {
    let ids: Vec<String> = claims.iter().map(|claim| claim.order_id.to_string()).collect();
    let steps: Vec<&str> = claims.iter().map(|claim| claim.step.as_str()).collect();
    let refunds: Vec<i32> = claims.iter().map(|claim| claim.refunds.cast_signed()).collect();
    let authorises: Vec<bool> = claims.iter().map(|claim| claim.authorises).collect();
    let amounts: Vec<Option<i64>> = claims.iter().map(|claim| claim.refund_minor).collect();
    let mut tx = if authorises.contains(&true) || amounts.iter().any(Option::is_some) {
        planned_anew(pool).await?
    } else {
        planned_anew_unflushed(pool).await?
    };
    if !hold(&mut tx, lease, &ids).await? {
        return Ok(None);
    }
    let claimed = sqlx::query_scalar!(
        "UPDATE pending_orders AS p
         SET attempts = p.attempts + 1, asked_minor = coalesce(p.asked_minor, v.amount),
             asked_at = CASE WHEN v.authorises THEN coalesce(p.asked_at, clock_timestamp()) ELSE p.asked_at END
         FROM unnest($1::text[], $2::text[], $3::int[], $4::bool[], $5::bigint[])
              AS v (id, step, refunds, authorises, amount)
         WHERE p.order_id = v.id AND (p.step, p.refunds) = (v.step, v.refunds)
         RETURNING p.order_id",
        &ids,
        &steps as &[&str],
        &refunds,
        &authorises,
        &amounts as &[Option<i64>]
    )
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Some(claimed.iter().filter_map(|id| id.parse().ok()).collect()))
}

/// A try that did not end an order's waiting.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) order_id: OrderId,
    pub(super) step: PendingStep,
    pub(super) refunds: u32,
    /// Why; nothing when the gateway is still at it.
    pub(super) error: Option<String>,
    /// After how long to try again, about; not at all before staff say so.
    pub(super) pause: Option<Duration>,
    pub(super) reference: Option<PaymentReference>,
}

/// Writes down what came of some tries; false, and nothing written, if the lease is no longer ours. Not flushed: what a crash
/// takes back is asked again, and answered as before.
///
/// Pauses are jittered here: between half and all of them.
pub(super) async fn settle(
    pool: &PgPool,
    lease: &Lease,
    waits: Vec<Wait>,
    notes: &[Note],
    pay_within: Duration,
) -> Result<bool, sqlx::Error> {
    let noted = notes.iter().map(|note| note.order_id.to_string());
    let ids: Vec<String> = noted.clone().collect();
    let all: Vec<String> = waits
        .iter()
        .map(|wait| wait.order_id.to_string())
        .chain(noted)
        .collect();
    let mut tx = planned_anew_unflushed(pool).await?;
    if !hold(&mut tx, lease, &all).await? {
        return Ok(false);
    }
    pending::sync(&mut tx, waits, pay_within).await?;
    if !notes.is_empty() {
        let steps: Vec<&str> = notes.iter().map(|note| note.step.as_str()).collect();
        let refunds: Vec<i32> = notes.iter().map(|note| note.refunds.cast_signed()).collect();
        let errors: Vec<Option<String>> = notes.iter().map(|note| note.error.clone()).collect();
        let pauses: Vec<Option<f64>> = notes
            .iter()
            .map(|note| note.pause.map(|pause| pause.as_secs_f64()))
            .collect();
        let references: Vec<Option<String>> = notes
            .iter()
            .map(|note| note.reference.as_ref().map(ToString::to_string))
            .collect();
        sqlx::query!(
            "UPDATE pending_orders AS p
             SET last_error = v.error, reference = coalesce(v.reference, p.reference),
                 due_at = clock_timestamp() + v.pause * (0.5 + random() / 2) * interval '1 second'
             FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::float8[], $6::text[])
                  AS v (id, step, refunds, error, pause, reference)
             WHERE p.order_id = v.id AND (p.step, p.refunds) = (v.step, v.refunds)",
            &ids,
            &steps as &[&str],
            &refunds,
            &errors as &[Option<String>],
            &pauses as &[Option<f64>],
            &references as &[Option<String>]
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Takes rows, in everybody's order; whether the lease is still ours while we have them.
async fn hold(connection: &mut PgConnection, lease: &Lease, ids: &[String]) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "SELECT FROM pending_orders WHERE order_id = ANY ($1) ORDER BY order_id FOR UPDATE",
        ids
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM leases WHERE consumer = $1 AND owner = $2 AND epoch = $3) AS "ours!""#,
        lease.consumer,
        lease.owner,
        lease.epoch
    )
    .fetch_one(connection)
    .await
}

/// Lets everything that waits after a failure be tried at once: what failed was the gateway, and it is back.
pub(super) async fn hurry(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE pending_orders SET due_at = clock_timestamp()
         WHERE order_id IN (SELECT order_id FROM pending_orders
                            WHERE due_at > clock_timestamp() AND last_error IS NOT NULL
                            ORDER BY order_id FOR UPDATE)"
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Orders whose time to pay is over, by the clock of the database.
pub(super) async fn expired(pool: &PgPool, limit: i64) -> Result<Vec<(OrderId, Cause)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT order_id, correlation_id, cause, traceparent FROM pending_orders
         WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1",
        limit
    )
    .fetch_all(&mut *planned_anew(pool).await?)
    .await?;
    let expired = rows.into_iter().filter_map(|row| {
        let cause = Cause {
            event: row.cause,
            correlation_id: row.correlation_id,
            traceparent: row.traceparent,
            retry: false,
        };
        Some((row.order_id.parse().ok()?, cause))
    });
    Ok(expired.collect())
}
