//! Logging in.

use std::sync::Arc;

use async_graphql::{Context, Description, Object, Result};
use kontor_domain::{ClaimKind, Email, PasswordHash, Role, User as Aggregate, UserId};
use kontor_projections::users::Users;
use kontor_projections::view::View;

use super::User;
use super::inputs::LogInInput;
use crate::graphql::command::errors;
use crate::graphql::error::internal;
use crate::graphql::input::{INPUT, Refusal, refuse};
use crate::graphql::reads::{app, settled, user};
use crate::graphql::scalars::DateTime;
use crate::graphql::user_errors::{AccountDeactivated, InvalidCredentials, refusals};

refusals! {
    /// Why `logIn` gave no token.
    LogInError: InvalidCredentials, AccountDeactivated;
}

/// Longer than any password that could be set: not worth hashing.
const LONGEST: usize = 1_024;

/// The answer to `logIn`: either a token, or `userErrors` says why not.
#[derive(Debug, Description)]
pub(crate) struct LogInPayload {
    granted: Option<Granted>,
    errors: Vec<LogInError>,
}

struct Granted {
    token: String,
    expires: chrono::DateTime<chrono::Utc>,
    user_id: UserId,
}

// A token does not print.
impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted").finish_non_exhaustive()
    }
}

#[Object(use_type_description)]
impl LogInPayload {
    /// The access token: send `Bearer` and the token in the HTTP header `authorization`, or as `authorization` in the payload
    /// of a WebSocket's `connection_init`. It cannot be taken back before it expires. Null if the log-in was refused.
    async fn token(&self) -> Option<&str> {
        self.granted.as_ref().map(|granted| granted.token.as_str())
    }

    /// When the token expires. Null if the log-in was refused.
    async fn expires_at(&self) -> Option<DateTime> {
        self.granted.as_ref().map(|granted| DateTime(granted.expires))
    }

    /// Who logged in. Null if the log-in was refused.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let Some(granted) = &self.granted else {
            return Ok(None);
        };
        // Whoever has just registered need not be in the view yet.
        let row = settled(ctx, Users::NAME, || user(ctx, granted.user_id)).await?;
        Ok(row.map(User))
    }

    /// Why there is no token; empty if there is one.
    async fn user_errors(&self) -> &[LogInError] {
        &self.errors
    }
}

/// The mutation that logs in.
#[derive(Debug, Default)]
pub(crate) struct LogInMutation;

#[Object]
impl LogInMutation {
    /// Gives an access token to whoever knows an e-mail address and its password. For everybody. It takes no idempotency key,
    /// because it changes nothing: each time it gives a new token.
    async fn log_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who logs in.")] input: LogInInput,
    ) -> Result<LogInPayload> {
        Ok(match log_in(ctx, input).await {
            Ok(granted) => LogInPayload {
                granted: Some(granted),
                errors: Vec::new(),
            },
            Err(refusal) => LogInPayload {
                granted: None,
                errors: errors(ctx, refusal)?,
            },
        })
    }
}

/// What is known of an account when somebody tries to log in.
#[derive(Default)]
struct Account {
    hash: Option<PasswordHash>,
    roles: Arc<[Role]>,
    active: bool,
}

async fn log_in(ctx: &Context<'_>, input: LogInInput) -> Result<Granted, Refusal> {
    let app = app(ctx);
    let email = Email::new(input.email).ok();
    if input.password.len() > LONGEST {
        return Err(invalid());
    }
    let holder = match &email {
        Some(email) => app
            .store
            .holder(ClaimKind::Email, &email.folded())
            .await
            .map_err(|error| internal(ctx, error))?,
        None => None,
    };
    // Without an account everything is done as with one, for an id that nobody has, so that the time it takes does not tell
    // whether an address is known.
    let known: Option<UserId> = holder.and_then(|id| id.parse().ok());
    let user_id = known.unwrap_or_else(|| UserId::from_ulid(app.store.ids().next()));
    let account = app
        .store
        .inspect::<Aggregate, _>(user_id, |user, _| Account {
            hash: user.password_hash().cloned(),
            roles: user.roles().collect(),
            active: user.is_active(),
        })
        .await
        .map_err(|error| internal(ctx, error))?;
    if !app.passwords.verify(account.hash.as_ref(), input.password).await {
        return Err(invalid());
    }
    if !account.active {
        let message = "the account is deactivated";
        return Err(refuse(AccountDeactivated::new(message, INPUT.path())));
    }
    let (token, expires) = app
        .tokens
        .issue(user_id, &account.roles, app.clock.now())
        .map_err(|error| internal(ctx, error))?;
    Ok(Granted {
        token,
        expires,
        user_id,
    })
}

fn invalid() -> Refusal {
    let message = "e-mail address and password do not belong together";
    refuse(InvalidCredentials::new(message, INPUT.path()))
}
