//! The data folder: where the private servers keep their files, how to reach them, and who uses them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How long to wait for another process that starts or stops the servers. Postgres may be recovering
/// meanwhile.
const TURN_WAIT: Duration = Duration::from_secs(360);
const UNLOCKABLE: &str = "cannot lock a file in the data folder (is it on a network share?)";
const TURN_POLL: Duration = Duration::from_millis(50);

/// A data folder that exists.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    /// Absolute, without symbolic links: servers are recognised by it in their command line.
    root: PathBuf,
}

/// A lock on a file, for as long as this lives. The kernel gives it back when the process dies, however it
/// dies.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    fn try_exclusive(&self) -> Result<bool> {
        match flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error).context(UNLOCKABLE),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread is about to start holds a copy of it until
        // it has become another program. It cannot fail on an open file.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// How to reach one private server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Access {
    pub(super) port: u16,
    pub(super) password: String,
}

impl Folder {
    /// Opens the folder, creating what is missing.
    pub(super) fn open(data: &Path) -> Result<Self> {
        // 0711, not 0700: Postgres may have to run as another user, who must be able to pass through. What is
        // secret inside is protected by itself.
        let create = |path: &Path| DirBuilder::new().recursive(true).mode(0o711).create(path);
        create(&data.join("log")).with_context(|| Self::refusal(data))?;
        let root = data.canonicalize().with_context(|| Self::refusal(data))?;
        if root.to_str().is_none_or(|path| path.contains(['\n', '"', '\\'])) {
            bail!(
                "the data folder {} has a quote, backslash, line break or a byte that is not UTF-8 in its \
                 name; set KONTOR_DATA to a plainer one",
                root.display()
            );
        }
        Ok(Self { root })
    }

    fn refusal(data: &Path) -> String {
        format!(
            "cannot use the data folder {}: run Kontor as the user it belongs to, or set KONTOR_DATA to \
             another folder",
            data.display()
        )
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn log(&self, stem: &str) -> PathBuf {
        self.root.join("log").join(format!("{stem}.log"))
    }

    /// Waits until nobody else starts or stops servers here, and keeps everybody else from it.
    pub(super) async fn turn(&self) -> Result<Lock> {
        let lock = self.lock("turn.lock")?;
        let deadline = Instant::now() + TURN_WAIT;
        while !lock.try_exclusive()? {
            if Instant::now() > deadline {
                bail!(
                    "another kontor has been starting or stopping the servers in {} for {} minutes; see {}",
                    self.root.display(),
                    TURN_WAIT.as_secs() / 60,
                    self.root.join("log").display()
                );
            }
            tokio::time::sleep(TURN_POLL).await;
        }
        Ok(lock)
    }

    /// Becomes a user of the servers. Only in one's turn: [`Folder::is_deserted`] may hold the lock for a
    /// moment.
    pub(super) fn join(&self) -> Result<Lock> {
        let lock = self.lock("users.lock")?;
        flock(&lock.0, FlockOperation::LockShared).context(UNLOCKABLE)?;
        Ok(lock)
    }

    /// Whether no process uses the servers.
    pub(super) fn is_deserted(&self) -> Result<bool> {
        self.lock("users.lock")?.try_exclusive()
    }

    /// A lock that is not locked yet.
    fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.root.join(name);
        // Never truncated, never deleted: a lock on a file that somebody replaced locks nothing.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map(Lock)
            .with_context(|| Self::refusal(&self.root))
    }

    /// How to reach the server, if that has been decided.
    pub(super) fn access(&self, stem: &str) -> Result<Option<Access>> {
        let path = self.root.join(format!("{stem}.json"));
        match std::fs::read(&path) {
            Ok(bytes) => {
                let access = serde_json::from_slice(&bytes).with_context(|| {
                    format!(
                        "{} is damaged; it must hold {{\"port\": …, \"password\": \"…\"}}",
                        path.display()
                    )
                })?;
                Ok(Some(access))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| Self::refusal(&self.root)),
        }
    }

    /// Remembers how to reach the server. All or nothing, also when the machine loses power: without its
    /// password a database is lost.
    pub(super) fn remember(&self, stem: &str, access: &Access) -> Result<()> {
        let path = self.root.join(format!("{stem}.json"));
        let next = self.root.join(format!("{stem}.json.next"));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(&serde_json::to_vec_pretty(access)?)?;
            file.sync_all()?;
            std::fs::rename(&next, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// 32 hexadecimal digits from the operating system: safe in a URL and in every configuration file.
pub(super) fn new_password() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
