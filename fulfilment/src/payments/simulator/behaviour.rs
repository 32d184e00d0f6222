//! What a payment method makes the bank do.

use kontor_domain::{DeclineReason, PaymentMethodToken, PaymentStatus};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Approved,
    Declined(DeclineReason),
    NeedsAction,
    Slow,
    TimeoutAfterCharge,
    Fails(i64),
    Down,
}

impl Behaviour {
    pub(super) fn of(method: &PaymentMethodToken) -> Self {
        match method.as_str() {
            "tok_approved" => Self::Approved,
            "tok_declined" => Self::Declined(DeclineReason::CardDeclined),
            "tok_insufficient_funds" => Self::Declined(DeclineReason::InsufficientFunds),
            "tok_needs_action" => Self::NeedsAction,
            "tok_slow" => Self::Slow,
            "tok_timeout_after_charge" => Self::TimeoutAfterCharge,
            "tok_down" => Self::Down,
            other => other
                .strip_prefix("tok_fails_")
                .and_then(|times| times.parse::<u32>().ok())
                .map_or(Self::Declined(DeclineReason::InvalidPaymentMethod), |times| {
                    Self::Fails(times.into())
                }),
        }
    }

    /// What becomes of a payment that is opened.
    pub(super) const fn outcome(self) -> PaymentStatus {
        match self {
            Self::Declined(reason) => PaymentStatus::Declined(reason),
            Self::NeedsAction => PaymentStatus::RequiresAction,
            Self::Approved | Self::Slow | Self::TimeoutAfterCharge | Self::Fails(_) | Self::Down => {
                PaymentStatus::Authorised
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_say_what_happens() {
        let unknown = Behaviour::Declined(DeclineReason::InvalidPaymentMethod);
        for (token, behaviour) in [
            ("tok_approved", Behaviour::Approved),
            ("tok_fails_0", Behaviour::Fails(0)),
            ("tok_fails_12", Behaviour::Fails(12)),
            ("tok_fails_", unknown),
            ("tok_fails_-1", unknown),
            ("tok_fails_99999999999", unknown),
            ("pm_card_visa", unknown),
        ] {
            assert_eq!(Behaviour::of(&token.parse().unwrap()), behaviour, "{token}");
        }
    }
}
