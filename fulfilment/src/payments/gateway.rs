//! What every payment gateway can do, and how it can fail.

use std::sync::Arc;

use futures::future::BoxFuture;
use kontor_domain::{Money, PaymentMethodToken, PaymentReference, PaymentState};

/// What a gateway's method returns: the payment as it is after the call.
pub type Answer<'a> = BoxFuture<'a, Result<PaymentState, GatewayError>>;

/// Somebody who can hold, take and give back money.
///
/// Every request that changes something carries an idempotency key. The same key gives the same answer and moves money
/// once, however often and from wherever it is sent; with another request behind it, it is refused. Stripe forgets a key
/// after 24 hours at the earliest (its API reference, "Idempotent requests"): whoever repeats later asks
/// [`look_up`](Self::look_up) first.
///
/// A decline is an answer ([`PaymentStatus::Declined`](kontor_domain::PaymentStatus::Declined)), not an error.
pub trait PaymentGateway: Send + Sync + 'static {
    /// Opens a payment and holds its amount.
    fn authorise<'a>(&'a self, request: &'a Authorise) -> Answer<'a>;

    /// Takes what is held, or less of it; the rest is let go. Once per payment.
    fn capture<'a>(&'a self, request: &'a Capture) -> Answer<'a>;

    /// Lets go what is held, or gives up a payment that waits for the customer.
    fn void<'a>(&'a self, request: &'a Void) -> Answer<'a>;

    /// Gives back what was captured, whole or in part; several times, up to what was captured.
    fn refund<'a>(&'a self, request: &'a Refund) -> Answer<'a>;

    /// The payment as it is now.
    fn look_up<'a>(&'a self, reference: &'a PaymentReference) -> Answer<'a>;
}

/// Asks for an amount to be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorise {
    /// Idempotency key: at most 255 visible ASCII characters, derived from what causes the call.
    pub key: String,
    /// The order it is for; the gateway keeps it beside the payment.
    pub order_id: String,
    /// How much. More than zero.
    pub amount: Money,
    /// Whose money.
    pub method: PaymentMethodToken,
}

/// Asks for what is held to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Idempotency key, see [`Authorise::key`].
    pub key: String,
    /// The order it is for.
    pub order_id: String,
    /// The payment.
    pub reference: PaymentReference,
    /// How much: more than zero, at most what is held.
    pub amount: Money,
}

/// Asks for what is held to be let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Void {
    /// Idempotency key, see [`Authorise::key`].
    pub key: String,
    /// The order it was for.
    pub order_id: String,
    /// The payment.
    pub reference: PaymentReference,
}

/// Asks for what was taken to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Idempotency key, see [`Authorise::key`].
    pub key: String,
    /// The order it was for.
    pub order_id: String,
    /// The payment.
    pub reference: PaymentReference,
    /// How much: more than zero, at most what was captured and not yet given back.
    pub amount: Money,
}

/// Why a gateway gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// Certainly not carried out: the gateway was not reached, or the call was held back on this side.
    #[error("the payment gateway was not reached: {0}")]
    Unreachable(String),
    /// It may or may not have been carried out. Only a repeat with the same key, or a look-up, tells.
    #[error("the payment gateway may or may not have done it: {0}")]
    Unknown(String),
    /// Not carried out now: too many calls, or one with the same key is still under way.
    #[error("the payment gateway is busy: {0}")]
    Busy(String),
    /// The request is wrong, or forbidden. A repeat changes nothing; somebody has to look.
    #[error("the payment gateway refused ({code}): {message}")]
    Refused {
        /// The gateway's own name for it.
        code: String,
        /// The gateway's own words.
        message: String,
    },
}

impl GatewayError {
    /// Whether a repeat with the same key may get an answer.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unknown(_) | Self::Busy(_) => true,
            Self::Refused { .. } => false,
        }
    }

    pub(crate) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::Refused {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

impl<G: PaymentGateway + ?Sized> PaymentGateway for Arc<G> {
    fn authorise<'a>(&'a self, request: &'a Authorise) -> Answer<'a> {
        (**self).authorise(request)
    }

    fn capture<'a>(&'a self, request: &'a Capture) -> Answer<'a> {
        (**self).capture(request)
    }

    fn void<'a>(&'a self, request: &'a Void) -> Answer<'a> {
        (**self).void(request)
    }

    fn refund<'a>(&'a self, request: &'a Refund) -> Answer<'a> {
        (**self).refund(request)
    }

    fn look_up<'a>(&'a self, reference: &'a PaymentReference) -> Answer<'a> {
        (**self).look_up(reference)
    }
}
