//! Mails about an account, by the same post as everything else.

use std::time::Duration;

use chrono::{DateTime, Utc};
use kontor_domain::{Email, PersonName, UserId};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use minijinja::context;

use super::config::Post;
use super::letter::{LetterError, MailText, Templates};
use super::transport::{DeliveryError, Mail, account_files, account_mail_stem};
use crate::account_mail::Purpose;
use crate::breaker::Refusal;

/// What goes into a mail about an account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountLetter<'a> {
    pub(crate) purpose: Purpose,
    /// Whose account it is.
    pub(crate) user_id: UserId,
    pub(crate) name: &'a PersonName,
    pub(crate) email: &'a Email,
    /// What proves that the mail was read.
    pub(crate) token: &'a str,
    /// Names the mail.
    pub(crate) id: i64,
    pub(crate) now: DateTime<Utc>,
}

impl Templates {
    fn account(
        &self,
        shop: &str,
        letter: &AccountLetter<'_>,
        link: Option<String>,
    ) -> Result<MailText, LetterError> {
        let stem = match letter.purpose {
            Purpose::ResetPassword => "reset_password",
            Purpose::VerifyEmail => "verify_email",
        };
        let words = context! {
            shop, link, name => letter.name.as_str(), token => letter.token,
            hours => letter.purpose.minutes() / 60,
        };
        self.written(stem, &words)
    }
}

impl Post {
    /// How often a mail is tried.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How long to wait after so many failures.
    pub(crate) fn pause_after(&self, failures: u32) -> Duration {
        self.pause(failures)
    }

    /// Hands a mail over.
    pub(crate) async fn send_mail(&self, mail: Mail) -> Result<(), Refusal<DeliveryError>> {
        self.mail.call(mail).await
    }

    /// Removes from the outbox what there is about somebody's account.
    pub(crate) fn take_back(&self, person: UserId) {
        // What is not there any more is as it should be.
        for file in account_files(&self.outbox, person).unwrap_or_default() {
            drop(std::fs::remove_file(file));
        }
    }

    /// Writes a mail; the error names nobody.
    pub(crate) fn account_mail(&self, letter: &AccountLetter<'_>) -> Result<Mail, String> {
        let page = match letter.purpose {
            Purpose::ResetPassword => &self.reset_url,
            Purpose::VerifyEmail => &self.verify_url,
        };
        let link = page.as_ref().map(|page| page.replace("{token}", letter.token));
        let words = self
            .templates
            .account(self.shop(), letter, link)
            .map_err(|error| error.to_string())?;
        let address: Address = letter
            .email
            .as_str()
            .parse()
            .map_err(|_| "the e-mail address is none that mail can be sent to".to_owned())?;
        let name = letter.name.as_str().to_owned();
        let message = Message::builder()
            // Each is another mail, with another token.
            .message_id(None)
            .date(letter.now.into())
            .from(self.from.clone())
            .to(Mailbox::new(Some(name), address))
            .subject(words.subject)
            // RFC 3834: nobody's "I am on holiday" comes back.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .multipart(MultiPart::alternative_plain_html(words.text, words.html))
            .map_err(|error| error.to_string())?;
        Ok(Mail {
            name: format!("{}{:012}", account_mail_stem(letter.user_id), letter.id),
            message,
        })
    }
}
