//! What happened to an order, when and why.

use chrono::{DateTime, Utc};
use kontor_domain::{
    DeclineReason, Money, OrderEvent, OrderStatus, PaymentStep, PendingStep, Personal, PersonalValue, Reason,
    RefusedItem, RejectionCause, ReturnedLine,
};
use kontor_eventstore::Recorded;
use serde::{Deserialize, Serialize};

use super::OrderRow;

/// One thing that happened to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// Position of the event in the log.
    pub position: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// The status from then on.
    pub status: OrderStatus,
    /// What, and why.
    pub what: Happening,
}

/// What can happen to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Happening {
    /// The customer ordered.
    Placed,
    /// Everything is reserved; the payment is next.
    Reserved,
    /// The payment waits for the customer. What they must do is for them alone, and not kept here.
    PaymentActionRequired,
    /// The bank holds the money.
    PaymentAuthorised {
        /// How much, in all.
        amount: Money,
    },
    /// The payment was declined.
    PaymentDeclined {
        /// Why.
        reason: DeclineReason,
    },
    /// The money was taken.
    PaymentCaptured {
        /// How much, in all.
        amount: Money,
    },
    /// The payment was let go.
    PaymentVoided,
    /// Money went back.
    PaymentRefunded {
        /// How much this time.
        amount: Money,
    },
    /// Money was promised back without goods coming back.
    RefundOrdered {
        /// How much.
        amount: Money,
        /// Why.
        reason: Personal<Reason>,
    },
    /// Staff said that a step of the payment counts as done.
    SettledByHand {
        /// Which.
        due: PaymentStep,
        /// How much money it was about, if about any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<Money>,
        /// Why.
        reason: Personal<Reason>,
    },
    /// Staff had what the order waits for tried again.
    RetryRequested {
        /// What it waited for.
        step: PendingStep,
    },
    /// Everything is reserved, and the money is certain if any was to be paid.
    Confirmed,
    /// It cannot be had: the stock or the money is not there.
    Rejected {
        /// What was not to be had, and how much of it there was.
        refused: Vec<RefusedItem>,
        /// Why.
        #[serde(default, skip_serializing_if = "RejectionCause::is_stock")]
        cause: RejectionCause,
    },
    /// It was called off.
    Cancelled {
        /// Why.
        reason: Personal<Reason>,
    },
    /// It is on its way.
    Shipped {
        /// Under this number.
        tracking_number: String,
        /// With this carrier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carrier: Option<String>,
    },
    /// It arrived.
    Delivered,
    /// Some of it came back.
    Returned {
        /// What.
        lines: Vec<ReturnedLine>,
        /// What was given back for it.
        refund: Money,
        /// Why.
        reason: Personal<Reason>,
        /// Whether it went back into stock.
        restocked: bool,
    },
}

impl Happening {
    /// What is personal in it.
    pub fn personal(&mut self) -> Option<&mut dyn PersonalValue> {
        match self {
            Self::RefundOrdered { reason, .. }
            | Self::SettledByHand { reason, .. }
            | Self::Cancelled { reason }
            | Self::Returned { reason, .. } => Some(reason),
            Self::Rejected { cause, .. } => cause.personal(),
            Self::Placed
            | Self::Reserved
            | Self::PaymentActionRequired
            | Self::PaymentAuthorised { .. }
            | Self::PaymentDeclined { .. }
            | Self::PaymentCaptured { .. }
            | Self::PaymentVoided
            | Self::PaymentRefunded { .. }
            | Self::RetryRequested { .. }
            | Self::Confirmed
            | Self::Shipped { .. }
            | Self::Delivered => None,
        }
    }
}

/// What an event did to a placed order, and where the order stands then; `None` for the event that placed it.
pub(super) fn happening(row: &mut OrderRow, it: &OrderEvent) -> Option<(OrderStatus, Happening)> {
    // What happens to the payment leaves the order where it is.
    let before = row
        .timeline
        .last()
        .map_or(OrderStatus::Pending, |entry| entry.status);
    Some(match it {
        OrderEvent::Placed { .. } => return None,
        OrderEvent::Reserved {} => (before, Happening::Reserved),
        OrderEvent::PaymentActionRequired { .. } => (before, Happening::PaymentActionRequired),
        OrderEvent::PaymentAuthorised { amount, .. } => {
            (before, Happening::PaymentAuthorised { amount: *amount })
        }
        OrderEvent::PaymentDeclined { reason, .. } => {
            (before, Happening::PaymentDeclined { reason: *reason })
        }
        OrderEvent::PaymentCaptured { amount, .. } => {
            (before, Happening::PaymentCaptured { amount: *amount })
        }
        OrderEvent::PaymentVoided { .. } => (before, Happening::PaymentVoided),
        OrderEvent::PaymentRefunded { amount, .. } => {
            (before, Happening::PaymentRefunded { amount: *amount })
        }
        OrderEvent::RefundOrdered { amount, owed, reason } => {
            row.refunded_minor = owed.amount_minor();
            let (amount, reason) = (*amount, reason.clone());
            (before, Happening::RefundOrdered { amount, reason })
        }
        OrderEvent::SettledByHand { due, amount, reason } => {
            let (due, amount, reason) = (*due, *amount, reason.clone());
            (before, Happening::SettledByHand { due, amount, reason })
        }
        OrderEvent::RetryRequested { step } => (before, Happening::RetryRequested { step: *step }),
        OrderEvent::Confirmed { .. } => (OrderStatus::Confirmed, Happening::Confirmed),
        OrderEvent::Rejected { refused, cause, .. } => (
            OrderStatus::Rejected,
            Happening::Rejected {
                refused: refused.clone(),
                cause: cause.clone(),
            },
        ),
        OrderEvent::Cancelled { reason, .. } => (
            OrderStatus::Cancelled,
            Happening::Cancelled {
                reason: reason.clone(),
            },
        ),
        OrderEvent::Shipped {
            tracking_number,
            carrier,
        } => {
            let tracking_number = tracking_number.as_str().to_owned();
            let carrier = carrier.as_ref().map(|carrier| carrier.as_str().to_owned());
            (
                OrderStatus::Shipped,
                Happening::Shipped {
                    tracking_number,
                    carrier,
                },
            )
        }
        OrderEvent::Delivered {} => (OrderStatus::Delivered, Happening::Delivered),
        OrderEvent::ItemsReturned {
            lines,
            refund,
            refunded,
            reason,
            restock,
        } => {
            row.refunded_minor = refunded.amount_minor();
            let (lines, reason) = (lines.clone(), reason.clone());
            (
                OrderStatus::Delivered,
                Happening::Returned {
                    lines,
                    refund: *refund,
                    reason,
                    restocked: *restock,
                },
            )
        }
    })
}

pub(super) fn entry(event: &Recorded, status: OrderStatus, what: Happening) -> TimelineEntry {
    TimelineEntry {
        position: event.position,
        at: event.time,
        status,
        what,
    }
}
