//! Stripe's codes and Kontor's reasons. From Stripe's "Decline codes" and "Error codes" pages.

use kontor_domain::DeclineReason as R;

/// Each reason with the codes that mean it. The first of each is what the simulator says.
///
/// Where `code` is `card_declined` (or the decline came without one), `decline_code` says why; elsewhere `code` does.
const CODES: &[(R, &[&str])] = &[
    (R::InsufficientFunds, &["insufficient_funds"]),
    (
        R::CardDeclined,
        &[
            "generic_decline",
            "call_issuer",
            "do_not_honor",
            "no_action_taken",
            "revocation_of_all_authorizations",
            "revocation_of_authorization",
            "security_violation",
            "stop_payment_order",
            "try_again_later",
        ],
    ),
    (R::ExpiredCard, &["expired_card"]),
    (R::IncorrectCvc, &["incorrect_cvc", "invalid_cvc"]),
    (
        R::IncorrectDetails,
        &[
            "incorrect_number",
            "invalid_number",
            "invalid_account",
            "invalid_expiry_month",
            "invalid_expiry_year",
            "incorrect_zip",
            "incorrect_address",
            "incorrect_pin",
            "invalid_pin",
        ],
    ),
    (
        R::FraudSuspected,
        &["fraudulent", "merchant_blacklist", "highest_risk_level"],
    ),
    (R::LostOrStolen, &["stolen_card", "lost_card", "pickup_card"]),
    (
        R::LimitExceeded,
        &[
            "card_velocity_exceeded",
            "withdrawal_count_limit_exceeded",
            "pin_try_exceeded",
            "duplicate_transaction",
        ],
    ),
    (
        R::NotSupported,
        &[
            "card_not_supported",
            "currency_not_supported",
            "not_permitted",
            "restricted_card",
            "service_not_allowed",
            "transaction_not_allowed",
            "invalid_amount",
        ],
    ),
    (
        R::AuthenticationRequired,
        &[
            "authentication_required",
            "authentication_not_handled",
            "offline_pin_required",
        ],
    ),
    (
        R::AuthenticationFailed,
        &[
            "payment_intent_authentication_failure",
            "payment_intent_payment_attempt_failed",
            "setup_intent_authentication_failure",
        ],
    ),
    (
        R::InvalidPaymentMethod,
        &[
            "resource_missing",
            "payment_method_unactivated",
            "new_account_information_available",
        ],
    ),
    (
        R::ProcessingError,
        &[
            "processing_error",
            "issuer_not_available",
            "reenter_transaction",
            "approve_with_id",
        ],
    ),
];

/// Why Stripe declined. A code of which nobody has heard is [`R::Other`]; a bare decline is [`R::CardDeclined`].
pub(crate) fn reason(code: Option<&str>, decline_code: Option<&str>) -> R {
    let means = |wanted: &str| {
        let found = CODES.iter().find(|(_, codes)| codes.contains(&wanted));
        found.map(|(reason, _)| *reason)
    };
    match (code, decline_code) {
        (Some("card_declined") | None, Some(decline)) => means(decline).unwrap_or(R::CardDeclined),
        (Some("card_declined"), None) => R::CardDeclined,
        (Some(code), decline) => means(code).or_else(|| means(decline?)).unwrap_or(R::Other),
        (None, None) => R::Other,
    }
}

/// What Stripe would say: `code`, and `decline_code` where there is one.
pub(crate) fn codes(reason: R) -> (&'static str, Option<&'static str>) {
    let found = CODES.iter().find(|(it, _)| *it == reason);
    let first = found.and_then(|(_, codes)| codes.first()).copied();
    match (reason, first) {
        (R::ExpiredCard | R::IncorrectCvc | R::IncorrectDetails | R::ProcessingError, Some(code)) => {
            (code, Some(code))
        }
        (R::AuthenticationRequired | R::AuthenticationFailed | R::InvalidPaymentMethod, Some(code)) => {
            (code, None)
        }
        (_, Some(decline)) => ("card_declined", Some(decline)),
        (_, None) => ("unheard_of", None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_told_apart() {
        for (code, decline, wanted) in [
            (
                Some("card_declined"),
                Some("insufficient_funds"),
                R::InsufficientFunds,
            ),
            (Some("card_declined"), Some("lost_card"), R::LostOrStolen),
            (Some("card_declined"), Some("something_new"), R::CardDeclined),
            (Some("card_declined"), None, R::CardDeclined),
            (Some("expired_card"), Some("expired_card"), R::ExpiredCard),
            (Some("incorrect_cvc"), None, R::IncorrectCvc),
            (
                Some("authentication_required"),
                Some("authentication_required"),
                R::AuthenticationRequired,
            ),
            (
                Some("payment_intent_authentication_failure"),
                None,
                R::AuthenticationFailed,
            ),
            (Some("something_new"), Some("fraudulent"), R::FraudSuspected),
            (Some("something_new"), None, R::Other),
            (None, Some("insufficient_funds"), R::InsufficientFunds),
            (None, None, R::Other),
        ] {
            assert_eq!(reason(code, decline), wanted, "{code:?} {decline:?}");
        }
    }

    #[test]
    fn no_code_means_two_things() {
        let all: Vec<&str> = CODES
            .iter()
            .flat_map(|(_, codes)| codes.iter().copied())
            .collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn what_the_simulator_says_is_understood() {
        for (wanted, _) in CODES {
            let (code, decline) = codes(*wanted);
            assert_eq!(reason(Some(code), decline), *wanted);
        }
        let (code, decline) = codes(R::Other);
        assert_eq!(reason(Some(code), decline), R::Other);
    }
}
