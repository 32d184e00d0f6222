//! The books: what is entered when money moves, and what is answered from them.

use kontor_domain::PaymentReference;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

use super::movement::Movement;
use super::payment::{Payment, Row};
use crate::payments::gateway::GatewayError;

pub(super) struct Books {
    pool: PgPool,
    webhooks: bool,
    public_url: String,
}

impl Books {
    pub(super) fn new(pool: PgPool, webhooks: bool, public_url: String) -> Self {
        Self {
            pool,
            webhooks,
            public_url,
        }
    }

    /// Counts a failure of this key, unless there were enough of them: then it is time to work.
    pub(super) async fn fails(&self, key: &str, times: i64) -> Result<bool, GatewayError> {
        if times == 0 {
            return Ok(false);
        }
        let counted = sqlx::query!(
            "INSERT INTO simulator.failures AS f (key, failed) VALUES ($1, 1)
             ON CONFLICT (key) DO UPDATE SET failed = f.failed + 1 WHERE f.failed < $2
             RETURNING failed",
            key,
            times
        )
        .fetch_optional(&mut *connection(&self.pool).await?)
        .await
        .map_err(broken)?;
        Ok(counted.is_some())
    }

    /// Moves the money, or says that it was moved before, or why it cannot be.
    pub(super) async fn enter(&self, movement: &Movement<'_>) -> Result<Payment, GatewayError> {
        let mut connection = connection(&self.pool).await?;
        // Whoever else moves money of this payment waits behind the row, and then decides on what it has become.
        let moved = sqlx::query_as!(
            Row,
            r#"WITH moved AS (
                 UPDATE simulator.payments
                 SET status = CASE $2::text WHEN 'CAPTURE' THEN 'CAPTURED' WHEN 'VOID' THEN 'VOIDED' ELSE status END,
                     captured_minor = captured_minor + CASE $2 WHEN 'CAPTURE' THEN $3::bigint ELSE 0 END,
                     refunded_minor = refunded_minor + CASE $2 WHEN 'REFUND' THEN $3 ELSE 0 END,
                     version = version + 1,
                     webhook_due = $6
                 WHERE reference = $1
                   AND CASE $2
                         WHEN 'CAPTURE' THEN status = 'AUTHORISED' AND $3 <= authorised_minor
                         WHEN 'VOID' THEN status IN ('AUTHORISED', 'REQUIRES_ACTION')
                         ELSE status = 'CAPTURED' AND $3 <= captured_minor - refunded_minor
                       END
                   AND ($5::text IS NULL OR currency = $5)
                   AND NOT EXISTS (SELECT FROM simulator.ledger WHERE key = $4 AND kind = $2)
                 RETURNING *
               ), entered AS (
                 INSERT INTO simulator.ledger
                     (kind, key, reference, order_id, amount_minor, currency, captured_after, refunded_after)
                 SELECT $2, $4, reference, order_id, CASE $2 WHEN 'VOID' THEN authorised_minor ELSE $3 END,
                        currency, captured_minor, refunded_minor
                 FROM moved
               )
               SELECT reference AS "reference!", order_id AS "order_id!", status AS "status!", decline_reason,
                      currency AS "currency!", amount_minor AS "amount_minor!",
                      authorised_minor AS "authorised_minor!", captured_minor AS "captured_minor!", refunded_minor AS "refunded_minor!",
                      version AS "version!"
               FROM moved"#,
            movement.reference.as_str(),
            movement.kind,
            movement.minor(),
            movement.key,
            movement.amount.as_ref().map(|it| it.currency().to_string()),
            self.webhooks
        )
        .fetch_optional(&mut *connection)
        .await;
        match moved {
            Ok(Some(row)) => row.payment(&self.public_url),
            Ok(None) => self.entered_before(&mut connection, movement).await,
            // The same key at the same moment: the other was first.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                self.entered_before(&mut connection, movement).await
            }
            Err(error) => Err(broken(error)),
        }
    }

    /// The answer this key was given before, or what speaks against the movement.
    async fn entered_before(
        &self,
        connection: &mut PoolConnection<Postgres>,
        movement: &Movement<'_>,
    ) -> Result<Payment, GatewayError> {
        let found = sqlx::query!(
            r#"SELECT p.reference, p.order_id, p.status, p.currency, p.amount_minor, p.authorised_minor,
                      p.captured_minor, p.refunded_minor, p.version,
                      l.reference AS "entry_reference?", l.amount_minor AS "entry_minor?",
                      l.captured_after AS "captured_after?", l.refunded_after AS "refunded_after?"
               FROM simulator.payments p LEFT JOIN simulator.ledger l ON l.key = $2 AND l.kind = $3
               WHERE p.reference = $1"#,
            movement.reference.as_str(),
            movement.key,
            movement.kind
        )
        .fetch_optional(&mut **connection)
        .await
        .map_err(broken)?
        .ok_or_else(|| no_such_payment(movement.reference))?;
        let (Some(reference), Some(minor)) = (found.entry_reference, found.entry_minor) else {
            let code = match movement.kind {
                "CAPTURE" if found.status == "AUTHORISED" => "amount_too_large",
                "REFUND" if found.status == "CAPTURED" => "amount_too_large",
                _ => "payment_intent_unexpected_state",
            };
            let (captured, refunded) = (found.captured_minor, found.refunded_minor);
            return Err(GatewayError::refused(
                code,
                format!(
                    "{} of {} does not fit a payment that is {}: held {} {}, captured {captured}, refunded {refunded}",
                    movement.kind,
                    movement.minor(),
                    found.status,
                    found.authorised_minor,
                    found.currency,
                ),
            ));
        };
        let same_amount = movement
            .amount
            .is_none_or(|it| it.amount_minor() == minor && it.currency().as_str() == found.currency);
        if reference != found.reference || !same_amount {
            return Err(key_reused());
        }
        Row {
            reference,
            order_id: found.order_id,
            status: movement.status().to_owned(),
            decline_reason: None,
            currency: found.currency,
            amount_minor: found.amount_minor,
            authorised_minor: found.authorised_minor,
            captured_minor: found.captured_after.unwrap_or(0),
            refunded_minor: found.refunded_after.unwrap_or(0),
            version: found.version,
        }
        .payment(&self.public_url)
    }

    pub(super) async fn complete_action(
        &self,
        reference: &PaymentReference,
        approve: bool,
    ) -> Result<Payment, GatewayError> {
        let completed = sqlx::query_as!(
            Row,
            r#"WITH completed AS (
                 UPDATE simulator.payments
                 SET status = CASE WHEN $2 THEN 'AUTHORISED' ELSE 'DECLINED' END,
                     decline_reason = CASE WHEN NOT $2 THEN 'AUTHENTICATION_FAILED' END,
                     authorised_minor = CASE WHEN $2 THEN amount_minor ELSE 0 END,
                     version = version + 1,
                     webhook_due = $3
                 WHERE reference = $1 AND status = 'REQUIRES_ACTION'
                 RETURNING *
               ), entered AS (
                 INSERT INTO simulator.ledger
                     (kind, key, reference, order_id, amount_minor, currency, captured_after, refunded_after)
                 SELECT 'AUTHORISE', key, reference, order_id, amount_minor, currency, 0, 0
                 FROM completed WHERE status = 'AUTHORISED'
               )
               SELECT reference AS "reference!", order_id AS "order_id!", status AS "status!", decline_reason,
                      currency AS "currency!", amount_minor AS "amount_minor!",
                      authorised_minor AS "authorised_minor!", captured_minor AS "captured_minor!", refunded_minor AS "refunded_minor!",
                      version AS "version!"
               FROM completed"#,
            reference.as_str(),
            approve,
            self.webhooks
        )
        .fetch_optional(&mut *connection(&self.pool).await?)
        .await
        .map_err(broken)?;
        match completed {
            Some(row) => row.payment(&self.public_url),
            None => self.find(reference).await,
        }
    }

    pub(super) async fn find(&self, reference: &PaymentReference) -> Result<Payment, GatewayError> {
        let row = sqlx::query_as!(
            Row,
            "SELECT reference, order_id, status, decline_reason, currency, amount_minor, authorised_minor,
                    captured_minor, refunded_minor, version
             FROM simulator.payments WHERE reference = $1",
            reference.as_str()
        )
        .fetch_optional(&mut *connection(&self.pool).await?)
        .await
        .map_err(broken)?;
        row.ok_or_else(|| no_such_payment(reference))?
            .payment(&self.public_url)
    }

    /// The oldest payments whose newest version nobody was told of.
    pub(super) async fn untold(&self, limit: i64) -> Result<Vec<Payment>, GatewayError> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT reference, order_id, status, decline_reason, currency, amount_minor, authorised_minor,
                    captured_minor, refunded_minor, version
             FROM simulator.payments WHERE webhook_due ORDER BY opened_at LIMIT $1",
            limit
        )
        .fetch_all(&mut *connection(&self.pool).await?)
        .await
        .map_err(broken)?;
        rows.into_iter()
            .map(|row| row.payment(&self.public_url))
            .collect()
    }

    /// Notes that somebody was told of these versions; of a payment that has changed since, that is of no use.
    pub(super) async fn told(&self, payments: &[Payment]) -> Result<(), GatewayError> {
        let references: Vec<&str> = payments.iter().map(|it| it.state.reference.as_str()).collect();
        let versions: Vec<i64> = payments.iter().map(|it| it.version).collect();
        sqlx::query!(
            "UPDATE simulator.payments p SET webhook_due = false
             FROM unnest($1::text[], $2::bigint[]) AS told(reference, version)
             WHERE p.reference = told.reference AND p.version = told.version",
            &references as &[&str],
            &versions
        )
        .execute(&mut *connection(&self.pool).await?)
        .await
        .map_err(broken)?;
        Ok(())
    }
}

/// Nothing has been said to Postgres yet when this fails.
pub(super) async fn connection(pool: &PgPool) -> Result<PoolConnection<Postgres>, GatewayError> {
    pool.acquire()
        .await
        .map_err(|error| GatewayError::Unreachable(format!("its books cannot be opened: {error}")))
}

/// A statement did not come back. It may have been committed.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
pub(super) fn broken(error: sqlx::Error) -> GatewayError {
    let text = format!("its books do not answer: {error}");
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        // Serialization failure, deadlock: rolled back.
        Some("40001" | "40P01") => GatewayError::Busy(text),
        _ => GatewayError::Unknown(text),
    }
}

pub(super) fn key_reused() -> GatewayError {
    GatewayError::refused("idempotency_error", "this key was used for another request")
}

fn no_such_payment(reference: &PaymentReference) -> GatewayError {
    GatewayError::refused("resource_missing", format!("no such payment: {reference}"))
}
