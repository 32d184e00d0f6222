//! What happened to an order.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use super::due::PaymentStep;
use super::items::{OrderItem, RefusedItem, ReturnedLine};
use super::pending::PendingStep;

use super::states::OrderStatus;
use crate::address::Address;
use crate::ids::UserId;
use crate::money::Money;
use crate::payment::{DeclineReason, NextAction, PaymentMethodToken, PaymentReference};
use crate::personal::{Personal, PersonalValue};
use crate::text::{Carrier, Reason, TrackingNumber};

/// Why an order was rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RejectionCause {
    /// Something was not to be had. The only cause before there were payments, so it is not stored.
    #[default]
    Stock,
    /// The payment was declined.
    PaymentDeclined(DeclineReason),
    /// It was not paid in time.
    Expired,
    /// Staff gave it up.
    GivenUp(Personal<Reason>),
}

impl RejectionCause {
    /// Whether it is the one that is not stored.
    #[must_use]
    pub const fn is_stock(&self) -> bool {
        matches!(self, Self::Stock)
    }

    /// What is personal in it.
    pub fn personal(&mut self) -> Option<&mut dyn PersonalValue> {
        match self {
            Self::GivenUp(reason) => Some(reason),
            Self::Stock | Self::PaymentDeclined(_) | Self::Expired => None,
        }
    }
}

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
        /// How it is paid, if anything is to be paid here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payment: Option<Personal<PaymentMethodToken>>,
    },
    /// Everything is reserved; the payment is next.
    Reserved {},
    /// The customer must do something before the payment goes on.
    PaymentActionRequired {
        /// What the gateway calls the payment.
        reference: PaymentReference,
        /// What, and where: for that customer alone.
        next_action: NextAction,
    },
    /// The bank holds the money.
    PaymentAuthorised {
        /// What the gateway calls the payment.
        reference: PaymentReference,
        /// How much is held, in all.
        amount: Money,
    },
    /// There will be no money from this payment.
    PaymentDeclined {
        /// What the gateway calls the payment.
        reference: PaymentReference,
        /// Why.
        reason: DeclineReason,
    },
    /// The money has moved.
    PaymentCaptured {
        /// What the gateway calls the payment.
        reference: PaymentReference,
        /// How much has moved, in all.
        amount: Money,
    },
    /// The payment was let go; nothing is held.
    PaymentVoided {
        /// What the gateway calls the payment; `None` if none was ever asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<PaymentReference>,
    },
    /// Money went back.
    PaymentRefunded {
        /// How much this time.
        amount: Money,
        /// How much so far, this time included.
        refunded: Money,
    },
    /// Staff promised money back without goods coming back.
    RefundOrdered {
        /// How much.
        amount: Money,
        /// What has been promised back so far, this and what was promised for returned goods included.
        owed: Money,
        /// Why.
        reason: Personal<Reason>,
    },
    /// Staff said that a step of the payment counts as done.
    SettledByHand {
        /// Which step was due.
        due: PaymentStep,
        /// How much money it was about, if it was about any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<Money>,
        /// Why.
        reason: Personal<Reason>,
    },
    /// Staff had what the order waits for tried again at once.
    RetryRequested {
        /// What it waited for.
        step: PendingStep,
    },
    /// Everything is reserved, and the money is certain if any was to be paid.
    Confirmed {
        /// What the order costs. Repeated here, as in the two below, so that sums over events need no other event.
        total: Money,
        /// How many pieces it has.
        pieces: u64,
    },
    /// It cannot be had: the stock or the money is not there.
    Rejected {
        /// What was not to be had, and how many there were; empty for another cause.
        refused: Vec<RefusedItem>,
        /// What the order would have cost.
        total: Money,
        /// Why.
        #[serde(default, skip_serializing_if = "RejectionCause::is_stock")]
        cause: RejectionCause,
    },
    /// It was called off.
    Cancelled {
        /// Why.
        reason: Personal<Reason>,
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
        /// What has been promised back for this order so far, this refund included.
        refunded: Money,
        /// Why.
        reason: Personal<Reason>,
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
            Self::Reserved {} => "Reserved",
            Self::PaymentActionRequired { .. } => "PaymentActionRequired",
            Self::PaymentAuthorised { .. } => "PaymentAuthorised",
            Self::PaymentDeclined { .. } => "PaymentDeclined",
            Self::PaymentCaptured { .. } => "PaymentCaptured",
            Self::PaymentVoided { .. } => "PaymentVoided",
            Self::PaymentRefunded { .. } => "PaymentRefunded",
            Self::RefundOrdered { .. } => "RefundOrdered",
            Self::SettledByHand { .. } => "SettledByHand",
            Self::RetryRequested { .. } => "RetryRequested",
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
