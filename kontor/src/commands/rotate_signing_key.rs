//! `kontor rotate-signing-key`: another key for access tokens, and nobody logged out.

use std::process::ExitCode;

use anyhow::Result;
use kontor_api::auth::keys;
use kontor_eventstore::deeds::Kind;
use kontor_eventstore::{Actor, Deed};

use crate::runtime::Runtime;
use crate::terminal::say;

/// Adds a key.
///
/// # Errors
/// When Postgres does not take it.
pub async fn rotate_signing_key(runtime: &Runtime) -> Result<ExitCode> {
    let (kid, signs) = keys::rotate(runtime.pool(), runtime.clock.now()).await?;
    let rotated = Deed::new(Kind::SigningKeyRotated, Actor::OPERATOR, None);
    runtime.deeds.note(rotated.detail(kid.clone()));
    say(format!(
        "the key {kid} is known to every process within seconds, and signs from {} on",
        signs.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    ));
    Ok(ExitCode::SUCCESS)
}
