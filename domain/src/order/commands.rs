//! What may be asked of an order, and why the answer may be no.

use super::items::MAX_ITEMS;
use super::items::{OrderItem, RefusedItem, ReturnLine};
use super::states::{OrderAction, OrderStatus};
use crate::address::Address;
use crate::ids::{ProductId, UserId};
use crate::money::{Money, MoneyError};
use crate::personal::Personal;
use crate::text::{Carrier, Quantity, Reason, TrackingNumber};

/// What may be asked of an order. From where each is allowed: [`TRANSITIONS`](super::TRANSITIONS); by whom: [`OrderAction::performed_by`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderCommand {
    /// Opens the order.
    Place {
        /// Whose order it is.
        customer_id: UserId,
        /// 1 to [`MAX_ITEMS`] lines, all in one currency.
        items: Vec<OrderItem>,
        /// Where it goes.
        shipping_address: Personal<Address>,
    },
    /// Everything is reserved.
    Confirm,
    /// Something is not to be had.
    Reject {
        /// What, and how many there were.
        refused: Vec<RefusedItem>,
    },
    /// Calls it off.
    Cancel {
        /// Why.
        reason: Reason,
    },
    /// Hands it to a carrier.
    Ship {
        /// What the carrier calls it.
        tracking_number: TrackingNumber,
        /// Who carries it.
        carrier: Option<Carrier>,
    },
    /// Notes that it arrived.
    Deliver,
    /// Takes items back. Each time it is sent items come back again: whoever may send it twice gives it a key.
    ReturnItems {
        /// What comes back; a line of the order may be named more than once.
        lines: Vec<ReturnLine>,
        /// What is paid back; not negative, and over time never more than the order's total.
        refund: Money,
        /// Why.
        reason: Reason,
        /// Whether the pieces can be sold again.
        restock: bool,
    },
}

/// Why an order command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Nothing was placed under this id.
    #[error("there is no such order")]
    NotFound,
    /// The id is taken by an order.
    #[error("the order is already placed")]
    AlreadyPlaced,
    /// The order's status does not allow it.
    #[error("{} is not allowed when the order is {}", .action.as_str(), .status.as_str())]
    NotAllowed {
        /// Where the order stands.
        status: OrderStatus,
        /// What was asked for.
        action: OrderAction,
    },
    /// An order of nothing.
    #[error("an order needs at least one item")]
    NoItems,
    /// More lines than an order may have.
    #[error("an order has at most {MAX_ITEMS} items, not {items}")]
    TooManyItems {
        /// How many there were.
        items: usize,
    },
    /// The lines of one product ask for more pieces together than [`Quantity::MAX`].
    #[error("more than {} pieces of {product_id}", Quantity::MAX)]
    TooManyPieces {
        /// Of which product.
        product_id: ProductId,
    },
    /// A negative price or refund, two currencies, or a sum out of range.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// A return of no lines.
    #[error("a return needs at least one line")]
    NothingReturned,
    /// A return of a line that the order does not have.
    #[error("the order has no line {line}")]
    UnknownLine {
        /// The index asked for.
        line: u32,
    },
    /// A return of more pieces than were delivered and have not come back.
    #[error("{requested} of line {line} cannot come back: {returnable} are left")]
    MoreThanDelivered {
        /// Which line.
        line: u32,
        /// How many pieces the return names.
        requested: u32,
        /// How many can still come back.
        returnable: u32,
    },
    /// All refunds together would be more than the order's total.
    #[error(
        "a refund of {} minor units: only {} are left of the order's total",
        .refund.amount_minor(), .refundable.amount_minor()
    )]
    RefundTooLarge {
        /// What was asked for.
        refund: Money,
        /// What can still be paid back.
        refundable: Money,
    },
}
