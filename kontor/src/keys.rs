//! Where the key-encryption key comes from: the one secret without which the database says nothing about anybody.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kontor_eventstore::KeyEncryption;
use tracing::warn;

/// The file in the data folder that is made when nothing else is given.
const FILE: &str = "key-encryption.key";

/// Where to find the key that encrypts people's keys.
#[derive(Clone, Default, Args)]
#[command(next_help_heading = "Keys")]
pub struct KekOptions {
    /// File with the key-encryption key: 32 random bytes in base64 or hexadecimal on its first line; older keys, from before
    /// `rotate-keys`, on further lines. Without any of these options, a file in the data folder, made at the first start.
    #[arg(long, env = "KONTOR_KEK_FILE", global = true)]
    pub kek_file: Option<PathBuf>,
    /// Command that prints what would be in that file: how a key management service is asked.
    #[arg(
        long,
        env = "KONTOR_KEK_COMMAND",
        hide_env_values = true,
        global = true,
        conflicts_with = "kek_file"
    )]
    pub kek_command: Option<String>,
    /// The key itself, by environment only.
    #[arg(skip)]
    pub kek: Option<String>,
}

// Holds a secret, perhaps.
impl std::fmt::Debug for KekOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KekOptions").finish_non_exhaustive()
    }
}

impl KekOptions {
    /// Whether there is one of the operator's own choosing.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.in_environment().is_some() || self.kek_file.is_some() || self.kek_command.is_some()
    }

    fn in_environment(&self) -> Option<String> {
        let given = self.kek.clone().or_else(|| std::env::var("KONTOR_KEK").ok());
        given.filter(|key| !key.trim().is_empty())
    }

    /// The keys meant by it. `data` is the data folder; `given` says whether the database is somebody else's to keep.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do.
    pub fn keys(&self, data: &Path, given: bool) -> Result<KeyEncryption> {
        let lines = match (self.in_environment(), &self.kek_file, &self.kek_command) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                bail!("give the key-encryption key once: KONTOR_KEK, KONTOR_KEK_FILE or KONTOR_KEK_COMMAND")
            }
            (Some(key), None, None) => with_older(&key),
            (None, Some(file), _) => read(file)?
                .with_context(|| format!("there is no key-encryption key in {}", file.display()))?,
            (None, None, Some(command)) => with_older(&printed(command)?),
            (None, None, None) => kept_in(data, given)?,
        };
        let mut keys = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        let current = keys.next().context("the key-encryption key is empty")?;
        Ok(KeyEncryption::new(current, keys)?)
    }
}

/// The key and, below it, the ones before it from `KONTOR_KEK_OLD`, parted by commas.
fn with_older(current: &str) -> String {
    let older = std::env::var("KONTOR_KEK_OLD").unwrap_or_default();
    format!("{current}\n{}", older.replace(',', "\n"))
}

fn read(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn printed(command: &str) -> Result<String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .context("KONTOR_KEK_COMMAND cannot be run")?;
    if !output.status.success() {
        // What it said may be anything; where it says it is its own affair.
        bail!("KONTOR_KEK_COMMAND failed ({})", output.status);
    }
    String::from_utf8(output.stdout).context("KONTOR_KEK_COMMAND printed something that is not text")
}

/// The file in the data folder; made if it is not there.
fn kept_in(data: &Path, given: bool) -> Result<String> {
    let file = data.join(FILE);
    if given {
        warn!(
            file = %file.display(),
            "no key-encryption key is given; the one in this file is used: keep a copy of it, apart from the database's backups, \
             or set KONTOR_KEK_FILE, KONTOR_KEK_COMMAND or KONTOR_KEK"
        );
    }
    if let Some(text) = read(&file)? {
        return Ok(text);
    }
    let key = KeyEncryption::generate()?;
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(data)?;
        // Whole or not at all, and never over one that is there: without it the shop's people are lost.
        let half = data.join(format!("{FILE}.{}", std::process::id()));
        let mut new = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&half)?;
        new.write_all(format!("{key}\n").as_bytes())?;
        new.sync_all()?;
        let linked = std::fs::hard_link(&half, &file);
        std::fs::remove_file(&half)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(data)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    read(&file)?.with_context(|| format!("{} has gone", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn shown(keys: &KeyEncryption) -> String {
        format!("{keys:?}")
    }

    #[test]
    fn a_private_shop_makes_its_key_once_and_keeps_it_to_itself() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = KekOptions::default().keys(&data, false).unwrap();
        let again = KekOptions::default().keys(&data, true).unwrap();
        assert_eq!(shown(&first), shown(&again));
        let file = data.join(FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
        let key = std::fs::read_to_string(&file).unwrap();
        assert!(!shown(&first).contains(key.trim()));
    }

    #[test]
    fn every_way_to_give_it_gives_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("kek"), KeyEncryption::generate().unwrap());
        std::fs::write(&file, format!("{key}\n")).unwrap();
        let by = |options: KekOptions| shown(&options.keys(folder.path(), true).unwrap());
        let by_file = KekOptions {
            kek_file: Some(file.clone()),
            ..KekOptions::default()
        };
        let by_command = KekOptions {
            kek_command: Some(format!("cat {}", file.display())),
            ..KekOptions::default()
        };
        let itself = KekOptions {
            kek: Some(key),
            ..KekOptions::default()
        };
        assert_eq!(by(by_file.clone()), by(by_command));
        assert_eq!(by(by_file), by(itself));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kek");
        std::fs::write(&file, "hunter2\n").unwrap();
        let told = |options: KekOptions| format!("{:#}", options.keys(folder.path(), true).unwrap_err());
        let wrong = told(KekOptions {
            kek_file: Some(file),
            ..KekOptions::default()
        });
        assert!(
            wrong.contains("32 random bytes") && !wrong.contains("hunter2"),
            "{wrong}"
        );
        let missing = told(KekOptions {
            kek_file: Some(folder.path().join("other")),
            ..KekOptions::default()
        });
        assert!(missing.contains("no key-encryption key"), "{missing}");
        let failed = told(KekOptions {
            kek_command: Some("echo secret; exit 3".to_owned()),
            ..KekOptions::default()
        });
        assert!(
            failed.contains("failed") && !failed.contains("secret"),
            "{failed}"
        );
    }
}
