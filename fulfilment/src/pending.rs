//! What orders wait for, as a table: one row for each order whose payment somebody has to be asked about.
//!
//! Which step an order waits for follows from its events. Whoever has news of an order works it out anew and hands it to
//! [`sync`]; the newest version wins, so it does not matter who comes last. The rest of a row is the diary of
//! [`crate::cashier`].

use std::time::Duration;

use kontor_domain::{CaptureAt, Order, OrderId, Payment, PendingStep};
use kontor_eventstore::Recorded;
use sqlx::{PgConnection, PgPool};

/// How long a customer who must do something is left alone before the gateway is asked how far they are. Its webhook and
/// the customer's app tell sooner.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// What an order waits for, worked out from its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) order_id: OrderId,
    /// Of the order, when this was worked out.
    pub(crate) version: u64,
    /// The step, and how many refunds the order knew of. `None`: nothing that somebody has to be asked for.
    pub(crate) step: Option<(PendingStep, u32)>,
    pub(crate) cause: Cause,
}

/// What set it off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The event, as `order/<id>/<sequence>`.
    pub(crate) event: String,
    pub(crate) correlation_id: String,
    pub(crate) traceparent: Option<String>,
    /// Staff want it tried at once.
    pub(crate) retry: bool,
}

impl Cause {
    pub(crate) fn of(event: &Recorded, retry: bool) -> Self {
        let metadata = event.metadata().ok();
        let id = event.stream().aggregate_id;
        let event = format!("order/{id}/{}", event.sequence);
        Self {
            correlation_id: metadata
                .as_ref()
                .map_or_else(|| event.clone(), |it| it.correlation_id.clone()),
            traceparent: metadata.and_then(|it| it.traceparent),
            event,
            retry,
        }
    }
}

impl Wait {
    /// What `order` waits for at `version`, as part of what `cause` is part of. What set it off is the order's event of that
    /// version, whoever was the first to see it and in answer to what.
    pub(crate) fn of(
        order_id: OrderId,
        order: &Order,
        version: u64,
        capture: CaptureAt,
        mut cause: Cause,
    ) -> Self {
        cause.event = format!("order/{order_id}/{version}");
        let refunds = order.payment().map_or(0, Payment::refunds);
        let step = order
            .pending(capture)
            .filter(|step| *step != PendingStep::Reserve);
        Self {
            order_id,
            version,
            step: step.map(|step| (step, refunds)),
            cause,
        }
    }
}

/// What made an order wait, if it waits for somebody.
pub(crate) async fn cause_of(pool: &PgPool, order_id: OrderId) -> Result<Option<Cause>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT cause, correlation_id, traceparent FROM pending_orders WHERE order_id = $1",
        order_id.to_string()
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Cause {
        event: row.cause,
        correlation_id: row.correlation_id,
        traceparent: row.traceparent,
        retry: false,
    }))
}

/// How many orders wait for each step that somebody has to be asked for.
///
/// # Errors
/// When Postgres is not there.
pub async fn waiting(pool: &PgPool) -> Result<Vec<(PendingStep, u64)>, sqlx::Error> {
    let rows = sqlx::query!(r#"SELECT step, count(*) AS "orders!" FROM pending_orders GROUP BY step"#)
        .fetch_all(pool)
        .await?;
    let waiting = PendingStep::ALL
        .into_iter()
        .filter(|step| *step != PendingStep::Reserve)
        .map(|step| {
            let row = rows.iter().find(|row| row.step == step.as_str());
            (step, row.map_or(0, |row| row.orders.unsigned_abs()))
        });
    Ok(waiting.collect())
}

/// Makes the table say what these orders wait for, unless it is from a newer version of theirs.
///
/// An order that comes to its step anew is due at once, and starts a diary of its own; an unpaid one expires `pay_within`
/// after it first waited for its payment.
pub(crate) async fn sync(
    connection: &mut PgConnection,
    mut waits: Vec<Wait>,
    pay_within: Duration,
) -> Result<(), sqlx::Error> {
    if waits.is_empty() {
        return Ok(());
    }
    // Everybody takes rows in the same order.
    waits.sort_by_key(|wait| wait.order_id);
    let ids: Vec<String> = waits.iter().map(|wait| wait.order_id.to_string()).collect();
    sqlx::query!(
        "SELECT FROM pending_orders WHERE order_id = ANY ($1) ORDER BY order_id FOR UPDATE",
        &ids
    )
    .execute(&mut *connection)
    .await?;
    let (mut done, mut waiting) = (Done::default(), Waiting::default());
    for wait in waits {
        match wait.step {
            None => done.push(&wait),
            Some((step, refunds)) => waiting.push(wait, step, refunds),
        }
    }
    if !done.ids.is_empty() {
        sqlx::query!(
            "DELETE FROM pending_orders USING unnest($1::text[], $2::bigint[]) AS done (id, newest)
             WHERE order_id = id AND version <= newest",
            &done.ids,
            &done.versions
        )
        .execute(&mut *connection)
        .await?;
    }
    if !waiting.ids.is_empty() {
        waiting.still(connection).await?;
        waiting.anew(connection, pay_within).await?;
    }
    Ok(())
}

/// Orders that wait for nothing any more, a column each.
#[derive(Default)]
struct Done {
    ids: Vec<String>,
    versions: Vec<i64>,
}

impl Done {
    fn push(&mut self, wait: &Wait) {
        self.ids.push(wait.order_id.to_string());
        self.versions.push(wait.version.cast_signed());
    }
}

/// Orders that wait, a column each.
#[derive(Default)]
struct Waiting {
    ids: Vec<String>,
    versions: Vec<i64>,
    steps: Vec<&'static str>,
    refunds: Vec<i32>,
    pauses: Vec<f64>,
    unpaid: Vec<bool>,
    retries: Vec<bool>,
    correlation_ids: Vec<String>,
    causes: Vec<String>,
    traceparents: Vec<Option<String>>,
}

impl Waiting {
    fn push(&mut self, wait: Wait, step: PendingStep, refunds: u32) {
        let pause = match step {
            PendingStep::CustomerAction => LEFT_ALONE,
            _ => Duration::ZERO,
        };
        self.ids.push(wait.order_id.to_string());
        self.versions.push(wait.version.cast_signed());
        self.steps.push(step.as_str());
        self.refunds.push(refunds.cast_signed());
        self.pauses.push(pause.as_secs_f64());
        self.unpaid.push(step.is_unpaid());
        self.retries.push(wait.cause.retry);
        self.correlation_ids.push(wait.cause.correlation_id);
        self.causes.push(wait.cause.event);
        self.traceparents.push(wait.cause.traceparent);
    }

    /// Those who wait for the same as before go on with their diary.
    async fn still(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "UPDATE pending_orders AS p
             SET version = v.version, due_at = CASE WHEN v.retry THEN clock_timestamp() ELSE p.due_at END
             FROM unnest($1::text[], $2::bigint[], $3::text[], $4::int[], $5::bool[])
                  AS v (id, version, step, refunds, retry)
             WHERE p.order_id = v.id AND v.version > p.version AND (p.step, p.refunds) = (v.step, v.refunds)",
            &self.ids,
            &self.versions,
            &self.steps as &[&str],
            &self.refunds,
            &self.retries
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Those who come to a step begin a new one.
    async fn anew(&self, connection: &mut PgConnection, pay_within: Duration) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "INSERT INTO pending_orders AS p
                 (order_id, version, step, refunds, due_at, expires_at, correlation_id, cause, traceparent)
             SELECT v.id, v.version, v.step, v.refunds, clock_timestamp() + v.pause * interval '1 second',
                    CASE WHEN v.unpaid THEN clock_timestamp() + $10 * interval '1 second' END,
                    v.correlation_id, v.cause, v.traceparent
             FROM unnest($1::text[], $2::bigint[], $3::text[], $4::int[], $5::float8[], $6::bool[], $7::text[],
                         $8::text[], $9::text[])
                  AS v (id, version, step, refunds, pause, unpaid, correlation_id, cause, traceparent)
             ON CONFLICT (order_id) DO UPDATE
             SET version = excluded.version, step = excluded.step, refunds = excluded.refunds,
                 since = excluded.since, attempts = 0, due_at = excluded.due_at, last_error = NULL,
                 expires_at = CASE WHEN excluded.expires_at IS NOT NULL
                                   THEN coalesce(p.expires_at, excluded.expires_at) END,
                 asked_minor = NULL, correlation_id = excluded.correlation_id, cause = excluded.cause,
                 traceparent = excluded.traceparent
             WHERE excluded.version >= p.version AND (p.step, p.refunds) <> (excluded.step, excluded.refunds)",
            &self.ids,
            &self.versions,
            &self.steps as &[&str],
            &self.refunds,
            &self.pauses,
            &self.unpaid,
            &self.correlation_ids,
            &self.causes,
            &self.traceparents as &[Option<String>],
            pay_within.as_secs_f64()
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
