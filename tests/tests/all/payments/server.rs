//! Stripe's client and the bank behind Stripe's interface, over the socket.

use kontor_domain::{DeclineReason, NextActionKind};
use kontor_fulfilment::payments::simulator::server;

use super::*;

async fn open() -> (Database, Simulator, Stripe, SocketAddr) {
    let database = Database::fresh().await;
    let bank = bank(&database, SimulatorSettings::default());
    let address = listen(server::router(bank.clone(), Some(SecretKey::new(KEY)))).await;
    (database, bank, stripe(address, KEY), address)
}

#[tokio::test]
async fn over_the_socket_a_payment_looks_as_it_does_inside_the_bank() {
    let (database, bank, stripe, _) = open().await;
    let reference = held(&stripe, "a", "tok_approved", pounds_10()).await;
    assert_eq!(stripe.look_up(&reference).await, bank.look_up(&reference).await);
    let captured = stripe
        .capture(&capture("b", &reference, gbp(8_00)))
        .await
        .unwrap();
    assert_eq!(told(&captured), (PaymentStatus::Captured, 10_00, 8_00, 0));
    assert_eq!(stripe.look_up(&reference).await, bank.look_up(&reference).await);
    let part = stripe.refund(&refund("c", &reference, gbp(3_00))).await.unwrap();
    assert_eq!(told(&part), (PaymentStatus::Captured, 10_00, 8_00, 3_00));
    let rest = stripe.refund(&refund("d", &reference, gbp(5_00))).await.unwrap();
    assert_eq!(told(&rest), (PaymentStatus::Captured, 10_00, 8_00, 8_00));

    let other = held(&stripe, "e", "tok_approved", pounds_10()).await;
    let voided = stripe.void(&void("f", &other)).await.unwrap();
    assert_eq!(told(&voided), (PaymentStatus::Voided, 10_00, 0, 0));
    assert_eq!(bank.look_up(&other).await.unwrap(), voided);

    // Every answer again.
    let again = stripe
        .authorise(&authorise("a", "tok_approved", pounds_10()))
        .await
        .unwrap();
    assert_eq!(told(&again), (PaymentStatus::Authorised, 10_00, 0, 0));
    assert_eq!(
        stripe.capture(&capture("b", &reference, gbp(8_00))).await,
        Ok(captured)
    );
    assert_eq!(stripe.refund(&refund("c", &reference, gbp(3_00))).await, Ok(part));
    assert_eq!(stripe.void(&void("f", &other)).await, Ok(voided));
    assert_eq!(ledger(&database).await.len(), 6);
    database.remove().await;
}

#[tokio::test]
async fn a_decline_is_an_answer() {
    let (database, bank, stripe, _) = open().await;
    for (token, reason) in [
        ("tok_declined", DeclineReason::CardDeclined),
        ("tok_insufficient_funds", DeclineReason::InsufficientFunds),
    ] {
        let declined = stripe
            .authorise(&authorise(token, token, pounds_10()))
            .await
            .unwrap();
        assert_eq!(told(&declined), (PaymentStatus::Declined(reason), 0, 0, 0));
        assert_eq!(stripe.look_up(&declined.reference).await.unwrap(), declined);
        assert_eq!(bank.look_up(&declined.reference).await.unwrap(), declined);
    }
    // No payment was opened, so the answer carries what the request is known by.
    let unknown = stripe
        .authorise(&authorise("k", "pm_unknown", pounds_10()))
        .await
        .unwrap();
    let reason = DeclineReason::InvalidPaymentMethod;
    assert_eq!(told(&unknown), (PaymentStatus::Declined(reason), 0, 0, 0));
    assert_eq!(unknown.reference.as_str(), "k");
    database.remove().await;
}

#[tokio::test]
async fn the_customer_says_yes_or_no_on_the_banks_page() {
    let (database, _bank, stripe, address) = open().await;
    let browser = reqwest::Client::new();
    for (key, answer, status) in [
        ("a", "true", PaymentStatus::Authorised),
        (
            "b",
            "false",
            PaymentStatus::Declined(DeclineReason::AuthenticationFailed),
        ),
    ] {
        let waiting = stripe
            .authorise(&authorise(key, "tok_needs_action", pounds_10()))
            .await
            .unwrap();
        assert_eq!(waiting.status, PaymentStatus::RequiresAction);
        assert_eq!(waiting.next_action.unwrap().kind, NextActionKind::RedirectToUrl);
        let page = format!("http://{address}/actions/{}", waiting.reference);
        let asked = browser.get(&page).send().await.unwrap().text().await.unwrap();
        assert!(asked.contains("Is it you?"));
        let done = browser
            .post(&page)
            .form(&[("approve", answer)])
            .send()
            .await
            .unwrap();
        assert!(done.text().await.unwrap().contains("Nothing is left to do"));
        assert_eq!(stripe.look_up(&waiting.reference).await.unwrap().status, status);
    }
    database.remove().await;
}

#[tokio::test]
async fn a_wrong_request_is_told_from_bad_luck() {
    let (database, bank, right, address) = open().await;
    let request = authorise("a", "tok_approved", pounds_10());
    let wrong = stripe(address, "sk_test_other");
    assert_eq!(refused(wrong.authorise(&request).await), "api_key_invalid");
    assert_eq!(
        refused(right.look_up(&"pi_no/../body?".parse().unwrap()).await),
        "resource_missing"
    );
    let reference = right.authorise(&request).await.unwrap().reference;
    let reused = Authorise {
        amount: gbp(1),
        ..request
    };
    assert_eq!(refused(right.authorise(&reused).await), "idempotency_error");
    let much = capture("b", &reference, gbp(10_01));
    assert_eq!(refused(right.capture(&much).await), "amount_too_large");
    let broken = capture("line\nbreak", &reference, gbp(1));
    assert_eq!(refused(right.capture(&broken).await), "invalid_request");

    let unlucky = right.authorise(&authorise("c", "tok_fails_1", pounds_10())).await;
    assert!(matches!(unlucky, Err(GatewayError::Unknown(_))), "{unlucky:?}");
    assert!(
        right
            .authorise(&authorise("c", "tok_fails_1", pounds_10()))
            .await
            .is_ok()
    );
    bank.set_down(true);
    assert!(right.look_up(&reference).await.unwrap_err().is_transient());
    database.remove().await;
}

#[test]
fn a_client_that_cannot_work_is_not_made() {
    for (url, key) in [
        ("nowhere", KEY),
        ("ftp://127.0.0.1", KEY),
        ("mailto:a@example.com", KEY),
        ("http://127.0.0.1", "sk\n"),
    ] {
        let settings = StripeSettings {
            base_url: url.to_owned(),
            ..StripeSettings::new(SecretKey::new(key))
        };
        let error = Stripe::new(settings).unwrap_err();
        assert!(!error.to_string().contains("sk"), "{error}");
    }
    let https = StripeSettings::new(SecretKey::new(KEY));
    assert!(!format!("{https:?}").contains(KEY));
    let client = Stripe::new(https).unwrap();
    assert!(!format!("{client:?}").contains(KEY));
}
