//! A folder instead of a provider: to look at, not to send.

use std::io;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

use super::{DeliveryError, Mail, MailTransport, Sms, SmsTransport};

/// Mails as `.eml` files, which mail programs open.
pub(in crate::notifications) struct MailOutbox(PathBuf);

/// SMS as text files.
pub(in crate::notifications) struct SmsOutbox(PathBuf);

impl MailOutbox {
    /// Into `folder`, which is made.
    pub(in crate::notifications) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }
}

impl SmsOutbox {
    /// Into `folder`, which is made.
    pub(in crate::notifications) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }
}

impl MailTransport for MailOutbox {
    fn send<'a>(&'a self, mail: &'a Mail) -> BoxFuture<'a, Result<(), DeliveryError>> {
        let name = format!("{}.eml", mail.name);
        Box::pin(put(&self.0, name, mail.message.formatted()))
    }
}

impl SmsTransport for SmsOutbox {
    fn send<'a>(&'a self, sms: &'a Sms) -> BoxFuture<'a, Result<(), DeliveryError>> {
        let name = format!("{:012}.sms.txt", sms.position);
        let text = format!(
            "To: {}\nMessage-ID: {}\n\n{}\n",
            sms.to.reveal().as_str(),
            sms.message_id,
            sms.text.reveal()
        );
        Box::pin(put(&self.0, name, text.into_bytes()))
    }
}

/// Whole or not at all, and over what an earlier try has left.
async fn put(folder: &Path, name: String, content: Vec<u8>) -> Result<(), DeliveryError> {
    let (half, whole) = (folder.join(format!(".{name}.half")), folder.join(name));
    let write = move || std::fs::write(&half, content).and_then(|()| std::fs::rename(&half, whole));
    let written = tokio::task::spawn_blocking(write)
        .await
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    written
        .map_err(|error| DeliveryError::Transient(format!("the outbox cannot be written: {}", error.kind())))
}
