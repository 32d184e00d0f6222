//! `kontor rotate-keys`.

use std::process::ExitCode;

use anyhow::Result;

use crate::runtime::Runtime;
use crate::terminal::say;

/// Wraps every key anew that is not wrapped with the present key-encryption key.
///
/// # Errors
/// When a key is wrapped with one that was not given, or Postgres is not there. What was done stays done.
pub async fn rotate_keys(runtime: &Runtime) -> Result<ExitCode> {
    let keyring = runtime.store.keyring();
    let rotated = keyring.rotate().await?;
    say(format!(
        "{rotated} keys are now encrypted with the key-encryption key {}; only backups made before need another",
        keyring.kek()
    ));
    Ok(ExitCode::SUCCESS)
}
