//! What happened to a product. Events carry the figures as they are afterwards, so that read models do no arithmetic.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::ids::OrderId;
use crate::money::Money;
use crate::text::{Category, Description, ProductName, Quantity, Reason, Sku};

/// Why a reservation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefusalReason {
    /// Fewer pieces were available than asked for.
    InsufficientStock,
    /// The product is not sold any more.
    Discontinued,
    /// There never was such a product. Said by the order process; no product can say it of itself.
    UnknownProduct,
}

impl RefusalReason {
    /// How the reason is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownProduct => "UNKNOWN_PRODUCT",
            Self::InsufficientStock => "INSUFFICIENT_STOCK",
            Self::Discontinued => "DISCONTINUED",
        }
    }
}

/// What happened to a product. Stock figures are pieces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ProductEvent {
    /// The product came into the catalogue, with no stock.
    Created {
        /// The shop's own name for it.
        sku: Sku,
        /// What it is called.
        name: ProductName,
        /// What there is to say about it.
        description: Description,
        /// Its shelf.
        category: Category,
        /// Price of one piece.
        price: Money,
    },
    /// Name and description are now these.
    DetailsChanged {
        /// The name.
        name: ProductName,
        /// The description.
        description: Description,
    },
    /// The product stands on another shelf.
    CategoryChanged {
        /// The new one.
        category: Category,
        /// The one before.
        previous: Category,
    },
    /// One piece costs another price.
    PriceChanged {
        /// The new price.
        price: Money,
        /// The one before.
        previous: Money,
    },
    /// Goods came in.
    StockReceived {
        /// How many.
        quantity: Quantity,
        /// On hand afterwards.
        on_hand: u64,
        /// What they came with: a delivery note, an invoice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<Reason>,
    },
    /// The books were set right: breakage, theft, a count.
    StockAdjusted {
        /// Pieces more or less; never zero.
        delta: i32,
        /// On hand afterwards.
        on_hand: u64,
        /// Why.
        reason: Reason,
    },
    /// Pieces were set aside for an order.
    StockReserved {
        /// For which order.
        order_id: OrderId,
        /// How many.
        quantity: Quantity,
        /// Reserved for all orders afterwards.
        reserved: u64,
    },
    /// An order asked for pieces and got none. Nothing changed; the order needs a durable answer.
    ReservationRefused {
        /// Which order.
        order_id: OrderId,
        /// How many it asked for.
        requested: Quantity,
        /// How many there were.
        available: u64,
        /// Why it got none.
        reason: RefusalReason,
    },
    /// Pieces that were set aside are for sale again.
    ReservationReleased {
        /// For which order they had been.
        order_id: OrderId,
        /// How many.
        quantity: Quantity,
        /// Reserved for all orders afterwards.
        reserved: u64,
    },
    /// Pieces that were set aside left the house.
    ReservationCommitted {
        /// For which order.
        order_id: OrderId,
        /// How many.
        quantity: Quantity,
        /// On hand afterwards.
        on_hand: u64,
        /// Reserved for all orders afterwards.
        reserved: u64,
    },
    /// Shipped pieces came back and can be sold again.
    StockReturned {
        /// From which order.
        order_id: OrderId,
        /// How many.
        quantity: Quantity,
        /// On hand afterwards.
        on_hand: u64,
    },
    /// The product is not sold any more. What is reserved stays so.
    Discontinued {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// The product is sold again.
    Relisted {},
}

impl ProductEvent {
    /// The variant's name, as stored.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "Created",
            Self::DetailsChanged { .. } => "DetailsChanged",
            Self::CategoryChanged { .. } => "CategoryChanged",
            Self::PriceChanged { .. } => "PriceChanged",
            Self::StockReceived { .. } => "StockReceived",
            Self::StockAdjusted { .. } => "StockAdjusted",
            Self::StockReserved { .. } => "StockReserved",
            Self::ReservationRefused { .. } => "ReservationRefused",
            Self::ReservationReleased { .. } => "ReservationReleased",
            Self::ReservationCommitted { .. } => "ReservationCommitted",
            Self::StockReturned { .. } => "StockReturned",
            Self::Discontinued { .. } => "Discontinued",
            Self::Relisted {} => "Relisted",
        }
    }
}

impl DomainEvent for ProductEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
