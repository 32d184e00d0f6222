//! What is proved by reading one's mail: that an account is one's own, and that an address is.

use async_graphql::{Context, Description, ID, Object, Result};
use kontor_domain::{ClaimKind, Email, Personal, User as Aggregate, UserCommand, UserId};
use kontor_eventstore::deeds::Kind;
use kontor_eventstore::{Actor, IdempotencyKey};
use kontor_fulfilment::account_mail::{self, AccountToken, Purpose};

use super::account::{hash, known_of, strong};
use super::inputs::{
    RequestEmailVerificationInput, RequestPasswordResetInput, ResetPasswordInput, VerifyEmailInput,
};
use super::log_in::{attempt, from_address};
use super::payload::{ResetPasswordError, UserPayload, VerifyEmailError};
use crate::graphql::access::{deed, logged_in};
use crate::graphql::command::{Answer, Ready, UserOutcome, errors, execute};
use crate::graphql::error::internal;
use crate::graphql::input::{Check, INPUT, Refusal, command_context, refuse};
use crate::graphql::reads::app;
use crate::graphql::scalars::Position;
use crate::graphql::user_errors::{AccountDeactivated, EmailIsAnother, InvalidToken, UserError, refusals};
use crate::throttle::Counted;

refusals! {
    /// Why `requestPasswordReset` did nothing.
    RequestPasswordResetError: TooManyAttempts;
    /// Why `requestEmailVerification` did nothing.
    RequestEmailVerificationError: TooManyAttempts, EmailIsAnother;
}

/// The answer to whoever asks for a mail.
#[derive(Debug, Description)]
pub(crate) struct MailPayload<E> {
    errors: Vec<E>,
}

#[Object(
    use_type_description,
    concrete(name = "RequestPasswordResetPayload", params(RequestPasswordResetError)),
    concrete(
        name = "RequestEmailVerificationPayload",
        params(RequestEmailVerificationError)
    )
)]
impl<E: async_graphql::OutputType> MailPayload<E> {
    /// Why nothing will be sent; empty if the request was taken. Whether there is anybody to send it to is not told.
    async fn user_errors(&self) -> &[E] {
        &self.errors
    }
}

impl<E: TryFrom<UserError, Error = UserError>> MailPayload<E> {
    fn of(ctx: &Context<'_>, attempt: Result<(), Refusal>) -> Result<Self> {
        let errors = match attempt {
            Ok(()) => Vec::new(),
            Err(refusal) => errors(ctx, refusal)?,
        };
        Ok(Self { errors })
    }
}

/// The answer to `verifyEmail`: either it was done, or `userErrors` says why not. Of the account it says nothing: whoever reads the mail of
/// an address that was mistyped is not its owner.
#[derive(Debug, Description)]
pub(crate) struct VerifyEmailPayload(Answer<UserId, VerifyEmailError>);

#[Object(use_type_description)]
impl VerifyEmailPayload {
    /// The id of the account; null if the mutation was refused.
    async fn user_id(&self) -> Option<ID> {
        self.0.written.map(|(id, _)| id.to_string().into())
    }

    /// Where the log stands behind this mutation: as `atLeast` of a query, it makes the answer include it. Null if the
    /// mutation was refused.
    async fn position(&self) -> Option<Position> {
        self.0.written.map(|(_, position)| Position(position))
    }

    /// Why nothing was done; empty if it was done.
    async fn user_errors(&self) -> &[VerifyEmailError] {
        &self.0.errors
    }
}

/// Mutations of what mail proves.
#[derive(Debug, Default)]
pub(crate) struct RecoveryMutations;

#[Object]
impl RecoveryMutations {
    /// Sends a mail with a token for `resetPassword` to this address, if an account has it. For everybody. The answer and the time it
    /// takes are the same if none has. It takes no idempotency key.
    async fn request_password_reset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who has forgotten.")] input: RequestPasswordResetInput,
    ) -> Result<MailPayload<RequestPasswordResetError>> {
        let attempt = request_reset(ctx, input).await;
        MailPayload::of(ctx, attempt)
    }

    /// Sets the password of the account that the token was mailed to. For everybody who has such a token; it is good once, and for an
    /// hour. All sessions of the account end.
    async fn reset_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token, and the password you want.")] input: ResetPasswordInput,
    ) -> Result<UserPayload<ResetPasswordError>> {
        let attempt = reset(ctx, input).await;
        UserPayload::of(ctx, attempt)
    }

    /// Sends another mail with a token for `verifyEmail` to the address of your account, unless it is verified already: the first was
    /// sent when you registered, or moved there. For everybody who is logged in. It takes no idempotency key.
    async fn request_email_verification(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Where to.")] input: RequestEmailVerificationInput,
    ) -> Result<MailPayload<RequestEmailVerificationError>> {
        let id = logged_in(ctx)?.user_id;
        let attempt = request_verification(ctx, id, input).await;
        MailPayload::of(ctx, attempt)
    }

    /// Shows that the e-mail address is the account's owner's. For everybody who has a token from a mail sent there; it is good once, and
    /// for a day.
    async fn verify_email(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token.")] input: VerifyEmailInput,
    ) -> Result<VerifyEmailPayload> {
        let attempt = verify(ctx, input).await;
        Answer::of(ctx, attempt).map(VerifyEmailPayload)
    }
}

async fn request_reset(ctx: &Context<'_>, input: RequestPasswordResetInput) -> Result<(), Refusal> {
    let app = app(ctx);
    let email = Email::new(input.email.as_str()).ok();
    let typed = email.as_ref().map_or_else(|| input.email.clone(), Email::folded);
    let mails = Counted::new("mails", &typed, app.throttle.terms.mails);
    attempt(ctx, [Some(mails), from_address(ctx)]).await?;
    let known = match &email {
        Some(email) => app
            .store
            .holder(ClaimKind::Email, &email.folded())
            .await
            .map_err(|error| internal(ctx, error))?,
        None => None,
    };
    let known: Option<UserId> = known.and_then(|id| id.parse().ok());
    let asked = deed(ctx, Kind::PasswordResetRequested);
    app.deeds.note(match known {
        Some(id) => asked.to(id.to_string()),
        None => asked.detail("no such account"),
    });
    account_mail::request(app.store.pool(), Purpose::ResetPassword, known)
        .await
        .map_err(|error| internal(ctx, error).into())
}

async fn request_verification(
    ctx: &Context<'_>,
    id: UserId,
    input: RequestEmailVerificationInput,
) -> Result<(), Refusal> {
    let app = app(ctx);
    let typed = Email::new(input.email).ok().map(|email| email.folded());
    let mails = Counted::new("mails", &id.to_string(), app.throttle.terms.mails);
    attempt(ctx, [Some(mails), from_address(ctx)]).await?;
    let is = app
        .store
        .inspect::<Aggregate, _>(id, |user, _| user.email()?.reveal().map(Email::folded))
        .await
        .map_err(|error| internal(ctx, error))?;
    if typed.is_none() || typed != is {
        let path = INPUT.field("email").path();
        return Err(refuse(EmailIsAnother::new(
            "the account has another e-mail address",
            path,
        )));
    }
    account_mail::request(app.store.pool(), Purpose::VerifyEmail, Some(id))
        .await
        .map_err(|error| internal(ctx, error).into())
}

/// An account, as far as a token goes.
struct Known {
    email: Option<Email>,
    active: bool,
    personal: Vec<String>,
}

async fn known(ctx: &Context<'_>, id: UserId) -> Result<Known, Refusal> {
    let look = |user: &Aggregate, _| Known {
        email: user.email().and_then(|email| email.reveal().cloned()),
        active: user.is_active(),
        personal: known_of(user),
    };
    let known = app(ctx).store.inspect(id, look).await;
    known.map_err(|error| internal(ctx, error).into())
}

fn invalid() -> Refusal {
    let path = INPUT.field("token").path();
    refuse(InvalidToken::new(
        "the token is not good (any more); ask for another mail",
        path,
    ))
}

fn closed() -> Refusal {
    refuse(AccountDeactivated::new(
        "the account is deactivated",
        INPUT.path(),
    ))
}

/// A command that a token has proved the right to.
fn proved(
    ctx: &Context<'_>,
    purpose: Purpose,
    token: &str,
    id: UserId,
    command: UserCommand,
) -> Ready<Aggregate> {
    let actor = Actor::User(id);
    // Derived from the token, of which the key holds nothing: it happens once, like the token.
    let digest = crate::sessions::secret_hash(token.as_bytes());
    let key = IdempotencyKey::derived("mailed", purpose.as_str(), digest);
    Ready {
        id,
        command,
        key: key.key.clone(),
        context: command_context(ctx, actor).once(key),
    }
}

async fn reset(ctx: &Context<'_>, input: ResetPasswordInput) -> Result<UserOutcome, Refusal> {
    let app = app(ctx);
    attempt(ctx, [from_address(ctx)]).await?;
    let mut check = Check::default();
    let Some(new) = check.password(INPUT.field("newPassword"), input.new_password) else {
        return Err(check.refusal());
    };
    let (pool, purpose) = (app.store.pool(), Purpose::ResetPassword);
    let token = AccountToken::parse(&input.token).ok_or_else(invalid)?;
    let id = token.user_id();
    let known = known(ctx, id).await?;
    let email = known.email.ok_or_else(invalid)?;
    let now = app.clock.now();
    // Before the password is judged: what is said of it might tell of its owner. And a weak one uses up no token.
    let good = token.is_good(pool, purpose, &email, now).await;
    if !good.map_err(|error| internal(ctx, error))? {
        return Err(invalid());
    }
    if !known.active {
        return Err(closed());
    }
    strong(ctx, INPUT.field("newPassword"), &new, known.personal).await?;
    let password_hash = hash(ctx, new).await?.into();
    let used = token.use_up(pool, purpose, &email, now).await;
    if !used.map_err(|error| internal(ctx, error))? {
        return Err(invalid());
    }
    let command = UserCommand::ChangePassword { password_hash };
    let outcome = execute(ctx, proved(ctx, purpose, &input.token, id, command)).await?;
    if let Err(error) = app.sessions.password_changed(id, None).await {
        // They end when they are to be renewed, for what they remember of the password is not true any more.
        tracing::warn!(%error, "the sessions of an account are not ended yet");
    }
    let guesses = Counted::new("account", &email.folded(), app.throttle.terms.account);
    app.throttle.forgive(&guesses, None).await;
    Ok(outcome)
}

async fn verify(ctx: &Context<'_>, input: VerifyEmailInput) -> Result<UserOutcome, Refusal> {
    let app = app(ctx);
    attempt(ctx, [from_address(ctx)]).await?;
    let token = AccountToken::parse(&input.token).ok_or_else(invalid)?;
    let id = token.user_id();
    let known = known(ctx, id).await?;
    let email = known.email.ok_or_else(invalid)?;
    let (pool, now) = (app.store.pool(), app.clock.now());
    let used = token.use_up(pool, Purpose::VerifyEmail, &email, now).await;
    if !used.map_err(|error| internal(ctx, error))? {
        return Err(invalid());
    }
    if !known.active {
        return Err(closed());
    }
    let command = UserCommand::VerifyEmail {
        email: Personal::new(email),
    };
    execute(ctx, proved(ctx, Purpose::VerifyEmail, &input.token, id, command)).await
}
