use super::*;

fn event(id: &str, reference: &str, attempts: u32) -> Due {
    Due {
        event_id: id.to_owned(),
        kind: WebhookKind::Authorised,
        reference: reference.parse().unwrap(),
        order_id: None,
        attempts,
        age: Duration::ZERO,
    }
}

#[test]
fn events_of_a_payment_are_dealt_with_together_oldest_first() {
    let due = [("evt_1", "pi_b"), ("evt_2", "pi_a"), ("evt_3", "pi_b")];
    let due = due.map(|(id, reference)| event(id, reference, 0)).to_vec();
    let payments: Vec<(String, usize)> = by_payment(due)
        .iter()
        .map(|told| (told.reference.to_string(), told.events.len()))
        .collect();
    assert_eq!(payments, [("pi_b".to_owned(), 2), ("pi_a".to_owned(), 1)]);
}

#[test]
fn what_may_pass_is_tried_again_at_longer_and_longer_intervals() {
    let away = || GatewayError::Unreachable("away".to_owned());
    let again = |attempts| {
        let problem = Problem::Desk(away().into());
        settle(event("evt", "pi", attempts), Some(&problem)).again_in
    };
    let pauses = [0, 1, 5, 6, 40].map(again);
    assert_eq!(
        pauses,
        [1, 2, 32, 60, 60].map(|seconds| Some(Duration::from_secs(seconds)))
    );
}

#[test]
fn what_cannot_pass_is_given_up() {
    let of_nobody = settle(event("evt", "pi", 0), Some(&Problem::NoOrderNamed));
    assert_eq!(of_nobody.again_in, None);
    assert_eq!(of_nobody.error.as_deref(), Some("no order named"));
    // A wrong key is mended sooner or later, and a payment that is not there does not come.
    let refused = || {
        let refused = GatewayError::refused("api_key_invalid", "Invalid key of Mr Smith");
        Problem::Desk(refused.into())
    };
    let young = settle(event("evt", "pi", 0), Some(&refused()));
    assert_eq!(young.again_in, Some(LONGEST_PAUSE));
    assert_eq!(
        young.error.as_deref(),
        Some("the payment gateway refused: api_key_invalid")
    );
    let old = Due {
        age: GIVEN_UP,
        ..event("evt", "pi", 0)
    };
    assert_eq!(settle(old, Some(&refused())).again_in, None);
}
