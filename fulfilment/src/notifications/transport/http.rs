//! SMS by the HTTP form interface of Twilio, which others speak too.

use futures::future::BoxFuture;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::{DeliveryError, Sms, SmsTransport};

/// A provider of SMS.
pub(in crate::notifications) struct HttpSms {
    client: Client,
    /// `{base}/2010-04-01/Accounts/{account}/Messages.json`
    messages: Url,
    account: String,
    token: String,
    from: String,
}

/// What a refusal says, as far as it names nobody.
#[derive(Deserialize)]
struct Refusal {
    /// The provider's own number for it.
    code: Option<u32>,
}

impl HttpSms {
    /// For an account, by its identifier and token.
    pub(in crate::notifications) fn new(
        messages: Url,
        account: String,
        token: String,
        from: String,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: Client::builder().build()?,
            messages,
            account,
            token,
            from,
        })
    }

    async fn post(&self, sms: &Sms) -> Result<(), DeliveryError> {
        let form = [("To", sms.to.as_str()), ("From", &self.from), ("Body", &sms.text)];
        let answer = self
            .client
            .post(self.messages.clone())
            .basic_auth(&self.account, Some(&self.token))
            .header("Idempotency-Key", &sms.message_id)
            .form(&form)
            .send()
            .await
            .map_err(|error| DeliveryError::Silent(unanswered(&error).to_owned()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let code = answer
            .json::<Refusal>()
            .await
            .ok()
            .and_then(|refusal| refusal.code);
        let told = match code {
            Some(code) => format!("http answered {} code {code}", status.as_u16()),
            None => format!("http answered {}", status.as_u16()),
        };
        Err(if status.is_server_error() {
            // Whoever answers for it, the provider does not.
            DeliveryError::Silent(told)
        } else if passes(status) {
            DeliveryError::Transient(told)
        } else {
            DeliveryError::Permanent(told)
        })
    }
}

impl SmsTransport for HttpSms {
    fn send<'a>(&'a self, sms: &'a Sms) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(self.post(sms))
    }
}

/// Whether another time the answer may be another. What is wrong with our account (401, 403) is not the message's fault:
/// somebody mends it.
fn passes(status: StatusCode) -> bool {
    [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
    ]
    .contains(&status)
}

fn unanswered(error: &reqwest::Error) -> &'static str {
    if error.is_connect() {
        "the provider cannot be reached"
    } else {
        "the provider hung up before it answered"
    }
}
