//! Stripe's client against an imitation that others wrote: the Python package `localstripe`.
//!
//! It knows manual capture, cancelling, refunds, cards that are declined when charged, cards that want the customer, and
//! signed webhooks. It does not know idempotency keys (it charges again), decline codes, request ids, amounts received, the
//! limit of refunds, or `pm_card_…` names beyond three; and a decline names the charge, not the payment. Those are tested
//! against our own bank.

use std::time::Duration;

use kontor_domain::{DeclineReason, NextActionKind};
use kontor_fulfilment::payments::WebhookKind;
use kontor_tests::python::PythonServer;
use serde_json::Value;

use super::webhooks::{Listener, SECRET};
use super::*;

pub(super) struct LocalStripe {
    pub(super) server: PythonServer,
    http: reqwest::Client,
}

impl LocalStripe {
    pub(super) async fn start() -> (Self, Stripe) {
        let server = PythonServer::start("localstripe_on_loopback.py").await;
        let client = stripe(server.address(), KEY);
        let http = reqwest::Client::new();
        (Self { server, http }, client)
    }

    /// Posts a form as somebody else: the customer's browser, or whoever sets it up.
    pub(super) async fn post(&self, path: &str, form: &[(&str, &str)]) -> String {
        let url = format!("http://{}{path}", self.server.address());
        let response = self
            .http
            .post(url)
            .bearer_auth(KEY)
            .form(form)
            .send()
            .await
            .unwrap();
        let status = response.status();
        let body = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// A payment method for a card of that number.
    pub(super) async fn card(&self, number: &str) -> String {
        let form = [
            ("type", "card"),
            ("card[number]", number),
            ("card[exp_month]", "12"),
            ("card[exp_year]", "2040"),
            ("card[cvc]", "123"),
        ];
        let method: Value = serde_json::from_str(&self.post("/v1/payment_methods", &form).await).unwrap();
        method["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_payment_is_held_taken_and_given_back() {
    let (_server, stripe) = LocalStripe::start().await;
    let reference = held(&stripe, "a", "pm_card_visa", pounds_10()).await;
    assert!(reference.as_str().starts_with("pi_"));
    let seen = stripe.look_up(&reference).await.unwrap();
    assert_eq!(told(&seen), (PaymentStatus::Authorised, 10_00, 0, 0));
    let captured = stripe
        .capture(&capture("b", &reference, pounds_10()))
        .await
        .unwrap();
    assert_eq!(told(&captured), (PaymentStatus::Captured, 10_00, 10_00, 0));
    assert_eq!(stripe.look_up(&reference).await.unwrap(), captured);
    let part = stripe.refund(&refund("c", &reference, gbp(3_00))).await.unwrap();
    assert_eq!(told(&part), (PaymentStatus::Captured, 10_00, 10_00, 3_00));
    let rest = stripe.refund(&refund("d", &reference, gbp(7_00))).await.unwrap();
    assert_eq!(told(&rest), (PaymentStatus::Captured, 10_00, 10_00, 10_00));
    let twice = stripe.capture(&capture("e", &reference, pounds_10())).await;
    assert!(matches!(twice, Err(GatewayError::Refused { .. })), "{twice:?}");
}

#[tokio::test]
async fn a_payment_is_let_go() {
    let (_server, stripe) = LocalStripe::start().await;
    let reference = held(&stripe, "a", "pm_card_visa", pounds_10()).await;
    let voided = stripe.void(&void("b", &reference)).await.unwrap();
    assert_eq!(told(&voided), (PaymentStatus::Voided, 10_00, 0, 0));
    assert_eq!(stripe.look_up(&reference).await.unwrap(), voided);
    for late in [
        stripe.void(&void("c", &reference)).await,
        stripe.look_up(&"pi_nobody".parse().unwrap()).await,
        stripe.authorise(&authorise("d", "pm_nobody", pounds_10())).await,
    ] {
        assert!(matches!(late, Err(GatewayError::Refused { .. })), "{late:?}");
    }
}

#[tokio::test]
async fn a_decline_is_an_answer_with_the_payments_name() {
    let (server, stripe) = LocalStripe::start().await;
    let by_number = server.card("4000000000000341").await;
    for method in ["pm_card_chargeCustomerFail", &by_number] {
        let declined = stripe
            .authorise(&authorise("a", method, pounds_10()))
            .await
            .unwrap();
        let reason = DeclineReason::CardDeclined;
        assert_eq!(told(&declined), (PaymentStatus::Declined(reason), 0, 0, 0));
        assert!(declined.reference.as_str().starts_with("pi_"), "{declined:?}");
        assert_eq!(stripe.look_up(&declined.reference).await.unwrap(), declined);
    }
}

#[tokio::test]
async fn the_customer_may_have_something_to_do() {
    let (server, stripe) = LocalStripe::start().await;
    let method = server.card("4000002500003155").await;
    for (answer, status) in [
        ("true", PaymentStatus::Authorised),
        (
            "false",
            PaymentStatus::Declined(DeclineReason::AuthenticationFailed),
        ),
    ] {
        let waiting = stripe
            .authorise(&authorise("a", &method, pounds_10()))
            .await
            .unwrap();
        assert_eq!(waiting.status, PaymentStatus::RequiresAction);
        let action = waiting.next_action.unwrap();
        assert_eq!(action.kind, NextActionKind::UseSdk);
        // What Stripe's library in the customer's app does.
        let form = [
            ("client_secret", action.client_secret.as_deref().unwrap()),
            ("success", answer),
        ];
        let path = format!("/v1/payment_intents/{}/_authenticate", waiting.reference);
        server.post(&path, &form).await;
        assert_eq!(stripe.look_up(&waiting.reference).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn its_webhooks_are_believed() {
    let (server, stripe) = LocalStripe::start().await;
    let listener = Listener::default();
    let url = listener.start().await;
    server
        .post("/_config/webhooks/kontor", &[("url", &url), ("secret", SECRET)])
        .await;
    let reference = held(&stripe, "a", "pm_card_visa", pounds_10()).await;
    stripe
        .capture(&capture("b", &reference, pounds_10()))
        .await
        .unwrap();
    let event = listener.hears(WebhookKind::Captured, &reference).await;
    assert_eq!(event.order_id.as_deref(), Some("ord_of_a"));
    let declined = stripe
        .authorise(&authorise("c", "pm_card_chargeCustomerFail", pounds_10()))
        .await
        .unwrap();
    listener.hears(WebhookKind::Failed, &declined.reference).await;
}

#[tokio::test]
async fn killed_it_cannot_be_reached() {
    let (server, stripe) = LocalStripe::start().await;
    let reference = held(&stripe, "a", "pm_card_visa", pounds_10()).await;
    server.server.kill().await;
    // The connection that was kept may fail late; a new one cannot be made.
    let away = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match stripe.look_up(&reference).await.unwrap_err() {
                GatewayError::Unknown(_) => {}
                other => return other,
            }
        }
    });
    assert!(matches!(away.await.unwrap(), GatewayError::Unreachable(_)));
}
