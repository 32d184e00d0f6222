//! `kontor status`.

use std::process::ExitCode;

use anyhow::Result;
use kontor_eventstore::read::head;
use kontor_eventstore::{checkpoints, dead_letters};
use kontor_fulfilment::notifications;

use crate::runtime::Runtime;
use crate::terminal::say;

/// Prints the head of the log, every consumer's position and lag, what is still to be told to customers, and
/// what waits.
///
/// # Errors
/// When Postgres does not answer.
pub async fn status(runtime: &Runtime) -> Result<ExitCode> {
    let head = head(runtime.pool()).await?;
    say(format!("log            head {head}"));
    for it in checkpoints(runtime.pool()).await? {
        let lag = head.saturating_sub(it.position);
        let parked = if it.parked == 0 {
            String::new()
        } else {
            format!("   {} aggregates parked", it.parked)
        };
        say(format!(
            "{:<14} at {:<10} lag {lag}{parked}",
            it.consumer, it.position
        ));
    }
    match runtime.redis.ping().await {
        Ok(()) => say("redis          answers"),
        Err(error) => say(format!(
            "redis          does not answer ({error}); reads come from Postgres"
        )),
    }
    let told = notifications::counts(runtime.pool()).await?;
    say(format!(
        "notifications  waiting {} dead {}",
        told.waiting, told.dead
    ));
    let letters = dead_letters::list(runtime.pool()).await?;
    say(format!("dead letters   {}", letters.len()));
    Ok(ExitCode::SUCCESS)
}
