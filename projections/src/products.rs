//! Products as the catalogue shows them.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use kontor_domain::{Product, ProductEvent};
use kontor_eventstore::{Body, Recorded};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};

use crate::copy::Copy;
use crate::view::{FoldError, View, column, follows};

/// A product. Amounts in minor units of `currency`, stock in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRow {
    /// `prd_…`
    pub id: String,
    /// Stock keeping unit, as it was written.
    pub sku: String,
    /// What it is called.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Where the catalogue files it.
    pub category: String,
    /// Price of a piece.
    pub price_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Pieces in the house.
    pub on_hand: i64,
    /// Of those, promised to orders.
    pub reserved: i64,
    /// On hand and not reserved.
    pub available: i64,
    /// Pieces shipped so far.
    pub units_sold: i64,
    /// Whether it can be ordered.
    pub listed: bool,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When anything about it last changed.
    pub updated_at: DateTime<Utc>,
    /// Version of the aggregate: what edits expect.
    pub version: i64,
    /// Position of its last event.
    pub position: i64,
}

/// The view.
#[derive(Debug)]
pub struct Products;

impl View for Products {
    const NAME: &'static str = "products";
    const AGGREGATE: &'static str = Product::TYPE;
    const KEY: &'static str = "id";
    type Id = String;
    type Row = ProductRow;

    fn id_of(event: &Recorded) -> Option<String> {
        match &event.body {
            Body::Product(id, _) => Some(id.to_string()),
            _ => None,
        }
    }

    fn id(row: &ProductRow) -> String {
        row.id.clone()
    }

    fn position(row: &ProductRow) -> u64 {
        row.position.unsigned_abs()
    }

    fn fold(row: &mut Option<ProductRow>, event: &Recorded) -> Result<(), FoldError> {
        let Body::Product(id, it) = &event.body else {
            return Err(FoldError::Foreign);
        };
        if let ProductEvent::Created {
            sku,
            name,
            description,
            category,
            price,
        } = it
        {
            *row = Some(ProductRow {
                id: id.to_string(),
                sku: sku.as_str().to_owned(),
                name: name.as_str().to_owned(),
                description: description.as_str().to_owned(),
                category: category.as_str().to_owned(),
                price_minor: price.amount_minor(),
                currency: price.currency().to_string(),
                on_hand: 0,
                reserved: 0,
                available: 0,
                units_sold: 0,
                listed: true,
                created_at: event.time,
                updated_at: event.time,
                version: event.sequence.cast_signed(),
                position: event.position.cast_signed(),
            });
            return Ok(());
        }
        let row = row.as_mut().ok_or(FoldError::Unborn { event: it.name() })?;
        follows(row.version.unsigned_abs(), event)?;
        let stock = |pieces: u64| i64::try_from(pieces).map_err(|_| FoldError::OutOfRange);
        match it {
            ProductEvent::Created { .. } | ProductEvent::ReservationRefused { .. } => {}
            ProductEvent::DetailsChanged { name, description } => {
                name.as_str().clone_into(&mut row.name);
                description.as_str().clone_into(&mut row.description);
            }
            ProductEvent::CategoryChanged { category, .. } => category.as_str().clone_into(&mut row.category),
            ProductEvent::PriceChanged { price, .. } => row.price_minor = price.amount_minor(),
            ProductEvent::StockReceived { on_hand, .. }
            | ProductEvent::StockAdjusted { on_hand, .. }
            | ProductEvent::StockReturned { on_hand, .. } => row.on_hand = stock(*on_hand)?,
            ProductEvent::StockReserved { reserved, .. }
            | ProductEvent::ReservationReleased { reserved, .. } => {
                row.reserved = stock(*reserved)?;
            }
            ProductEvent::ReservationCommitted {
                quantity,
                on_hand,
                reserved,
                ..
            } => {
                (row.on_hand, row.reserved) = (stock(*on_hand)?, stock(*reserved)?);
                row.units_sold += i64::from(quantity.get());
            }
            ProductEvent::Discontinued { .. } => row.listed = false,
            ProductEvent::Relisted {} => row.listed = true,
        }
        row.available = row.on_hand - row.reserved;
        row.updated_at = event.time;
        row.version = event.sequence.cast_signed();
        row.position = event.position.cast_signed();
        Ok(())
    }

    async fn load(connection: &mut PgConnection, ids: &[String]) -> Result<Vec<ProductRow>, sqlx::Error> {
        sqlx::query_as!(ProductRow, "SELECT * FROM products WHERE id = ANY($1)", ids)
            .fetch_all(connection)
            .await
    }

    async fn update(connection: &mut PgConnection, rows: &[&ProductRow]) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "UPDATE products p
             SET name = n.name, description = n.description, category = n.category, price_minor = n.price_minor,
                 on_hand = n.on_hand, reserved = n.reserved, available = n.available, units_sold = n.units_sold,
                 listed = n.listed, updated_at = n.updated_at, version = n.version, position = n.position
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::int8[], $7::int8[], $8::int8[],
                         $9::int8[], $10::bool[], $11::timestamptz[], $12::int8[], $13::int8[])
                  AS n(id, name, description, category, price_minor, on_hand, reserved, available,
                       units_sold, listed, updated_at, version, position)
             WHERE p.id = n.id",
            &column(rows, |row| row.id.as_str()) as &[&str],
            &column(rows, |row| row.name.as_str()) as &[&str],
            &column(rows, |row| row.description.as_str()) as &[&str],
            &column(rows, |row| row.category.as_str()) as &[&str],
            &column(rows, |row| row.price_minor),
            &column(rows, |row| row.on_hand),
            &column(rows, |row| row.reserved),
            &column(rows, |row| row.available),
            &column(rows, |row| row.units_sold),
            &column(rows, |row| row.listed),
            &column(rows, |row| row.updated_at),
            &column(rows, |row| row.version),
            &column(rows, |row| row.position)
        )
        .execute(connection)
        .await
        .map(drop)
    }

    fn encode(row: &ProductRow, copy: &mut Copy) {
        copy.row(16)
            .text(&row.id)
            .text(&row.sku)
            .text(&row.name)
            .text(&row.description)
            .text(&row.category)
            .integer(row.price_minor)
            .text(&row.currency)
            .integer(row.on_hand)
            .integer(row.reserved)
            .integer(row.available)
            .integer(row.units_sold)
            .boolean(row.listed)
            .time(row.created_at)
            .time(row.updated_at)
            .integer(row.version)
            .integer(row.position);
    }
}

/// Which products to list. What is `None` does not restrict.
#[derive(Debug, Clone, Default)]
pub struct ProductFilter {
    /// This category.
    pub category: Option<String>,
    /// At least this price, in minor units.
    pub min_price_minor: Option<i64>,
    /// At most this price, in minor units.
    pub max_price_minor: Option<i64>,
    /// Whether a piece is available.
    pub in_stock: Option<bool>,
    /// Whether it can be ordered.
    pub listed: Option<bool>,
    /// Part of the name or the SKU, in any case.
    pub search: Option<String>,
}

/// The order of a list of products. Ties are broken by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProductSort {
    /// By name, ignoring case.
    Name,
    /// Cheapest first.
    PriceAscending,
    /// Dearest first.
    PriceDescending,
    /// Newest first.
    Newest,
    /// Most pieces shipped first.
    BestSelling,
}

/// Where a page begins: behind this row, in the order given by its sort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductKey {
    /// The sort it belongs to.
    pub sort: ProductSort,
    /// The row's name, or nothing. Folded by Postgres, as the list is.
    pub name: String,
    /// The row's price, time in microseconds, or units sold.
    pub number: i64,
    /// The row's id.
    pub id: String,
}

impl ProductKey {
    /// The key of a row.
    #[must_use]
    pub fn of(row: &ProductRow, sort: ProductSort) -> Self {
        let (name, number) = match sort {
            ProductSort::Name => (row.name.clone(), 0),
            ProductSort::PriceAscending | ProductSort::PriceDescending => (String::new(), row.price_minor),
            ProductSort::Newest => (String::new(), row.created_at.timestamp_micros()),
            ProductSort::BestSelling => (String::new(), row.units_sold),
        };
        Self {
            sort,
            name,
            number,
            id: row.id.clone(),
        }
    }
}

/// Several products, in no order; those that do not exist are left out.
///
/// # Errors
/// When Postgres is not there.
pub async fn by_ids(pool: &PgPool, ids: &[String]) -> Result<Vec<ProductRow>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    Products::load(&mut connection, ids).await
}

/// The product with this SKU, folded as [`kontor_domain::Sku::folded`] does.
///
/// # Errors
/// When Postgres is not there.
pub async fn by_sku(pool: &PgPool, sku: &str) -> Result<Option<ProductRow>, sqlx::Error> {
    sqlx::query_as!(
        ProductRow,
        "SELECT p.* FROM claims c JOIN products p ON p.id = c.aggregate_id WHERE c.kind = 'sku' AND c.value = $1",
        sku
    )
    .fetch_optional(pool)
    .await
}

/// The query of one sort: its filter, where its page begins, its order. SQL is checked at build time, so the orders are
/// spelled out rather than assembled.
macro_rules! page {
    ($behind:literal, $order:literal, $pool:expr, $filter:expr, $name:expr, $number:expr, $id:expr, $limit:expr) => {
        sqlx::query_as!(
            ProductRow,
            "SELECT * FROM products
             WHERE ($1::text IS NULL OR category = $1)
               AND ($2::int8 IS NULL OR price_minor >= $2)
               AND ($3::int8 IS NULL OR price_minor <= $3)
               AND ($4::bool IS NULL OR (available > 0) = $4)
               AND ($5::bool IS NULL OR listed = $5)
               AND ($6::text IS NULL OR strpos(lower(name), lower($6)) > 0 OR strpos(lower(sku), lower($6)) > 0)
               AND ($9::text IS NULL OR " + $behind + ")
             ORDER BY " + $order + " LIMIT $10",
            $filter.category,
            $filter.min_price_minor,
            $filter.max_price_minor,
            $filter.in_stock,
            $filter.listed,
            $filter.search,
            $name,
            $number,
            $id,
            $limit
        )
        .fetch_all($pool)
        .await
    };
}

/// A page of products: at most `limit`, behind `after`.
///
/// # Errors
/// When Postgres is not there.
pub async fn list(
    pool: &PgPool,
    filter: &ProductFilter,
    sort: ProductSort,
    after: Option<&ProductKey>,
    limit: i64,
) -> Result<Vec<ProductRow>, sqlx::Error> {
    let (name, number, id) = after.map_or((None, None, None), |key| {
        (Some(key.name.as_str()), Some(key.number), Some(key.id.as_str()))
    });
    match sort {
        ProductSort::Name => page!(
            r#"(lower(name) COLLATE "C", id) > (lower($7::text) COLLATE "C", $9) OR $8::int8 IS NULL"#,
            r#"lower(name) COLLATE "C", id"#,
            pool,
            filter,
            name,
            number,
            id,
            limit
        ),
        ProductSort::PriceAscending => page!(
            "(price_minor, id) > ($8::int8, $9) OR $7::text IS NULL",
            "price_minor, id",
            pool,
            filter,
            name,
            number,
            id,
            limit
        ),
        ProductSort::PriceDescending => page!(
            "(price_minor, id) < ($8::int8, $9) OR $7::text IS NULL",
            "price_minor DESC, id DESC",
            pool,
            filter,
            name,
            number,
            id,
            limit
        ),
        ProductSort::Newest => page!(
            "(created_at, id) < (timestamptz 'epoch' + $8::int8 * interval '1 microsecond', $9) OR $7::text IS NULL",
            "created_at DESC, id DESC",
            pool,
            filter,
            name,
            number,
            id,
            limit
        ),
        ProductSort::BestSelling => page!(
            "(units_sold, id) < ($8::int8, $9) OR $7::text IS NULL",
            "units_sold DESC, id DESC",
            pool,
            filter,
            name,
            number,
            id,
            limit
        ),
    }
}
