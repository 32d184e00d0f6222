//! A payment, as the bank keeps it.

use kontor_domain::{
    Currency, DeclineReason, Money, NextAction, NextActionKind, PaymentReference, PaymentState, PaymentStatus,
};

use crate::payments::gateway::GatewayError;

/// A payment, and what only the bank knows of it.
#[derive(Clone, Debug)]
pub(super) struct Payment {
    pub(super) state: PaymentState,
    pub(super) order_id: String,
    /// What it was opened for, held or not.
    pub(super) amount_minor: i64,
    /// Rises with every change.
    pub(super) version: i64,
}

impl Payment {
    /// An amount in the payment's currency.
    pub(super) fn amount(&self, minor: i64) -> Result<Money, GatewayError> {
        Money::new(minor, self.state.authorised.currency())
            .map_err(|error| GatewayError::refused("amount_too_large", error.to_string()))
    }

    /// The reference without its prefix, for the names of what belongs to it.
    pub(super) fn id(&self) -> &str {
        let reference = self.state.reference.as_str();
        reference.strip_prefix("pi_").unwrap_or(reference)
    }
}

/// A payment as it is stored.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) reference: String,
    pub(super) order_id: String,
    pub(super) status: String,
    pub(super) decline_reason: Option<String>,
    pub(super) currency: String,
    pub(super) amount_minor: i64,
    pub(super) authorised_minor: i64,
    pub(super) captured_minor: i64,
    pub(super) refunded_minor: i64,
    pub(super) version: i64,
}

impl Row {
    pub(super) fn payment(self, public_url: &str) -> Result<Payment, GatewayError> {
        let unreadable = |what: &str| GatewayError::Unknown(format!("its books are wrong: {what}"));
        let currency: Currency = self.currency.parse().map_err(|_| unreadable("currency"))?;
        let money = |minor| Money::new(minor, currency).map_err(|_| unreadable("amount"));
        let status = match (self.status.as_str(), self.decline_reason) {
            ("AUTHORISED", _) => PaymentStatus::Authorised,
            ("REQUIRES_ACTION", _) => PaymentStatus::RequiresAction,
            ("CAPTURED", _) => PaymentStatus::Captured,
            ("VOIDED", _) => PaymentStatus::Voided,
            ("DECLINED", Some(reason)) => {
                PaymentStatus::Declined(serde_json::from_value(reason.into()).unwrap_or(DeclineReason::Other))
            }
            _ => return Err(unreadable("status")),
        };
        let next_action = (status == PaymentStatus::RequiresAction).then(|| NextAction {
            kind: NextActionKind::RedirectToUrl,
            url: Some(format!("{public_url}/actions/{}", self.reference)),
            client_secret: None,
        });
        Ok(Payment {
            state: PaymentState {
                reference: PaymentReference::new(self.reference).map_err(|_| unreadable("reference"))?,
                status,
                authorised: money(self.authorised_minor)?,
                captured: money(self.captured_minor)?,
                refunded: money(self.refunded_minor)?,
                next_action,
            },
            order_id: self.order_id,
            amount_minor: self.amount_minor,
            version: self.version,
        })
    }
}
