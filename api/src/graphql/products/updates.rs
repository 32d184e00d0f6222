//! Products as they change.

use std::sync::Arc;

use async_graphql::{Context, Description, ID, Object, Result, Subscription};
use futures::Stream;
use kontor_domain::ProductId;
use kontor_projections::products::{ProductRow, Products};
use kontor_projections::updates::{Topic, Update};
use kontor_projections::view::View;

use super::Product;
use crate::graphql::connection::{update_cursor, update_position};
use crate::graphql::error::not_found;
use crate::graphql::reads::{app, product, settled};
use crate::graphql::scalars::id_argument;
use crate::graphql::stream::updates;

/// Something that happened to a product.
#[derive(Debug, Description)]
pub(crate) struct ProductUpdate(Update<ProductRow>);

#[Object(use_type_description)]
impl ProductUpdate {
    /// Opaque; as `after` of the same subscription, it brings everything that happened after this update, once, in order.
    /// Keep the last one you have handled.
    async fn cursor(&self, ctx: &Context<'_>) -> String {
        update_cursor(self.0.position, app(ctx).store.incarnation())
    }

    /// The product as it was right after this happened.
    async fn node(&self) -> Product {
        Product(Arc::clone(&self.0.row))
    }
}

/// Subscriptions to products.
#[derive(Debug, Default)]
pub(crate) struct ProductSubscriptions;

#[Subscription]
impl ProductSubscriptions {
    /// A product each time something happens to it: price, text, stock. For everybody. Misses nothing and repeats nothing,
    /// also over a reconnection with `after`, also to another server. Refused with `FORBIDDEN` if there is no such product.
    async fn product_updates(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's id, `prd_...`; `BAD_USER_INPUT` if it is no such id.")]
        product_id: ID,
        #[graphql(
            desc = "The cursor of the last update you have handled: what happened after it comes first. If left out, the product as it is now comes first. `BAD_USER_INPUT` if it is not a cursor of a subscription."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ProductUpdate>> + use<>> {
        let id: ProductId = id_argument("productId", &product_id)?;
        let after = update_position(after.as_deref(), app(ctx).store.incarnation())?;
        if settled(ctx, Products::NAME, || product(ctx, id)).await?.is_none() {
            return Err(not_found("product"));
        }
        let stream = app(ctx).product_updates.follow(Topic::One(id.to_string()), after);
        Ok(updates(ctx, stream, ProductUpdate))
    }
}
