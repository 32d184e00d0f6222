//! What happened to an order.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use super::items::{OrderItem, RefusedItem, ReturnedLine};
use super::states::OrderStatus;
use crate::address::Address;
use crate::ids::UserId;
use crate::money::Money;
use crate::personal::Personal;
use crate::text::{Carrier, Reason, TrackingNumber};

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OrderEvent {
    /// A customer ordered; nothing is reserved yet.
    Placed {
        /// Whose order it is.
        customer_id: UserId,
        /// The lines, in the customer's order.
        items: Vec<OrderItem>,
        /// What they cost together.
        total: Money,
        /// Where it goes.
        shipping_address: Personal<Address>,
    },
    /// Everything is reserved.
    Confirmed {
        /// What the order costs. Repeated here, as in the two below, so that sums over events need no other event.
        total: Money,
        /// How many pieces it has.
        pieces: u64,
    },
    /// Something was not to be had.
    Rejected {
        /// What, and how many there were.
        refused: Vec<RefusedItem>,
        /// What the order would have cost.
        total: Money,
    },
    /// It was called off.
    Cancelled {
        /// Why.
        reason: Reason,
        /// How far it had come.
        was: OrderStatus,
        /// What the order would have cost.
        total: Money,
    },
    /// It left the house.
    Shipped {
        /// What the carrier calls it.
        tracking_number: TrackingNumber,
        /// Who carries it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carrier: Option<Carrier>,
    },
    /// It arrived.
    Delivered {},
    /// Items came back.
    ItemsReturned {
        /// What came back; each line of the order at most once.
        lines: Vec<ReturnedLine>,
        /// What is paid back for it.
        refund: Money,
        /// What has been paid back for this order so far, this refund included.
        refunded: Money,
        /// Why.
        reason: Reason,
        /// Whether the pieces can be sold again.
        restock: bool,
    },
}

impl OrderEvent {
    /// The variant's name, as stored.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Placed { .. } => "Placed",
            Self::Confirmed { .. } => "Confirmed",
            Self::Rejected { .. } => "Rejected",
            Self::Cancelled { .. } => "Cancelled",
            Self::Shipped { .. } => "Shipped",
            Self::Delivered {} => "Delivered",
            Self::ItemsReturned { .. } => "ItemsReturned",
        }
    }
}

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
