//! Queries of orders.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::Utc;
use kontor_domain::{OrderId, UserId};
use kontor_projections::orders::{self as view, OrderRow, Orders};
use kontor_projections::statuses::LiveStatus;
use kontor_projections::view::View;

use super::{Order, OrderStatus, status};
use crate::graphql::access::{Permission, logged_in, require};
use crate::graphql::connection::{Connection, Page};
use crate::graphql::error::internal;
use crate::graphql::reads::{app, sees_order_of, unreadable, visible_order};
use crate::graphql::scalars::{DateTime, Position, id_argument, version};

/// Which orders to list. What is left out does not restrict.
#[derive(Debug, Default, InputObject)]
pub(crate) struct OrderFilter {
    /// Those of this customer, `usr_...`.
    customer_id: Option<ID>,
    /// Those that are in this status now.
    status: Option<OrderStatus>,
}

/// Where an order stands at this moment, without the rest of it: cheap to ask for again and again.
#[derive(Debug, SimpleObject)]
pub(crate) struct LiveOrderStatus {
    /// The order.
    order_id: ID,
    /// Where it stands.
    status: OrderStatus,
    /// When anything about the order last changed.
    updated_at: DateTime,
    /// How often the order has changed.
    version: i32,
    /// Where the order's last change stands in the log.
    position: Position,
}

/// Queries of orders.
#[derive(Debug, Default)]
pub(crate) struct OrderQueries;

/// What a page of orders is behind: when an order was placed, and which.
type Key = (chrono::DateTime<Utc>, OrderId);

#[Object]
impl OrderQueries {
    /// An order by its id; null if there is none, or none that you may see. `UNAUTHENTICATED` if you are not logged in.
    async fn order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id, `ord_...`; `BAD_USER_INPUT` if it is no such id.")] id: ID,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Option<Order>> {
        let viewer = logged_in(ctx)?;
        let id: OrderId = id_argument("id", &id)?;
        crate::graphql::reads::at_least(ctx, Orders::NAME, at_least).await?;
        Ok(visible_order(ctx, viewer, id).await?.map(Order))
    }

    /// Where an order stands; null if there is none, or none that you may see. `UNAUTHENTICATED` if you are not logged in. Fast:
    /// comes from memory, at most moments behind.
    async fn order_status(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id, `ord_...`; `BAD_USER_INPUT` if it is no such id.")] order_id: ID,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Option<LiveOrderStatus>> {
        let viewer = logged_in(ctx)?;
        let id: OrderId = id_argument("orderId", &order_id)?;
        let live = if at_least.is_some() {
            // From Postgres, which says what position it has reached whether or not Redis is there.
            crate::graphql::reads::at_least(ctx, Orders::NAME, at_least).await?;
            visible_order(ctx, viewer, id).await?.map(|row| live(&row))
        } else {
            let found = app(ctx).statuses.get(&[id.to_string()]).await;
            let found = found.map_err(unreadable(ctx))?.into_values().next();
            found.filter(|live| sees_order_of(viewer, &live.customer_id))
        };
        let Some(live) = live else { return Ok(None) };
        let status = status(&live.status).ok_or_else(|| internal(ctx, "an order's unknown status"))?;
        Ok(Some(LiveOrderStatus {
            order_id: live.order_id.into(),
            status,
            updated_at: DateTime(live.updated_at),
            version: version(live.version),
            position: Position(live.position.unsigned_abs()),
        }))
    }

    /// Everybody's orders, newest first. For staff; `FORBIDDEN` for customers, who ask for `myOrders`. Needs `order:read-all`.
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which orders to list; if left out, all.")] filter: Option<OrderFilter>,
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
    ) -> Result<Connection<Order>> {
        require(ctx, Permission::OrderReadAll)?;
        let filter = filter.unwrap_or_default();
        let customer = filter
            .customer_id
            .map(|id| id_argument::<UserId>("filter.customerId", &id));
        let filter = view::OrderFilter {
            customer_id: customer.transpose()?,
            status: filter.status.map(Into::into),
        };
        list(ctx, &filter, first, after.as_deref(), at_least).await
    }

    /// Your own orders, newest first. `UNAUTHENTICATED` if you are not logged in.
    async fn my_orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only those in this status.")] status: Option<OrderStatus>,
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
    ) -> Result<Connection<Order>> {
        let filter = view::OrderFilter {
            customer_id: Some(logged_in(ctx)?.user_id),
            status: status.map(Into::into),
        };
        list(ctx, &filter, first, after.as_deref(), at_least).await
    }
}

fn live(row: &OrderRow) -> LiveStatus {
    LiveStatus {
        order_id: row.id.clone(),
        customer_id: row.customer_id.clone(),
        status: row.status.clone(),
        updated_at: row.updated_at,
        version: row.version,
        position: row.position,
    }
}

async fn list(
    ctx: &Context<'_>,
    filter: &view::OrderFilter,
    first: i32,
    after: Option<&str>,
    at_least: Option<Position>,
) -> Result<Connection<Order>> {
    let page = Page::<Key>::new(Some(first), after)?;
    crate::graphql::reads::at_least(ctx, Orders::NAME, at_least).await?;
    let after = page.after.map(|(time, id)| (time, id.to_string()));
    let after = after.as_ref().map(|(time, id)| (*time, id.as_str()));
    let rows = view::list(app(ctx).store.pool(), filter, after, page.limit()).await;
    let rows = rows.map_err(unreadable(ctx))?;
    Ok(page.connection(
        rows,
        |row| Some((row.placed_at, row.id.parse().ok()?)),
        Order::from,
    ))
}
