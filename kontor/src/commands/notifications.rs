//! `kontor notifications`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use kontor_fulfilment::notifications::{self, NotificationId};

use crate::runtime::Runtime;
use crate::terminal::say;

/// Prints what was given up, and why.
///
/// # Errors
/// When Postgres does not answer.
pub async fn list(runtime: &Runtime) -> Result<ExitCode> {
    let dead = notifications::dead(runtime.pool()).await?;
    if dead.is_empty() {
        say("nothing was given up");
    }
    for it in dead {
        let order = it.order_id.map(|id| format!(" about {id}")).unwrap_or_default();
        say(format!(
            "{} {} to {}{order}: given up after {} attempts: {}",
            it.id, it.occasion, it.user_id, it.attempts, it.error
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Has what was given up sent again, one notification or all, by whichever worker sends.
///
/// # Errors
/// When the one that is named was not given up, or Postgres does not answer.
pub async fn retry(runtime: &Runtime, which: Option<NotificationId>) -> Result<ExitCode> {
    let again = notifications::retry(runtime.pool(), which).await?;
    match which {
        Some(id) if again == 0 => bail!("{id} was not given up; `kontor notifications list` lists what was"),
        Some(id) => say(format!("{id} is sent again")),
        None => say(format!("{again} notifications are sent again")),
    }
    Ok(ExitCode::SUCCESS)
}
