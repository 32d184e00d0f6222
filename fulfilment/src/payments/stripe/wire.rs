//! Stripe's objects, as far as Kontor reads them.

use kontor_domain::{
    Currency, DeclineReason, Money, NextAction, NextActionKind, PaymentReference, PaymentState, PaymentStatus,
};
use serde::Deserialize;

use super::reason;
use crate::payments::gateway::GatewayError;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PaymentIntent {
    pub(crate) id: String,
    status: String,
    amount: i64,
    currency: String,
    /// What was captured. Always there at Stripe; some imitations leave it out.
    amount_received: Option<i64>,
    client_secret: Option<String>,
    next_action: Option<StripeAction>,
    latest_charge: Option<LatestCharge>,
    last_payment_error: Option<StripeFailure>,
}

/// Whole where it was asked for, its id alone elsewhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum LatestCharge {
    Whole(Box<Charge>),
    Id(#[expect(dead_code, reason = "only that it is there is of interest")] String),
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Charge {
    pub(crate) id: String,
    pub(crate) payment_intent: Option<String>,
    amount: Option<i64>,
    amount_refunded: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct StripeRefund {
    pub(crate) status: Option<String>,
    pub(crate) failure_reason: Option<String>,
    pub(crate) payment_intent: PaymentIntent,
}

#[derive(Clone, Debug, Deserialize)]
struct StripeAction {
    #[serde(rename = "type")]
    kind: String,
    redirect_to_url: Option<Redirect>,
}

#[derive(Clone, Debug, Deserialize)]
struct Redirect {
    url: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct ErrorBody {
    error: StripeFailure,
}

impl ErrorBody {
    pub(crate) fn into_inner(self) -> StripeFailure {
        self.error
    }
}

/// Why something did not work. The same shape in answers and in `last_payment_error`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct StripeFailure {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) decline_code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) param: Option<String>,
    pub(crate) charge: Option<String>,
    pub(crate) payment_intent: Option<Box<PaymentIntent>>,
}

impl PaymentIntent {
    pub(crate) fn state(&self) -> Result<PaymentState, GatewayError> {
        let currency: Currency = self
            .currency
            .to_ascii_uppercase()
            .parse()
            .map_err(|error| unreadable(&error))?;
        let money = |minor: i64| Money::new(minor, currency).map_err(|error| unreadable(&error));
        let status = self.status()?;
        let held = match status {
            PaymentStatus::Authorised | PaymentStatus::Captured => true,
            // One that was given up before the bank said yes has no charge.
            PaymentStatus::Voided => self.latest_charge.is_some(),
            _ => false,
        };
        let captured = match status {
            PaymentStatus::Captured => self.amount_received.unwrap_or(self.amount),
            _ => 0,
        };
        Ok(PaymentState {
            reference: reference(&self.id)?,
            status,
            authorised: money(if held { self.amount } else { 0 })?,
            captured: money(captured)?,
            refunded: money(self.refunded(captured))?,
            next_action: match status {
                PaymentStatus::RequiresAction => self.next_action.as_ref().map(|it| self.to_do(it)),
                _ => None,
            },
        })
    }

    fn status(&self) -> Result<PaymentStatus, GatewayError> {
        Ok(match self.status.as_str() {
            "requires_action" => PaymentStatus::RequiresAction,
            // Confirmation is part of our request: one that lacks it is on its way.
            "processing" | "requires_confirmation" => PaymentStatus::Processing,
            "requires_capture" => PaymentStatus::Authorised,
            "succeeded" => PaymentStatus::Captured,
            "canceled" => PaymentStatus::Voided,
            // Where a payment goes back to when it was declined. Kontor never tries one twice.
            "requires_payment_method" => PaymentStatus::Declined(self.last_reason()),
            other => return Err(GatewayError::Unknown(format!("a payment is {other}"))),
        })
    }

    fn last_reason(&self) -> DeclineReason {
        let error = self.last_payment_error.as_ref();
        error.map_or(DeclineReason::Other, |it| {
            reason(it.code.as_deref(), it.decline_code.as_deref())
        })
    }

    /// Stripe also counts as refunded what was held and never taken.
    fn refunded(&self, captured: i64) -> i64 {
        match &self.latest_charge {
            Some(LatestCharge::Whole(charge)) if captured > 0 => {
                let never_taken = charge.amount.unwrap_or(self.amount) - captured;
                (charge.amount_refunded.unwrap_or(0) - never_taken).max(0)
            }
            _ => 0,
        }
    }

    fn to_do(&self, action: &StripeAction) -> NextAction {
        let url = action.redirect_to_url.as_ref().and_then(|it| it.url.clone());
        let kind = match action.kind.as_str() {
            "redirect_to_url" => NextActionKind::RedirectToUrl,
            "use_stripe_sdk" => NextActionKind::UseSdk,
            _ => NextActionKind::Other,
        };
        let client_secret = match kind {
            NextActionKind::RedirectToUrl => None,
            NextActionKind::UseSdk | NextActionKind::Other => self.client_secret.clone(),
        };
        NextAction {
            kind,
            url,
            client_secret,
        }
    }
}

pub(crate) fn reference(id: &str) -> Result<PaymentReference, GatewayError> {
    PaymentReference::new(id).map_err(|error| unreadable(&error))
}

/// The call was carried out; what came of it cannot be told.
fn unreadable(error: &dyn std::error::Error) -> GatewayError {
    GatewayError::Unknown(format!("its answer cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn gbp(amount_minor: i64) -> Money {
        Money::new(amount_minor, "GBP".parse().unwrap()).unwrap()
    }

    fn read(changes: Value) -> PaymentState {
        let mut intent = json!({
            "id": "pi_1", "status": "requires_capture", "amount": 1000, "currency": "gbp", "amount_received": 0,
            "client_secret": "pi_1_secret_2", "next_action": null, "latest_charge": "ch_1",
        });
        let Value::Object(changes) = changes else {
            panic!("an object")
        };
        intent.as_object_mut().unwrap().extend(changes);
        serde_json::from_value::<PaymentIntent>(intent)
            .unwrap()
            .state()
            .unwrap()
    }

    #[test]
    fn every_status_has_its_meaning() {
        let amounts = |state: &PaymentState| (state.authorised, state.captured, state.refunded);
        let held = read(json!({}));
        assert_eq!(held.status, PaymentStatus::Authorised);
        assert_eq!(amounts(&held), (gbp(1000), gbp(0), gbp(0)));

        // The part that was never taken is among what Stripe calls refunded.
        let charge = json!({"id": "ch_1", "amount": 1000, "amount_refunded": 450});
        let taken = read(json!({"status": "succeeded", "amount_received": 700, "latest_charge": charge}));
        assert_eq!(taken.status, PaymentStatus::Captured);
        assert_eq!(amounts(&taken), (gbp(1000), gbp(700), gbp(150)));

        let charge = json!({"id": "ch_1", "amount": 1000, "amount_refunded": 1000});
        let let_go = read(json!({"status": "canceled", "latest_charge": charge}));
        assert_eq!(let_go.status, PaymentStatus::Voided);
        assert_eq!(amounts(&let_go), (gbp(1000), gbp(0), gbp(0)));
        let given_up = read(json!({"status": "canceled", "latest_charge": null}));
        assert_eq!(given_up.authorised, gbp(0));

        assert_eq!(
            read(json!({"status": "processing"})).status,
            PaymentStatus::Processing
        );
        let error = json!({"code": "card_declined", "decline_code": "insufficient_funds"});
        let declined = read(json!({"status": "requires_payment_method", "last_payment_error": error}));
        assert_eq!(
            declined.status,
            PaymentStatus::Declined(DeclineReason::InsufficientFunds)
        );
        assert_eq!(declined.authorised, gbp(0));
    }

    #[test]
    fn what_is_to_be_done_comes_with_what_it_takes() {
        let sdk = read(json!({"status": "requires_action", "next_action": {"type": "use_stripe_sdk"}}));
        let sdk = sdk.next_action.unwrap();
        assert_eq!((sdk.kind, sdk.url), (NextActionKind::UseSdk, None));
        assert_eq!(sdk.client_secret.as_deref(), Some("pi_1_secret_2"));

        let action = json!({"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/"}});
        let page = read(json!({"status": "requires_action", "next_action": action}))
            .next_action
            .unwrap();
        assert_eq!(page.kind, NextActionKind::RedirectToUrl);
        assert_eq!(
            (page.url.as_deref(), page.client_secret),
            (Some("https://bank.example/"), None)
        );
    }

    #[test]
    fn an_answer_that_makes_no_sense_may_still_have_moved_money() {
        for (status, currency, id) in [
            ("teleported", "gbp", "pi_1"),
            ("succeeded", "pounds", "pi_1"),
            ("succeeded", "gbp", "pi 1"),
        ] {
            let intent = json!({"id": id, "status": status, "amount": 1, "currency": currency});
            let intent: PaymentIntent = serde_json::from_value(intent).unwrap();
            assert!(
                matches!(intent.state(), Err(GatewayError::Unknown(_))),
                "{status} {currency} {id}"
            );
        }
    }
}
