//! The ways out of the house.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kontor_domain::Phone;

use crate::breaker::{Outside, Silence};

mod http;
mod outbox;
mod smtp;

pub(super) use http::HttpSms;
pub(super) use outbox::{MailOutbox, SmsOutbox, account_mail_stem};
pub(crate) use outbox::{account_files, outbox_files};
pub(super) use smtp::{Encryption, Smtp};

/// Why a provider did not take a message. Says codes and our own words: what a provider says may name people, and this is
/// kept and logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Nobody is there, or nobody answers.
    #[error("{0}")]
    Silent(String),
    /// It passes: the provider says that it cannot at the moment.
    #[error("{0}")]
    Transient(String),
    /// It does not: the provider will not take this message, ever.
    #[error("{0}")]
    Permanent(String),
}

/// A mail, ready to go.
pub struct Mail {
    /// Names it among the files of an outbox.
    pub name: String,
    /// With all its headers.
    pub message: lettre::Message,
}

/// An SMS, ready to go. Does not print.
pub struct Sms {
    /// Of the event it tells of.
    pub position: u64,
    /// The same for every try, so that a provider can tell a repeat.
    pub message_id: String,
    /// Where it goes.
    pub to: Phone,
    /// What it says.
    pub text: String,
}

/// Hands mails to somebody.
pub trait MailTransport: Send + Sync {
    /// Returns when the mail is in the other's hands. May be dropped at any time; the mail may have gone out then.
    fn send<'a>(&'a self, mail: &'a Mail) -> BoxFuture<'a, Result<(), DeliveryError>>;
}

/// Hands SMS to somebody.
pub trait SmsTransport: Send + Sync {
    /// Returns when the SMS is in the other's hands. May be dropped at any time; the SMS may have gone out then.
    fn send<'a>(&'a self, sms: &'a Sms) -> BoxFuture<'a, Result<(), DeliveryError>>;
}

/// Whoever carries mails, as their circuit breaker sees them.
pub(super) struct MailCarrier(pub(super) Box<dyn MailTransport>);

/// Whoever carries SMS, likewise.
pub(super) struct SmsCarrier(pub(super) Box<dyn SmsTransport>);

impl Outside for MailCarrier {
    type Call = Mail;
    type Answer = ();
    type Error = DeliveryError;
    const WHO: &'static str = "mail server";
    const GAUGE: &'static str = "kontor_mail_breaker";

    fn ask(self: Arc<Self>, mail: Mail) -> BoxFuture<'static, Result<(), DeliveryError>> {
        Box::pin(async move { self.0.send(&mail).await })
    }
}

impl Outside for SmsCarrier {
    type Call = Sms;
    type Answer = ();
    type Error = DeliveryError;
    const WHO: &'static str = "SMS provider";
    const GAUGE: &'static str = "kontor_sms_breaker";

    fn ask(self: Arc<Self>, sms: Sms) -> BoxFuture<'static, Result<(), DeliveryError>> {
        Box::pin(async move { self.0.send(&sms).await })
    }
}

impl Silence for DeliveryError {
    fn is_silence(&self) -> bool {
        matches!(self, Self::Silent(_))
    }

    fn too_late(limit: Duration) -> Self {
        Self::Silent(format!("no answer within {} s", limit.as_secs_f64()))
    }
}
