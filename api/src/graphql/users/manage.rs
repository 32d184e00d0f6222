//! What admins do to accounts.

use async_graphql::{Context, Object, Result};
use kontor_domain::{User as Aggregate, UserCommand, UserId};
use kontor_eventstore::CommandContext;

use super::inputs::{DeactivateUserInput, GrantRoleInput, ReactivateUserInput, RevokeRoleInput};
use super::payload::{
    DeactivateUserError, GrantRoleError, ReactivateUserError, RevokeRoleError, UserPayload,
};
use crate::graphql::access::{Permission, require};
use crate::graphql::command::{Ready, UserOutcome, execute, expected};
use crate::graphql::input::{Check, INPUT, Refusal};
use crate::graphql::reads::app;

/// Mutations of anybody's account.
#[derive(Debug, Default)]
pub(crate) struct UserMutations;

#[Object]
impl UserMutations {
    /// Gives an account a role. For admins. It counts within seconds: access tokens from before it are
    /// good no more, and their sessions give new ones. Given again, it changes nothing. Needs `user:manage`.
    async fn grant_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom, and which role.")] input: GrantRoleInput,
    ) -> Result<UserPayload<GrantRoleError>> {
        require(ctx, Permission::UserManage)?;
        UserPayload::of(ctx, grant(ctx, input).await)
    }

    /// Takes a role from an account. For admins. It counts within seconds: access tokens from before it are good no more,
    /// and their sessions give new ones. Taken again, it changes nothing. Needs `user:manage`.
    async fn revoke_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "From whom, and which role.")] input: RevokeRoleInput,
    ) -> Result<UserPayload<RevokeRoleError>> {
        require(ctx, Permission::UserManage)?;
        UserPayload::of(ctx, revoke(ctx, input).await)
    }

    /// Closes an account: nobody can log in to it any more. For admins. It keeps its e-mail address and its orders, and can be
    /// opened again. Its sessions and access tokens end within seconds. Done again, it changes nothing. Needs `user:manage`.
    async fn deactivate_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose account, and why.")] input: DeactivateUserInput,
    ) -> Result<UserPayload<DeactivateUserError>> {
        require(ctx, Permission::UserManage)?;
        UserPayload::of(ctx, deactivate(ctx, input).await)
    }

    /// Opens a closed account again. For admins. Done to an open one, it changes nothing. Needs `user:manage`.
    async fn reactivate_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose account.")] input: ReactivateUserInput,
    ) -> Result<UserPayload<ReactivateUserError>> {
        require(ctx, Permission::UserManage)?;
        UserPayload::of(ctx, reactivate(ctx, input).await)
    }
}

type Attempt = Result<UserOutcome, Refusal>;

/// What every one of them begins with.
macro_rules! begin {
    ($ctx:ident, $mutation:literal, $input:ident) => {{
        let mut check = Check::default();
        let context = check.context($ctx, $mutation, &$input, &$input.idempotency_key);
        let id: Option<UserId> = check.id(INPUT.field("userId"), &$input.user_id);
        let context: Option<CommandContext> =
            context.map(|context| context.expecting(expected($input.expected_version)));
        (check, id, context)
    }};
}

/// What every one of them ends with: sends the command, or refuses.
async fn send(
    ctx: &Context<'_>,
    check: Check,
    id: Option<UserId>,
    context: Option<CommandContext>,
    key: String,
    command: Option<UserCommand>,
) -> Attempt {
    match (id, context, command) {
        (Some(id), Some(context), Some(command)) => {
            let ready = Ready::<Aggregate> {
                id,
                command,
                context,
                key,
            };
            execute(ctx, ready).await
        }
        _ => Err(check.refusal()),
    }
}

async fn grant(ctx: &Context<'_>, input: GrantRoleInput) -> Attempt {
    let (check, id, context) = begin!(ctx, "grantRole", input);
    let role = input.role.into();
    let command = Some(UserCommand::GrantRole { role });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn revoke(ctx: &Context<'_>, input: RevokeRoleInput) -> Attempt {
    let (check, id, context) = begin!(ctx, "revokeRole", input);
    let role = input.role.into();
    let command = Some(UserCommand::RevokeRole { role });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn deactivate(ctx: &Context<'_>, input: DeactivateUserInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "deactivateUser", input);
    let reason = check.reason(&input.reason);
    let command = reason.map(|reason| UserCommand::Deactivate { reason });
    let outcome = send(ctx, check, id, context, input.idempotency_key, command).await?;
    // Without Redis they end when they are to be renewed: a closed account's are not.
    if let Err(error) = app(ctx).sessions.end_all(outcome.id, None).await {
        tracing::warn!(%error, "the sessions of a closed account are not ended yet");
    }
    Ok(outcome)
}

async fn reactivate(ctx: &Context<'_>, input: ReactivateUserInput) -> Attempt {
    let (check, id, context) = begin!(ctx, "reactivateUser", input);
    let command = Some(UserCommand::Reactivate);
    send(ctx, check, id, context, input.idempotency_key, command).await
}
