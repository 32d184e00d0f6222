//! Stripe's `PaymentIntents` over HTTP, with manual capture.
//!
//! | Kontor | Stripe |
//! | --- | --- |
//! | authorise | `POST /v1/payment_intents`, confirmed at once, `capture_method=manual` |
//! | capture | `POST /v1/payment_intents/{id}/capture` |
//! | void | `POST /v1/payment_intents/{id}/cancel` |
//! | refund | `POST /v1/refunds` |
//! | look up | `GET /v1/payment_intents/{id}` |
//!
//! Amounts are in the smallest unit of the currency, here as there.
//!
//! Stripe repeats its first answer to a key even when that was a 500. Such a call stays [`GatewayError::Unknown`] however
//! often it is repeated; a webhook, which names the order, or somebody with Stripe's dashboard tells what became of it.

mod declines;
mod http;
pub(crate) mod wire;

use std::fmt;
use std::time::Duration;

use kontor_domain::{DeclineReason, Money, PaymentReference, PaymentState, PaymentStatus};
use reqwest::Url;

pub(crate) use declines::{codes, reason};
use http::{Failure, Http};
use wire::{Charge, PaymentIntent, StripeRefund};

use super::gateway::{Answer, Authorise, Capture, GatewayError, PaymentGateway, Refund, Void};

/// Where Stripe is.
pub const STRIPE: &str = "https://api.stripe.com";

/// A key of Stripe's interface, such as `sk_live_…`. Never printed.
#[derive(Clone)]
pub struct SecretKey(String);

impl SecretKey {
    /// The key as Stripe shows it.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How Stripe is reached.
#[derive(Clone, Debug)]
pub struct StripeSettings {
    /// Where: [`STRIPE`], or something that speaks like it.
    pub base_url: String,
    /// As whom.
    pub secret_key: SecretKey,
    /// Where the customer comes back to from their bank's page. Without it the bank is asked from inside the app, by
    /// Stripe's own library there.
    pub return_url: Option<String>,
    /// How long a connection may take to open. The time for a whole call is [`Resilient`](super::Resilient)'s business.
    pub connect_limit: Duration,
}

impl StripeSettings {
    /// Stripe itself, by this key.
    #[must_use]
    pub fn new(secret_key: SecretKey) -> Self {
        Self {
            base_url: STRIPE.to_owned(),
            secret_key,
            return_url: None,
            connect_limit: Duration::from_secs(3),
        }
    }
}

/// Why Stripe cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum StripeError {
    /// The base URL is none, or none of HTTP.
    #[error("the payment gateway's base URL is no http or https URL: {0}")]
    BaseUrl(String),
    /// The secret key cannot be sent.
    #[error("the payment gateway's secret key has characters that no key has")]
    SecretKey,
    /// The HTTP client could not be made, for example without any certificate authority on this machine.
    #[error("the HTTP client for the payment gateway could not be made: {0}")]
    Client(reqwest::Error),
}

/// Stripe, or something that speaks like it.
#[derive(Debug)]
pub struct Stripe {
    http: Http,
    return_url: Option<String>,
}

impl Stripe {
    /// Prepares; nothing is sent.
    ///
    /// # Errors
    /// See [`StripeError`].
    pub fn new(settings: StripeSettings) -> Result<Self, StripeError> {
        Ok(Self {
            http: Http::new(&settings.base_url, &settings.secret_key, settings.connect_limit)?,
            return_url: settings.return_url,
        })
    }

    async fn open(&self, request: &Authorise) -> Result<PaymentState, GatewayError> {
        let (amount, currency) = in_words(request.amount);
        let mut form = vec![
            ("amount", amount.as_str()),
            ("currency", &currency),
            ("confirm", "true"),
            ("capture_method", "manual"),
            ("payment_method", request.method.as_str()),
            // Without it Stripe may choose methods that insist on a return URL.
            ("payment_method_types[]", "card"),
            ("metadata[order_id]", &request.order_id),
            ("expand[]", "latest_charge"),
        ];
        if let Some(url) = &self.return_url {
            form.push(("return_url", url));
        }
        match self.http.post(&["payment_intents"], &request.key, &form).await {
            Ok(intent) => state(&intent),
            Err(Failure::Refused(refusal)) => match refusal.decline() {
                Some(reason) => self.declined(request, reason, *refusal).await,
                None => Err(refusal.into()),
            },
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// A decline comes as an error, which names the payment in one way or another.
    async fn declined(
        &self,
        request: &Authorise,
        reason: DeclineReason,
        refusal: http::Refusal,
    ) -> Result<PaymentState, GatewayError> {
        let zero = Money::zero(request.amount.currency());
        let reference = match (&refusal.error.payment_intent, &refusal.error.charge) {
            (Some(intent), _) => intent.id.clone(),
            (None, Some(charge)) => {
                let charge: Charge = self.http.get(&["charges", charge], &[]).await?;
                charge.payment_intent.unwrap_or(charge.id)
            }
            // Refused before there was a payment: Stripe knows the request, at least.
            (None, None) => refusal.request_id.unwrap_or_else(|| request.key.clone()),
        };
        Ok(PaymentState {
            reference: wire::reference(&reference)?,
            status: PaymentStatus::Declined(reason),
            authorised: zero,
            captured: zero,
            refunded: zero,
            next_action: None,
        })
    }

    async fn take(&self, request: &Capture) -> Result<PaymentState, GatewayError> {
        let (amount, _) = in_words(request.amount);
        let form = [
            ("amount_to_capture", amount.as_str()),
            ("expand[]", "latest_charge"),
        ];
        let path = ["payment_intents", request.reference.as_str(), "capture"];
        state(&self.http.post(&path, &request.key, &form).await?)
    }

    async fn let_go(&self, request: &Void) -> Result<PaymentState, GatewayError> {
        let path = ["payment_intents", request.reference.as_str(), "cancel"];
        let form = [("expand[]", "latest_charge")];
        state(&self.http.post(&path, &request.key, &form).await?)
    }

    async fn give_back(&self, request: &Refund) -> Result<PaymentState, GatewayError> {
        let (amount, _) = in_words(request.amount);
        let form = [
            ("payment_intent", request.reference.as_str()),
            ("amount", &amount),
            ("metadata[order_id]", &request.order_id),
            // One call instead of two: the answer holds the payment as it is afterwards.
            ("expand[]", "payment_intent.latest_charge"),
        ];
        let refund: StripeRefund = self.http.post(&["refunds"], &request.key, &form).await?;
        if matches!(refund.status.as_deref(), Some("failed" | "canceled")) {
            let code = refund.failure_reason.as_deref().unwrap_or("refund_failed");
            return Err(GatewayError::refused(code, "the refund failed"));
        }
        state(&refund.payment_intent)
    }
}

fn state(intent: &PaymentIntent) -> Result<PaymentState, GatewayError> {
    intent.state()
}

/// Amount and currency as Stripe spells them.
fn in_words(amount: Money) -> (String, String) {
    let currency = amount.currency().as_str().to_ascii_lowercase();
    (amount.amount_minor().to_string(), currency)
}

impl PaymentGateway for Stripe {
    fn authorise<'a>(&'a self, request: &'a Authorise) -> Answer<'a> {
        Box::pin(self.open(request))
    }

    fn capture<'a>(&'a self, request: &'a Capture) -> Answer<'a> {
        Box::pin(self.take(request))
    }

    fn void<'a>(&'a self, request: &'a Void) -> Answer<'a> {
        Box::pin(self.let_go(request))
    }

    fn refund<'a>(&'a self, request: &'a Refund) -> Answer<'a> {
        Box::pin(self.give_back(request))
    }

    fn look_up<'a>(&'a self, reference: &'a PaymentReference) -> Answer<'a> {
        Box::pin(async move {
            let path = ["payment_intents", reference.as_str()];
            let intent = self.http.get(&path, &[("expand[]", "latest_charge")]).await?;
            state(&intent)
        })
    }
}

fn base(url: &str) -> Result<Url, StripeError> {
    let wrong = || StripeError::BaseUrl(url.to_owned());
    let parsed = Url::parse(url).map_err(|_| wrong())?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.cannot_be_a_base() {
        return Err(wrong());
    }
    Ok(parsed)
}
