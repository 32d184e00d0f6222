//! Mail by SMTP (RFC 5321).

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::extension::ClientId;

use super::{DeliveryError, Mail, MailTransport};

/// When the conversation is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::notifications) enum Encryption {
    /// Never.
    None,
    /// After asking for it, if the server offers it. Keeps no secret from whoever can change what is sent.
    Offered,
    /// After asking for it, or not at all (RFC 3207).
    StartTls,
    /// From the first byte (RFC 8314).
    Tls,
}

/// A mail server.
///
/// Connections are kept for the next mail, by ourselves: lettre's own pool takes a connection back whose conversation was
/// cut off in the middle, and the next mail would hear the answers to the one before.
pub(in crate::notifications) struct Smtp {
    pub(in crate::notifications) host: String,
    pub(in crate::notifications) port: u16,
    pub(in crate::notifications) encryption: Encryption,
    pub(in crate::notifications) login: Option<Credentials>,
    /// Who vouches for it, besides those whom the machine trusts.
    pub(in crate::notifications) roots: Vec<Certificate>,
    /// Connections nobody talks on, at a point where the server waits for a mail.
    pub(in crate::notifications) idle: Mutex<Vec<AsyncSmtpConnection>>,
}

impl Smtp {
    async fn deliver(&self, mail: &Mail) -> Result<(), DeliveryError> {
        let mut connection = match self.rested().await {
            Some(connection) => connection,
            // Whatever goes wrong here is not the mail's fault, and somebody mends it, a wrong password too.
            None => self
                .connect()
                .await
                .map_err(|error| DeliveryError::Silent(format!("no mail server: {}", told(&error))))?,
        };
        connection
            .send(mail.message.envelope(), &mail.message.formatted())
            .await
            .map_err(|error| refused(&error))?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        Ok(())
    }

    /// A connection of before that is still good.
    async fn rested(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = idle?;
            if connection.test_connected().await {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let (server, me) = ((self.host.as_str(), self.port), ClientId::default());
        let tls = || {
            let roots = self.roots.iter().cloned();
            roots
                .fold(
                    TlsParameters::builder(self.host.clone()),
                    TlsParametersBuilder::add_root_certificate,
                )
                .build()
        };
        let at_once = match self.encryption {
            Encryption::Tls => Some(tls()?),
            _ => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(server, None, &me, at_once, None).await?;
        let later = match self.encryption {
            Encryption::StartTls => true,
            Encryption::Offered => connection.can_starttls(),
            Encryption::None | Encryption::Tls => false,
        };
        if later {
            connection.starttls(tls()?, &me).await?;
        }
        if let Some(login) = &self.login {
            connection
                .auth(&[Mechanism::Plain, Mechanism::Login], login)
                .await?;
        }
        Ok(connection)
    }
}

impl MailTransport for Smtp {
    fn send<'a>(&'a self, mail: &'a Mail) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(self.deliver(mail))
    }
}

fn refused(error: &Error) -> DeliveryError {
    if error.is_permanent() || error.is_client() {
        DeliveryError::Permanent(told(error))
    } else if error.status().is_some() {
        DeliveryError::Transient(told(error))
    } else {
        DeliveryError::Silent(told(error))
    }
}

/// The reply's code, and the enhanced one (RFC 3463) if it has one. Never its text, which likes to repeat the address.
fn told(error: &Error) -> String {
    let Some(status) = error.status() else {
        return if error.is_tls() {
            "smtp: no encryption could be agreed upon".to_owned()
        } else if error.is_client() {
            format!("smtp: {error}")
        } else {
            "smtp: the connection failed".to_owned()
        };
    };
    let text = error.source().map(ToString::to_string).unwrap_or_default();
    let enhanced = text.split_whitespace().next().filter(|word| {
        let parts: Vec<&str> = word.split('.').collect();
        parts.len() == 3
            && parts
                .iter()
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    match enhanced {
        Some(enhanced) => format!("smtp answered {status} {enhanced}"),
        None => format!("smtp answered {status}"),
    }
}
