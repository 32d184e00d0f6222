//! The bank behind Stripe's interface, as far as [`Stripe`](crate::payments::Stripe) uses it, so that it can run as a
//! process of its own and be killed like one. And the page on which its customers prove who they are.
//!
//! Over HTTP nobody can play dead: `tok_down` and [`Simulator::set_down`] answer 503 here, which the client takes for
//! unknown. To be out of reach, end the process.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kontor_domain::{Money, PaymentMethodToken, PaymentReference, PaymentStatus};
use serde::Deserialize;
use serde_json::Value;

use super::Simulator;
use super::dialect::{Refused, intent, refund};
use super::movement::Movement;
use super::webhooks::Webhooks;
use crate::payments::gateway::{Authorise, Capture, Refund, Void};
use crate::payments::stripe::SecretKey;

#[derive(Clone)]
struct Bank {
    simulator: Simulator,
    secret_key: Option<SecretKey>,
}

impl Bank {
    fn believes(&self, key: &str) -> bool {
        self.secret_key
            .as_ref()
            .map_or_else(|| key.starts_with("sk_test_"), |known| key == known.expose())
    }
}

/// Stripe's interface under `/v1/`, for whoever has `secret_key`, or any test key if there is none; the customers' page under
/// `/actions/`, for everybody.
pub fn router(simulator: Simulator, secret_key: Option<SecretKey>) -> Router {
    let page = customers_page(simulator.clone(), None);
    let bank = Bank {
        simulator,
        secret_key,
    };
    let interface = Router::new()
        .route("/payment_intents", post(open))
        .route("/payment_intents/{id}", get(look_up))
        .route("/payment_intents/{id}/capture", post(capture))
        .route("/payment_intents/{id}/cancel", post(cancel))
        .route("/refunds", post(give_back))
        .route_layer(middleware::from_fn_with_state(bank.clone(), authenticate));
    Router::new().nest("/v1", interface).with_state(bank).merge(page)
}

/// The bank's page for its customers, under `/actions/`: what they do there is told by `teller` at once, if anybody wants to be
/// told of nothing else.
pub fn customers_page(simulator: Simulator, teller: Option<Arc<Webhooks>>) -> Router {
    Router::new()
        .route("/actions/{id}", get(action_page).post(complete_action))
        .with_state(Page { simulator, teller })
}

#[derive(Clone)]
struct Page {
    simulator: Simulator,
    teller: Option<Arc<Webhooks>>,
}

type Outcome = Result<Json<Value>, Refused>;

async fn authenticate(State(bank): State<Bank>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let key = given.and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
    if key.is_some_and(|key| bank.believes(key)) {
        return next.run(request).await;
    }
    Refused::new(
        StatusCode::UNAUTHORIZED,
        "invalid_request_error",
        "api_key_invalid",
        "Invalid API key",
    )
    .into_response()
}

/// The fields of a form, and the key they came with. Fields that nobody asks for are passed over.
struct Asked {
    key: String,
    fields: HashMap<String, String>,
}

impl Asked {
    fn read(
        headers: &HeaderMap,
        form: Result<Form<Vec<(String, String)>>, FormRejection>,
    ) -> Result<Self, Refused> {
        let Form(fields) = form.map_err(|error| wrong("parameter_invalid", &error.body_text()))?;
        let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
        Ok(Self {
            key: key
                .ok_or_else(|| wrong("idempotency_key_missing", "this imitation of Stripe wants one"))?
                .to_owned(),
            fields: fields.into_iter().collect(),
        })
    }

    fn get(&self, field: &str) -> Result<&str, Refused> {
        let found = self.fields.get(field).map(String::as_str);
        found.ok_or_else(|| wrong("parameter_missing", field))
    }

    fn order_id(&self) -> String {
        self.fields.get("metadata[order_id]").cloned().unwrap_or_default()
    }

    fn minor(&self, field: &str) -> Result<i64, Refused> {
        self.get(field)?
            .parse()
            .map_err(|_| wrong("parameter_invalid_integer", field))
    }
}

fn wrong(code: &str, message: &str) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
}

fn reference(id: &str) -> Result<PaymentReference, Refused> {
    PaymentReference::new(id).map_err(|_| {
        Refused::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            "resource_missing",
            "No such payment",
        )
    })
}

async fn open(
    State(bank): State<Bank>,
    headers: HeaderMap,
    form: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Outcome {
    let asked = Asked::read(&headers, form)?;
    if (asked.get("confirm")?, asked.get("capture_method")?) != ("true", "manual") {
        return Err(wrong(
            "parameter_invalid",
            "only confirmed at once, only captured by hand",
        ));
    }
    let currency = asked.get("currency")?.to_ascii_uppercase();
    let currency = currency
        .parse()
        .map_err(|_| wrong("parameter_invalid", "currency"))?;
    let request = Authorise {
        key: asked.key.clone(),
        order_id: asked.order_id(),
        amount: Money::new(asked.minor("amount")?, currency)
            .map_err(|_| wrong("amount_too_large", "amount"))?,
        method: PaymentMethodToken::new(asked.get("payment_method")?)
            .map_err(|_| wrong("parameter_invalid", "payment_method"))?,
    };
    let payment = bank.simulator.open(&request).await?;
    match payment.state.status {
        PaymentStatus::Declined(reason) => Err(Refused::declined(&payment, reason)),
        _ => Ok(Json(intent(&payment))),
    }
}

async fn look_up(State(bank): State<Bank>, Path(id): Path<String>) -> Outcome {
    let payment = bank.simulator.find(&reference(&id)?).await?;
    Ok(Json(intent(&payment)))
}

async fn capture(
    State(bank): State<Bank>,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Outcome {
    let asked = Asked::read(&headers, form)?;
    let reference = reference(&id)?;
    let payment = bank.simulator.find(&reference).await?;
    let request = Capture {
        amount: payment.amount(asked.minor("amount_to_capture")?)?,
        key: asked.key,
        order_id: payment.order_id,
        reference,
    };
    let payment = bank.simulator.enter(Movement::capture(&request)?).await?;
    Ok(Json(intent(&payment)))
}

async fn cancel(
    State(bank): State<Bank>,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Outcome {
    let asked = Asked::read(&headers, form)?;
    let request = Void {
        order_id: String::new(),
        key: asked.key,
        reference: reference(&id)?,
    };
    let payment = bank.simulator.enter(Movement::void(&request)?).await?;
    Ok(Json(intent(&payment)))
}

async fn give_back(
    State(bank): State<Bank>,
    headers: HeaderMap,
    form: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Outcome {
    let asked = Asked::read(&headers, form)?;
    let reference = reference(asked.get("payment_intent")?)?;
    let payment = bank.simulator.find(&reference).await?;
    let minor = asked.minor("amount")?;
    let expand = asked.fields.get("expand[]");
    let expanded = expand.is_some_and(|it| it.starts_with("payment_intent"));
    let request = Refund {
        amount: payment.amount(minor)?,
        key: asked.key,
        order_id: payment.order_id,
        reference,
    };
    let payment = bank.simulator.enter(Movement::refund(&request)?).await?;
    Ok(Json(refund(&payment, minor, expanded)))
}

const PAGE: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Payment simulator</title>
<body style="font-family: sans-serif; max-width: 30em; margin: 4em auto">
<h1>Is it you?</h1><p>This is the payment simulator, playing the bank of the customer.</p>
<form method="post"><button name="approve" value="true">Yes, pay</button>
<button name="approve" value="false">No</button></form>"#;

const DONE: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Payment simulator</title>
<body style="font-family: sans-serif; max-width: 30em; margin: 4em auto">
<h1>Thank you</h1><p>Nothing is left to do here. Go back to the shop.</p>"#;

async fn action_page(
    State(page): State<Page>,
    Path(id): Path<String>,
) -> Result<Html<&'static str>, Refused> {
    let payment = page.simulator.find(&reference(&id)?).await?;
    Ok(Html(match payment.state.status {
        PaymentStatus::RequiresAction => PAGE,
        _ => DONE,
    }))
}

#[derive(Deserialize)]
struct Completion {
    approve: bool,
}

async fn complete_action(
    State(page): State<Page>,
    Path(id): Path<String>,
    Form(completion): Form<Completion>,
) -> Result<Redirect, Refused> {
    let reference = reference(&id)?;
    let payment = page.simulator.complete(&reference, completion.approve).await?;
    if let Some(teller) = &page.teller {
        // Once, and nobody minds if it fails: whoever waits for the customer asks from time to time.
        let _ = teller.post(&payment).await;
    }
    // So that loading the page again does not send the form again.
    Ok(Redirect::to(&id))
}
