//! What happened to an order.

use async_graphql::{Context, Enum, ID, Interface, Object, Result, SimpleObject};
use kontor_domain::{self as domain, Personal, Reason};
use kontor_projections::orders::{Happening, TimelineEntry as Entry};

use super::OrderStatus;
use crate::graphql::reads::revealed;
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
    /// Everything was reserved; the payment is next.
    OrderReservedEntry {}
    /// The payment waits for the customer.
    PaymentActionRequiredEntry {}
    /// The bank holds the money.
    PaymentAuthorisedEntry {
        /// How much is held, in all.
        amount: Money,
    }
    /// The payment was declined.
    PaymentDeclinedEntry {
        /// Why.
        reason: DeclineReason,
    }
    /// The money was taken.
    PaymentCapturedEntry {
        /// How much was taken, in all.
        amount: Money,
    }
    /// The payment was let go; nothing is held any more.
    PaymentVoidedEntry {}
    /// Money went back to the customer.
    PaymentRefundedEntry {
        /// How much this time.
        amount: Money,
    }
    /// Money was promised back without items coming back.
    RefundOrderedEntry {
        /// How much.
        amount: Money,
        #[graphql(flatten)]
        why: Why,
    }
    /// Staff said that a step of the payment counts as done.
    PaymentSettledByHandEntry {
        /// Which step.
        step: PaymentStep,
        /// How much money it was about; null when it let money go.
        amount: Option<Money>,
    }
    /// Staff had what the order waits for tried again at once.
    OrderRetriedEntry {
        /// What it waited for.
        step: PendingStep,
    }
    /// Everything was reserved, and the money is certain if any was to be paid.
    OrderConfirmedEntry {}
    /// It could not be had; what had been reserved was released.
    OrderRejectedEntry {
        /// Why.
        cause: RejectionCause,
        /// Why the payment was declined, if that is the cause.
        decline_reason: Option<DeclineReason>,
        /// What was not to be had, and how much of it there was; empty for another cause than stock.
        refused_items: Vec<RefusedItem>,
    }
    /// It was called off.
    OrderCancelledEntry {
        #[graphql(flatten)]
        why: Why,
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
        #[graphql(flatten)]
        why: Why,
        /// Whether the pieces went back into stock.
        restocked: bool,
    }
}

/// What somebody wrote about an order, which rests sealed and is unsealed only if it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Why(Personal<Reason>);

#[Object]
impl Why {
    /// Why, in the words of whoever did it. Null once the customer was erased.
    async fn reason(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let reason = revealed(ctx, &self.0).await?;
        Ok(reason.map(|reason| reason.as_str().to_owned()))
    }
}

impl From<&Personal<Reason>> for Why {
    fn from(reason: &Personal<Reason>) -> Self {
        Self(reason.clone())
    }
}

/// Why an order was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum RejectionCause {
    /// Something was not to be had.
    Stock,
    /// The payment was declined.
    PaymentDeclined,
    /// It was not paid in time.
    Expired,
    /// Staff gave it up.
    GivenUp,
}

/// A step of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "kontor_domain::PaymentStep")]
pub(crate) enum PaymentStep {
    /// Have the amount held.
    Authorise,
    /// Take what is held.
    Capture,
    /// Let it go.
    Void,
    /// Pay back.
    Refund,
}

/// What an order waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "kontor_domain::PendingStep")]
pub(crate) enum PendingStep {
    /// Its products, to say whether they have the pieces.
    Reserve,
    /// The payment gateway, to hold the money.
    Authorise,
    /// The customer, to do what their bank asks of them.
    CustomerAction,
    /// The payment gateway, to take the money.
    Capture,
    /// The payment gateway, to let the money go.
    Void,
    /// The payment gateway, to pay money back.
    Refund,
}

/// Why a payment was declined, as far as customers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum DeclineReason {
    /// Not enough money or credit.
    InsufficientFunds,
    /// The bank said no, and did not say why or would not have it told.
    CardDeclined,
    /// The card is past its date.
    ExpiredCard,
    /// The security code is wrong.
    IncorrectCvc,
    /// The number, the date or the postal code of the card is wrong.
    IncorrectDetails,
    /// More, or more often, than the card allows.
    LimitExceeded,
    /// The card cannot be used for this: this kind of purchase, this currency, this country.
    NotSupported,
    /// The bank wants the customer to prove who they are, and nobody was there to do so.
    AuthenticationRequired,
    /// The customer tried to prove who they are, and failed or gave up.
    AuthenticationFailed,
    /// The gateway does not know the payment method, or it has been used up.
    InvalidPaymentMethod,
    /// Something broke on the way to the bank; another try may succeed.
    ProcessingError,
    /// Anything else.
    Other,
}

impl From<domain::DeclineReason> for DeclineReason {
    fn from(reason: domain::DeclineReason) -> Self {
        use domain::DeclineReason as Reason;
        match reason.for_customer() {
            Reason::InsufficientFunds => Self::InsufficientFunds,
            Reason::CardDeclined | Reason::FraudSuspected | Reason::LostOrStolen => Self::CardDeclined,
            Reason::ExpiredCard => Self::ExpiredCard,
            Reason::IncorrectCvc => Self::IncorrectCvc,
            Reason::IncorrectDetails => Self::IncorrectDetails,
            Reason::LimitExceeded => Self::LimitExceeded,
            Reason::NotSupported => Self::NotSupported,
            Reason::AuthenticationRequired => Self::AuthenticationRequired,
            Reason::AuthenticationFailed => Self::AuthenticationFailed,
            Reason::InvalidPaymentMethod => Self::InvalidPaymentMethod,
            Reason::ProcessingError => Self::ProcessingError,
            Reason::Other => Self::Other,
        }
    }
}

impl From<&domain::RejectionCause> for RejectionCause {
    fn from(cause: &domain::RejectionCause) -> Self {
        match cause {
            domain::RejectionCause::Stock => Self::Stock,
            domain::RejectionCause::PaymentDeclined(_) => Self::PaymentDeclined,
            domain::RejectionCause::Expired => Self::Expired,
            domain::RejectionCause::GivenUp(_) => Self::GivenUp,
        }
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

impl From<&domain::RefusedItem> for RefusedItem {
    fn from(refused: &domain::RefusedItem) -> Self {
        Self {
            product_id: refused.product_id.to_string().into(),
            requested: refused.requested.get(),
            available: refused.available.into(),
            reason: refused.reason.into(),
        }
    }
}

impl From<&domain::ReturnedLine> for ReturnedItem {
    fn from(line: &domain::ReturnedLine) -> Self {
        Self {
            item: line.line,
            product_id: line.product_id.to_string().into(),
            quantity: line.quantity.get(),
        }
    }
}

impl From<&Entry> for TimelineEntry {
    fn from(entry: &Entry) -> Self {
        let (at, status, position) = (DateTime(entry.at), entry.status.into(), Position(entry.position));
        /// An entry with what all of them share.
        macro_rules! entry {
            ($name:ident $(, $field:ident: $value:expr)*) => {
                $name { at, status, position, $($field: $value),* }.into()
            };
        }
        match &entry.what {
            Happening::Placed => entry!(OrderPlacedEntry),
            Happening::Reserved => entry!(OrderReservedEntry),
            Happening::PaymentActionRequired => entry!(PaymentActionRequiredEntry),
            Happening::PaymentAuthorised { amount } => {
                entry!(PaymentAuthorisedEntry, amount: (*amount).into())
            }
            Happening::PaymentDeclined { reason } => entry!(PaymentDeclinedEntry, reason: (*reason).into()),
            Happening::PaymentCaptured { amount } => entry!(PaymentCapturedEntry, amount: (*amount).into()),
            Happening::PaymentVoided => entry!(PaymentVoidedEntry),
            Happening::PaymentRefunded { amount } => entry!(PaymentRefundedEntry, amount: (*amount).into()),
            Happening::RefundOrdered { amount, reason } => {
                entry!(RefundOrderedEntry, amount: (*amount).into(), why: reason.into())
            }
            // Why is for staff, who wrote it for each other.
            Happening::SettledByHand { due, amount, .. } => {
                entry!(PaymentSettledByHandEntry, step: (*due).into(), amount: amount.map(Into::into))
            }
            Happening::RetryRequested { step } => entry!(OrderRetriedEntry, step: (*step).into()),
            Happening::Confirmed => entry!(OrderConfirmedEntry),
            Happening::Rejected { refused, cause } => {
                let decline_reason = match cause {
                    domain::RejectionCause::PaymentDeclined(reason) => Some((*reason).into()),
                    _ => None,
                };
                let refused_items = refused.iter().map(RefusedItem::from).collect();
                entry!(
                    OrderRejectedEntry, cause: cause.into(), decline_reason: decline_reason,
                    refused_items: refused_items
                )
            }
            Happening::Cancelled { reason } => entry!(OrderCancelledEntry, why: reason.into()),
            Happening::Shipped {
                tracking_number,
                carrier,
            } => {
                let tracking_number = tracking_number.clone();
                entry!(OrderShippedEntry, tracking_number: tracking_number, carrier: carrier.clone())
            }
            Happening::Delivered => entry!(OrderDeliveredEntry),
            Happening::Returned {
                lines,
                refund,
                reason,
                restocked,
            } => {
                let items = lines.iter().map(ReturnedItem::from).collect();
                entry!(
                    ItemsReturnedEntry, items: items, refund: (*refund).into(), why: reason.into(),
                    restocked: *restocked
                )
            }
        }
    }
}
