//! How notifications are sent, as the operator says it, and what is made of that.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kontor_eventstore::Clock;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::Certificate;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::letter::{LetterError, Templates};
use super::occasion::Channel;
use super::transport::{Encryption, HttpSms, MailCarrier, MailOutbox, SmsCarrier, SmsOutbox, Smtp};
use crate::breaker::{Breaker, BreakerSettings};

/// Text that is not to be printed: an address with a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who carries mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailBy {
    /// Nobody: they are put into the outbox.
    Outbox,
    /// A mail server: `smtp://user:password@host:port`, or `smtps://` for TLS from the first byte. `smtp` is plain unless
    /// `?tls=required` (STARTTLS or nothing) or `?tls=opportunistic` is added. Ports if none is given: 587, and 465. With
    /// `ca=file.pem` the certificates in that file vouch for the server, besides those that the machine trusts.
    Smtp(Secret),
}

/// Who carries SMS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsBy {
    /// Nobody: they are put into the outbox.
    Outbox,
    /// A provider with Twilio's HTTP form interface.
    Http {
        /// `https://account:token@host`.
        url: Secret,
        /// The number or name they come from.
        from: String,
    },
}

/// How notifications are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationsConfig {
    /// Who carries mails.
    pub mail: MailBy,
    /// Whom they come from: `Name <address>`. The name is also what the shop calls itself.
    pub mail_from: String,
    /// The shop's page where a forgotten password is set, with `{token}` in its address. Without one the mail has the bare token.
    pub reset_url: Option<String>,
    /// The shop's page where an e-mail address is verified, likewise.
    pub verify_url: Option<String>,
    /// Who carries SMS.
    pub sms: SmsBy,
    /// The folder for what nobody carries.
    pub outbox: PathBuf,
    /// How often a message is tried before it is given up; at least once.
    pub attempts: u32,
    /// How long a provider may take over one message.
    pub time_limit: Duration,
    /// How long to wait after the first failure; twice as long after each one more, up to [`Self::longest_pause`].
    pub first_pause: Duration,
    /// The longest wait between two tries.
    pub longest_pause: Duration,
    /// How many messages in a row must meet nobody, or get no answer, until a provider is left alone for a while.
    pub failures_to_open: usize,
    /// How long a provider is left alone before one message tries whether it is back.
    pub open_for: Duration,
    /// How many messages of one channel are under way at the same time.
    pub concurrency: usize,
    /// How many messages of one channel are sent in a second at most: providers turn away who is faster, and after a rush
    /// there is more to do than to write letters.
    pub rate: u32,
}

impl NotificationsConfig {
    /// Whom mails come from if nobody says otherwise. They do not leave the house then.
    pub const MAIL_FROM: &'static str = "Kontor <kontor@example.com>";

    /// Everything into a folder, and the usual patience: eight tries within about an hour.
    #[must_use]
    pub fn to_outbox(outbox: PathBuf) -> Self {
        Self {
            mail: MailBy::Outbox,
            mail_from: Self::MAIL_FROM.to_owned(),
            reset_url: None,
            verify_url: None,
            sms: SmsBy::Outbox,
            outbox,
            attempts: 8,
            time_limit: Duration::from_secs(30),
            first_pause: Duration::from_secs(30),
            longest_pause: Duration::from_secs(3_600),
            failures_to_open: 10,
            open_for: Duration::from_secs(15),
            concurrency: 16,
            rate: 100,
        }
    }

    /// Makes ready what it says. Talks to nobody yet. The clock tells until when a provider is left alone.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn open(&self, clock: &Arc<dyn Clock>) -> Result<Post, ConfigError> {
        let from: Mailbox = self.mail_from.parse().map_err(|_| ConfigError::MailFrom)?;
        let folder = |error| ConfigError::Outbox {
            folder: self.outbox.clone(),
            error,
        };
        let mail = MailCarrier(match &self.mail {
            MailBy::Outbox => Box::new(MailOutbox::open(&self.outbox).map_err(folder)?),
            MailBy::Smtp(url) => Box::new(smtp(&url.0)?),
        });
        let sms = SmsCarrier(match &self.sms {
            SmsBy::Outbox => Box::new(SmsOutbox::open(&self.outbox).map_err(folder)?),
            SmsBy::Http { url, from } => Box::new(sms(&url.0, from.clone())?),
        });
        let breaker = BreakerSettings {
            time_limit: self.time_limit,
            failures_to_open: self.failures_to_open.max(1),
            open_for: self.open_for,
            probes: 1,
        };
        Ok(Post {
            mail: Breaker::new(Arc::new(mail), &breaker, Arc::clone(clock)).map_err(ConfigError::Breaker)?,
            sms: Breaker::new(Arc::new(sms), &breaker, Arc::clone(clock)).map_err(ConfigError::Breaker)?,
            outbox: self.outbox.clone(),
            templates: Templates::new()?,
            from,
            reset_url: page(self.reset_url.as_ref(), "KONTOR_RESET_URL")?,
            verify_url: page(self.verify_url.as_ref(), "KONTOR_VERIFY_URL")?,
            attempts: self.attempts.max(1),
            first_pause: self.first_pause,
            longest_pause: self.longest_pause,
            concurrency: self.concurrency.max(1),
            rate: self.rate.max(1),
        })
    }
}

/// Why notifications cannot be sent as the operator says. Names no secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a sender.
    #[error("KONTOR_MAIL_FROM is not a sender; write it as: Name <address@example.com>")]
    MailFrom,
    /// Not a mail server.
    #[error(
        "KONTOR_SMTP_URL is not a mail server's; write it as smtp://user:password@host:port?tls=required or smtps://…, \
         with what is not a letter or digit in user and password percent-encoded"
    )]
    SmtpUrl,
    /// Nobody vouches for the mail server.
    #[error("the certificates {} that KONTOR_SMTP_URL names cannot be used: {why}", file.display())]
    SmtpCa {
        /// Where they are.
        file: PathBuf,
        /// What is wrong with them.
        why: String,
    },
    /// Not an SMS provider.
    #[error("KONTOR_SMS_URL is not an SMS provider's; write it as https://account:token@host")]
    SmsUrl,
    /// Not a page that takes a token.
    #[error("{0} is not a page that takes a token; write it as https://shop.example/page?token={{token}}")]
    Page(&'static str),
    /// The machine gives no HTTP client.
    #[error("no HTTP client can be had: {0}")]
    Http(#[from] reqwest::Error),
    /// The outbox cannot be made.
    #[error("the outbox {} cannot be made: {error}", folder.display())]
    Outbox {
        /// Where.
        folder: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The patience with providers makes no sense.
    #[error("the post's circuit breakers cannot be set up like this: {0}")]
    Breaker(String),
    /// A template is broken.
    #[error(transparent)]
    Letter(#[from] LetterError),
}

/// What sends: templates, ways out, and how much patience to have with them.
pub struct Post {
    pub(super) mail: Breaker<MailCarrier>,
    pub(super) sms: Breaker<SmsCarrier>,
    /// Where what nobody carries is kept.
    pub(super) outbox: PathBuf,
    pub(super) templates: Templates,
    pub(super) from: Mailbox,
    pub(super) reset_url: Option<String>,
    pub(super) verify_url: Option<String>,
    pub(super) attempts: u32,
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) concurrency: usize,
    pub(super) rate: u32,
}

impl Post {
    /// What the shop calls itself.
    pub(super) fn shop(&self) -> &str {
        self.from.name.as_deref().unwrap_or("Kontor")
    }

    /// Whether there is no use in writing letters for that channel now: nobody takes them.
    pub(crate) fn holds_back(&self, channel: Channel) -> bool {
        match channel {
            Channel::Email => self.mail.holds_back(),
            Channel::Sms => self.sms.holds_back(),
        }
    }

    /// The pause after so many failures, before jitter.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first_pause
            .saturating_mul(1 << doublings)
            .min(self.longest_pause)
    }
}

fn page(url: Option<&String>, variable: &'static str) -> Result<Option<String>, ConfigError> {
    let Some(url) = url else { return Ok(None) };
    let is_page = Url::parse(url).is_ok_and(|it| ["https", "http"].contains(&it.scheme()));
    if is_page && url.contains("{token}") {
        Ok(Some(url.clone()))
    } else {
        Err(ConfigError::Page(variable))
    }
}

fn smtp(url: &str) -> Result<Smtp, ConfigError> {
    let bad = |_| ConfigError::SmtpUrl;
    let url = Url::parse(url).map_err(|_| ConfigError::SmtpUrl)?;
    let options: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let (vouching, options): (Vec<_>, Vec<_>) = options.iter().partition(|(name, _)| name == "ca");
    let options: Vec<(&str, &str)> = options.iter().map(|(k, v)| (&**k, &**v)).collect();
    let (encryption, usual_port) = match (url.scheme(), options.as_slice()) {
        ("smtps", []) => (Encryption::Tls, 465),
        ("smtp", []) => (Encryption::None, 587),
        ("smtp", [("tls", "required")]) => (Encryption::StartTls, 587),
        ("smtp", [("tls", "opportunistic")]) => (Encryption::Offered, 587),
        _ => return Err(ConfigError::SmtpUrl),
    };
    let roots = match vouching.as_slice() {
        [] => Vec::new(),
        // Nothing would come of it, and whoever wrote it thinks otherwise.
        _ if encryption == Encryption::None => return Err(ConfigError::SmtpUrl),
        files => certificates(files.iter().map(|(_, file)| Path::new(file)))?,
    };
    let decoded = |text| {
        percent_decode_str(text)
            .decode_utf8()
            .map(String::from)
            .map_err(bad)
    };
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        (user, Some(password)) => Some(Credentials::new(decoded(user)?, decoded(password)?)),
        (_, None) => return Err(ConfigError::SmtpUrl),
    };
    Ok(Smtp {
        host: url.host_str().ok_or(ConfigError::SmtpUrl)?.to_owned(),
        port: url.port().unwrap_or(usual_port),
        encryption,
        login,
        roots,
        idle: Mutex::default(),
    })
}

/// What a certificate begins with, in a file (RFC 7468).
const MARK: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn certificates<'a>(files: impl Iterator<Item = &'a Path>) -> Result<Vec<Certificate>, ConfigError> {
    let mut all = Vec::new();
    for file in files {
        let unusable = |why: String| ConfigError::SmtpCa {
            file: file.to_owned(),
            why,
        };
        let text = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
        let found = Certificate::from_pem(&text).map_err(|error| unusable(error.to_string()))?;
        // An empty file has no wrong one in it, and vouches for nobody.
        if !text.windows(MARK.len()).any(|it| it == MARK) {
            return Err(unusable("there is none in it".to_owned()));
        }
        all.push(found);
    }
    Ok(all)
}

fn sms(url: &str, from: String) -> Result<HttpSms, ConfigError> {
    let mut url = Url::parse(url).map_err(|_| ConfigError::SmsUrl)?;
    let bad = |_| ConfigError::SmsUrl;
    let decoded = |text| {
        percent_decode_str(text)
            .decode_utf8()
            .map(String::from)
            .map_err(bad)
    };
    let (account, token) = (
        decoded(url.username())?,
        decoded(url.password().unwrap_or_default())?,
    );
    if account.is_empty() || token.is_empty() || !["http", "https"].contains(&url.scheme()) {
        return Err(ConfigError::SmsUrl);
    }
    url.set_username("").map_err(|()| ConfigError::SmsUrl)?;
    url.set_password(None).map_err(|()| ConfigError::SmsUrl)?;
    url.path_segments_mut()
        .map_err(|()| ConfigError::SmsUrl)?
        .pop_if_empty()
        .extend(["2010-04-01", "Accounts", &account, "Messages.json"]);
    Ok(HttpSms::new(url, account, token, from)?)
}

/// The outbox of a shop whose data is in `data`.
#[must_use]
pub fn outbox_in(data: &Path) -> PathBuf {
    data.join("outbox")
}

#[cfg(test)]
mod tests;
