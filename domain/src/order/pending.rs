//! What an order waits for: nothing is ever silently stuck.

use serde::{Deserialize, Serialize};

use super::{CaptureAt, OrderStatus, PaymentStep, Placed};
use crate::payment::PaymentStatus;

/// What an order waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PendingStep {
    /// Its products, to say whether they have the pieces.
    Reserve,
    /// The gateway, to hold the money.
    Authorise,
    /// The customer, to do what the bank asks of them.
    CustomerAction,
    /// The gateway, to take the money.
    Capture,
    /// The gateway, to let the money go.
    Void,
    /// The gateway, to pay money back.
    Refund,
}

impl PendingStep {
    /// Every step.
    pub const ALL: [Self; 6] = [
        Self::Reserve,
        Self::Authorise,
        Self::CustomerAction,
        Self::Capture,
        Self::Void,
        Self::Refund,
    ];

    /// How it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserve => "RESERVE",
            Self::Authorise => "AUTHORISE",
            Self::CustomerAction => "CUSTOMER_ACTION",
            Self::Capture => "CAPTURE",
            Self::Void => "VOID",
            Self::Refund => "REFUND",
        }
    }

    /// The inverse of [`PendingStep::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == text)
    }

    /// Whether the order will be rejected if this takes too long: its pieces are reserved, and nobody pays for them yet.
    #[must_use]
    pub const fn is_unpaid(self) -> bool {
        matches!(self, Self::Authorise | Self::CustomerAction)
    }
}

impl From<PaymentStep> for PendingStep {
    fn from(step: PaymentStep) -> Self {
        match step {
            PaymentStep::Authorise => Self::Authorise,
            PaymentStep::Capture => Self::Capture,
            PaymentStep::Void => Self::Void,
            PaymentStep::Refund => Self::Refund,
        }
    }
}

impl Placed {
    pub(super) fn pending(&self, capture: CaptureAt) -> Option<PendingStep> {
        if let Some(due) = self.payment_due(capture) {
            return Some(due.step().into());
        }
        if self.status != OrderStatus::Pending {
            return None;
        }
        let payment = self.payment.as_ref().filter(|payment| payment.reserved);
        match payment.map(|payment| payment.status) {
            None => Some(PendingStep::Reserve),
            Some(Some(PaymentStatus::RequiresAction)) => Some(PendingStep::CustomerAction),
            // Held in part, say: not enough to be confirmed, and perhaps on its way.
            Some(_) => Some(PendingStep::Authorise),
        }
    }
}
