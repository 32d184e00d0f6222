//! Who was erased, in a file that outlives the database: a backup that is restored knows people who asked to be forgotten
//! since it was made. One JSON object a line, appended and flushed before anything is destroyed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use kontor_domain::UserId;
use serde::{Deserialize, Serialize};

/// One erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who. The id says nothing about the person but when they registered.
    pub user_id: UserId,
    /// Where the event stands in the log of then.
    pub position: u64,
    /// When the command was given.
    pub at: DateTime<Utc>,
}

/// The file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal(PathBuf);

impl Journal {
    /// The journal in this file, which is made when somebody is erased first.
    #[must_use]
    pub fn at(file: PathBuf) -> Self {
        Self(file)
    }

    /// Where it is.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.0
    }

    /// Everybody in it; a line that a crash left half written is passed over, for nothing was destroyed then.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(&self) -> io::Result<BTreeMap<UserId, Entry>> {
        let text = match std::fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let entries = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Entry>(line).ok());
        Ok(entries.map(|entry| (entry.user_id, entry)).collect())
    }

    /// Appends entries, and returns when they are on the disk.
    ///
    /// # Errors
    /// When the file cannot be written: nothing may be destroyed then.
    pub fn append(&self, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)?;
        }
        let new = !self.0.exists();
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.0)?;
        let mut text = String::new();
        if !new && !self.ends_with_a_line()? {
            text.push('\n');
        }
        for entry in entries {
            text += &serde_json::to_string(entry)?;
            text.push('\n');
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match folder {
            Some(folder) if new => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }

    fn ends_with_a_line(&self) -> io::Result<bool> {
        let content = std::fs::read(&self.0)?;
        Ok(content.last().is_none_or(|last| *last == b'\n'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u128) -> Entry {
        Entry {
            user_id: UserId::from_ulid(ulid::Ulid::from_parts(1, number)),
            position: 7,
            at: "2026-03-01T12:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_appended_is_read_and_half_a_line_harms_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(folder.path().join("deeper/erasures.jsonl"));
        assert_eq!(journal.read().unwrap().len(), 0);
        journal.append(&[entry(1), entry(2)]).unwrap();
        let mut file = OpenOptions::new().append(true).open(journal.file()).unwrap();
        file.write_all(br#"{"user_id":"usr_0"#).unwrap();
        journal.append(&[entry(3), entry(1)]).unwrap();
        let read: Vec<Entry> = journal.read().unwrap().into_values().collect();
        assert_eq!(read, [entry(1), entry(2), entry(3)]);
    }
}
