//! Payments as the gateway tells of them: what events keep, what orders show. Nothing here moves money.
//!
//! A payment is authorised first (the bank holds the amount), then captured (the money moves) or voided (it is let go);
//! what was captured can be refunded, whole or in part. See `kontor_fulfilment::payments` for who does so.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::money::Money;
use crate::personal::PersonalData;
use crate::text::{TextError, TextProblem};

macro_rules! visible_ascii {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The most characters.
            pub const MAX: usize = 255;

            /// Checks. Nothing is trimmed: such a text comes from a machine, and means exactly itself.
            pub fn new(value: impl Into<String>) -> Result<Self, TextError> {
                let value = value.into();
                let problem = if value.is_empty() {
                    TextProblem::Empty
                } else if value.chars().count() > Self::MAX {
                    TextProblem::TooLong { max: Self::MAX }
                } else if value.bytes().any(|byte| !byte.is_ascii_graphic()) {
                    TextProblem::ForbiddenCharacter
                } else {
                    return Ok(Self(value));
                };
                Err(TextError { field: $field, problem })
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, owned.
            #[must_use]
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(value: &str) -> Result<Self, TextError> {
                Self::new(value)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

visible_ascii!(
    /// What the gateway calls a means of payment, such as `pm_1Q…`: 1 to 255 visible ASCII characters. Whoever has it may
    /// be able to charge it, so it is never printed. Card numbers never reach Kontor.
    PaymentMethodToken, "payment method"
);
visible_ascii!(
    /// What the gateway calls one payment, such as `pi_3P…`: 1 to 255 visible ASCII characters.
    PaymentReference, "payment reference"
);

impl PersonalData for PaymentMethodToken {
    const KIND: &'static str = "payment method token";
}

impl fmt::Debug for PaymentMethodToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for PaymentReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PaymentReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a payment was declined, in the words Kontor's customers and staff get to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeclineReason {
    /// Not enough money or credit.
    InsufficientFunds,
    /// The bank said no and did not say why.
    CardDeclined,
    /// The card is past its date.
    ExpiredCard,
    /// The security code is wrong.
    IncorrectCvc,
    /// The number, the date or the postal code of the card is wrong.
    IncorrectDetails,
    /// The bank or the gateway takes it for fraud. The customer is best told no more than [`Self::CardDeclined`].
    FraudSuspected,
    /// The card was reported lost or stolen. The customer is best told no more than [`Self::CardDeclined`].
    LostOrStolen,
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
    /// Anything else. Also what a reason decodes to that this version of Kontor does not know.
    #[serde(other)]
    Other,
}

impl DeclineReason {
    /// What the customer is told: whoever tries a stolen card must not learn that it is known to be stolen.
    #[must_use]
    pub const fn for_customer(self) -> Self {
        match self {
            Self::FraudSuspected | Self::LostOrStolen => Self::CardDeclined,
            other => other,
        }
    }
}

/// Where a payment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentStatus {
    /// The customer must do something first: see [`PaymentState::next_action`].
    RequiresAction,
    /// The gateway is at it, and will say.
    Processing,
    /// The amount is held for the shop, for some days (with cards, usually seven).
    Authorised,
    /// The money has moved. Refunds do not change this; [`PaymentState::refunded`] tells of them.
    Captured,
    /// Let go before it was captured; nothing is held any more.
    Voided,
    /// There will be no money from this payment.
    Declined(DeclineReason),
}

/// What kind of thing the customer must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NextActionKind {
    /// Open [`NextAction::url`] in the browser.
    RedirectToUrl,
    /// Hand [`NextAction::client_secret`] to the gateway's own library in the app.
    UseSdk,
    /// Something this version of Kontor has no name for.
    #[serde(other)]
    Other,
}

/// What the customer must do before the payment goes on, such as proving who they are to their bank.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NextAction {
    /// What kind of thing.
    pub kind: NextActionKind,
    /// Where, if it is a page.
    pub url: Option<String>,
    /// What lets the customer's app speak with the gateway about this one payment. Theirs alone; never printed.
    pub client_secret: Option<String>,
}

impl fmt::Debug for NextAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextAction")
            .field("kind", &self.kind)
            .field("url", &self.url)
            .field("client_secret", &self.client_secret.as_ref().map(|_| "***"))
            .finish()
    }
}

/// A payment as its gateway last described it. All amounts are in the currency of the payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentState {
    /// What the gateway calls it. Of a payment that was declined before it was opened: what the gateway calls the request.
    pub reference: PaymentReference,
    /// Where it is.
    pub status: PaymentStatus,
    /// What is, or was, held. Zero until then, and for a declined payment.
    pub authorised: Money,
    /// What has moved to the shop.
    pub captured: Money,
    /// What of that has gone back; never more than `captured`.
    pub refunded: Money,
    /// What the customer must do, while the status is [`PaymentStatus::RequiresAction`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action: Option<NextAction>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn gbp(amount_minor: i64) -> Money {
        Money::new(amount_minor, "GBP".parse().unwrap()).unwrap()
    }

    #[test]
    fn tokens_and_references_are_visible_ascii() {
        for right in ["x", "pm_card_visa", "tok_fails_3", "~!\"{}", &"x".repeat(255)] {
            assert_eq!(PaymentMethodToken::new(right).unwrap().as_str(), right);
            assert_eq!(right.parse::<PaymentReference>().unwrap().to_string(), right);
        }
        for (wrong, problem) in [
            ("", TextProblem::Empty),
            (&*"x".repeat(256), TextProblem::TooLong { max: 255 }),
            ("a b", TextProblem::ForbiddenCharacter),
            (" a", TextProblem::ForbiddenCharacter),
            ("a\n", TextProblem::ForbiddenCharacter),
            ("\u{e9}", TextProblem::ForbiddenCharacter),
        ] {
            assert_eq!(PaymentMethodToken::new(wrong).unwrap_err().problem, problem);
            assert_eq!(PaymentReference::new(wrong).unwrap_err().problem, problem);
        }
        assert!(serde_json::from_value::<PaymentMethodToken>(json!("a b")).is_err());
    }

    #[test]
    fn what_lets_somebody_charge_is_never_printed() {
        let token = PaymentMethodToken::new("pm_secret").unwrap();
        let action = NextAction {
            kind: NextActionKind::UseSdk,
            url: None,
            client_secret: Some("pi_1_secret_2".into()),
        };
        assert_eq!(format!("{token:?}"), "***");
        assert!(!format!("{action:?}").contains("secret_2"));
    }

    #[test]
    fn the_stored_form_is_this_one() {
        let mut state = PaymentState {
            reference: "pi_1".parse().unwrap(),
            status: PaymentStatus::Declined(DeclineReason::InsufficientFunds),
            authorised: gbp(0),
            captured: gbp(0),
            refunded: gbp(0),
            next_action: None,
        };
        let zero = json!({"amount_minor": 0, "currency": "GBP"});
        assert_eq!(
            serde_json::to_value(&state).unwrap(),
            json!({
                "reference": "pi_1", "status": {"DECLINED": "INSUFFICIENT_FUNDS"},
                "authorised": zero, "captured": zero, "refunded": zero,
            })
        );
        state.status = PaymentStatus::RequiresAction;
        state.next_action = Some(NextAction {
            kind: NextActionKind::RedirectToUrl,
            url: Some("https://bank.example/1".into()),
            client_secret: None,
        });
        let stored = serde_json::to_value(&state).unwrap();
        assert_eq!(stored["status"], json!("REQUIRES_ACTION"));
        assert_eq!(stored["next_action"]["kind"], json!("REDIRECT_TO_URL"));
        assert_eq!(serde_json::from_value::<PaymentState>(stored).unwrap(), state);
    }

    #[test]
    fn a_reason_of_a_newer_kontor_is_read_as_other() {
        let reason: DeclineReason = serde_json::from_value(json!("FROM_THE_FUTURE")).unwrap();
        assert_eq!(reason, DeclineReason::Other);
        let status: PaymentStatus = serde_json::from_value(json!({"DECLINED": "FROM_THE_FUTURE"})).unwrap();
        assert_eq!(status, PaymentStatus::Declined(DeclineReason::Other));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_stored_as_it_is(text in "\\PC{0,300}") {
            match PaymentMethodToken::new(text.clone()) {
                Ok(token) => {
                    prop_assert!(text.is_ascii() && (1..=255).contains(&text.len()));
                    prop_assert_eq!(serde_json::to_value(&token).unwrap(), json!(text));
                }
                Err(_) => prop_assert!(
                    text.is_empty() || text.chars().count() > 255 || text.bytes().any(|b| !b.is_ascii_graphic())
                ),
            }
        }
    }
}
