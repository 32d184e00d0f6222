//! What is due of an order's payment: the table of decision 012, and the decisions that rest on it.

use serde::{Deserialize, Serialize};

use super::{OrderError, OrderEvent, OrderStatus, Placed, RejectionCause};
use crate::money::Money;
use crate::payment::{PaymentMethodToken, PaymentReference, PaymentState, PaymentStatus};
use crate::personal::Personal;
use crate::text::Reason;

/// When the money is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureAt {
    /// When the order leaves the house.
    #[default]
    Shipment,
    /// When the order is confirmed.
    Confirmation,
}

/// What has to be asked of the gateway next. All amounts are in the order's currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentDue {
    /// Have the amount held. Asked again with the same key, the gateway answers as it did the first time.
    Authorise {
        /// How much: the order's total.
        amount: Money,
        /// By which means; sealed if the customer was erased.
        method: Personal<PaymentMethodToken>,
    },
    /// Take what is held.
    Capture {
        /// Of which payment.
        reference: PaymentReference,
        /// How much: all that is held.
        amount: Money,
    },
    /// Let the payment go.
    Void {
        /// Which. `None`: nothing is known of the payment of an order that ended after its stock was reserved. Whoever
        /// calls the gateway knows whether it ever asked for one; if not, [`NothingToVoid`] says so.
        ///
        /// [`NothingToVoid`]: super::OrderCommand::NothingToVoid
        reference: Option<PaymentReference>,
    },
    /// Pay back.
    Refund {
        /// Of which payment.
        reference: PaymentReference,
        /// How much.
        amount: Money,
        /// How many refunds are known to have been paid before: tells the keys of several refunds apart.
        number: u32,
    },
}

impl PaymentDue {
    /// Which step it is.
    #[must_use]
    pub const fn step(&self) -> PaymentStep {
        match self {
            Self::Authorise { .. } => PaymentStep::Authorise,
            Self::Capture { .. } => PaymentStep::Capture,
            Self::Void { .. } => PaymentStep::Void,
            Self::Refund { .. } => PaymentStep::Refund,
        }
    }

    /// How much money it moves or holds; nothing when it lets go.
    #[must_use]
    pub const fn amount(&self) -> Option<Money> {
        match self {
            Self::Authorise { amount, .. } | Self::Capture { amount, .. } | Self::Refund { amount, .. } => {
                Some(*amount)
            }
            Self::Void { .. } => None,
        }
    }
}

/// The name of a [`PaymentDue`], as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentStep {
    /// Have the amount held.
    Authorise,
    /// Take what is held.
    Capture,
    /// Let it go.
    Void,
    /// Pay back.
    Refund,
}

impl Placed {
    /// Whether the order waits for money before it is confirmed.
    pub(super) fn must_be_paid(&self) -> bool {
        self.payment.is_some() && self.total.amount_minor() > 0
    }

    fn is_paid(&self) -> bool {
        let Some(payment) = &self.payment else { return true };
        let held = matches!(
            payment.status,
            Some(PaymentStatus::Authorised | PaymentStatus::Captured)
        );
        payment.paid_by_hand || (held && payment.authorised == self.total)
    }

    /// What is due; see the table of decision 012.
    pub(super) fn payment_due(&self, capture: CaptureAt) -> Option<PaymentDue> {
        let payment = self.payment.as_ref()?;
        let ended = matches!(self.status, OrderStatus::Rejected | OrderStatus::Cancelled);
        let unwanted = ended || payment.paid_by_hand;
        let taken = match self.status {
            OrderStatus::Confirmed => capture == CaptureAt::Confirmation,
            status => matches!(status, OrderStatus::Shipped | OrderStatus::Delivered),
        };
        let reference = payment.reference.clone();
        match payment.status {
            None if ended && payment.reserved => Some(PaymentDue::Void { reference: None }),
            None if self.status == OrderStatus::Pending && payment.reserved => Some(PaymentDue::Authorise {
                amount: self.total,
                method: payment.method.clone(),
            }),
            Some(PaymentStatus::Authorised | PaymentStatus::RequiresAction) if unwanted => {
                Some(PaymentDue::Void { reference })
            }
            // Let go behind our back, though the goods are gone: the gateway will refuse, and staff must see that.
            Some(PaymentStatus::Authorised | PaymentStatus::Voided) if taken && !unwanted => {
                Some(PaymentDue::Capture {
                    reference: reference?,
                    amount: payment.authorised,
                })
            }
            Some(PaymentStatus::Captured) => {
                // What was promised while all of it was held may be more than what was taken in the end.
                let covered = self.owed.amount_minor() <= payment.captured.amount_minor();
                let back = if covered && !unwanted {
                    self.owed
                } else {
                    payment.captured
                };
                let amount = back.checked_sub(payment.refunded).ok()?;
                (amount.amount_minor() > 0).then_some(PaymentDue::Refund {
                    reference: reference?,
                    amount,
                    number: payment.refunds,
                })
            }
            _ => None,
        }
    }

    /// What may still be promised back: of what was taken, or will be because the goods are gone.
    pub(super) fn refundable(&self) -> Result<Money, OrderError> {
        let zero = Money::zero(self.total.currency());
        let gone = matches!(self.status, OrderStatus::Shipped | OrderStatus::Delivered);
        let limit = match &self.payment {
            None => self.total,
            Some(payment) if payment.paid_by_hand => self.total,
            Some(payment) => match payment.status {
                Some(PaymentStatus::Captured) => payment.captured,
                Some(PaymentStatus::Authorised) if gone => payment.authorised,
                _ => zero,
            },
        };
        let left = limit.checked_sub(self.owed)?;
        Ok(if left.amount_minor() < 0 { zero } else { left })
    }

    pub(super) fn observe(&self, seen: PaymentState) -> Result<Vec<OrderEvent>, OrderError> {
        let payment = self.payment.as_ref().ok_or(OrderError::NoPayment)?;
        payment.check(&seen, self.total)?;
        Ok(self.with_consequences(payment.news(seen)?))
    }

    pub(super) fn mark_reserved(&self) -> Vec<OrderEvent> {
        if self.must_be_paid() {
            self.with_consequences(vec![OrderEvent::Reserved {}])
        } else {
            vec![self.confirmed()]
        }
    }

    /// The same decision confirms what is paid and rejects what will not be: nothing can crash in between.
    fn with_consequences(&self, mut events: Vec<OrderEvent>) -> Vec<OrderEvent> {
        let mut then = self.clone();
        for event in &events {
            then.apply(event.clone());
        }
        let Some(payment) = then
            .payment
            .as_ref()
            .filter(|_| then.status == OrderStatus::Pending)
        else {
            return events;
        };
        if payment.reserved && then.is_paid() {
            events.push(self.confirmed());
        } else if let Some(reason) = payment.declined() {
            events.push(self.rejected(RejectionCause::PaymentDeclined(reason)));
        }
        events
    }

    pub(super) fn settle_by_hand(
        &self,
        capture: CaptureAt,
        reason: Personal<Reason>,
    ) -> Result<Vec<OrderEvent>, OrderError> {
        let payment = self.payment.as_ref().ok_or(OrderError::NoPayment)?;
        let Some(due) = self.payment_due(capture) else {
            return Ok(Vec::new());
        };
        if payment.settled.as_ref() == Some(&reason) {
            return Ok(Vec::new());
        }
        let (due, amount) = (due.step(), due.amount());
        Ok(self.with_consequences(vec![OrderEvent::SettledByHand { due, amount, reason }]))
    }

    pub(super) fn nothing_to_void(&self) -> Vec<OrderEvent> {
        match self.payment_due(CaptureAt::Shipment) {
            Some(PaymentDue::Void { reference: None }) => vec![OrderEvent::PaymentVoided { reference: None }],
            _ => Vec::new(),
        }
    }

    pub(super) fn order_refund(
        &self,
        amount: Money,
        reason: Personal<Reason>,
    ) -> Result<Vec<OrderEvent>, OrderError> {
        if self.payment.is_none() {
            return Err(OrderError::NoPayment);
        }
        let owed = self.owed_with(amount)?;
        if amount.amount_minor() == 0 {
            return Ok(Vec::new());
        }
        Ok(vec![OrderEvent::RefundOrdered { amount, owed, reason }])
    }
}
