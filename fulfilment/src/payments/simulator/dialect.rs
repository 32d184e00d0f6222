//! Stripe's dialect, as the bank speaks it: payments, charges, refunds, events and errors in JSON.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use kontor_domain::{DeclineReason, NextAction, PaymentStatus};
use serde_json::{Value, json};

use super::payment::Payment;
use crate::payments::gateway::GatewayError;
use crate::payments::stripe::codes;
use crate::payments::webhook::WebhookKind;

/// A payment intent, with its charge.
pub(super) fn intent(payment: &Payment) -> Value {
    let state = &payment.state;
    let (status, error) = match state.status {
        PaymentStatus::RequiresAction => ("requires_action", None),
        PaymentStatus::Processing => ("processing", None),
        PaymentStatus::Authorised => ("requires_capture", None),
        PaymentStatus::Captured => ("succeeded", None),
        PaymentStatus::Voided => ("canceled", None),
        PaymentStatus::Declined(reason) => ("requires_payment_method", Some(decline(reason))),
    };
    let capturable = match state.status {
        PaymentStatus::Authorised => state.authorised.amount_minor(),
        _ => 0,
    };
    json!({
        "id": state.reference,
        "object": "payment_intent",
        "amount": payment.amount_minor,
        "amount_capturable": capturable,
        "amount_received": state.captured.amount_minor(),
        "capture_method": "manual",
        "client_secret": format!("{}_secret", state.reference),
        "currency": state.authorised.currency().as_str().to_ascii_lowercase(),
        "last_payment_error": error,
        "latest_charge": (state.authorised.amount_minor() > 0).then(|| charge(payment)),
        "livemode": false,
        "metadata": {"order_id": payment.order_id},
        "next_action": state.next_action.as_ref().map(next_action),
        "status": status,
    })
}

fn next_action(action: &NextAction) -> Value {
    json!({"type": "redirect_to_url", "redirect_to_url": {"url": action.url, "return_url": null}})
}

/// What was held and is not captured counts as refunded here, as it does at Stripe.
fn charge(payment: &Payment) -> Value {
    let state = &payment.state;
    let (held, captured) = (state.authorised.amount_minor(), state.captured.amount_minor());
    let let_go = match state.status {
        PaymentStatus::Captured => held - captured,
        PaymentStatus::Voided => held,
        _ => 0,
    };
    let refunded = state.refunded.amount_minor() + let_go;
    json!({
        "id": format!("ch_{}", payment.id()),
        "object": "charge",
        "amount": held,
        "amount_captured": captured,
        "amount_refunded": refunded,
        "captured": state.status == PaymentStatus::Captured,
        "metadata": {"order_id": payment.order_id},
        "payment_intent": state.reference,
        "refunded": refunded == held,
        "status": "succeeded",
    })
}

pub(super) fn refund(payment: &Payment, amount_minor: i64, expanded: bool) -> Value {
    json!({
        "id": format!("re_{}_{}", payment.id(), payment.version),
        "object": "refund",
        "amount": amount_minor,
        "currency": payment.state.refunded.currency().as_str().to_ascii_lowercase(),
        "payment_intent": if expanded { intent(payment) } else { json!(payment.state.reference) },
        "status": "succeeded",
    })
}

/// The event that tells of the payment's newest version. The same version is always told under the same id.
pub(super) fn event(payment: &Payment, now: DateTime<Utc>) -> Value {
    let kind = match payment.state.status {
        PaymentStatus::RequiresAction => WebhookKind::RequiresAction,
        PaymentStatus::Processing => WebhookKind::Processing,
        PaymentStatus::Authorised => WebhookKind::Authorised,
        PaymentStatus::Captured if payment.state.refunded.amount_minor() > 0 => WebhookKind::Refunded,
        PaymentStatus::Captured => WebhookKind::Captured,
        PaymentStatus::Voided => WebhookKind::Voided,
        PaymentStatus::Declined(_) => WebhookKind::Failed,
    };
    let object = match kind {
        WebhookKind::Refunded => charge(payment),
        _ => intent(payment),
    };
    json!({
        "id": format!("evt_{}_{}", payment.id(), payment.version),
        "object": "event",
        "created": now.timestamp(),
        "data": {"object": object},
        "livemode": false,
        "type": kind.name(),
    })
}

fn decline(reason: DeclineReason) -> Value {
    let (code, decline_code) = codes(reason);
    json!({
        "type": "card_error",
        "code": code,
        "decline_code": decline_code,
        "message": "Your card was declined.",
    })
}

/// An answer that Stripe gives as an error.
pub(super) struct Refused(pub(super) StatusCode, pub(super) Value);

impl Refused {
    pub(super) fn new(status: StatusCode, kind: &str, code: &str, message: &str) -> Self {
        Self(
            status,
            json!({"error": {"type": kind, "code": code, "message": message}}),
        )
    }

    /// A payment that was declined when it was opened.
    pub(super) fn declined(payment: &Payment, reason: DeclineReason) -> Self {
        if reason == DeclineReason::InvalidPaymentMethod {
            return Self(
                StatusCode::BAD_REQUEST,
                json!({"error": {
                    "type": "invalid_request_error", "code": "resource_missing", "param": "payment_method",
                    "message": "No such payment method",
                }}),
            );
        }
        let mut error = decline(reason);
        error["payment_intent"] = intent(payment);
        Self(StatusCode::PAYMENT_REQUIRED, json!({"error": error}))
    }
}

impl From<GatewayError> for Refused {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Refused { code, message } => {
                let status = match code.as_str() {
                    "resource_missing" => StatusCode::NOT_FOUND,
                    _ => StatusCode::BAD_REQUEST,
                };
                let kind = match code.as_str() {
                    "idempotency_error" => "idempotency_error",
                    _ => "invalid_request_error",
                };
                Self::new(status, kind, &code, &message)
            }
            GatewayError::Busy(message) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "invalid_request_error",
                "lock_timeout",
                &message,
            ),
            GatewayError::Unreachable(message) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "api_error",
                "unavailable",
                &message,
            ),
            GatewayError::Unknown(message) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "api_error",
                "internal",
                &message,
            ),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, axum::Json(self.1)).into_response()
    }
}
