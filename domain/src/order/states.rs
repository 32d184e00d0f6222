//! The states of an order and every way between them, in one table.

use serde::{Deserialize, Serialize};

use OrderAction::{
    Cancel, Confirm, Deliver, Expire, GiveUp, MarkReserved, Refund, Reject, ReturnItems, Ship,
};
use OrderStatus::{Cancelled, Confirmed, Delivered, Pending, Rejected, Shipped};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    /// Placed; its stock is being reserved, then its payment authorised.
    Pending,
    /// All of its stock is reserved, and the money is certain; it can be shipped.
    Confirmed,
    /// Its stock or its money was not to be had. Final.
    Rejected,
    /// Called off before it was shipped. Final.
    Cancelled,
    /// Left the house.
    Shipped,
    /// Arrived. Items may come back.
    Delivered,
}

impl OrderStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [Pending, Confirmed, Rejected, Cancelled, Shipped, Delivered];

    /// How the status is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Pending => "PENDING",
            Confirmed => "CONFIRMED",
            Rejected => "REJECTED",
            Cancelled => "CANCELLED",
            Shipped => "SHIPPED",
            Delivered => "DELIVERED",
        }
    }

    /// The inverse of [`OrderStatus::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What can be done to an order that was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderAction {
    /// Everything is reserved, and the money is certain.
    Confirm,
    /// Everything is reserved; the payment is next.
    MarkReserved,
    /// Something, or the money for it, is not to be had.
    Reject,
    /// The time to pay is over.
    Expire,
    /// Wait no longer.
    GiveUp,
    /// Call it off.
    Cancel,
    /// Hand it to a carrier.
    Ship,
    /// Note that it arrived.
    Deliver,
    /// Take items back and refund them.
    ReturnItems,
    /// Refund without items coming back.
    Refund,
}

/// Who may perform an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PerformedBy {
    /// The order process alone, as the answer to its own questions.
    Process,
    /// The customer whose order it is, and staff.
    CustomerOrStaff,
    /// Staff.
    Staff,
}

impl OrderAction {
    /// Every action.
    pub const ALL: [Self; 10] = [
        Confirm,
        MarkReserved,
        Reject,
        Expire,
        GiveUp,
        Cancel,
        Ship,
        Deliver,
        ReturnItems,
        Refund,
    ];

    /// How the action is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Confirm => "CONFIRM",
            MarkReserved => "MARK_RESERVED",
            Reject => "REJECT",
            Expire => "EXPIRE",
            GiveUp => "GIVE_UP",
            Cancel => "CANCEL",
            Ship => "SHIP",
            Deliver => "DELIVER",
            ReturnItems => "RETURN_ITEMS",
            Refund => "REFUND",
        }
    }

    /// Who may do it.
    #[must_use]
    pub const fn performed_by(self) -> PerformedBy {
        match self {
            Confirm | MarkReserved | Reject | Expire => PerformedBy::Process,
            Cancel => PerformedBy::CustomerOrStaff,
            GiveUp | Ship | Deliver | ReturnItems | Refund => PerformedBy::Staff,
        }
    }
}

/// From where, by what, to where: all that an order may ever do.
///
/// The payment stands between reservation and confirmation, while the order is pending. What is learnt or settled about
/// it is taken in every status, and confirms or rejects only what is pending.
pub const TRANSITIONS: &[(OrderStatus, OrderAction, OrderStatus)] = &[
    (Pending, Confirm, Confirmed),
    (Pending, MarkReserved, Pending),
    (Pending, Reject, Rejected),
    (Pending, Expire, Rejected),
    (Pending, GiveUp, Rejected),
    (Pending, Cancel, Cancelled),
    (Confirmed, Cancel, Cancelled),
    (Confirmed, Ship, Shipped),
    (Confirmed, Refund, Confirmed),
    (Shipped, Deliver, Delivered),
    (Shipped, Refund, Shipped),
    (Delivered, ReturnItems, Delivered),
    (Delivered, Refund, Delivered),
];

/// Where an action leads from a status, if it is allowed there.
#[must_use]
pub fn transition(from: OrderStatus, action: OrderAction) -> Option<OrderStatus> {
    TRANSITIONS
        .iter()
        .find(|(status, allowed, _)| (*status, *allowed) == (from, action))
        .map(|(_, _, to)| *to)
}

/// What can be done to an order in a status.
pub fn allowed_actions(status: OrderStatus) -> impl Iterator<Item = OrderAction> {
    TRANSITIONS
        .iter()
        .filter(move |(from, _, _)| *from == status)
        .map(|(_, action, _)| *action)
}
