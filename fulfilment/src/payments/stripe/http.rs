//! One request to Stripe, and what its status says.

use std::time::Duration;

use kontor_domain::DeclineReason;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::wire::{ErrorBody, StripeFailure};
use super::{SecretKey, StripeError, base, reason};
use crate::payments::gateway::GatewayError;

/// The interface as it was on that day; Stripe keeps it like this for whoever names it.
const VERSION: &str = "2024-06-20";

/// What Stripe says no to: a decline, or a request that is wrong.
pub(super) struct Refusal {
    status: StatusCode,
    pub(super) error: StripeFailure,
    /// Stripe's name for the request.
    pub(super) request_id: Option<String>,
}

impl Refusal {
    /// Why the payment was declined, if that is what it says.
    pub(super) fn decline(&self) -> Option<DeclineReason> {
        let code = self.error.code.as_deref();
        if self.status == StatusCode::PAYMENT_REQUIRED {
            return Some(reason(code, self.error.decline_code.as_deref()));
        }
        // The customer named a payment method that is not there: no mistake of ours.
        let about_the_method = self.error.param.as_deref() == Some("payment_method");
        (about_the_method || code == Some("payment_method_unactivated"))
            .then_some(DeclineReason::InvalidPaymentMethod)
    }
}

impl From<Refusal> for GatewayError {
    fn from(refusal: Refusal) -> Self {
        let code = refusal.error.code.or(refusal.error.kind);
        Self::Refused {
            code: code.unwrap_or_else(|| refusal.status.as_u16().to_string()),
            message: refusal.error.message.unwrap_or_default(),
        }
    }
}

/// A call that came to nothing.
pub(super) enum Failure {
    Refused(Box<Refusal>),
    Other(GatewayError),
}

impl From<Failure> for GatewayError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => (*refusal).into(),
            Failure::Other(error) => error,
        }
    }
}

impl From<Box<Refusal>> for GatewayError {
    fn from(refusal: Box<Refusal>) -> Self {
        (*refusal).into()
    }
}

#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    base: Url,
}

impl Http {
    pub(super) fn new(url: &str, key: &SecretKey, connect_limit: Duration) -> Result<Self, StripeError> {
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| StripeError::SecretKey)?;
        authorization.set_sensitive(true);
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, authorization),
            (
                reqwest::header::HeaderName::from_static("stripe-version"),
                HeaderValue::from_static(VERSION),
            ),
        ]);
        let client = Client::builder()
            .default_headers(headers)
            .connect_timeout(connect_limit)
            // Money goes nowhere but to the address that was configured.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(StripeError::Client)?;
        Ok(Self {
            client,
            base: base(url)?,
        })
    }

    /// Posts a form, once per key.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        key: &str,
        form: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let request = self.client.post(self.url(path)).form(form);
        answer(request.header("idempotency-key", key)).await
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        answer(self.client.get(url)).await
    }

    /// A reference may hold any visible character; each piece of the path is written so that it stays one.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut pieces) = url.path_segments_mut() {
            pieces.pop_if_empty().push("v1").extend(path);
        }
        url
    }
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Failure> {
    let response = request.send().await.map_err(not_sent)?;
    let status = response.status();
    let request_id = response.headers().get("request-id");
    let request_id = request_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let body = response.bytes().await.map_err(lost)?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| unknown(format!("its answer cannot be read: {error}")));
    }
    let error =
        serde_json::from_slice(&body).map_or_else(|_| StripeFailure::default(), ErrorBody::into_inner);
    let said = || format!("{status}: {}", error.message.as_deref().unwrap_or("no message"));
    match status {
        // 409: another call with this key is under way. 429: too many calls, or somebody holds the payment's lock.
        StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => {
            Err(Failure::Other(GatewayError::Busy(said())))
        }
        _ if status.is_client_error() => Err(Failure::Refused(Box::new(Refusal {
            status,
            error,
            request_id,
        }))),
        _ => Err(unknown(said())),
    }
}

fn not_sent(error: reqwest::Error) -> Failure {
    if error.is_connect() {
        Failure::Other(GatewayError::Unreachable(causes(&error)))
    } else if error.is_builder() {
        Failure::Other(GatewayError::refused("invalid_request", causes(&error)))
    } else {
        lost(error)
    }
}

fn lost(error: reqwest::Error) -> Failure {
    unknown(causes(&error.without_url()))
}

fn unknown(what: String) -> Failure {
    Failure::Other(GatewayError::Unknown(what))
}

/// An error of reqwest says little; what is behind it says what happened.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
