//! A real mail server, in a process of its own that can die: `tests/python/smtp_server.py`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::database::given;
use crate::wait::{PATIENCE, eventually};

/// A mail server that keeps what it accepts. What the recipients' names do to it is told in its file.
pub struct MailServer {
    child: Child,
    port: u16,
    manner: Vec<&'static str>,
    folder: TempDir,
}

/// How a mail server wants to be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encrypted {
    /// From the first byte.
    Tls,
    /// Before any mail.
    StartTls,
}

impl MailServer {
    /// One that takes mail from anybody.
    pub async fn start() -> Self {
        Self::in_the_manner_of(tempfile::tempdir().unwrap(), Vec::new()).await
    }

    /// One that wants a name and a password.
    pub async fn with_login() -> Self {
        Self::in_the_manner_of(tempfile::tempdir().unwrap(), vec!["login"]).await
    }

    /// One that speaks in secret, and says that it is `name`. Nobody vouches for it but [`Self::voucher`].
    pub async fn encrypted(encrypted: Encrypted, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(folder.path().join("certificate.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let manner = match encrypted {
            Encrypted::Tls => "tls",
            Encrypted::StartTls => "starttls",
        };
        Self::in_the_manner_of(folder, vec![manner]).await
    }

    async fn in_the_manner_of(folder: TempDir, manner: Vec<&'static str>) -> Self {
        let (child, port) = start(0, folder.path(), &manner).await;
        Self {
            child,
            port,
            manner,
            folder,
        }
    }

    /// The file with the certificate that vouches for it.
    #[must_use]
    pub fn voucher(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// Where it is.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is, for `KONTOR_SMTP_URL`, with that name and password.
    #[must_use]
    pub fn url(&self, login: &str) -> String {
        format!("smtp://{login}127.0.0.1:{}", self.port)
    }

    /// From now on it accepts everything.
    pub fn be_lenient(&self) {
        std::fs::write(self.folder.path().join("lenient"), "").unwrap();
    }

    /// The mails it has accepted, headers and all; a repeat is there twice.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        mails_in(self.folder.path())
    }

    /// Waits until it is dead of itself, and starts it again in the same place.
    pub async fn rise_again(&mut self) {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("the mail server dies")
            .unwrap();
        // Connections of the dead one may still hold the port for a moment.
        self.child = eventually("the mail server is back", async || {
            let (child, port) = start(self.port, self.folder.path(), &self.manner).await;
            (port == self.port).then_some(child)
        })
        .await;
    }
}

async fn start(port: u16, folder: &Path, manner: &[&str]) -> (Child, u16) {
    let python = given(
        "KONTOR_TEST_PYTHON",
        "a Python that has the package aiosmtpd, for a mail server to test against",
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/smtp_server.py");
    let mut child = Command::new(&python)
        .arg(script)
        .arg(port.to_string())
        .arg(folder)
        .args(manner)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("KONTOR_TEST_PYTHON={python} does not start: {error}"));
    let mut said = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut said).await.unwrap();
    let port = said
        .strip_prefix("listening ")
        .unwrap_or_else(|| panic!("the mail server does not start; has {python} the package aiosmtpd?"));
    (child, port.trim().parse().unwrap())
}

/// The `.eml` files of a folder, by name.
#[must_use]
pub fn mails_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "eml"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap().replace("\r\n", "\n"))
        .collect()
}
