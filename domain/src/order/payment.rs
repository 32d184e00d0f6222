//! What an order knows of its payment, and how it learns.
//!
//! See decision 012: whoever hears of a payment hands over a [`PaymentState`], the order records what is new in it, and
//! what is due follows from what is recorded.

use serde::{Deserialize, Serialize};

use super::{OrderError, OrderEvent, PaymentStep};
use crate::money::Money;
use crate::payment::{
    DeclineReason, NextAction, NextActionKind, PaymentMethodToken, PaymentReference, PaymentState,
    PaymentStatus,
};
use crate::personal::{Personal, PersonalValue};
use crate::text::Reason;

/// What an order knows of its payment. Invariants: `captured <= authorised <= total`, `refunded <= captured`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    pub(super) method: Personal<PaymentMethodToken>,
    /// Everything is reserved: the payment may have been begun.
    pub(super) reserved: bool,
    pub(super) reference: Option<PaymentReference>,
    pub(super) status: Option<PaymentStatus>,
    pub(super) authorised: Money,
    pub(super) captured: Money,
    pub(super) refunded: Money,
    /// How many times something was paid back.
    pub(super) refunds: u32,
    pub(super) next_action: Option<NextAction>,
    /// The customer paid in another way, as staff said: the gateway's money is not wanted any more.
    pub(super) paid_by_hand: bool,
    /// Why staff settled the last step, until anything else happens: a repeat must not settle the step after it. When the customer
    /// was erased it cannot be read, and only the key of the command tells a repeat.
    pub(super) settled: Option<Personal<Reason>>,
}

impl Payment {
    pub(super) const fn new(method: Personal<PaymentMethodToken>, total: Money) -> Self {
        let zero = Money::zero(total.currency());
        Self {
            method,
            reserved: false,
            reference: None,
            status: None,
            authorised: zero,
            captured: zero,
            refunded: zero,
            refunds: 0,
            next_action: None,
            paid_by_hand: false,
            settled: None,
        }
    }

    /// What is personal in it.
    pub(super) fn personal(&mut self) -> Vec<&mut dyn PersonalValue> {
        let settled = self
            .settled
            .as_mut()
            .map(|reason| reason as &mut dyn PersonalValue);
        let method = &mut self.method as &mut dyn PersonalValue;
        settled.into_iter().chain([method]).collect()
    }

    /// By which means the customer pays; sealed if the customer was erased.
    #[must_use]
    pub const fn method(&self) -> &Personal<PaymentMethodToken> {
        &self.method
    }

    /// What the gateway calls it, once that is known.
    #[must_use]
    pub const fn reference(&self) -> Option<&PaymentReference> {
        self.reference.as_ref()
    }

    /// Where it is; `None` as long as nothing was heard that mattered. A payment that the gateway is still at says nothing.
    #[must_use]
    pub const fn status(&self) -> Option<PaymentStatus> {
        self.status
    }

    /// What is or was held.
    #[must_use]
    pub const fn authorised(&self) -> Money {
        self.authorised
    }

    /// What was taken, in all.
    #[must_use]
    pub const fn captured(&self) -> Money {
        self.captured
    }

    /// What was paid back, in all.
    #[must_use]
    pub const fn refunded(&self) -> Money {
        self.refunded
    }

    /// How many times something was paid back.
    #[must_use]
    pub const fn refunds(&self) -> u32 {
        self.refunds
    }

    /// What the customer must do, as long as the payment waits for that.
    #[must_use]
    pub const fn next_action(&self) -> Option<&NextAction> {
        self.next_action.as_ref()
    }

    /// Why it was declined, if it was.
    #[must_use]
    pub const fn declined(&self) -> Option<DeclineReason> {
        match self.status {
            Some(PaymentStatus::Declined(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Whether the customer paid in another way, as staff said.
    #[must_use]
    pub const fn paid_by_hand(&self) -> bool {
        self.paid_by_hand
    }

    /// How far a payment is that is described so; what is less far than what is known is stale. Late money counts for more
    /// than a decline, and money that moved for more than money let go: it must never be overlooked.
    const fn progress(status: PaymentStatus) -> u8 {
        match status {
            PaymentStatus::Processing => 0,
            PaymentStatus::RequiresAction => 1,
            PaymentStatus::Declined(_) => 2,
            PaymentStatus::Authorised => 3,
            PaymentStatus::Voided => 4,
            PaymentStatus::Captured => 5,
        }
    }

    /// Without a reference nothing was heard from the gateway itself, and whatever it says is news.
    fn own_progress(&self) -> u8 {
        let status = self.reference.as_ref().and(self.status);
        status.map_or(0, Self::progress)
    }

    /// Whether a description can be true of the payment of an order with this total.
    pub(super) fn check(&self, seen: &PaymentState, total: Money) -> Result<(), OrderError> {
        if self
            .reference
            .as_ref()
            .is_some_and(|known| *known != seen.reference)
        {
            return Err(OrderError::OtherPayment);
        }
        // Each difference refuses another currency.
        let over = seen.authorised.checked_sub(total)?;
        let open = seen.authorised.checked_sub(seen.captured)?;
        let kept = seen.captured.checked_sub(seen.refunded)?;
        let least = [open, kept, seen.refunded].map(Money::amount_minor);
        let empty = match seen.status {
            PaymentStatus::Authorised => seen.authorised.amount_minor() == 0,
            PaymentStatus::Captured => seen.captured.amount_minor() == 0,
            _ => false,
        };
        if empty || least.into_iter().any(|amount| amount < 0) {
            return Err(OrderError::InconsistentPayment);
        }
        if over.amount_minor() > 0 {
            return Err(OrderError::AuthorisedTooMuch {
                authorised: seen.authorised,
                total,
            });
        }
        Ok(())
    }

    /// What a description tells that is not known yet.
    pub(super) fn news(&self, seen: PaymentState) -> Result<Vec<OrderEvent>, OrderError> {
        let (mut known, progress) = (self.own_progress(), Self::progress(seen.status));
        let reference = seen.reference;
        let mut events = Vec::new();
        // Held and let go again is two facts also when both are heard at once.
        if seen.authorised.amount_minor() > self.authorised.amount_minor() {
            events.push(OrderEvent::PaymentAuthorised {
                reference: reference.clone(),
                amount: seen.authorised,
            });
            // Money newly held is open again, whatever was let go before.
            known = Self::progress(PaymentStatus::Authorised);
        }
        if seen.captured.amount_minor() > self.captured.amount_minor() {
            events.push(OrderEvent::PaymentCaptured {
                reference: reference.clone(),
                amount: seen.captured,
            });
        }
        if seen.captured.amount_minor() > 0 || self.captured.amount_minor() > 0 {
            known = Self::progress(PaymentStatus::Captured);
        }
        let amount = seen.refunded.checked_sub(self.refunded)?;
        if amount.amount_minor() > 0 {
            events.push(OrderEvent::PaymentRefunded {
                amount,
                refunded: seen.refunded,
            });
        }
        match seen.status {
            PaymentStatus::RequiresAction => {
                let next_action = seen.next_action.unwrap_or(NextAction {
                    kind: NextActionKind::Other,
                    url: None,
                    client_secret: None,
                });
                // A page may have moved while the payment waits.
                let moved = progress == known && self.next_action.as_ref() != Some(&next_action);
                if progress > known || moved {
                    events.push(OrderEvent::PaymentActionRequired {
                        reference,
                        next_action,
                    });
                }
            }
            PaymentStatus::Declined(reason) if progress > known => {
                events.push(OrderEvent::PaymentDeclined { reference, reason });
            }
            PaymentStatus::Voided if progress > known => events.push(OrderEvent::PaymentVoided {
                reference: Some(reference),
            }),
            _ => {}
        }
        Ok(events)
    }

    fn moved_to(&mut self, reference: Option<PaymentReference>, status: PaymentStatus) {
        self.reference = reference.or(self.reference.take());
        self.status = Some(status);
        self.next_action = None;
    }

    pub(super) fn apply(&mut self, event: OrderEvent) {
        // The decision to settle may confirm the order as well.
        if !matches!(event, OrderEvent::Confirmed { .. }) {
            self.settled = None;
        }
        match event {
            OrderEvent::Reserved {} => self.reserved = true,
            OrderEvent::PaymentActionRequired {
                reference,
                next_action,
            } => {
                self.moved_to(Some(reference), PaymentStatus::RequiresAction);
                self.next_action = Some(next_action);
            }
            OrderEvent::PaymentAuthorised { reference, amount } => {
                self.authorised = amount;
                // What is held beside what was already taken does not undo the taking.
                let captured = self.captured.amount_minor() > 0;
                let status = if captured {
                    PaymentStatus::Captured
                } else {
                    PaymentStatus::Authorised
                };
                self.moved_to(Some(reference), status);
            }
            OrderEvent::PaymentDeclined { reference, reason } => {
                self.moved_to(Some(reference), PaymentStatus::Declined(reason));
            }
            OrderEvent::PaymentCaptured { reference, amount } => {
                self.captured = amount;
                self.moved_to(Some(reference), PaymentStatus::Captured);
            }
            OrderEvent::PaymentVoided { reference } => self.moved_to(reference, PaymentStatus::Voided),
            OrderEvent::PaymentRefunded { refunded, .. } => {
                self.refunded = refunded;
                self.refunds += 1;
            }
            OrderEvent::SettledByHand { due, amount, reason } => {
                let amount = amount.unwrap_or(Money::zero(self.authorised.currency()));
                match due {
                    PaymentStep::Authorise => self.paid_by_hand = true,
                    PaymentStep::Capture => {
                        self.captured = amount;
                        self.moved_to(None, PaymentStatus::Captured);
                    }
                    PaymentStep::Void => self.moved_to(None, PaymentStatus::Voided),
                    PaymentStep::Refund => {
                        self.refunded = self.refunded.checked_add(amount).unwrap_or(self.captured);
                        self.refunds += 1;
                    }
                }
                self.settled = Some(reason);
            }
            _ => {}
        }
    }
}
