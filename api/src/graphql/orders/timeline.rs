//! What happened to an order.

use async_graphql::{Enum, ID, Interface, SimpleObject};
use kontor_projections::orders::{Happening, TimelineEntry as Entry};

use super::OrderStatus;
use crate::graphql::scalars::{Count, DateTime, Money, Position};

/// Declares the entries: an object each, with what they share, and the interface.
macro_rules! entries {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, SimpleObject)]
            pub(crate) struct $name {
                /// When it happened.
                at: DateTime,
                /// Where the order stood from then on.
                status: OrderStatus,
                /// Where it stands in the log.
                position: Position,
                $($(#[$field_doc])* $field: $ty,)*
            }
        )*

        /// Something that happened to an order. Kinds may be added; ask for these fields to be ready for them.
        #[expect(clippy::enum_variant_names, reason = "the names are those of the GraphQL types")]
        #[derive(Debug, Clone, Interface)]
        #[graphql(
            field(name = "at", ty = "&DateTime", desc = "When it happened."),
            field(name = "status", ty = "&OrderStatus", desc = "Where the order stood from then on."),
            field(name = "position", ty = "&Position", desc = "Where it stands in the log.")
        )]
        pub(crate) enum TimelineEntry {
            $($name($name),)*
        }
    };
}

entries! {
    /// The customer ordered.
    OrderPlacedEntry {}
    /// Everything was reserved.
    OrderConfirmedEntry {}
    /// Something was not to be had; what had been reserved was released.
    OrderRejectedEntry {
        /// What was not to be had, and how much of it there was.
        refused_items: Vec<RefusedItem>,
    }
    /// It was called off.
    OrderCancelledEntry {
        /// Why, in the words of whoever called it off.
        reason: String,
    }
    /// It left the house.
    OrderShippedEntry {
        /// What the carrier calls the parcel.
        tracking_number: String,
        /// Who carries it, if that was told.
        carrier: Option<String>,
    }
    /// It arrived.
    OrderDeliveredEntry {}
    /// Items came back.
    ItemsReturnedEntry {
        /// What came back; each item of the order at most once.
        items: Vec<ReturnedItem>,
        /// What was refunded for it.
        refund: Money,
        /// Why, in the words of whoever took it back.
        reason: String,
        /// Whether the pieces went back into stock.
        restocked: bool,
    }
}

/// A product that could not be reserved for an order.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct RefusedItem {
    /// Which product.
    product_id: ID,
    /// How many pieces the order asked for, over all its items.
    requested: u32,
    /// How many there were.
    available: Count,
    /// Why it could not be reserved.
    reason: RefusalReason,
}

/// Why a product could not be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "kontor_domain::RefusalReason")]
pub(crate) enum RefusalReason {
    /// Fewer pieces were available than asked for.
    InsufficientStock,
    /// The product was not sold any more.
    Discontinued,
    /// There never was such a product.
    UnknownProduct,
}

/// Pieces of an item that came back.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct ReturnedItem {
    /// Which item: its place in the order's items, from 0.
    item: u32,
    /// The product of that item.
    product_id: ID,
    /// How many pieces.
    quantity: u32,
}

impl From<&Entry> for TimelineEntry {
    fn from(entry: &Entry) -> Self {
        let (at, status, position) = (DateTime(entry.at), entry.status.into(), Position(entry.position));
        match &entry.what {
            Happening::Placed => OrderPlacedEntry { at, status, position }.into(),
            Happening::Confirmed => OrderConfirmedEntry { at, status, position }.into(),
            Happening::Rejected { refused } => {
                let refused_items = refused
                    .iter()
                    .map(|refused| RefusedItem {
                        product_id: refused.product_id.to_string().into(),
                        requested: refused.requested.get(),
                        available: refused.available.into(),
                        reason: refused.reason.into(),
                    })
                    .collect();
                OrderRejectedEntry {
                    at,
                    status,
                    position,
                    refused_items,
                }
                .into()
            }
            Happening::Cancelled { reason } => OrderCancelledEntry {
                at,
                status,
                position,
                reason: reason.clone(),
            }
            .into(),
            Happening::Shipped {
                tracking_number,
                carrier,
            } => OrderShippedEntry {
                at,
                status,
                position,
                tracking_number: tracking_number.clone(),
                carrier: carrier.clone(),
            }
            .into(),
            Happening::Delivered => OrderDeliveredEntry { at, status, position }.into(),
            Happening::Returned {
                lines,
                refund,
                reason,
                restocked,
            } => {
                let items = lines
                    .iter()
                    .map(|line| ReturnedItem {
                        item: line.line,
                        product_id: line.product_id.to_string().into(),
                        quantity: line.quantity.get(),
                    })
                    .collect();
                ItemsReturnedEntry {
                    at,
                    status,
                    position,
                    items,
                    refund: (*refund).into(),
                    reason: reason.clone(),
                    restocked: *restocked,
                }
                .into()
            }
        }
    }
}
