//! What customers are told of, and how.

use std::fmt;
use std::str::FromStr;

use kontor_domain::{
    Carrier, Channels, DeclineReason, Money, OrderEvent, OrderId, Personal, Reason, RefusedItem,
    RejectionCause, TrackingNumber, UserEvent, UserId,
};
use kontor_eventstore::Body;

/// A way to reach a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// By e-mail.
    Email,
    /// By SMS.
    Sms,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 2] = [Self::Email, Self::Sms];

    /// How it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "EMAIL",
            Self::Sms => "SMS",
        }
    }

    /// Whether a customer with this choice is told things here.
    #[must_use]
    pub const fn is_among(self, chosen: Channels) -> bool {
        match self {
            Self::Email => chosen.email,
            Self::Sms => chosen.sms,
        }
    }
}

/// As an operator types it.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Email => "email",
            Self::Sms => "sms",
        })
    }
}

/// No channel has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such channel; there are: email, sms")]
pub struct UnknownChannel;

impl FromStr for Channel {
    type Err = UnknownChannel;

    fn from_str(text: &str) -> Result<Self, UnknownChannel> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.as_str().eq_ignore_ascii_case(text))
            .ok_or(UnknownChannel)
    }
}

/// Something a customer is told of, with what the event itself says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion<'a> {
    /// The account was opened.
    Registered,
    /// Everything is reserved.
    OrderConfirmed,
    /// Something was not to be had.
    OrderRejected {
        /// What, and why.
        refused: &'a [RefusedItem],
    },
    /// The money will not come.
    PaymentFailed {
        /// Why, in words for the customer.
        reason: &'a str,
    },
    /// The customer must do something before the money comes.
    PaymentNeedsAction {
        /// Where.
        url: &'a str,
    },
    /// The parcel left the house.
    OrderShipped {
        /// What the carrier calls it.
        tracking_number: &'a TrackingNumber,
        /// Who carries it.
        carrier: Option<&'a Carrier>,
    },
    /// The parcel arrived.
    OrderDelivered,
    /// The order was called off.
    OrderCancelled {
        /// Why, in the words of whoever did it.
        reason: &'a Personal<Reason>,
    },
    /// Money is paid back.
    OrderRefunded {
        /// How much now.
        refund: Money,
        /// How much so far, this time included.
        refunded: Money,
    },
}

impl Occasion<'_> {
    /// How it is stored and shown.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registered => "REGISTERED",
            Self::OrderConfirmed => "ORDER_CONFIRMED",
            Self::OrderRejected { .. } => "ORDER_REJECTED",
            Self::PaymentFailed { .. } => "PAYMENT_FAILED",
            Self::PaymentNeedsAction { .. } => "PAYMENT_NEEDS_ACTION",
            Self::OrderShipped { .. } => "ORDER_SHIPPED",
            Self::OrderDelivered => "ORDER_DELIVERED",
            Self::OrderCancelled { .. } => "ORDER_CANCELLED",
            Self::OrderRefunded { .. } => "ORDER_REFUNDED",
        }
    }
}

/// Whom an occasion concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A user, as such.
    User(UserId),
    /// The customer of an order.
    Order(OrderId),
}

/// What a customer is told of when this has happened; nothing for most events.
#[must_use]
pub fn occasion(body: &Body) -> Option<(Subject, Occasion<'_>)> {
    match body {
        Body::User(id, UserEvent::Registered { .. }) => Some((Subject::User(*id), Occasion::Registered)),
        Body::Order(id, event) => of_order(event).map(|occasion| (Subject::Order(*id), occasion)),
        _ => None,
    }
}

fn of_order(event: &OrderEvent) -> Option<Occasion<'_>> {
    Some(match event {
        OrderEvent::Confirmed { .. } => Occasion::OrderConfirmed,
        // A decline is told when it rejects the order: one that comes after the end is no news.
        OrderEvent::Rejected { refused, cause, .. } => match cause {
            RejectionCause::Stock => Occasion::OrderRejected { refused },
            RejectionCause::PaymentDeclined(reason) => Occasion::PaymentFailed {
                reason: words(*reason),
            },
            RejectionCause::Expired => Occasion::PaymentFailed {
                reason: "it did not arrive in time",
            },
            RejectionCause::GivenUp(reason) => Occasion::OrderCancelled { reason },
        },
        OrderEvent::PaymentActionRequired { next_action, .. } => Occasion::PaymentNeedsAction {
            url: next_action.url.as_deref()?,
        },
        OrderEvent::Shipped {
            tracking_number,
            carrier,
        } => Occasion::OrderShipped {
            tracking_number,
            carrier: carrier.as_ref(),
        },
        OrderEvent::Delivered {} => Occasion::OrderDelivered,
        OrderEvent::Cancelled { reason, .. } => Occasion::OrderCancelled { reason },
        // Goods that come back for nothing are no news to whoever sent them.
        OrderEvent::ItemsReturned { refund, refunded, .. } if refund.amount_minor() > 0 => {
            Occasion::OrderRefunded {
                refund: *refund,
                refunded: *refunded,
            }
        }
        // Money promised back is told when it is promised, so not again when it is paid.
        OrderEvent::RefundOrdered { amount, owed, .. } => Occasion::OrderRefunded {
            refund: *amount,
            refunded: *owed,
        },
        OrderEvent::Placed { .. }
        | OrderEvent::ItemsReturned { .. }
        | OrderEvent::Reserved {}
        | OrderEvent::PaymentAuthorised { .. }
        | OrderEvent::PaymentDeclined { .. }
        | OrderEvent::PaymentCaptured { .. }
        | OrderEvent::PaymentVoided { .. }
        | OrderEvent::PaymentRefunded { .. }
        | OrderEvent::SettledByHand { .. }
        | OrderEvent::RetryRequested { .. } => return None,
    })
}

/// Why a payment was declined, in words for the customer that end a sentence.
const fn words(reason: DeclineReason) -> &'static str {
    match reason.for_customer() {
        DeclineReason::InsufficientFunds => "there is not enough money or credit",
        DeclineReason::ExpiredCard => "the card is past its date",
        DeclineReason::IncorrectCvc => "the security code is wrong",
        DeclineReason::IncorrectDetails => "the number, the date or the postal code of the card is wrong",
        DeclineReason::LimitExceeded => "it is more than the card allows",
        DeclineReason::NotSupported => "the card cannot be used for this purchase",
        DeclineReason::AuthenticationRequired => "the bank wants you to prove who you are",
        DeclineReason::AuthenticationFailed => "you did not prove to the bank who you are",
        DeclineReason::InvalidPaymentMethod => "the means of payment is not known or has been used up",
        DeclineReason::ProcessingError => "something broke on the way to the bank",
        DeclineReason::CardDeclined
        | DeclineReason::FraudSuspected
        | DeclineReason::LostOrStolen
        | DeclineReason::Other => "the bank declined it",
    }
}
