//! Sales per hour.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use cqrs_es::Aggregate;
use kontor_domain::{Money, Order, OrderEvent, OrderStatus};
use kontor_eventstore::{Body, Recorded};
use sqlx::{PgConnection, PgPool};

use crate::copy::Copy;
use crate::view::{FoldError, View, column};

/// What happened in one hour, in one currency. Amounts in minor units. Each event counts in the hour it happened in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalesRow {
    /// Its beginning, UTC.
    pub hour: DateTime<Utc>,
    /// ISO 4217.
    pub currency: String,
    /// Orders placed.
    pub orders_placed: i64,
    /// Orders confirmed.
    pub orders_confirmed: i64,
    /// Orders rejected.
    pub orders_rejected: i64,
    /// Orders cancelled, confirmed before or not.
    pub orders_cancelled: i64,
    /// Pieces in the confirmed orders.
    pub pieces: i64,
    /// Sum of the orders placed.
    pub placed_minor: i64,
    /// Sum of the orders confirmed.
    pub confirmed_minor: i64,
    /// Sum of the orders cancelled after they had been confirmed.
    pub cancelled_minor: i64,
    /// Sum of the refunds for returned items.
    pub refunded_minor: i64,
    /// Position of the last event counted.
    pub position: i64,
}

/// The view.
#[derive(Debug)]
pub struct Sales;

/// What one event adds. `None`: nothing is counted.
fn amount(event: &OrderEvent) -> Option<Money> {
    match event {
        OrderEvent::Placed { total, .. }
        | OrderEvent::Confirmed { total, .. }
        | OrderEvent::Rejected { total, .. }
        | OrderEvent::Cancelled { total, .. } => Some(*total),
        OrderEvent::ItemsReturned { refund, .. } | OrderEvent::RefundOrdered { amount: refund, .. } => {
            Some(*refund)
        }
        // What is authorised, captured and paid back is the payment's; sales count what was promised.
        OrderEvent::Shipped { .. }
        | OrderEvent::Delivered {}
        | OrderEvent::Reserved {}
        | OrderEvent::PaymentActionRequired { .. }
        | OrderEvent::PaymentAuthorised { .. }
        | OrderEvent::PaymentDeclined { .. }
        | OrderEvent::PaymentCaptured { .. }
        | OrderEvent::PaymentVoided { .. }
        | OrderEvent::PaymentRefunded { .. }
        | OrderEvent::SettledByHand { .. }
        | OrderEvent::RetryRequested { .. } => None,
    }
}

impl View for Sales {
    const NAME: &'static str = "sales";
    const AGGREGATE: &'static str = Order::TYPE;
    const KEY: &'static str = "hour, currency";
    const GATHERS: bool = true;
    type Id = (DateTime<Utc>, String);
    type Row = SalesRow;

    fn id_of(event: &Recorded) -> Option<Self::Id> {
        let Body::Order(_, it) = &event.body else {
            return None;
        };
        let hour = event.time.duration_trunc(TimeDelta::hours(1)).ok()?;
        Some((hour, amount(it)?.currency().to_string()))
    }

    fn id(row: &SalesRow) -> Self::Id {
        (row.hour, row.currency.clone())
    }

    fn position(row: &SalesRow) -> u64 {
        row.position.unsigned_abs()
    }

    fn fold(row: &mut Option<SalesRow>, event: &Recorded) -> Result<(), FoldError> {
        let Body::Order(_, it) = &event.body else {
            return Err(FoldError::Foreign);
        };
        let (hour, currency) = Self::id_of(event).ok_or(FoldError::Foreign)?;
        let row = row.get_or_insert_with(|| SalesRow {
            hour,
            currency,
            orders_placed: 0,
            orders_confirmed: 0,
            orders_rejected: 0,
            orders_cancelled: 0,
            pieces: 0,
            placed_minor: 0,
            confirmed_minor: 0,
            cancelled_minor: 0,
            refunded_minor: 0,
            position: 0,
        });
        let (count, sum, money) = match it {
            OrderEvent::Placed { total, .. } => (&mut row.orders_placed, Some(&mut row.placed_minor), *total),
            OrderEvent::Confirmed { total, pieces } => {
                row.pieces += i64::try_from(*pieces).map_err(|_| FoldError::OutOfRange)?;
                (&mut row.orders_confirmed, Some(&mut row.confirmed_minor), *total)
            }
            OrderEvent::Rejected { total, .. } => (&mut row.orders_rejected, None, *total),
            OrderEvent::Cancelled { total, was, .. } => {
                let sum = (*was == OrderStatus::Confirmed).then_some(&mut row.cancelled_minor);
                (&mut row.orders_cancelled, sum, *total)
            }
            OrderEvent::ItemsReturned { refund, .. } | OrderEvent::RefundOrdered { amount: refund, .. } => {
                (&mut 0, Some(&mut row.refunded_minor), *refund)
            }
            // Not counted, see `amount`.
            _ => return Err(FoldError::Foreign),
        };
        if let Some(sum) = sum {
            *sum = sum
                .checked_add(money.amount_minor())
                .ok_or(FoldError::OutOfRange)?;
        }
        *count += 1;
        // What was parked is counted behind later events of other orders.
        row.position = row.position.max(event.position.cast_signed());
        Ok(())
    }

    async fn load(connection: &mut PgConnection, ids: &[Self::Id]) -> Result<Vec<SalesRow>, sqlx::Error> {
        let (hours, currencies): (Vec<_>, Vec<String>) = ids.iter().cloned().unzip();
        sqlx::query_as!(
            SalesRow,
            "SELECT s.* FROM sales s JOIN unnest($1::timestamptz[], $2::text[]) AS k(hour, currency)
             ON s.hour = k.hour AND s.currency = k.currency",
            &hours,
            &currencies
        )
        .fetch_all(connection)
        .await
    }

    async fn update(connection: &mut PgConnection, rows: &[&SalesRow]) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "UPDATE sales s
             SET orders_placed = n.orders_placed, orders_confirmed = n.orders_confirmed,
                 orders_rejected = n.orders_rejected, orders_cancelled = n.orders_cancelled, pieces = n.pieces,
                 placed_minor = n.placed_minor, confirmed_minor = n.confirmed_minor,
                 cancelled_minor = n.cancelled_minor, refunded_minor = n.refunded_minor, position = n.position
             FROM unnest($1::timestamptz[], $2::text[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[],
                         $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::int8[])
                  AS n(hour, currency, orders_placed, orders_confirmed, orders_rejected, orders_cancelled, pieces,
                       placed_minor, confirmed_minor, cancelled_minor, refunded_minor, position)
             WHERE s.hour = n.hour AND s.currency = n.currency",
            &column(rows, |row| row.hour),
            &column(rows, |row| row.currency.as_str()) as &[&str],
            &column(rows, |row| row.orders_placed),
            &column(rows, |row| row.orders_confirmed),
            &column(rows, |row| row.orders_rejected),
            &column(rows, |row| row.orders_cancelled),
            &column(rows, |row| row.pieces),
            &column(rows, |row| row.placed_minor),
            &column(rows, |row| row.confirmed_minor),
            &column(rows, |row| row.cancelled_minor),
            &column(rows, |row| row.refunded_minor),
            &column(rows, |row| row.position)
        )
        .execute(connection)
        .await
        .map(drop)
    }

    fn encode(row: &SalesRow, copy: &mut Copy) {
        copy.row(12)
            .time(row.hour)
            .text(&row.currency)
            .integer(row.orders_placed)
            .integer(row.orders_confirmed)
            .integer(row.orders_rejected)
            .integer(row.orders_cancelled)
            .integer(row.pieces)
            .integer(row.placed_minor)
            .integer(row.confirmed_minor)
            .integer(row.cancelled_minor)
            .integer(row.refunded_minor)
            .integer(row.position);
    }
}

/// The hours from `from` up to but not including `to`, oldest first, at most `limit`, behind `after`; of one currency or of
/// all.
///
/// # Errors
/// When Postgres is not there.
pub async fn list(
    pool: &PgPool,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    only: Option<&str>,
    after: Option<(DateTime<Utc>, &str)>,
    limit: i64,
) -> Result<Vec<SalesRow>, sqlx::Error> {
    let (hour, currency) = after.unzip();
    sqlx::query_as!(
        SalesRow,
        "SELECT * FROM sales WHERE hour >= $1 AND hour < $2
           AND ($3::timestamptz IS NULL OR (hour, currency) > ($3, $4::text))
           AND ($5::text IS NULL OR currency = $5)
         ORDER BY hour, currency LIMIT $6",
        from,
        to,
        hour,
        currency,
        only,
        limit
    )
    .fetch_all(pool)
    .await
}
