//! What the shop sells.

use async_graphql::{Context, Description, Object, Result};
use chrono::Utc;
use kontor_projections::sales::{self as view, Sales, SalesRow};
use kontor_projections::view::View;

use super::access::{Permission, require};
use super::connection::{Connection, Page};
use super::error::{bad_user_input, internal};
use super::reads::{app, unreadable};
use super::scalars::{Count, CurrencyCode, DateTime, Money, Position};

/// What happened in one hour, in one currency. Each event counts in the hour in which it happened: an order placed at 9:59 and
/// confirmed at 10:00 is in two hours.
#[derive(Debug, Clone, Description)]
pub(crate) struct SalesHour(SalesRow);

impl SalesHour {
    fn money(&self, ctx: &Context<'_>, amount_minor: i64) -> Result<Money> {
        Money::of_row(amount_minor, &self.0.currency).map_err(|error| internal(ctx, error))
    }
}

#[Object(use_type_description)]
impl SalesHour {
    /// When the hour begins.
    async fn hour(&self) -> DateTime {
        DateTime(self.0.hour)
    }

    /// The currency of the orders counted here.
    async fn currency(&self, ctx: &Context<'_>) -> Result<CurrencyCode> {
        let code = self.0.currency.parse().map(CurrencyCode);
        code.map_err(|error| internal(ctx, error))
    }

    /// Orders placed.
    async fn orders_placed(&self) -> Count {
        Count(self.0.orders_placed)
    }

    /// Orders confirmed.
    async fn orders_confirmed(&self) -> Count {
        Count(self.0.orders_confirmed)
    }

    /// Orders rejected for want of stock.
    async fn orders_rejected(&self) -> Count {
        Count(self.0.orders_rejected)
    }

    /// Orders cancelled, confirmed before or not.
    async fn orders_cancelled(&self) -> Count {
        Count(self.0.orders_cancelled)
    }

    /// Pieces in the orders that were confirmed.
    async fn pieces(&self) -> Count {
        Count(self.0.pieces)
    }

    /// Sum of the orders placed.
    async fn placed(&self, ctx: &Context<'_>) -> Result<Money> {
        self.money(ctx, self.0.placed_minor)
    }

    /// Sum of the orders confirmed.
    async fn confirmed(&self, ctx: &Context<'_>) -> Result<Money> {
        self.money(ctx, self.0.confirmed_minor)
    }

    /// Sum of the orders cancelled after they had been confirmed.
    async fn cancelled(&self, ctx: &Context<'_>) -> Result<Money> {
        self.money(ctx, self.0.cancelled_minor)
    }

    /// Sum of the refunds for items that came back.
    async fn refunded(&self, ctx: &Context<'_>) -> Result<Money> {
        self.money(ctx, self.0.refunded_minor)
    }
}

/// Queries of sales.
#[derive(Debug, Default)]
pub(crate) struct SalesQueries;

#[Object]
impl SalesQueries {
    /// Sales hour by hour, oldest first, a node for each currency; hours without sales are left out. For staff; `FORBIDDEN` for
    /// customers. Needs `sales:read`.
    #[expect(clippy::too_many_arguments, reason = "a field's arguments")]
    async fn sales_per_hour(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Hours that begin at or after this moment.")] from: DateTime,
        #[graphql(desc = "Hours that begin before this moment; `BAD_USER_INPUT` if it is before `from`.")]
        to: DateTime,
        #[graphql(desc = "Only sales in this currency.")] currency: Option<CurrencyCode>,
        #[graphql(
            desc = "How many at most: 1 to 100, otherwise `BAD_USER_INPUT`.",
            default = 20
        )]
        first: i32,
        #[graphql(
            desc = "The cursor behind which the page begins; `BAD_USER_INPUT` if it is not one of this list."
        )]
        after: Option<String>,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Connection<SalesHour>> {
        require(ctx, Permission::SalesRead)?;
        if to.0 < from.0 {
            return Err(bad_user_input("to: must not be before `from`"));
        }
        let page = Page::<(chrono::DateTime<Utc>, String)>::new(Some(first), after.as_deref())?;
        super::reads::at_least(ctx, Sales::NAME, at_least).await?;
        let after = page
            .after
            .as_ref()
            .map(|(hour, currency)| (*hour, currency.as_str()));
        let currency = currency.map(|code| code.0.to_string());
        let only = currency.as_deref();
        let rows = view::list(app(ctx).store.pool(), from.0, to.0, only, after, page.limit()).await;
        let key = |row: &SalesRow| Some((row.hour, row.currency.clone()));
        Ok(page.connection(rows.map_err(unreadable(ctx))?, key, SalesHour))
    }
}
