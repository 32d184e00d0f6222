//! A folder instead of a provider: to look at, not to send.

use std::io;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use kontor_domain::UserId;

use super::{DeliveryError, Mail, MailTransport, Sms, SmsTransport};

/// Every file that may hold something about the event at `position`, half-written ones included.
pub(crate) fn outbox_files(folder: &Path, position: u64) -> [PathBuf; 4] {
    let (mail, sms) = (mail_name(position), sms_name(position));
    let half = |name: &str| folder.join(format!(".{name}.half"));
    [half(&mail), half(&sms), folder.join(&mail), folder.join(&sms)]
}

/// Every file that may hold a mail about this person's account, half-written ones included.
pub(crate) fn account_files(folder: &Path, person: UserId) -> io::Result<Vec<PathBuf>> {
    let stem = account_mail_stem(person);
    let mut files = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| name.trim_start_matches('.').starts_with(&stem))
        {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// What names the mails about an account.
pub(in crate::notifications) fn account_mail_stem(person: UserId) -> String {
    format!("account-{person}-")
}

fn mail_name(position: u64) -> String {
    format!("{position:012}.eml")
}

fn sms_name(position: u64) -> String {
    format!("{position:012}.sms.txt")
}

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
        let text = format!(
            "To: {}\nMessage-ID: {}\n\n{}\n",
            sms.to.as_str(),
            sms.message_id,
            sms.text
        );
        Box::pin(put(&self.0, sms_name(sms.position), text.into_bytes()))
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
