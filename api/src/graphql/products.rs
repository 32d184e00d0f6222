//! Products: what the catalogue says of them, and how many there are.

use std::sync::Arc;

use async_graphql::{Context, Description, Enum, ID, InputObject, Object, Result, SimpleObject};
use kontor_domain::{ProductId, Sku, TextProblem};
use kontor_projections::products::{self as view, ProductKey, ProductRow, Products};
use kontor_projections::view::View;

use super::access::{Permission, viewer};
use super::connection::{Connection, Page};
use super::error::{bad_user_input, internal, sought};
use super::reads::{app, at_least, product, products, unreadable};
use super::scalars::{Count, DateTime, MinorUnits, Money, Position, id_argument, version};

mod inputs;
mod mutations;
mod updates;

pub(crate) use mutations::{ProductMutations, product_not_found};
pub(crate) use updates::ProductSubscriptions;

/// Products that best sellers can be asked for at once.
const MOST_BEST_SELLERS: i32 = 100;
/// Characters of a search.
const LONGEST_SEARCH: usize = 100;

/// Something that is sold, and how much of it there is. Everybody may see products.
#[derive(Debug, Clone, Description)]
pub(crate) struct Product(pub(crate) Arc<ProductRow>);

#[Object(use_type_description)]
impl Product {
    /// Names the product: `prd_` and a ULID. Sorts by the time of creation.
    pub(crate) async fn id(&self) -> ID {
        ID::from(self.0.id.as_str())
    }

    /// The shop's own name for it: 1 to 64 characters, unique without regard to case.
    async fn sku(&self) -> &str {
        &self.0.sku
    }

    /// What it is called: 1 to 200 characters.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What there is to say about it: up to 10,000 characters, possibly none, possibly several lines.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// The shelf it stands on: 1 to 100 characters.
    async fn category(&self) -> &str {
        &self.0.category
    }

    /// The price of one piece for orders placed now; never negative.
    async fn price(&self, ctx: &Context<'_>) -> Result<Money> {
        Money::of_row(self.0.price_minor, &self.0.currency).map_err(|error| internal(ctx, error))
    }

    /// Pieces that can still be ordered: on hand and not reserved. Never below zero. It may be a moment old: whether an
    /// order gets its pieces is decided when they are reserved.
    async fn available(&self) -> Count {
        Count(self.0.available)
    }

    /// Whether at least one piece is available.
    async fn in_stock(&self) -> bool {
        self.0.available > 0
    }

    /// Pieces in the house. For staff; null for everybody else.
    async fn on_hand(&self, ctx: &Context<'_>) -> Option<Count> {
        Permission::StockRead
            .held_by(viewer(ctx))
            .then_some(Count(self.0.on_hand))
    }

    /// Pieces on hand that are set aside for orders not yet shipped. For staff; null for everybody else.
    async fn reserved(&self, ctx: &Context<'_>) -> Option<Count> {
        Permission::StockRead
            .held_by(viewer(ctx))
            .then_some(Count(self.0.reserved))
    }

    /// Whether it is sold at present. A product that is not can be looked at, but not ordered.
    async fn listed(&self) -> bool {
        self.0.listed
    }

    /// Pieces shipped so far. Pieces that came back count.
    async fn units_sold(&self) -> Count {
        Count(self.0.units_sold)
    }

    /// When it was created.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When anything about it last changed, stock included.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }

    /// How often it has changed, stock included: what edits take as `expectedVersion`.
    async fn version(&self) -> i32 {
        version(self.0.version)
    }
}

impl From<ProductRow> for Product {
    fn from(row: ProductRow) -> Self {
        Self(Arc::new(row))
    }
}

/// Which products to list. What is left out does not restrict.
#[derive(Debug, InputObject)]
pub(crate) struct ProductFilter {
    /// Those in this category, spelt exactly so.
    category: Option<String>,
    /// Those whose piece costs at least this, in minor units of their own currency.
    min_price_minor: Option<MinorUnits>,
    /// Those whose piece costs at most this, in minor units of their own currency.
    max_price_minor: Option<MinorUnits>,
    /// True: those of which a piece is available. False: those of which none is.
    in_stock: Option<bool>,
    /// True: those that are sold at present. False: those that are not sold any more. Null: both.
    #[graphql(default_with = "Some(true)")]
    listed: Option<bool>,
    /// Those with this text somewhere in their name or SKU, in any case; at most 100 characters.
    search: Option<String>,
}

/// The order of a list of products. Among equals the id decides, so that pages neither repeat nor skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "kontor_projections::products::ProductSort")]
pub(crate) enum ProductSort {
    /// By name, without regard to case.
    Name,
    /// Cheapest first. Amounts are compared as they are, whatever their currency.
    PriceAscending,
    /// Dearest first. Amounts are compared as they are, whatever their currency.
    PriceDescending,
    /// Newest first.
    Newest,
    /// Most pieces shipped first.
    BestSelling,
}

/// A place among the best sellers.
#[derive(Debug, SimpleObject)]
pub(crate) struct BestSeller {
    /// The product.
    product: Product,
    /// Pieces shipped when the list was made.
    units_sold: Count,
}

/// Queries of products.
#[derive(Debug, Default)]
pub(crate) struct ProductQueries;

#[Object]
impl ProductQueries {
    /// A product by its id; null if there is none. For everybody. Fast: comes from memory, at most moments behind.
    async fn product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's id, `prd_...`; `BAD_USER_INPUT` if it is no such id.")] id: ID,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Option<Product>> {
        let id: ProductId = id_argument("id", &id)?;
        let row = if at_least.is_some() {
            fresh(ctx, id, at_least).await?
        } else {
            product(ctx, id).await?
        };
        Ok(row.map(Product))
    }

    /// A product by its SKU; null if there is none. For everybody.
    async fn product_by_sku(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The SKU, in any case; `BAD_USER_INPUT` if it could not be one.")] sku: String,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Option<Product>> {
        let sku = Sku::new(sku).map_err(|error| bad_user_input(format!("sku: {}", error.problem)))?;
        super::reads::at_least(ctx, Products::NAME, at_least).await?;
        let row = view::by_sku(app(ctx).store.pool(), &sku.folded()).await;
        Ok(row.map_err(unreadable(ctx))?.map(Product::from))
    }

    /// The catalogue, page by page. For everybody.
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which products to list; if left out, all that are sold at present.")]
        filter: Option<ProductFilter>,
        #[graphql(desc = "In which order.", default_with = "ProductSort::Name")] sort: ProductSort,
        #[graphql(
            desc = "How many at most: 1 to 100, otherwise `BAD_USER_INPUT`.",
            default = 20
        )]
        first: i32,
        #[graphql(
            desc = "The cursor behind which the page begins; `BAD_USER_INPUT` if it is not one of this list in this order."
        )]
        after: Option<String>,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Connection<Product>> {
        let sort = view::ProductSort::from(sort);
        let page = Page::<ProductKey>::new(Some(first), after.as_deref())?;
        if page.after.as_ref().is_some_and(|key| key.sort != sort) {
            return Err(bad_user_input("after: this cursor belongs to another order"));
        }
        let filter = view_filter(filter)?;
        super::reads::at_least(ctx, Products::NAME, at_least).await?;
        let rows = view::list(
            app(ctx).store.pool(),
            &filter,
            sort,
            page.after.as_ref(),
            page.limit(),
        )
        .await
        .map_err(unreadable(ctx))?;
        Ok(page.connection(rows, |row| Some(ProductKey::of(row, sort)), Product::from))
    }

    /// The products of which most pieces were shipped, most first, those no longer sold among them. For everybody.
    async fn best_sellers(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most: 1 to 100, otherwise `BAD_USER_INPUT`.",
            default = 10
        )]
        first: i32,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Vec<BestSeller>> {
        if !(1..=MOST_BEST_SELLERS).contains(&first) {
            return Err(bad_user_input(format!(
                "first: must be between 1 and {MOST_BEST_SELLERS}, not {first}"
            )));
        }
        let count = first.unsigned_abs() as usize;
        if at_least.is_some() {
            super::reads::at_least(ctx, Products::NAME, at_least).await?;
            return best_sellers_of_view(ctx, count).await;
        }
        let top = app(ctx).best_sellers.top(count).await.map_err(unreadable(ctx))?;
        let ids = top.iter().filter_map(|(id, _)| id.parse().ok());
        let cards = products(ctx, ids).await?;
        let seller = |(id, units): &(String, i64)| {
            let card = cards.get(&id.parse().ok()?)?;
            Some(BestSeller {
                product: Product(Arc::clone(card)),
                units_sold: Count(*units),
            })
        };
        Ok(top.iter().filter_map(seller).collect())
    }
}

/// The best sellers by Postgres, which says what position it has reached whether or not Redis is there.
async fn best_sellers_of_view(ctx: &Context<'_>, count: usize) -> Result<Vec<BestSeller>> {
    let filter = view::ProductFilter::default();
    let sort = view::ProductSort::BestSelling;
    let limit = i64::try_from(count).unwrap_or(i64::MAX);
    let rows = view::list(app(ctx).store.pool(), &filter, sort, None, limit).await;
    let sold = rows
        .map_err(unreadable(ctx))?
        .into_iter()
        .filter(|row| row.units_sold > 0);
    Ok(sold
        .map(|row| BestSeller {
            units_sold: Count(row.units_sold),
            product: Product::from(row),
        })
        .collect())
}

fn view_filter(filter: Option<ProductFilter>) -> Result<view::ProductFilter> {
    let Some(filter) = filter else {
        return Ok(view::ProductFilter {
            listed: Some(true),
            ..view::ProductFilter::default()
        });
    };
    if filter
        .search
        .as_ref()
        .is_some_and(|search| search.chars().count() > LONGEST_SEARCH)
    {
        let problem = TextProblem::TooLong { max: LONGEST_SEARCH };
        return Err(bad_user_input(format!("filter.search: {problem}")));
    }
    sought([
        ("filter.category", filter.category.as_deref()),
        ("filter.search", filter.search.as_deref()),
    ])?;
    Ok(view::ProductFilter {
        category: filter.category,
        min_price_minor: filter.min_price_minor.map(|amount| amount.0),
        max_price_minor: filter.max_price_minor.map(|amount| amount.0),
        in_stock: filter.in_stock,
        listed: filter.listed,
        search: filter.search.filter(|search| !search.is_empty()),
    })
}

/// A product from Postgres rather than from its card, once the view has reached a position. So a wait for a position does
/// not depend on Redis.
pub(crate) async fn fresh(
    ctx: &Context<'_>,
    id: ProductId,
    position: Option<Position>,
) -> Result<Option<Arc<ProductRow>>> {
    at_least(ctx, Products::NAME, position).await?;
    let rows = view::by_ids(app(ctx).store.pool(), &[id.to_string()]).await;
    Ok(rows.map_err(unreadable(ctx))?.pop().map(Arc::new))
}
