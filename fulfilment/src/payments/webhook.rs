//! What the gateway tells on its own: events posted to a URL of the shop, signed.
//!
//! The scheme is Stripe's ("Check the webhook signatures" in its documentation): the header `Stripe-Signature` holds
//! `t=<Unix seconds>` and one `v1=<hex>` for each secret in use, each an HMAC-SHA256 over `{t}.{body}`. Events come at
//! least once, in any order: take each [`WebhookEvent::id`] once, and [look up](super::PaymentGateway::look_up) the
//! payment rather than believe what an event says of it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};
use chrono::{DateTime, Utc};
use kontor_domain::PaymentReference;
use serde::Deserialize;

/// The name of the header.
pub const SIGNATURE_HEADER: &str = "stripe-signature";

/// How far the time of a signature may be from now: five minutes, as in Stripe's own libraries.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Why a webhook is not believed. To its sender all of them are `400 Bad Request`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// It has no signature.
    #[error("the webhook has no signature")]
    Missing,
    /// The signature is not `t=…,v1=…`.
    #[error("the webhook's signature cannot be read")]
    Malformed,
    /// Signed rightly, too long ago: perhaps recorded once and sent again.
    #[error("the webhook was signed {seconds} s ago")]
    TooOld {
        /// How long ago.
        seconds: i64,
    },
    /// Signed rightly, at a time that is still to come: one of the clocks is wrong.
    #[error("the webhook was signed {seconds} s from now")]
    FromTheFuture {
        /// How far ahead.
        seconds: i64,
    },
    /// Signed with none of the secrets, or changed on the way.
    #[error("the webhook's signature is wrong")]
    Wrong,
    /// Signed rightly, but not an event.
    #[error("the webhook's body is no event: {0}")]
    BadBody(String),
}

impl WebhookError {
    /// Its name in figures and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::TooOld { .. } => "too_old",
            Self::FromTheFuture { .. } => "from_the_future",
            Self::Wrong => "wrong",
            Self::BadBody(_) => "bad_body",
        }
    }
}

/// What a webhook is signed with, such as `whsec_…`. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(String);

impl WebhookSecret {
    /// The secret as the gateway shows it, prefix and all.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// One that nobody can guess.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn random() -> Result<Self, Unspecified> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes)?;
        Ok(Self(in_hex("whsec_", &bytes)))
    }

    /// Whether it is empty: then anybody can sign with it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookKind {
    /// The amount is held.
    Authorised,
    /// The money has moved.
    Captured,
    /// The payment was let go.
    Voided,
    /// The payment was declined, or the customer failed to prove who they are.
    Failed,
    /// The customer must do something.
    RequiresAction,
    /// The gateway is at it.
    Processing,
    /// Something of it was given back.
    Refunded,
    /// Anything else, by the gateway's name: nothing to do, and nothing wrong either.
    Other(String),
}

impl WebhookKind {
    /// By the gateway's name for it.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "payment_intent.amount_capturable_updated" => Self::Authorised,
            "payment_intent.succeeded" => Self::Captured,
            "payment_intent.canceled" => Self::Voided,
            "payment_intent.payment_failed" => Self::Failed,
            "payment_intent.requires_action" => Self::RequiresAction,
            "payment_intent.processing" => Self::Processing,
            "charge.refunded" => Self::Refunded,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The gateway's name for it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Authorised => "payment_intent.amount_capturable_updated",
            Self::Captured => "payment_intent.succeeded",
            Self::Voided => "payment_intent.canceled",
            Self::Failed => "payment_intent.payment_failed",
            Self::RequiresAction => "payment_intent.requires_action",
            Self::Processing => "payment_intent.processing",
            Self::Refunded => "charge.refunded",
            Self::Other(name) => name,
        }
    }
}

/// An event that is known to come from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    /// The gateway's id of it. The same event may come many times.
    pub id: String,
    /// What happened.
    pub kind: WebhookKind,
    /// The payment it happened to. Always there for the kinds with a name of ours.
    pub payment_reference: Option<PaymentReference>,
    /// The order the payment was opened for, if the gateway was told.
    pub order_id: Option<String>,
}

/// Tells the gateway's webhooks from anybody's.
#[derive(Clone, Debug)]
pub struct WebhookVerifier {
    secrets: Vec<WebhookSecret>,
    tolerance: Duration,
}

impl WebhookVerifier {
    /// Believes what is signed with any of `secrets`: more than one while they are being changed, none for nobody. An empty
    /// one, with which anybody can sign, counts for none.
    #[must_use]
    pub fn new(mut secrets: Vec<WebhookSecret>) -> Self {
        secrets.retain(|secret| !secret.is_empty());
        Self {
            secrets,
            tolerance: TOLERANCE,
        }
    }

    /// Whether it believes nobody.
    #[must_use]
    pub fn believes_nobody(&self) -> bool {
        self.secrets.is_empty()
    }

    /// The same, and what is signed with one more secret.
    #[must_use]
    pub fn and(mut self, secret: WebhookSecret) -> Self {
        self.secrets.extend((!secret.is_empty()).then_some(secret));
        self
    }

    /// With another tolerance than [`TOLERANCE`], either way.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// The event in `body`, if the header says truly that the gateway signed it around `now`.
    ///
    /// # Errors
    /// See [`WebhookError`]. Comparing takes the same time however much of a signature is right.
    pub fn verify(
        &self,
        header: Option<&str>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<WebhookEvent, WebhookError> {
        let signature = Signature::read(header.ok_or(WebhookError::Missing)?)?;
        let signed = signed_bytes(signature.time, body);
        let believed = self.secrets.iter().any(|secret| {
            let key = secret.key();
            signature
                .codes
                .iter()
                .any(|code| hmac::verify(&key, &signed, code).is_ok())
        });
        if !believed {
            return Err(WebhookError::Wrong);
        }
        let seconds = now.timestamp().saturating_sub(signature.seconds);
        if seconds.unsigned_abs() > self.tolerance.as_secs() {
            return Err(if seconds > 0 {
                WebhookError::TooOld { seconds }
            } else {
                WebhookError::FromTheFuture {
                    seconds: seconds.saturating_neg(),
                }
            });
        }
        event(body)
    }
}

/// The header for `body`, signed with `secret` at `now`: what the gateway would send.
#[must_use]
pub fn sign(secret: &WebhookSecret, now: DateTime<Utc>, body: &[u8]) -> String {
    let time = now.timestamp().to_string();
    let code = hmac::sign(&secret.key(), &signed_bytes(&time, body));
    in_hex(&format!("t={time},v1="), code.as_ref())
}

fn in_hex(prefix: &str, bytes: &[u8]) -> String {
    let mut text = prefix.to_owned();
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn signed_bytes(time: &str, body: &[u8]) -> Vec<u8> {
    [time.as_bytes(), b".", body].concat()
}

/// The header, taken apart.
struct Signature<'a> {
    /// As it was written: that is what was signed.
    time: &'a str,
    seconds: i64,
    codes: Vec<Vec<u8>>,
}

impl<'a> Signature<'a> {
    /// Entries of schemes we do not know (`v0` is for tests at Stripe) are passed over.
    fn read(header: &'a str) -> Result<Self, WebhookError> {
        let mut times = Vec::new();
        let mut codes = Vec::new();
        for entry in header.split(',') {
            match entry.trim().split_once('=') {
                Some(("t", time)) => times.push(time),
                Some(("v1", code)) => codes.push(from_hex(code).ok_or(WebhookError::Malformed)?),
                _ => {}
            }
        }
        match times[..] {
            [time] if !codes.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self {
                time,
                seconds: time.parse().map_err(|_| WebhookError::Malformed)?,
                codes,
            }),
            _ => Err(WebhookError::Malformed),
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok())
        .collect()
}

/// An event as Stripe writes it, as far as we read it.
#[derive(Deserialize)]
struct Body {
    id: String,
    #[serde(rename = "type")]
    name: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Object,
}

/// A payment intent, or something that belongs to one, such as a charge.
#[derive(Deserialize)]
struct Object {
    id: Option<String>,
    #[serde(rename = "object")]
    kind: Option<String>,
    payment_intent: Option<serde_json::Value>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    order_id: Option<String>,
}

fn event(body: &[u8]) -> Result<WebhookEvent, WebhookError> {
    let bad = |what: String| WebhookError::BadBody(what);
    let body: Body = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
    let object = body.data.object;
    let reference = if object.kind.as_deref() == Some("payment_intent") {
        object.id
    } else {
        // An id, or the whole payment where it was asked for.
        object.payment_intent.and_then(|it| {
            let id = it.as_str().or_else(|| it.get("id").and_then(|id| id.as_str()));
            id.map(str::to_owned)
        })
    };
    let kind = WebhookKind::named(&body.name);
    let payment_reference = reference
        .map(PaymentReference::new)
        .transpose()
        .map_err(|error| bad(error.to_string()))?;
    if payment_reference.is_none() && !matches!(kind, WebhookKind::Other(_)) {
        return Err(bad(format!("{} without a payment", body.name)));
    }
    Ok(WebhookEvent {
        id: body.id,
        kind,
        payment_reference,
        order_id: object.metadata.and_then(|it| it.order_id),
    })
}

#[cfg(test)]
mod tests;
