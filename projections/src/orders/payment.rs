//! What an order's row knows of its payment. Who pays by which means, and what the customer must do, is not kept here.

use kontor_domain::{Money, OrderEvent, PaymentStep};

use super::OrderRow;

/// Where the payment of an order is, as its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentProgress {
    /// Nothing was heard of it yet.
    Waiting,
    /// It waits for the customer.
    RequiresAction,
    /// The bank holds the money.
    Authorised,
    /// The money was taken. Refunds do not change this.
    Captured,
    /// It was let go.
    Voided,
    /// There will be no money from it.
    Declined,
}

impl PaymentProgress {
    const ALL: [Self; 6] = [
        Self::Waiting,
        Self::RequiresAction,
        Self::Authorised,
        Self::Captured,
        Self::Voided,
        Self::Declined,
    ];

    /// How it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::RequiresAction => "REQUIRES_ACTION",
            Self::Authorised => "AUTHORISED",
            Self::Captured => "CAPTURED",
            Self::Voided => "VOIDED",
            Self::Declined => "DECLINED",
        }
    }

    /// The inverse of [`PaymentProgress::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|progress| progress.as_str() == text)
    }
}

/// What an event that is not the first says of the payment.
pub(super) fn heard(row: &mut OrderRow, it: &OrderEvent) {
    use PaymentProgress::{Authorised, Captured, Declined, RequiresAction, Voided};
    let progress = match it {
        OrderEvent::PaymentActionRequired { .. } => RequiresAction,
        OrderEvent::PaymentAuthorised { amount, .. } => {
            row.authorised_minor = amount.amount_minor();
            // What is held beside what was already taken does not undo the taking.
            if row.captured_minor > 0 {
                Captured
            } else {
                Authorised
            }
        }
        OrderEvent::PaymentDeclined { .. } => Declined,
        OrderEvent::PaymentCaptured { amount, .. } => {
            row.captured_minor = amount.amount_minor();
            Captured
        }
        OrderEvent::PaymentVoided { .. } => Voided,
        OrderEvent::PaymentRefunded { refunded, .. } => {
            row.paid_back_minor = refunded.amount_minor();
            return;
        }
        OrderEvent::SettledByHand { due, amount, .. } => {
            let amount = amount.map_or(0, Money::amount_minor);
            match due {
                // Paid in another way: the gateway's payment is as it was.
                PaymentStep::Authorise => return,
                PaymentStep::Capture => {
                    row.captured_minor = amount;
                    Captured
                }
                PaymentStep::Void => Voided,
                PaymentStep::Refund => {
                    row.paid_back_minor = row.paid_back_minor.saturating_add(amount);
                    return;
                }
            }
        }
        _ => return,
    };
    row.payment_status = Some(progress.as_str().to_owned());
}
