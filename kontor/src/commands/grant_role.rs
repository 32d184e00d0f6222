//! `kontor grant-role`: how a shop gets its first administrator.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kontor_domain::{ClaimKind, Email, Role, User, UserCommand, UserId};
use kontor_eventstore::{Actor, CommandContext};

use crate::runtime::Runtime;
use crate::terminal::say;

/// Grants a role to the user with this e-mail address.
///
/// # Errors
/// When there is no such user or role, or the user has been deactivated.
pub async fn grant_role(runtime: &Runtime, email: &str, role: &str) -> Result<ExitCode> {
    let Some(role) = Role::parse(&role.to_uppercase()) else {
        bail!("there is no role {role:?}; there are: customer, staff, admin");
    };
    let email = Email::new(email)?;
    let holder = runtime.store.holder(ClaimKind::Email, &email.folded()).await?;
    let id: UserId = holder
        .context("nobody is registered under this e-mail address")?
        .parse()?;
    let command_id = runtime.store.ids().next().to_string();
    let context = CommandContext::new(command_id, Actor::OPERATOR, runtime.clock.now());
    let granted = runtime
        .store
        .execute::<User>(id, UserCommand::GrantRole { role }, context)
        .await?;
    say(if granted.events.is_empty() {
        format!("{id} has the role {} already", role.as_str())
    } else {
        format!("{id} has the role {} within seconds", role.as_str())
    });
    Ok(ExitCode::SUCCESS)
}
