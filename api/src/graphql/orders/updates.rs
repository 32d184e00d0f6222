//! Orders as they change.

use std::sync::Arc;

use async_graphql::{Context, Description, ID, Object, Result, Subscription};
use futures::Stream;
use kontor_domain::OrderId;
use kontor_projections::orders::{OrderRow, Orders};
use kontor_projections::updates::{Topic, Update};
use kontor_projections::view::View;

use super::Order;
use crate::graphql::access::{Permission, logged_in, require};
use crate::graphql::connection::{update_cursor, update_position};
use crate::graphql::error::not_found;
use crate::graphql::reads::{app, settled, visible_order};
use crate::graphql::scalars::id_argument;
use crate::graphql::stream::updates;

/// Something that happened to an order.
#[derive(Debug, Description)]
pub(crate) struct OrderUpdate(Update<OrderRow>);

#[Object(use_type_description)]
impl OrderUpdate {
    /// Opaque; as `after` of the same subscription, it brings everything that happened after this update, once, in order.
    /// Keep the last one you have handled.
    async fn cursor(&self, ctx: &Context<'_>) -> String {
        update_cursor(self.0.position, app(ctx).store.incarnation())
    }

    /// The order as it was right after this happened.
    async fn node(&self) -> Order {
        Order(Arc::clone(&self.0.row))
    }
}

/// Subscriptions to orders.
#[derive(Debug, Default)]
pub(crate) struct OrderSubscriptions;

#[Subscription]
impl OrderSubscriptions {
    /// An order each time something happens to it. For its customer and for staff; `UNAUTHENTICATED` if nobody is logged in,
    /// `FORBIDDEN` if there is no such order or none that you may see. Misses nothing and repeats nothing, also over a
    /// reconnection with `after`, also to another server.
    async fn order_updates(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id, `ord_...`; `BAD_USER_INPUT` if it is no such id.")] order_id: ID,
        #[graphql(
            desc = "The cursor of the last update you have handled: what happened after it comes first. If left out, the order as it is now comes first. `BAD_USER_INPUT` if it is not a cursor of a subscription."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<OrderUpdate>> + use<>> {
        let viewer = logged_in(ctx)?;
        let id: OrderId = id_argument("orderId", &order_id)?;
        let after = update_position(after.as_deref(), app(ctx).store.incarnation())?;
        if settled(ctx, Orders::NAME, || visible_order(ctx, viewer, id))
            .await?
            .is_none()
        {
            return Err(not_found("order"));
        }
        let stream = app(ctx).order_updates.follow(Topic::One(id.to_string()), after);
        Ok(updates(ctx, stream, OrderUpdate))
    }

    /// Your own orders, each time something happens to one of them, orders placed later included. `UNAUTHENTICATED` if nobody is
    /// logged in. Misses nothing and repeats nothing, also over a reconnection with `after`, also to another server.
    async fn my_order_updates(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The cursor of the last update you have handled: what happened after it comes first. If left out, updates begin with what happens from now on. `BAD_USER_INPUT` if it is not a cursor of a subscription."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<OrderUpdate>> + use<>> {
        let customer = logged_in(ctx)?.user_id;
        let after = update_position(after.as_deref(), app(ctx).store.incarnation())?;
        let stream = app(ctx).order_updates.follow(Topic::Customer(customer), after);
        Ok(updates(ctx, stream, OrderUpdate))
    }

    /// Everybody's orders, each time something happens to one of them. For staff; `FORBIDDEN` for customers, `UNAUTHENTICATED` if
    /// nobody is logged in. Misses nothing and repeats nothing, also over a reconnection with `after`, also to another server.
    /// Needs `order:read-all`.
    async fn all_order_updates(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The cursor of the last update you have handled: what happened after it comes first. If left out, updates begin with what happens from now on. `BAD_USER_INPUT` if it is not a cursor of a subscription."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<OrderUpdate>> + use<>> {
        require(ctx, Permission::OrderReadAll)?;
        let after = update_position(after.as_deref(), app(ctx).store.incarnation())?;
        let stream = app(ctx).order_updates.follow(Topic::All, after);
        Ok(updates(ctx, stream, OrderUpdate))
    }
}
