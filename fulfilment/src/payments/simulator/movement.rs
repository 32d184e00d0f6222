//! Money that is to be moved.

use kontor_domain::{Money, PaymentReference};

use crate::payments::gateway::{Capture, GatewayError, Refund, Void};

/// Something that is to be entered for a payment that is there.
pub(super) struct Movement<'a> {
    pub(super) kind: &'static str,
    pub(super) key: &'a str,
    pub(super) reference: &'a PaymentReference,
    /// Everything that is held, when there is none.
    pub(super) amount: Option<Money>,
}

impl<'a> Movement<'a> {
    pub(super) fn capture(request: &'a Capture) -> Result<Self, GatewayError> {
        Self::of("CAPTURE", &request.key, &request.reference, Some(request.amount))
    }

    pub(super) fn void(request: &'a Void) -> Result<Self, GatewayError> {
        Self::of("VOID", &request.key, &request.reference, None)
    }

    pub(super) fn refund(request: &'a Refund) -> Result<Self, GatewayError> {
        Self::of("REFUND", &request.key, &request.reference, Some(request.amount))
    }

    fn of(
        kind: &'static str,
        key: &'a str,
        reference: &'a PaymentReference,
        amount: Option<Money>,
    ) -> Result<Self, GatewayError> {
        check(key, "", amount)?;
        Ok(Self {
            kind,
            key,
            reference,
            amount,
        })
    }

    pub(super) fn minor(&self) -> i64 {
        self.amount.map_or(0, Money::amount_minor)
    }

    /// Where a payment is after it.
    pub(super) fn status(&self) -> &'static str {
        if self.kind == "VOID" { "VOIDED" } else { "CAPTURED" }
    }
}

/// What no bank would take.
pub(super) fn check(key: &str, order_id: &str, amount: Option<Money>) -> Result<(), GatewayError> {
    if !(1..=255).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(GatewayError::refused(
            "idempotency_key_invalid",
            "1 to 255 visible characters",
        ));
    }
    if order_id.chars().any(char::is_control) {
        return Err(GatewayError::refused(
            "parameter_invalid",
            "order_id has control characters",
        ));
    }
    if amount.is_some_and(|amount| amount.amount_minor() <= 0) {
        return Err(GatewayError::refused(
            "amount_too_small",
            "an amount is more than zero",
        ));
    }
    Ok(())
}
