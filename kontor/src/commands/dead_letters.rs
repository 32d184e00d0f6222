//! `kontor dead-letters` and `kontor resume`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use kontor_eventstore::{Resumed, StreamKey, dead_letters};

use crate::runtime::Runtime;
use crate::terminal::say;

/// Prints what waits, and why.
///
/// # Errors
/// When Postgres does not answer.
pub async fn list(runtime: &Runtime) -> Result<ExitCode> {
    let letters = dead_letters::list(runtime.pool()).await?;
    if letters.is_empty() {
        say("nothing waits");
    }
    for it in letters {
        let since = it.parked_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        say(format!(
            "{} {}: {} events wait since {since}, first at {}: {}",
            it.consumer, it.stream, it.events, it.position, it.error
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Applies what waits of an aggregate.
///
/// # Errors
/// When there is no such consumer, or Postgres does not answer.
pub async fn resume(
    runtime: &Runtime,
    consumer: &str,
    aggregate_type: String,
    aggregate_id: String,
) -> Result<ExitCode> {
    let consumers = runtime.consumers();
    let Some(consumer) = consumers.iter().find(|it| it.name() == consumer) else {
        let names: Vec<&str> = consumers.iter().map(|it| it.name()).collect();
        bail!(
            "there is no consumer {consumer:?}; there are: {}",
            names.join(", ")
        );
    };
    let stream = StreamKey {
        aggregate_type,
        aggregate_id,
    };
    match runtime.resume(consumer.as_ref(), &stream).await? {
        Resumed::Done(events) => say(format!("{stream}: {events} events applied")),
        Resumed::StillParked { position, error } => {
            bail!("{stream} still waits: the event at position {position} cannot be applied: {error}")
        }
        Resumed::NotFound => bail!("nothing of {stream} waits in {}", consumer.name()),
    }
    Ok(ExitCode::SUCCESS)
}
