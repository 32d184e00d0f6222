//! Orders: what a customer bought at which price, and how far it has come.

use std::sync::Arc;

use async_graphql::{Context, Description, Enum, ID, Object, Result};
use kontor_domain::{self as domain, PerformedBy, UserId};
use kontor_projections::orders::OrderRow;

use super::access::{Permission, viewer};
use super::error::internal;
use super::products::Product;
use super::reads::{product, revealed, user};
use super::scalars::{DateTime, Money, version};
use super::users::User;
use crate::auth::Viewer;

mod address;
mod inputs;
mod mutations;
mod payment;
mod place;
mod queries;
mod settle;
mod timeline;
mod updates;
mod waiting;

pub(crate) use mutations::OrderMutations;
pub(crate) use place::PlaceOrderMutation;
pub(crate) use queries::OrderQueries;
pub(crate) use settle::PaymentMutations;
pub(crate) use updates::OrderSubscriptions;
pub(crate) use waiting::WaitingOrderQueries;

use address::Address;
use payment::OrderPayment;
use timeline::TimelineEntry;
use waiting::OrderPending;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "kontor_domain::OrderStatus")]
pub(crate) enum OrderStatus {
    /// Placed; its stock is being reserved, then its payment authorised. Becomes `CONFIRMED` or `REJECTED`: usually within a
    /// second, unless the payment waits for the customer; `pending` says for what it waits.
    Pending,
    /// All of its stock is reserved, and the money for it is held or taken if any is to be paid; it can be shipped.
    Confirmed,
    /// Not all of its stock or its money was to be had; what had been reserved was released. Final.
    Rejected,
    /// Called off before it was shipped; its stock was released. Final.
    Cancelled,
    /// Left the house.
    Shipped,
    /// Arrived. Items may still come back.
    Delivered,
}

/// Something that people can do to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum OrderAction {
    /// Call it off: `cancelOrder`. By its customer, or by staff.
    Cancel,
    /// Hand it to a carrier: `shipOrder`. By staff.
    Ship,
    /// Note that it arrived: `deliverOrder`. By staff.
    Deliver,
    /// Take items back and refund them: `returnItems`. By staff.
    ReturnItems,
    /// Pay money back without items coming back: `refundOrder`. By staff.
    Refund,
    /// Wait no longer for its stock or its money: `giveUpOrder`. By staff.
    GiveUp,
}

impl OrderAction {
    /// What people can do; `None` is the order process's own.
    fn of(action: domain::OrderAction) -> Option<Self> {
        match action {
            domain::OrderAction::Confirm
            | domain::OrderAction::MarkReserved
            | domain::OrderAction::Reject
            | domain::OrderAction::Expire => None,
            domain::OrderAction::GiveUp => Some(Self::GiveUp),
            domain::OrderAction::Refund => Some(Self::Refund),
            domain::OrderAction::Cancel => Some(Self::Cancel),
            domain::OrderAction::Ship => Some(Self::Ship),
            domain::OrderAction::Deliver => Some(Self::Deliver),
            domain::OrderAction::ReturnItems => Some(Self::ReturnItems),
        }
    }

    /// What people can do to an order in a status.
    pub(crate) fn all_in(status: domain::OrderStatus) -> Vec<Self> {
        domain::order::allowed_actions(status)
            .filter_map(Self::of)
            .collect()
    }
}

/// Whether the viewer may do this to an order of this customer, its status aside.
fn may(viewer: Option<&Viewer>, action: domain::OrderAction, customer_id: &str) -> bool {
    match action.performed_by() {
        PerformedBy::Process => false,
        PerformedBy::Staff => Permission::OrderShip.held_by(viewer),
        PerformedBy::CustomerOrStaff => {
            let own = |viewer: &Viewer| {
                customer_id
                    .parse::<UserId>()
                    .is_ok_and(|customer| customer == viewer.user_id)
            };
            viewer.is_some_and(own) || Permission::OrderCancelAll.held_by(viewer)
        }
    }
}

/// What a customer bought. Seen by that customer and by staff; to everybody else it is as if it did not exist.
#[derive(Debug, Clone, Description)]
pub(crate) struct Order(pub(crate) Arc<OrderRow>);

#[Object(use_type_description)]
impl Order {
    /// Names the order: `ord_` and a ULID. Sorts by the time it was placed.
    pub(crate) async fn id(&self) -> ID {
        ID::from(self.0.id.as_str())
    }

    /// Where it stands.
    async fn status(&self, ctx: &Context<'_>) -> Result<OrderStatus> {
        status(&self.0.status).ok_or_else(|| internal(ctx, "an order's row has an unknown status"))
    }

    /// What you may do to it now, in its present status. Steps that the shop takes by itself are not among them.
    async fn available_actions(&self, ctx: &Context<'_>) -> Vec<OrderAction> {
        let Some(status) = domain::OrderStatus::parse(&self.0.status) else {
            return Vec::new();
        };
        let viewer = viewer(ctx);
        domain::order::allowed_actions(status)
            // Where no money came through this shop, none goes back through it.
            .filter(|action| *action != domain::OrderAction::Refund || self.0.payment_status.is_some())
            .filter(|action| may(viewer, *action, &self.0.customer_id))
            .filter_map(OrderAction::of)
            .collect()
    }

    /// What was ordered, in the customer's order: 1 to 200 items. Names and prices are those of the moment the order was
    /// placed.
    async fn items(&self) -> Vec<OrderItem> {
        (0..self.0.items.len())
            .map(|index| OrderItem {
                order: Arc::clone(&self.0),
                index,
            })
            .collect()
    }

    /// What the items cost together.
    async fn total(&self, ctx: &Context<'_>) -> Result<Money> {
        Money::of_row(self.0.total_minor, &self.0.currency).map_err(|error| internal(ctx, error))
    }

    /// What has been promised back so far, for items that came back and without them; at most `total`. How much of it has
    /// already gone back is `payment.refunded`.
    async fn refunded(&self, ctx: &Context<'_>) -> Result<Money> {
        Money::of_row(self.0.refunded_minor, &self.0.currency).map_err(|error| internal(ctx, error))
    }

    /// How it is paid; null if it was placed without a payment method.
    async fn payment(&self) -> Option<OrderPayment> {
        OrderPayment::of(&self.0)
    }

    /// What it waits for now, and since when; null if it waits for nothing.
    async fn pending(&self, ctx: &Context<'_>) -> Result<Option<OrderPending>> {
        OrderPending::of(ctx, &self.0).await
    }

    /// Whose order it is. Null once the customer was erased, and for a moment if they registered only just now.
    async fn customer(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        // Whoever may see an order may see whose it is.
        let id = self
            .0
            .customer_id
            .parse::<UserId>()
            .map_err(|error| internal(ctx, error))?;
        Ok(user(ctx, id).await?.map(User))
    }

    /// Where it goes. Null once the customer was erased.
    async fn shipping_address(&self, ctx: &Context<'_>) -> Result<Option<Address>> {
        Ok(revealed(ctx, &self.0.shipping_address).await?.map(Address))
    }

    /// What happened to it, when and why, oldest first. Begins with `OrderPlacedEntry`.
    async fn timeline(&self) -> Vec<TimelineEntry> {
        self.0.timeline.iter().map(TimelineEntry::from).collect()
    }

    /// When it was placed.
    async fn placed_at(&self) -> DateTime {
        DateTime(self.0.placed_at)
    }

    /// When anything about it last changed.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }

    /// How often it has changed: what edits take as `expectedVersion`.
    async fn version(&self) -> i32 {
        version(self.0.version)
    }
}

impl From<OrderRow> for Order {
    fn from(row: OrderRow) -> Self {
        Self(Arc::new(row))
    }
}

/// One item of an order. Name and price are those of the moment the order was placed, whatever became of the product.
#[derive(Debug, Clone, Description)]
pub(crate) struct OrderItem {
    order: Arc<OrderRow>,
    /// Always below the number of items: made by [`Order::items`] alone.
    index: usize,
}

impl OrderItem {
    fn item(&self) -> &domain::OrderItem {
        &self.order.items[self.index]
    }
}

#[Object(use_type_description)]
impl OrderItem {
    /// Its place in the order's items, from 0: how `returnItems` names it.
    async fn index(&self) -> i32 {
        i32::try_from(self.index).unwrap_or(i32::MAX)
    }

    /// Id of the product.
    async fn product_id(&self) -> ID {
        self.item().product_id.to_string().into()
    }

    /// The product as it is now; null if it cannot be found.
    async fn product(&self, ctx: &Context<'_>) -> Result<Option<Product>> {
        Ok(product(ctx, self.item().product_id).await?.map(Product))
    }

    /// The product's SKU.
    async fn sku(&self) -> &str {
        self.item().sku.as_str()
    }

    /// The product's name when the order was placed.
    async fn name(&self) -> &str {
        self.item().name.as_str()
    }

    /// The price of one piece when the order was placed.
    async fn unit_price(&self) -> Money {
        self.item().unit_price.into()
    }

    /// How many pieces: 1 to 1,000,000.
    async fn quantity(&self) -> u32 {
        self.item().quantity.get()
    }

    /// What the pieces cost together: `unitPrice` times `quantity`.
    async fn line_total(&self, ctx: &Context<'_>) -> Result<Money> {
        // An order whose sums do not fit is not placed.
        let total = self.item().line_total().map_err(|error| internal(ctx, error))?;
        Ok(total.into())
    }
}

/// A status as rows have it.
fn status(text: &str) -> Option<OrderStatus> {
    domain::OrderStatus::parse(text).map(OrderStatus::from)
}

#[cfg(test)]
mod tests {
    use domain::Role;

    use super::*;

    fn somebody(number: u128, roles: &[Role]) -> Viewer {
        Viewer {
            user_id: UserId::from_ulid(ulid::Ulid::from_parts(1, number)),
            roles: roles.into(),
            session: kontor_domain::SessionId::from_ulid(ulid::Ulid::from_parts(1, 1)),
        }
    }

    #[test]
    fn a_customer_cancels_only_their_own_and_nobody_does_what_the_process_does() {
        let customer = somebody(1, &[Role::Customer]);
        let staff = somebody(2, &[Role::Customer, Role::Staff]);
        let (own, other) = (customer.user_id.to_string(), somebody(3, &[]).user_id.to_string());
        let cancel = domain::OrderAction::Cancel;
        assert!(may(Some(&customer), cancel, &own));
        assert!(!may(Some(&customer), cancel, &other));
        assert!(!may(None, cancel, &own));
        assert!(may(Some(&staff), cancel, &own));
        for action in domain::OrderAction::ALL {
            let process = action.performed_by() == PerformedBy::Process;
            assert_eq!(may(Some(&staff), action, &own), !process, "{action:?}");
        }
        assert!(!may(Some(&customer), domain::OrderAction::Ship, &own));
    }
}
