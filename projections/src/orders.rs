//! Orders with their items and a timeline of what happened when and why.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use kontor_domain::{Address, Order, OrderEvent, OrderItem, OrderStatus, Personal, UserId};
use kontor_eventstore::{Body, Recorded};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use crate::copy::Copy;
use crate::view::{FoldError, View, column, follows};

mod payment;
mod timeline;

pub use payment::PaymentProgress;
pub use timeline::{Happening, TimelineEntry};

use timeline::{entry, happening};

/// Rows of the view, with the types of the JSON columns, which sqlx cannot know.
macro_rules! rows {
    ($rest:literal $(, $value:expr)*) => {
        sqlx::query_as!(
            OrderRow,
            r#"SELECT id, customer_id, status, total_minor, refunded_minor, currency,
                      items AS "items: Json<Vec<OrderItem>>",
                      shipping_address AS "shipping_address: Json<Personal<Address>>",
                      timeline AS "timeline: Json<Vec<TimelineEntry>>",
                      placed_at, updated_at, version, position,
                      payment_status, authorised_minor, captured_minor, paid_back_minor
               FROM orders "# + $rest
            $(, $value)*
        )
    };
}

/// An order. Amounts in minor units of `currency`.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderRow {
    /// `ord_…`
    pub id: String,
    /// `usr_…`
    pub customer_id: String,
    /// As [`OrderStatus::as_str`].
    pub status: String,
    /// Sum of its items.
    pub total_minor: i64,
    /// Of that, given or promised back, for returned items and without them.
    pub refunded_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// What was ordered, at the prices of then.
    pub items: Json<Vec<OrderItem>>,
    /// Where it goes.
    pub shipping_address: Json<Personal<Address>>,
    /// What happened, oldest first.
    pub timeline: Json<Vec<TimelineEntry>>,
    /// When it was placed.
    pub placed_at: DateTime<Utc>,
    /// When anything about it last changed.
    pub updated_at: DateTime<Utc>,
    /// Version of the aggregate: what edits expect.
    pub version: i64,
    /// Position of its last event.
    pub position: i64,
    /// As [`PaymentProgress::as_str`]; none if it was placed without a means of payment.
    pub payment_status: Option<String>,
    /// What is or was held for it.
    pub authorised_minor: i64,
    /// What was taken for it.
    pub captured_minor: i64,
    /// What of that went back.
    pub paid_back_minor: i64,
}

/// The view.
#[derive(Debug)]
pub struct Orders;

impl View for Orders {
    const NAME: &'static str = "orders";
    const AGGREGATE: &'static str = Order::TYPE;
    const KEY: &'static str = "id";
    type Id = String;
    type Row = OrderRow;

    fn id_of(event: &Recorded) -> Option<String> {
        match &event.body {
            Body::Order(id, _) => Some(id.to_string()),
            _ => None,
        }
    }

    fn id(row: &OrderRow) -> String {
        row.id.clone()
    }

    fn position(row: &OrderRow) -> u64 {
        row.position.unsigned_abs()
    }

    fn fold(row: &mut Option<OrderRow>, event: &Recorded) -> Result<(), FoldError> {
        let Body::Order(id, it) = &event.body else {
            return Err(FoldError::Foreign);
        };
        if let OrderEvent::Placed {
            customer_id,
            items,
            total,
            shipping_address,
            payment,
        } = it
        {
            *row = Some(OrderRow {
                id: id.to_string(),
                customer_id: customer_id.to_string(),
                status: OrderStatus::Pending.as_str().to_owned(),
                total_minor: total.amount_minor(),
                refunded_minor: 0,
                currency: total.currency().to_string(),
                items: Json(items.clone()),
                shipping_address: Json(shipping_address.clone()),
                timeline: Json(vec![entry(event, OrderStatus::Pending, Happening::Placed)]),
                placed_at: event.time,
                updated_at: event.time,
                version: event.sequence.cast_signed(),
                position: event.position.cast_signed(),
                payment_status: payment
                    .as_ref()
                    .map(|_| PaymentProgress::Waiting.as_str().to_owned()),
                authorised_minor: 0,
                captured_minor: 0,
                paid_back_minor: 0,
            });
            return Ok(());
        }
        let row = row.as_mut().ok_or(FoldError::Unborn { event: it.name() })?;
        follows(row.version.unsigned_abs(), event)?;
        let Some((status, what)) = happening(row, it) else {
            return Ok(());
        };
        payment::heard(row, it);
        status.as_str().clone_into(&mut row.status);
        row.timeline.push(entry(event, status, what));
        row.updated_at = event.time;
        row.version = event.sequence.cast_signed();
        row.position = event.position.cast_signed();
        Ok(())
    }

    async fn load(connection: &mut PgConnection, ids: &[String]) -> Result<Vec<OrderRow>, sqlx::Error> {
        rows!("WHERE id = ANY($1)", ids).fetch_all(connection).await
    }

    async fn update(connection: &mut PgConnection, rows: &[&OrderRow]) -> Result<(), sqlx::Error> {
        // sqlx would put a space before a `json`, and a row is compared with a rebuilt one as text.
        let timelines = rows
            .iter()
            .map(|row| serde_json::to_string(&row.timeline))
            .collect::<Result<Vec<String>, _>>()
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        // What was ordered, by whom, and where it goes stays as it was placed.
        sqlx::query!(
            "UPDATE orders o
             SET status = n.status, refunded_minor = n.refunded_minor, timeline = n.timeline::json,
                 updated_at = n.updated_at, version = n.version, position = n.position,
                 payment_status = n.payment_status, authorised_minor = n.authorised_minor,
                 captured_minor = n.captured_minor, paid_back_minor = n.paid_back_minor
             FROM unnest($1::text[], $2::text[], $3::int8[], $4::text[], $5::timestamptz[], $6::int8[], $7::int8[],
                         $8::text[], $9::int8[], $10::int8[], $11::int8[])
                  AS n(id, status, refunded_minor, timeline, updated_at, version, position, payment_status,
                       authorised_minor, captured_minor, paid_back_minor)
             WHERE o.id = n.id",
            &column(rows, |row| row.id.as_str()) as &[&str],
            &column(rows, |row| row.status.as_str()) as &[&str],
            &column(rows, |row| row.refunded_minor),
            &timelines,
            &column(rows, |row| row.updated_at),
            &column(rows, |row| row.version),
            &column(rows, |row| row.position),
            &column(rows, |row| row.payment_status.as_deref()) as &[Option<&str>],
            &column(rows, |row| row.authorised_minor),
            &column(rows, |row| row.captured_minor),
            &column(rows, |row| row.paid_back_minor)
        )
        .execute(connection)
        .await
        .map(drop)
    }

    fn encode(row: &OrderRow, copy: &mut Copy) {
        copy.row(17)
            .text(&row.id)
            .text(&row.customer_id)
            .text(&row.status)
            .integer(row.total_minor)
            .integer(row.refunded_minor)
            .text(&row.currency)
            .json(&row.items)
            .json(&row.shipping_address)
            .json(&row.timeline)
            .time(row.placed_at)
            .time(row.updated_at)
            .integer(row.version)
            .integer(row.position)
            .optional_text(row.payment_status.as_ref())
            .integer(row.authorised_minor)
            .integer(row.captured_minor)
            .integer(row.paid_back_minor);
    }
}

/// Which orders to list. What is `None` does not restrict.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// Orders of this customer.
    pub customer_id: Option<UserId>,
    /// Orders in this status.
    pub status: Option<OrderStatus>,
}

/// Several orders, in no order; those that do not exist are left out.
///
/// # Errors
/// When Postgres is not there.
pub async fn by_ids(pool: &PgPool, ids: &[String]) -> Result<Vec<OrderRow>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    Orders::load(&mut connection, ids).await
}

/// A page of orders, newest first: at most `limit`, behind the order `after` placed at that time.
///
/// # Errors
/// When Postgres is not there.
pub async fn list(
    pool: &PgPool,
    filter: &OrderFilter,
    after: Option<(DateTime<Utc>, &str)>,
    limit: i64,
) -> Result<Vec<OrderRow>, sqlx::Error> {
    let (time, id) = after.unzip();
    rows!(
        "WHERE ($1::text IS NULL OR customer_id = $1) AND ($2::text IS NULL OR status = $2)
           AND ($3::timestamptz IS NULL OR (placed_at, id) < ($3, $4::text))
         ORDER BY placed_at DESC, id DESC LIMIT $5",
        filter.customer_id.map(|id| id.to_string()),
        filter.status.map(OrderStatus::as_str),
        time,
        id,
        limit
    )
    .fetch_all(pool)
    .await
}

/// The ids of a customer's orders to which something happened after `position`.
///
/// # Errors
/// When Postgres is not there.
pub async fn changed_of_customer(
    pool: &PgPool,
    customer: UserId,
    position: u64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT id FROM orders WHERE customer_id = $1 AND position > $2",
        customer.to_string(),
        position.cast_signed()
    )
    .fetch_all(pool)
    .await
}
