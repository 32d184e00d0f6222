//! Logging in, and staying so.

use async_graphql::{Context, Description, Object, Result};
use axum::http::HeaderValue;
use axum::http::header::SET_COOKIE;
use kontor_domain::{ClaimKind, Email, UserId};
use kontor_eventstore::deeds::Kind;
use kontor_eventstore::{Actor, Deed};
use kontor_projections::users::Users;
use kontor_projections::view::View;

use super::User;
use super::inputs::{LogInInput, RefreshSessionInput};
use super::sessions::{info, unavailable};
use crate::graphql::access::deed;
use crate::graphql::command::errors;
use crate::graphql::error::{bad_user_input, internal};
use crate::graphql::input::{INPUT, Refusal, refuse};
use crate::graphql::reads::{app, settled, user};
use crate::graphql::scalars::DateTime;
use crate::graphql::user_errors::{
    AccountDeactivated, InvalidCredentials, SessionEnded, TooManyAttempts, refusals,
};
use crate::sessions::{Account, RefreshToken, RenewError, Renewed};
use crate::throttle::Counted;

refusals! {
    /// Why `logIn` gave no token.
    LogInError: InvalidCredentials, AccountDeactivated, TooManyAttempts, SessionsUnavailable;
    /// Why `refreshSession` gave no token.
    RefreshSessionError: SessionEnded, TooManyAttempts, SessionsUnavailable;
}

/// Longer than any password that could be set: not worth hashing.
const LONGEST: usize = 1_024;

/// The answer to whoever logs in or goes on: either tokens, or `userErrors` says why not.
#[derive(Debug, Description)]
pub(crate) struct TokensPayload<E> {
    granted: Option<Granted>,
    errors: Vec<E>,
}

#[derive(Debug)]
struct Granted {
    renewed: Renewed,
    /// The refresh token is in a cookie, where no script can read it.
    in_cookie: bool,
}

#[Object(
    use_type_description,
    concrete(name = "LogInPayload", params(LogInError)),
    concrete(name = "RefreshSessionPayload", params(RefreshSessionError))
)]
impl<E: async_graphql::OutputType> TokensPayload<E> {
    /// The access token: send `Bearer` and the token in the HTTP header `authorization`, or as `authorization` in the payload
    /// of a WebSocket's `connection_init`. Good for 15 minutes, unless the session ends or the account's roles or password change
    /// before. Null if there is a refusal.
    async fn token(&self) -> Option<&str> {
        self.granted
            .as_ref()
            .map(|granted| granted.renewed.token.as_str())
    }

    /// When the access token expires. Null if there is a refusal.
    async fn expires_at(&self) -> Option<DateTime> {
        let granted = self.granted.as_ref()?;
        Some(DateTime(granted.renewed.expires))
    }

    /// The refresh token: send it to `refreshSession` for the next access token. It is good once, and the answer brings the next. Null
    /// if there is a refusal, or if it is in a cookie.
    async fn refresh_token(&self) -> Option<String> {
        let granted = self.granted.as_ref().filter(|granted| !granted.in_cookie)?;
        Some(granted.renewed.refresh.reveal())
    }

    /// Who is logged in. Null if there is a refusal.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let Some(granted) = &self.granted else {
            return Ok(None);
        };
        // Whoever has just registered need not be in the view yet.
        let row = settled(ctx, Users::NAME, || user(ctx, granted.renewed.user_id)).await?;
        Ok(row.map(User))
    }

    /// Why there is no token; empty if there is one.
    async fn user_errors(&self) -> &[E] {
        &self.errors
    }
}

impl<E> TokensPayload<E>
where
    E: TryFrom<crate::graphql::user_errors::UserError, Error = crate::graphql::user_errors::UserError>,
{
    fn of(ctx: &Context<'_>, attempt: Result<Granted, Refusal>) -> Result<Self> {
        Ok(match attempt {
            Ok(granted) => Self {
                granted: Some(granted),
                errors: Vec::new(),
            },
            Err(refusal) => Self {
                granted: None,
                errors: errors(ctx, refusal)?,
            },
        })
    }
}

/// The mutations that give tokens.
#[derive(Debug, Default)]
pub(crate) struct LogInMutation;

#[Object]
impl LogInMutation {
    /// Begins a session for whoever knows an e-mail address and its password. For everybody. It takes no idempotency key: each time it
    /// begins a new session. Attempts are counted, per account and per address, each by itself; a right password within the limit
    /// starts the account's count afresh.
    async fn log_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who logs in.")] input: LogInInput,
    ) -> Result<TokensPayload<LogInError>> {
        let attempt = log_in(ctx, input).await;
        TokensPayload::of(ctx, attempt)
    }

    /// Gives a new access token to whoever has a session. For everybody; send it without the old access token, which may have expired.
    /// The refresh token is replaced: the old one is good for ten seconds more, in which it gives the same answer again, as two tabs
    /// that ask at once need it. Used after that it ends the session, for somebody else must have a copy. It takes no idempotency key.
    async fn refresh_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which session.")] input: RefreshSessionInput,
    ) -> Result<TokensPayload<RefreshSessionError>> {
        let attempt = refresh(ctx, input).await;
        TokensPayload::of(ctx, attempt)
    }
}

async fn log_in(ctx: &Context<'_>, input: LogInInput) -> Result<Granted, Refusal> {
    let app = app(ctx);
    let in_cookie = input.in_cookie.unwrap_or(false);
    if in_cookie && !info(ctx).sets_cookies {
        return Err(
            bad_user_input("inCookie: only the answer to a plain HTTP request can set a cookie").into(),
        );
    }
    let email = Email::new(input.email.as_str()).ok();
    // As it was typed if it is no address: that is no account, and must look like one.
    let typed = email.as_ref().map_or_else(|| input.email.clone(), Email::folded);
    let account = Counted::new("account", &typed, app.throttle.terms.account);
    let address = from_address(ctx);
    if let Err(refusal) = attempt(ctx, [Some(account.clone()), address.clone()]).await {
        app.deeds.note(deed(ctx, Kind::LogInThrottled));
        return Err(refusal);
    }
    let failed = deed(ctx, Kind::LogInFailed);
    if input.password.len() > LONGEST {
        app.deeds.note(failed.detail("no password is so long"));
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
    let found = Account::of(&app.store, user_id)
        .await
        .map_err(|error| internal(ctx, error))?;
    if !app.passwords.verify(found.hash.as_ref(), input.password).await {
        app.deeds.note(match known {
            Some(id) => failed.to(id.to_string()).detail("wrong password"),
            // Nothing of the address: who mistypes their own would stand here.
            None => failed.detail("no such account"),
        });
        return Err(invalid());
    }
    app.throttle.forgive(&account, address.as_ref()).await;
    if !found.active {
        app.deeds.note(
            failed
                .to(user_id.to_string())
                .detail("the account is deactivated"),
        );
        let message = "the account is deactivated";
        return Err(refuse(AccountDeactivated::new(message, INPUT.path())));
    }
    let agent = info(ctx).user_agent.as_deref();
    match app.sessions.begin(user_id, &found, agent).await {
        Ok(renewed) => {
            let deed = Deed {
                actor: Actor::User(user_id),
                ..deed(ctx, Kind::LoggedIn)
            };
            app.deeds
                .note(deed.to(user_id.to_string()).detail(renewed.session.to_string()));
            Ok(grant(ctx, renewed, in_cookie))
        }
        Err(RenewError::Unavailable(error)) => Err(unavailable(&error)),
        Err(RenewError::Ended) => Err(invalid()),
        Err(error) => Err(internal(ctx, error).into()),
    }
}

async fn refresh(ctx: &Context<'_>, input: RefreshSessionInput) -> Result<Granted, Refusal> {
    let app = app(ctx);
    let (token, in_cookie) = match (&input.refresh_token, &info(ctx).session) {
        (Some(given), _) => (RefreshToken::parse(given), false),
        (None, cookie) => (cookie.clone(), true),
    };
    if in_cookie && !info(ctx).sets_cookies {
        return Err(bad_user_input("only the answer to a plain HTTP request can set a cookie").into());
    }
    let Some(token) = token else {
        return Err(ended(ctx, in_cookie));
    };
    match app.sessions.renew(&token).await {
        Ok(renewed) => Ok(grant(ctx, renewed, in_cookie)),
        Err(RenewError::Ended) => Err(ended(ctx, in_cookie)),
        Err(RenewError::Reused) => {
            app.deeds
                .note(deed(ctx, Kind::RefreshTokenReused).to(token.session().to_string()));
            Err(ended(ctx, in_cookie))
        }
        Err(RenewError::Unavailable(error)) => Err(unavailable(&error)),
        Err(error) => Err(internal(ctx, error).into()),
    }
}

fn grant(ctx: &Context<'_>, renewed: Renewed, in_cookie: bool) -> Granted {
    if in_cookie {
        let desk = &app(ctx).sessions;
        set_cookie(ctx, desk.cookie.set(&renewed.refresh, desk.terms()));
    }
    Granted { renewed, in_cookie }
}

/// Has the answer set a cookie.
pub(super) fn set_cookie(ctx: &Context<'_>, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        ctx.append_http_header(SET_COOKIE, cookie);
    }
}

fn ended(ctx: &Context<'_>, in_cookie: bool) -> Refusal {
    if in_cookie {
        set_cookie(ctx, app(ctx).sessions.cookie.clear());
    }
    refuse(SessionEnded::new(
        "the session has ended; log in again",
        INPUT.path(),
    ))
}

/// Attempts from where the request comes from.
pub(super) fn from_address(ctx: &Context<'_>) -> Option<Counted> {
    let address = info(ctx).address?;
    let rate = app(ctx).throttle.terms.address;
    Some(Counted::new("address", &address.to_string(), rate))
}

/// Counts an attempt.
pub(super) async fn attempt<const N: usize>(
    ctx: &Context<'_>,
    counted: [Option<Counted>; N],
) -> Result<(), Refusal> {
    let counted: Vec<Counted> = counted.into_iter().flatten().collect();
    app(ctx).throttle.charge(&counted).await.map_err(|wait| {
        let seconds = i32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX);
        let message = format!("too many attempts; the next one will be looked at in {seconds} s");
        refuse(TooManyAttempts::new(message, INPUT.path(), seconds))
    })
}

pub(super) fn invalid() -> Refusal {
    let message = "e-mail address and password do not belong together";
    refuse(InvalidCredentials::new(message, INPUT.path()))
}
