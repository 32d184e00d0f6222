//! What may be asked of an order, and why the answer may be no.

use super::due::CaptureAt;
use super::items::MAX_ITEMS;
use super::items::{OrderItem, RefusedItem, ReturnLine};

use super::states::{OrderAction, OrderStatus};
use crate::address::Address;
use crate::ids::{ProductId, UserId};
use crate::money::{Money, MoneyError};
use crate::payment::{PaymentMethodToken, PaymentState};
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
        /// How it is paid. `None`: nothing is to be paid here, as for history that is imported.
        payment: Option<Personal<PaymentMethodToken>>,
    },
    /// Everything is reserved. Refused when something is to be paid: then [`Self::MarkReserved`] says so.
    Confirm,
    /// Everything is reserved: confirms an order that costs nothing here, and lets the payment of another begin.
    MarkReserved,
    /// What somebody heard of the payment. Only what is new is recorded, and nothing goes back; so it may be sent in any
    /// order and number.
    ObservePayment {
        /// The payment as the gateway described it.
        payment: PaymentState,
    },
    /// The order has ended and the gateway was never asked for a payment: nothing is to be voided. Does nothing unless
    /// a void without a reference is due.
    NothingToVoid,
    /// The time to pay is over.
    Expire,
    /// Staff wait no longer for stock or money.
    GiveUp {
        /// Why.
        reason: Personal<Reason>,
    },
    /// Pays back without goods coming back. Each time it is sent more is owed: whoever may send it twice gives it a key.
    Refund {
        /// How much; not negative, and over time never more than was or will be captured.
        amount: Money,
        /// Why.
        reason: Personal<Reason>,
    },
    /// What is due of the payment now counts as done. With nothing due it does nothing, and nothing either when the last step was
    /// settled for the same reason and nothing has happened since: that is a repeat.
    SettleByHand {
        /// When this shop captures: what is due depends on it.
        capture: CaptureAt,
        /// Why, and how it was done.
        reason: Personal<Reason>,
    },
    /// Has what the order waits for tried again at once. Each time it is sent that is noted.
    Retry {
        /// When this shop captures: what the order waits for depends on it.
        capture: CaptureAt,
    },
    /// Something is not to be had.
    Reject {
        /// What, and how many there were.
        refused: Vec<RefusedItem>,
    },
    /// Calls it off.
    Cancel {
        /// Why.
        reason: Personal<Reason>,
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
        /// What is paid back; not negative, and over time never more than the order's total, nor, with a payment, more
        /// than was or will be captured.
        refund: Money,
        /// Why.
        reason: Personal<Reason>,
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
    /// All refunds together would be more than the order's total, or more than was or will be captured.
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
    /// Something is to be paid first.
    #[error("the order is not paid")]
    NotPaid,
    /// The order waits for nothing that could be tried again.
    #[error("the order waits for nothing")]
    NothingPending,
    /// It was placed without a means of payment.
    #[error("the order has no payment")]
    NoPayment,
    /// What was heard is of another payment than the order's.
    #[error("this is not the payment of the order")]
    OtherPayment,
    /// The amounts of what was heard contradict each other, such as more captured than authorised.
    #[error("the amounts of the payment contradict each other")]
    InconsistentPayment,
    /// More is held than the order costs.
    #[error(
        "{} minor units are authorised for an order of {}",
        .authorised.amount_minor(), .total.amount_minor()
    )]
    AuthorisedTooMuch {
        /// What is held.
        authorised: Money,
        /// What the order costs.
        total: Money,
    },
}
