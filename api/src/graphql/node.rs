//! Everything that has an id.

use async_graphql::{Context, ID, Interface, Object, Result};
use kontor_domain::{OrderId, ProductId, UserId};
use kontor_projections::orders::Orders;
use kontor_projections::users::Users;
use kontor_projections::view::View;

use super::access::logged_in;
use super::orders::Order;
use super::products::{Product, fresh};
use super::reads::{product, visible_order, visible_user};
use super::scalars::{Position, id_argument};
use super::users::User;

/// Something with an id, which says what it is: `prd_...` a Product, `ord_...` an Order, `usr_...` a User.
#[derive(Debug, Clone, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "Names it, across all types."))]
pub(crate) enum Node {
    /// A product.
    Product(Product),
    /// An order.
    Order(Order),
    /// A user.
    User(User),
}

/// The query of nodes.
#[derive(Debug, Default)]
pub(crate) struct NodeQueries;

#[Object]
impl NodeQueries {
    /// Anything by its id; null if there is nothing, or nothing that you may see. The rules are those of `product`, `order` and
    /// `user`: products are for everybody, the others need a log-in (`UNAUTHENTICATED`).
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id; `BAD_USER_INPUT` if it could not name anything.")] id: ID,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Option<Node>> {
        if id.starts_with(OrderId::PREFIX) {
            let viewer = logged_in(ctx)?;
            let id = id_argument("id", &id)?;
            super::reads::at_least(ctx, Orders::NAME, at_least).await?;
            return Ok(visible_order(ctx, viewer, id).await?.map(|row| Order(row).into()));
        }
        if id.starts_with(UserId::PREFIX) {
            let viewer = logged_in(ctx)?;
            let id = id_argument("id", &id)?;
            super::reads::at_least(ctx, Users::NAME, at_least).await?;
            return Ok(visible_user(ctx, viewer, id).await?.map(|row| User(row).into()));
        }
        let id: ProductId = id_argument("id", &id)?;
        let row = if at_least.is_some() {
            fresh(ctx, id, at_least).await?
        } else {
            product(ctx, id).await?
        };
        Ok(row.map(|row| Product(row).into()))
    }
}
