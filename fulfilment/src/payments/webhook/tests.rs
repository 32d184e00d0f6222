use chrono::TimeDelta;
use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn an_empty_secret_is_none() {
    let empty = WebhookSecret::new("");
    let verifier = WebhookVerifier::new(vec![empty.clone()]).and(empty.clone());
    assert!(verifier.believes_nobody());
    let now = DateTime::UNIX_EPOCH;
    let header = sign(&empty, now, b"{}");
    assert_eq!(
        verifier.verify(Some(&header), b"{}", now),
        Err(WebhookError::Wrong)
    );
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn secret(text: &str) -> WebhookSecret {
    WebhookSecret::new(text)
}

fn verifier(secrets: &[&str]) -> WebhookVerifier {
    WebhookVerifier::new(secrets.iter().map(|it| secret(it)).collect())
}

fn body(kind: &str) -> Vec<u8> {
    json!({
        "id": "evt_1", "object": "event", "type": kind,
        "data": {"object": {"id": "pi_1", "object": "payment_intent", "metadata": {"order_id": "ord_1"}}},
    })
    .to_string()
    .into_bytes()
}

/// Worked out with another implementation of HMAC-SHA256 (Python's `hmac`), over `1492774577.{}`.
#[test]
fn the_signature_is_what_others_work_out() {
    assert_eq!(
        sign(&secret("whsec_test"), at(1_492_774_577), b"{}"),
        "t=1492774577,v1=0d0602f6611bd2252dd4b74b58a4528355a7380639a15e6cc21e3059d56d5b8b"
    );
}

#[test]
fn a_signed_event_is_read() {
    let body = body("payment_intent.succeeded");
    let header = sign(&secret("a"), at(1_000), &body);
    assert_eq!(
        verifier(&["a"]).verify(Some(&header), &body, at(1_000)).unwrap(),
        WebhookEvent {
            id: "evt_1".into(),
            kind: WebhookKind::Captured,
            payment_reference: Some("pi_1".parse().unwrap()),
            order_id: Some("ord_1".into()),
        }
    );
}

#[test]
fn while_secrets_change_either_is_believed() {
    let body = body("payment_intent.canceled");
    let (old, new) = (
        sign(&secret("old"), at(1_000), &body),
        sign(&secret("new"), at(1_000), &body),
    );
    // The gateway signs with both, for a day; we may know either, or both.
    let both = format!("{old},{}", new.split_once(',').unwrap().1);
    for known in [&["old"][..], &["new"], &["old", "new"], &["other", "new"]] {
        assert!(
            verifier(known).verify(Some(&both), &body, at(1_000)).is_ok(),
            "{known:?}"
        );
    }
    assert!(
        verifier(&["old", "new"])
            .verify(Some(&new), &body, at(1_000))
            .is_ok()
    );
    for known in [&["other"][..], &[]] {
        assert_eq!(
            verifier(known).verify(Some(&both), &body, at(1_000)),
            Err(WebhookError::Wrong),
            "{known:?}"
        );
    }
}

#[test]
fn a_header_that_is_none_is_told_from_one_that_is_wrong() {
    let body = body("x");
    let right = sign(&secret("a"), at(1_000), &body);
    let code = right.split_once("v1=").unwrap().1;
    let verify = |header: Option<&str>| verifier(&["a"]).verify(header, &body, at(1_000));
    assert_eq!(verify(None), Err(WebhookError::Missing));
    for malformed in [
        "",
        "t=1000",
        &format!("v1={code}"),
        &format!("t=,v1={code}"),
        &format!("t=-1000,v1={code}"),
        &format!("t=1000,t=1001,v1={code}"),
        &format!("t=99999999999999999999,v1={code}"),
        "t=1000,v1=zz",
        "t=1000,v1=abc",
        &format!("t=1000,v0={code}"),
    ] {
        assert_eq!(
            verify(Some(malformed)),
            Err(WebhookError::Malformed),
            "{malformed}"
        );
    }
    for wrong in [
        "t=1000,v1=".to_owned(),
        "t=1000,v1=00".to_owned(),
        format!("t=1000,v1={}", &code[2..]),
        format!("t=1001,v1={code}"),
        format!("t=01000,v1={code}"),
    ] {
        assert_eq!(verify(Some(&wrong)), Err(WebhookError::Wrong), "{wrong}");
    }
    for right in [
        format!("v0=00,t=1000,v1={code}"),
        format!("t=1000, v1=00, v1={}", code.to_uppercase()),
    ] {
        assert!(verify(Some(&right)).is_ok(), "{right}");
    }
}

#[test]
fn five_minutes_either_way_and_no_more() {
    let body = body("x");
    let header = sign(&secret("a"), at(10_000), &body);
    let verify = |now: i64| {
        let verifier = verifier(&["a"]);
        verifier.verify(Some(&header), &body, at(now)).map(|_| ())
    };
    assert_eq!(verify(10_300), Ok(()));
    assert_eq!(verify(9_700), Ok(()));
    assert_eq!(verify(10_301), Err(WebhookError::TooOld { seconds: 301 }));
    assert_eq!(verify(9_699), Err(WebhookError::FromTheFuture { seconds: 301 }));
    let strict = verifier(&["a"]).tolerance(Duration::ZERO);
    let late = at(10_000) + TimeDelta::seconds(1);
    assert!(strict.verify(Some(&header), &body, at(10_000)).is_ok());
    assert!(strict.verify(Some(&header), &body, late).is_err());
}

#[test]
fn what_we_have_no_name_for_is_no_error() {
    let read = |body: serde_json::Value| event(body.to_string().as_bytes());
    let other = read(json!({"id": "evt_2", "type": "customer.created", "data": {"object": {"id": "cus_1"}}}));
    assert_eq!(
        other.unwrap(),
        WebhookEvent {
            id: "evt_2".into(),
            kind: WebhookKind::Other("customer.created".into()),
            payment_reference: None,
            order_id: None,
        }
    );
    for payment in [json!("pi_7"), json!({"id": "pi_7", "object": "payment_intent"})] {
        let charge = json!({"id": "ch_1", "object": "charge", "payment_intent": payment, "metadata": {}});
        let refund = read(json!({"id": "evt_3", "type": "charge.refunded", "data": {"object": charge}}));
        let refund = refund.unwrap();
        assert_eq!(refund.kind, WebhookKind::Refunded);
        assert_eq!(refund.payment_reference, Some("pi_7".parse().unwrap()));
    }
    for wrong in [
        json!(1),
        json!({"id": "evt_4", "type": "charge.refunded"}),
        json!({"id": "evt_4", "type": "charge.refunded", "data": {"object": {"id": "ch_1"}}}),
        json!({"id": "evt_4", "type": "payment_intent.succeeded",
               "data": {"object": {"id": "pi 1", "object": "payment_intent"}}}),
    ] {
        assert!(matches!(read(wrong), Err(WebhookError::BadBody(_))));
    }
    assert!(matches!(event(b"{"), Err(WebhookError::BadBody(_))));
}

#[test]
fn names_and_kinds_belong_together() {
    for name in [
        "payment_intent.amount_capturable_updated",
        "payment_intent.succeeded",
        "payment_intent.canceled",
        "payment_intent.payment_failed",
        "payment_intent.requires_action",
        "payment_intent.processing",
        "charge.refunded",
        "something.else",
    ] {
        assert_eq!(WebhookKind::named(name).name(), name);
    }
    assert_eq!(format!("{:?}", secret("whsec_1")), "***");
}

proptest! {
    #[test]
    fn what_is_signed_is_believed(name in "[a-z._]{1,40}", key in ".{1,40}", seconds in 0_i64..4_000_000_000) {
        let body = body(&format!("x.{name}"));
        let header = sign(&secret(&key), at(seconds), &body);
        let event = verifier(&[&key]).verify(Some(&header), &body, at(seconds)).unwrap();
        prop_assert_eq!(event.kind, WebhookKind::Other(format!("x.{name}")));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused(place: prop::sample::Index, bit in 0_u8..8, in_body: bool) {
        let mut body = body("payment_intent.succeeded");
        let mut header = sign(&secret("a"), at(1_000), &body).into_bytes();
        let flipped = if in_body { &mut body } else { &mut header };
        let place = place.index(flipped.len());
        flipped[place] ^= 1 << bit;
        // Hexadecimal digits are the same in either case.
        let same = !in_body && header.eq_ignore_ascii_case(sign(&secret("a"), at(1_000), &body).as_bytes())
            && header[..7] == sign(&secret("a"), at(1_000), &body).as_bytes()[..7];
        if let (false, Ok(header)) = (same, std::str::from_utf8(&header)) {
            prop_assert!(verifier(&["a"]).verify(Some(header), &body, at(1_000)).is_err());
        }
    }

    #[test]
    fn anything_may_come_in_a_header(header in "\\PC{0,80}", body: Vec<u8>) {
        prop_assert!(verifier(&["a"]).verify(Some(&header), &body, at(1_000)).is_err());
    }
}
