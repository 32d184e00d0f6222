//! `kontor rotate-keys`.

use std::process::ExitCode;

use anyhow::Result;
use kontor_eventstore::deeds::Kind;
use kontor_eventstore::{Actor, Deed};

use crate::runtime::Runtime;
use crate::terminal::say;

/// Wraps every key anew that is not wrapped with the present key-encryption key.
///
/// # Errors
/// When a key is wrapped with one that was not given, or Postgres is not there. What was done stays done.
pub async fn rotate_keys(runtime: &Runtime) -> Result<ExitCode> {
    let keyring = runtime.store.keyring();
    let rotated = keyring.rotate().await?;
    let kek = keyring.kek();
    let deed = Deed::new(Kind::KeysRotated, Actor::OPERATOR, None);
    runtime.deeds.note(deed.detail(format!("{rotated} with {kek}")));
    say(format!(
        "{rotated} keys are now encrypted with the key-encryption key {kek}; only backups made before need another"
    ));
    Ok(ExitCode::SUCCESS)
}
