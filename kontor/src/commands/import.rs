//! `kontor import`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::import::{self, Options};
use crate::runtime::{Runtime, told_to_stop};
use crate::terminal::say;

/// Imports the "Online Retail" file, with workers of its own beside those that run already, and prints the reconciliation.
///
/// # Errors
/// When the file cannot be read, the log not be written, or somebody pressed Ctrl-C; run again, it goes on. A
/// reconciliation that does not add up is an exit code of 1.
pub async fn online_retail(runtime: &Runtime, file: &Path) -> Result<ExitCode> {
    runtime.stop_on(told_to_stop()?);
    runtime.spawn_workers();
    let reconciliation = import::online_retail(runtime, file, Options::default()).await?;
    say(&reconciliation);
    Ok(if reconciliation.is_equal() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
