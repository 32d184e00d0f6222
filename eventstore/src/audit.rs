//! The audit: the log as the record of who did what to whom when, from where, and the deeds beside it.
//!
//! Read by the log's indexes, newest first, or in order of what led to what. There is no view of it: that would be the log again.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use kontor_domain::{Order, OrderId, Product, ProductId, User, UserId};
use sqlx::{PgConnection, PgPool};

use crate::context::Metadata;
use crate::deeds;
use crate::recorded::StreamKey;
use crate::transaction::planned_anew;

/// An event as the audit knows it: not what it says, which may be personal.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its place in the log.
    pub position: u64,
    /// Whose stream it is in.
    pub stream: StreamKey,
    /// Its place there.
    pub sequence: u64,
    /// Its name, as `StockReserved`.
    pub event_type: String,
    /// When the command was given.
    pub time: DateTime<Utc>,
    /// Who did it, why, as part of what, from where.
    pub metadata: Metadata,
}

impl Change {
    /// As the metadata of other events names it as their cause.
    #[must_use]
    pub fn id(&self) -> String {
        let StreamKey {
            aggregate_type,
            aggregate_id,
        } = &self.stream;
        format!("{aggregate_type}/{aggregate_id}/{}", self.sequence)
    }
}

/// A deed as it was written down.
#[derive(Debug, Clone)]
pub struct DeedRow {
    /// Where the log ended when it was done.
    pub position: u64,
    /// A ULID.
    pub id: String,
    /// The name of a [`deeds::Kind`].
    pub kind: String,
    /// As in [`Metadata`].
    pub actor: String,
    /// What it was done to.
    pub subject: Option<String>,
    /// More about it.
    pub detail: Option<String>,
    /// As part of which request.
    pub request: Option<String>,
    /// From where.
    pub address: Option<String>,
    /// When; the first of several.
    pub time: DateTime<Utc>,
    /// How often.
    pub times: u32,
}

/// What to look for: everything that is given must be so.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Who did it, as in [`Metadata`].
    pub actor: Option<String>,
    /// To whom or what, by id.
    pub subject: Option<String>,
    /// As part of which request, itself.
    pub request: Option<String>,
    /// Set off by which request.
    pub correlation: Option<String>,
    /// The name of an event or a deed.
    pub kind: Option<String>,
    /// Not before.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
}

impl Filter {
    /// Whether an event can be meant, and whether a deed can.
    #[must_use]
    pub fn means(&self) -> (bool, bool) {
        let deed = self
            .kind
            .as_deref()
            .map(|kind| deeds::Kind::parse(kind).is_some());
        (deed != Some(true), deed != Some(false))
    }
}

/// The type of the aggregate whose id this is.
fn aggregate_type(id: &str) -> Option<&'static str> {
    if id.parse::<OrderId>().is_ok() {
        Some(Order::TYPE)
    } else if id.parse::<ProductId>().is_ok() {
        Some(Product::TYPE)
    } else {
        id.parse::<UserId>().is_ok().then_some(User::TYPE)
    }
}

/// A row of `events`, without its payload.
struct Row {
    position: i64,
    aggregate_type: String,
    aggregate_id: String,
    sequence: i64,
    event_type: String,
    timestamp: DateTime<Utc>,
    metadata: String,
}

impl From<Row> for Change {
    fn from(row: Row) -> Self {
        Self {
            position: row.position.unsigned_abs(),
            stream: StreamKey {
                aggregate_type: row.aggregate_type,
                aggregate_id: row.aggregate_id,
            },
            sequence: row.sequence.unsigned_abs(),
            event_type: row.event_type,
            time: row.timestamp,
            metadata: serde_json::from_str(&row.metadata).unwrap_or_else(|_| unknown()),
        }
    }
}

/// Whoever brings a framework of their own along may say nothing of themselves.
fn unknown() -> Metadata {
    Metadata {
        command_id: String::new(),
        correlation_id: String::new(),
        causation_id: None,
        actor: "system:unknown".to_owned(),
        traceparent: None,
        address: None,
        time: String::new(),
        backdated: None,
    }
}

/// Where in the log the events of a time are, first and last; `None` if there are none. Times do not rise with positions
/// where history was written down, so this bounds and does not decide.
async fn span(
    connection: &mut PgConnection,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
) -> Result<Option<(i64, i64)>, sqlx::Error> {
    if from.is_none() && to.is_none() {
        return Ok(Some((0, i64::MAX)));
    }
    // The sum keeps Postgres from walking the index of positions from one end until it meets the time.
    let span = sqlx::query!(
        "SELECT min(position + 0) AS first, max(position + 0) AS last FROM events
         WHERE ($1::timestamptz IS NULL OR timestamp >= $1) AND ($2::timestamptz IS NULL OR timestamp < $2)",
        from,
        to
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(span.first.zip(span.last))
}

/// The newest `limit` changes before this position.
///
/// # Errors
/// When Postgres is not there.
pub async fn changes_before(
    pool: &PgPool,
    filter: &Filter,
    before: Option<u64>,
    limit: i64,
) -> Result<Vec<Change>, sqlx::Error> {
    let stream_type = filter.subject.as_deref().map(aggregate_type);
    if stream_type == Some(None) {
        return Ok(Vec::new());
    }
    let mut tx = planned_anew(pool).await?;
    let Some((first, last)) = span(&mut tx, filter.from, filter.to).await? else {
        return Ok(Vec::new());
    };
    let before = before.map_or(i64::MAX, u64::cast_signed);
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT position, aggregate_type, aggregate_id, sequence, event_type, timestamp, metadata::text AS "metadata!"
           FROM events
           WHERE position < $1 AND position BETWEEN $2 AND $3
             AND ($4::text IS NULL OR (aggregate_type = $4 AND aggregate_id = $5))
             AND ($6::text IS NULL OR (metadata ->> 'actor' = $6
                                       AND ($6 LIKE 'system:%' OR metadata ->> 'actor' NOT LIKE 'system:%')))
             AND ($7::text IS NULL OR (metadata ->> 'correlation_id' = $7 AND metadata ->> 'causation_id' IS NULL))
             AND ($8::text IS NULL OR metadata ->> 'correlation_id' = $8)
             AND ($9::text IS NULL OR event_type = $9)
             AND ($10::timestamptz IS NULL OR timestamp >= $10)
             AND ($11::timestamptz IS NULL OR timestamp < $11)
           ORDER BY position DESC LIMIT $12"#,
        before,
        first,
        last,
        stream_type.flatten(),
        filter.subject,
        filter.actor,
        filter.request,
        filter.correlation,
        filter.kind,
        filter.from,
        filter.to,
        limit
    )
    .fetch_all(&mut *tx)
    .await?;
    Ok(rows.into_iter().map(Change::from).collect())
}

/// The newest `limit` deeds before this place: before a position, or at it and before an id.
///
/// # Errors
/// When Postgres is not there.
pub async fn deeds_before(
    pool: &PgPool,
    filter: &Filter,
    before: Option<(u64, &str)>,
    limit: i64,
) -> Result<Vec<DeedRow>, sqlx::Error> {
    let (position, id) = before.map_or((i64::MAX, ""), |(position, id)| (position.cast_signed(), id));
    let rows = sqlx::query!(
        "SELECT position, id, kind, actor, subject, detail, request, address, time, times FROM deeds
         WHERE (position, id) < ($1, $2)
           AND ($3::text IS NULL OR (actor = $3 AND ($3 = 'anonymous' OR actor <> 'anonymous')))
           AND ($4::text IS NULL OR subject = $4)
           AND ($5::text IS NULL OR request = $5)
           AND ($6::text IS NULL OR request = $6)
           AND ($7::text IS NULL OR kind = $7)
           AND ($8::timestamptz IS NULL OR time >= $8)
           AND ($9::timestamptz IS NULL OR time < $9)
         ORDER BY position DESC, id DESC LIMIT $10",
        position,
        id,
        filter.actor,
        filter.subject,
        filter.request,
        filter.correlation,
        filter.kind,
        filter.from,
        filter.to,
        limit
    )
    .fetch_all(&mut *planned_anew(pool).await?)
    .await?;
    let deeds = rows.into_iter().map(|row| DeedRow {
        position: row.position.unsigned_abs(),
        id: row.id,
        kind: row.kind,
        actor: row.actor,
        subject: row.subject,
        detail: row.detail,
        request: row.request,
        address: row.address,
        time: row.time,
        times: row.times.unsigned_abs(),
    });
    Ok(deeds.collect())
}

/// What a request set off, in order: at most `limit` changes behind `after`.
///
/// # Errors
/// When Postgres is not there.
pub async fn set_off_by(
    pool: &PgPool,
    request: &str,
    after: u64,
    limit: i64,
) -> Result<Vec<Change>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT position, aggregate_type, aggregate_id, sequence, event_type, timestamp, metadata::text AS "metadata!"
           FROM events WHERE metadata ->> 'correlation_id' = $1 AND position > $2 ORDER BY position LIMIT $3"#,
        request,
        after.cast_signed(),
        limit
    )
    .fetch_all(&mut *planned_anew(pool).await?)
    .await?;
    Ok(rows.into_iter().map(Change::from).collect())
}

/// What happened to an order, and elsewhere because of it, whoever set it off, in order: at most `limit` changes behind `after`.
///
/// # Errors
/// When Postgres is not there.
pub async fn because_of(
    pool: &PgPool,
    order: OrderId,
    after: u64,
    limit: i64,
) -> Result<Vec<Change>, sqlx::Error> {
    // What is done because of an order carries on the correlation of one of its events: that is how it is found.
    let rows = sqlx::query_as!(
        Row,
        r#"WITH own AS (SELECT DISTINCT metadata ->> 'correlation_id' AS request
                        FROM events WHERE aggregate_type = 'order' AND aggregate_id = $1)
           SELECT position, aggregate_type, aggregate_id, sequence, event_type, timestamp, metadata::text AS "metadata!"
           FROM own JOIN events ON metadata ->> 'correlation_id' = request
           WHERE position > $2
             AND ((aggregate_type = 'order' AND aggregate_id = $1)
                  OR starts_with(metadata ->> 'causation_id', 'order/' || $1 || '/'))
           ORDER BY position LIMIT $3"#,
        order.to_string(),
        after.cast_signed(),
        limit
    )
    .fetch_all(&mut *planned_anew(pool).await?)
    .await?;
    Ok(rows.into_iter().map(Change::from).collect())
}
