//! Orders with their items and a timeline of what happened when and why.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use kontor_domain::{
    Address, DeclineReason, Money, Order, OrderEvent, OrderItem, OrderStatus, PaymentStep, PendingStep,
    Personal, RefusedItem, RejectionCause, ReturnedLine, UserId,
};
use kontor_eventstore::{Body, Recorded};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use crate::copy::Copy;
use crate::view::{FoldError, View, column, follows};

/// Rows of the view, with the types of the JSON columns, which sqlx cannot know.
macro_rules! rows {
    ($rest:literal $(, $value:expr)*) => {
        sqlx::query_as!(
            OrderRow,
            r#"SELECT id, customer_id, status, total_minor, refunded_minor, currency,
                      items AS "items: Json<Vec<OrderItem>>",
                      shipping_address AS "shipping_address: Json<Personal<Address>>",
                      timeline AS "timeline: Json<Vec<TimelineEntry>>",
                      placed_at, updated_at, version, position
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
}

/// One thing that happened to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// Position of the event in the log.
    pub position: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// The status from then on.
    pub status: OrderStatus,
    /// What, and why.
    pub what: Happening,
}

/// What can happen to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Happening {
    /// The customer ordered.
    Placed,
    /// Everything is reserved; the payment is next.
    Reserved,
    /// The payment waits for the customer. What they must do is for them alone, and not kept here.
    PaymentActionRequired,
    /// The bank holds the money.
    PaymentAuthorised {
        /// How much, in all.
        amount: Money,
    },
    /// The payment was declined.
    PaymentDeclined {
        /// Why.
        reason: DeclineReason,
    },
    /// The money was taken.
    PaymentCaptured {
        /// How much, in all.
        amount: Money,
    },
    /// The payment was let go.
    PaymentVoided,
    /// Money went back.
    PaymentRefunded {
        /// How much this time.
        amount: Money,
    },
    /// Money was promised back without goods coming back.
    RefundOrdered {
        /// How much.
        amount: Money,
        /// Why.
        reason: String,
    },
    /// Staff said that a step of the payment counts as done.
    SettledByHand {
        /// Which.
        due: PaymentStep,
        /// How much money it was about, if about any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<Money>,
        /// Why.
        reason: String,
    },
    /// Staff had what the order waits for tried again.
    RetryRequested {
        /// What it waited for.
        step: PendingStep,
    },
    /// Everything is reserved, and the money is certain if any was to be paid.
    Confirmed,
    /// It cannot be had: the stock or the money is not there.
    Rejected {
        /// What was not to be had, and how much of it there was.
        refused: Vec<RefusedItem>,
        /// Why.
        #[serde(default, skip_serializing_if = "RejectionCause::is_stock")]
        cause: RejectionCause,
    },
    /// It was called off.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// It is on its way.
    Shipped {
        /// Under this number.
        tracking_number: String,
        /// With this carrier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carrier: Option<String>,
    },
    /// It arrived.
    Delivered,
    /// Some of it came back.
    Returned {
        /// What.
        lines: Vec<ReturnedLine>,
        /// What was given back for it.
        refund: Money,
        /// Why.
        reason: String,
        /// Whether it went back into stock.
        restocked: bool,
    },
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
            ..
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
            });
            return Ok(());
        }
        let row = row.as_mut().ok_or(FoldError::Unborn { event: it.name() })?;
        follows(row.version.unsigned_abs(), event)?;
        let Some((status, what)) = happening(row, it) else {
            return Ok(());
        };
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
                 updated_at = n.updated_at, version = n.version, position = n.position
             FROM unnest($1::text[], $2::text[], $3::int8[], $4::text[], $5::timestamptz[], $6::int8[], $7::int8[])
                  AS n(id, status, refunded_minor, timeline, updated_at, version, position)
             WHERE o.id = n.id",
            &column(rows, |row| row.id.as_str()) as &[&str],
            &column(rows, |row| row.status.as_str()) as &[&str],
            &column(rows, |row| row.refunded_minor),
            &timelines,
            &column(rows, |row| row.updated_at),
            &column(rows, |row| row.version),
            &column(rows, |row| row.position)
        )
        .execute(connection)
        .await
        .map(drop)
    }

    fn encode(row: &OrderRow, copy: &mut Copy) {
        copy.row(13)
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
            .integer(row.position);
    }
}

/// What an event did to a placed order, and where the order stands then; `None` for the event that placed it.
fn happening(row: &mut OrderRow, it: &OrderEvent) -> Option<(OrderStatus, Happening)> {
    // What happens to the payment leaves the order where it is.
    let before = row
        .timeline
        .last()
        .map_or(OrderStatus::Pending, |entry| entry.status);
    Some(match it {
        OrderEvent::Placed { .. } => return None,
        OrderEvent::Reserved {} => (before, Happening::Reserved),
        OrderEvent::PaymentActionRequired { .. } => (before, Happening::PaymentActionRequired),
        OrderEvent::PaymentAuthorised { amount, .. } => {
            (before, Happening::PaymentAuthorised { amount: *amount })
        }
        OrderEvent::PaymentDeclined { reason, .. } => {
            (before, Happening::PaymentDeclined { reason: *reason })
        }
        OrderEvent::PaymentCaptured { amount, .. } => {
            (before, Happening::PaymentCaptured { amount: *amount })
        }
        OrderEvent::PaymentVoided { .. } => (before, Happening::PaymentVoided),
        OrderEvent::PaymentRefunded { amount, .. } => {
            (before, Happening::PaymentRefunded { amount: *amount })
        }
        OrderEvent::RefundOrdered { amount, owed, reason } => {
            row.refunded_minor = owed.amount_minor();
            let (amount, reason) = (*amount, reason.as_str().to_owned());
            (before, Happening::RefundOrdered { amount, reason })
        }
        OrderEvent::SettledByHand { due, amount, reason } => {
            let (due, amount, reason) = (*due, *amount, reason.as_str().to_owned());
            (before, Happening::SettledByHand { due, amount, reason })
        }
        OrderEvent::RetryRequested { step } => (before, Happening::RetryRequested { step: *step }),
        OrderEvent::Confirmed { .. } => (OrderStatus::Confirmed, Happening::Confirmed),
        OrderEvent::Rejected { refused, cause, .. } => (
            OrderStatus::Rejected,
            Happening::Rejected {
                refused: refused.clone(),
                cause: cause.clone(),
            },
        ),
        OrderEvent::Cancelled { reason, .. } => (
            OrderStatus::Cancelled,
            Happening::Cancelled {
                reason: reason.as_str().to_owned(),
            },
        ),
        OrderEvent::Shipped {
            tracking_number,
            carrier,
        } => {
            let tracking_number = tracking_number.as_str().to_owned();
            let carrier = carrier.as_ref().map(|carrier| carrier.as_str().to_owned());
            (
                OrderStatus::Shipped,
                Happening::Shipped {
                    tracking_number,
                    carrier,
                },
            )
        }
        OrderEvent::Delivered {} => (OrderStatus::Delivered, Happening::Delivered),
        OrderEvent::ItemsReturned {
            lines,
            refund,
            refunded,
            reason,
            restock,
        } => {
            row.refunded_minor = refunded.amount_minor();
            let (lines, reason) = (lines.clone(), reason.as_str().to_owned());
            (
                OrderStatus::Delivered,
                Happening::Returned {
                    lines,
                    refund: *refund,
                    reason,
                    restocked: *restock,
                },
            )
        }
    })
}

fn entry(event: &Recorded, status: OrderStatus, what: Happening) -> TimelineEntry {
    TimelineEntry {
        position: event.position,
        at: event.time,
        status,
        what,
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
