//! What people do to their own account.

use async_graphql::{Context, Object, Result};
use kontor_domain::{
    Email, PasswordHash, PersonName, Personal, Phone, User as Aggregate, UserCommand, UserEvent, UserId,
};
use kontor_eventstore::Outcome;

use super::confirm::Confirmation;
use super::inputs::{
    ChangeEmailInput, ChangePasswordInput, ChangeProfileInput, ChooseNotificationChannelsInput,
    RegisterUserInput,
};
use super::log_in::{attempt, from_address};
use super::payload::{
    ChangeEmailError, ChangePasswordError, ChangeProfileError, ChooseNotificationChannelsError,
    RegisterUserError, UserPayload,
};
use crate::graphql::access::logged_in;
use crate::graphql::command::{Ready, UserOutcome, create, execute, expected, key_reused};
use crate::graphql::error::internal;
use crate::graphql::input::{At, Check, INPUT, Refusal, refuse};
use crate::graphql::reads::{app, revealed};
use crate::graphql::user_errors::WeakPassword;
use crate::throttle::Counted;

/// Mutations of one's own account.
#[derive(Debug, Default)]
pub(crate) struct AccountMutations;

#[Object]
impl AccountMutations {
    /// Opens an account, as a customer. For everybody. It does not log in: that is `logIn`. A password that is easily guessed, also by
    /// whoever knows name and address, is `WeakPassword`. A mail with a token for `verifyEmail` is sent to the address.
    async fn register_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who registers.")] input: RegisterUserInput,
    ) -> Result<UserPayload<RegisterUserError>> {
        UserPayload::of(ctx, register(ctx, input).await)
    }

    /// Replaces your name and telephone number. For everybody who is logged in.
    async fn change_profile(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to call you from now on, and where.")] input: ChangeProfileInput,
    ) -> Result<UserPayload<ChangeProfileError>> {
        let id = logged_in(ctx)?.user_id;
        UserPayload::of(ctx, change_profile(ctx, id, input).await)
    }

    /// Chooses how you are told what happens to you and your orders. For everybody who is logged in.
    async fn choose_notification_channels(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The channels you want; all others are silent.")]
        input: ChooseNotificationChannelsInput,
    ) -> Result<UserPayload<ChooseNotificationChannelsError>> {
        let id = logged_in(ctx)?.user_id;
        UserPayload::of(ctx, choose_notification_channels(ctx, id, input).await)
    }

    /// Moves your account to another e-mail address. For everybody who is logged in; a few times an hour. A mail with a token for
    /// `verifyEmail` is sent to the address, unless it is a verified one in another spelling.
    async fn change_email(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new e-mail address.")] input: ChangeEmailInput,
    ) -> Result<UserPayload<ChangeEmailError>> {
        let id = logged_in(ctx)?.user_id;
        UserPayload::of(ctx, change_email(ctx, id, input).await)
    }

    /// Sets your password. For everybody who is logged in and knows the present one; `InvalidCredentials` otherwise. All
    /// your other sessions end; this one goes on, and its access token is to be renewed.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The password you have, and the one you want.")] input: ChangePasswordInput,
    ) -> Result<UserPayload<ChangePasswordError>> {
        let id = logged_in(ctx)?.user_id;
        UserPayload::of(ctx, change_password(ctx, id, input).await)
    }
}

type Attempt = Result<UserOutcome, Refusal>;

async fn register(ctx: &Context<'_>, input: RegisterUserInput) -> Attempt {
    let mut check = Check::default();
    let context = check.context(ctx, "registerUser", &input, &input.idempotency_key);
    let email: Option<Email> = check.text(INPUT.field("email"), &input.email);
    let name: Option<PersonName> = check.text(INPUT.field("name"), &input.name);
    let phone: Option<Option<Phone>> = check.optional(INPUT.field("phone"), input.phone.as_deref());
    let password = check.password(INPUT.field("password"), input.password);
    let (Some(context), Some(email), Some(name), Some(phone), Some(password)) =
        (context, email, name, phone, password)
    else {
        return Err(check.refusal());
    };
    let known = vec![email.as_str().to_owned(), name.as_str().to_owned()];
    strong(ctx, INPUT.field("password"), &password, known).await?;
    let command = UserCommand::Register {
        email: Personal::new(email),
        name: Personal::new(name),
        phone: phone.map(Personal::new),
        password_hash: Some(hash(ctx, password.clone()).await?.into()),
    };
    let key = input.idempotency_key;
    let ready = Ready::<Aggregate> {
        id: UserId::from_ulid(app(ctx).store.ids().next()),
        command,
        context,
        key: key.clone(),
    };
    let outcome = create(ctx, ready).await?;
    same_password(ctx, outcome, password, key).await
}

async fn change_profile(ctx: &Context<'_>, id: UserId, input: ChangeProfileInput) -> Attempt {
    let mut check = Check::default();
    let context = check.context(ctx, "changeProfile", &input, &input.idempotency_key);
    let name: Option<PersonName> = check.text(INPUT.field("name"), &input.name);
    let phone: Option<Option<Phone>> = check.optional(INPUT.field("phone"), input.phone.as_deref());
    let (Some(context), Some(name), Some(phone)) = (context, name, phone) else {
        return Err(check.refusal());
    };
    let ready = Ready::<Aggregate> {
        id,
        command: UserCommand::ChangeProfile {
            name: Personal::new(name),
            phone: phone.map(Personal::new),
        },
        context: context.expecting(expected(input.expected_version)),
        key: input.idempotency_key,
    };
    execute(ctx, ready).await
}

async fn choose_notification_channels(
    ctx: &Context<'_>,
    id: UserId,
    input: ChooseNotificationChannelsInput,
) -> Attempt {
    let mut check = Check::default();
    let context = check.context(ctx, "chooseNotificationChannels", &input, &input.idempotency_key);
    let Some(context) = context else {
        return Err(check.refusal());
    };
    let ready = Ready::<Aggregate> {
        id,
        command: UserCommand::ChooseChannels {
            email: input.email,
            sms: input.sms,
        },
        context: context.expecting(expected(input.expected_version)),
        key: input.idempotency_key,
    };
    execute(ctx, ready).await
}

async fn change_email(ctx: &Context<'_>, id: UserId, input: ChangeEmailInput) -> Attempt {
    let mut check = Check::default();
    let context = check.context(ctx, "changeEmail", &input, &input.idempotency_key);
    let email: Option<Email> = check.text(INPUT.field("email"), &input.email);
    let (Some(context), Some(email)) = (context, email) else {
        return Err(check.refusal());
    };
    // Each time a mail goes to an address that may be anybody's.
    let mails = Counted::new("moves", &id.to_string(), app(ctx).throttle.terms.mails);
    attempt(ctx, [Some(mails), from_address(ctx)]).await?;
    let ready = Ready::<Aggregate> {
        id,
        command: UserCommand::ChangeEmail {
            email: Personal::new(email),
        },
        context: context.expecting(expected(input.expected_version)),
        key: input.idempotency_key,
    };
    execute(ctx, ready).await
}

async fn change_password(ctx: &Context<'_>, id: UserId, input: ChangePasswordInput) -> Attempt {
    let mut check = Check::default();
    let context = check.context(ctx, "changePassword", &input, &input.idempotency_key);
    let new = check.password(INPUT.field("newPassword"), input.new_password);
    let (Some(context), Some(new)) = (context, new) else {
        return Err(check.refusal());
    };
    let app = app(ctx);
    let attempt = Confirmation::begin(ctx, "changePassword", id).await?;
    let (stored, known) = app
        .store
        .inspect::<Aggregate, _>(id, |user, _| (user.password_hash().cloned(), known_of(user)))
        .await
        .map_err(|error| internal(ctx, error))?;
    let password_hash = if app
        .passwords
        .verify(stored.as_ref(), input.current_password)
        .await
    {
        attempt.right(ctx).await;
        strong(ctx, INPUT.field("newPassword"), &new, known).await?;
        hash(ctx, new.clone()).await?
    } else {
        // A repeat comes after the change, when what was the present password is so no more. If the password is the new
        // one already, sending it changes nothing, and a known key gets its answer.
        let there = app.passwords.verify(stored.as_ref(), new.clone()).await;
        stored
            .filter(|_| there)
            .ok_or_else(|| attempt.wrong(ctx, INPUT.field("currentPassword")))?
    };
    let key = input.idempotency_key;
    let ready = Ready::<Aggregate> {
        id,
        command: UserCommand::ChangePassword {
            password_hash: password_hash.clone().into(),
        },
        context: context.expecting(expected(input.expected_version)),
        key: key.clone(),
    };
    let session = logged_in(ctx)?.session;
    // Said before, so that this session can be renewed the moment the password is another.
    if let Err(error) = app.sessions.expect(session, &password_hash).await {
        tracing::warn!(%error, "this session will not survive the change of its password");
    }
    let outcome = execute(ctx, ready).await?;
    let outcome = same_password(ctx, outcome, new, key).await?;
    if let Some(hash) = stored_hash(ctx, &outcome).await?
        && let Err(error) = app.sessions.password_changed(id, Some((session, &hash))).await
    {
        // They end when they are to be renewed, for what they remember of the password is not true any more.
        tracing::warn!(%error, "the other sessions of an account are not ended yet");
    }
    Ok(outcome)
}

/// What whoever guesses a password knows of its owner.
pub(super) fn known_of(user: &Aggregate) -> Vec<String> {
    let email = user
        .email()
        .and_then(Personal::reveal)
        .map(|email| email.as_str().to_owned());
    let name = user
        .name()
        .and_then(Personal::reveal)
        .map(|name| name.as_str().to_owned());
    email.into_iter().chain(name).collect()
}

/// Refuses a password that can be guessed.
pub(super) async fn strong(
    ctx: &Context<'_>,
    at: At<'_>,
    password: &str,
    known: Vec<String>,
) -> Result<(), Refusal> {
    let judged = app(ctx).passwords.judge(password.to_owned(), known).await;
    judged.map_err(|error| internal(ctx, error))?.map_err(|weakness| {
        let message = "the password is too easily guessed";
        let (score, path) = (i32::from(weakness.score), at.path());
        refuse(WeakPassword::new(
            message,
            path,
            score,
            3,
            weakness.warning,
            weakness.suggestions,
        ))
    })
}

pub(super) async fn hash(ctx: &Context<'_>, password: String) -> Result<PasswordHash> {
    let hashed = app(ctx).passwords.hash(password).await;
    hashed.map_err(|error| internal(ctx, error))
}

/// Passwords are not in the fingerprint of an input, where a fast hash would give them away. So a repeat is compared with
/// what was stored then: another password is another input.
async fn same_password(
    ctx: &Context<'_>,
    outcome: Outcome<Aggregate>,
    password: String,
    key: String,
) -> Attempt {
    if !outcome.repeated {
        return Ok(outcome);
    }
    let stored = stored_hash(ctx, &outcome).await?;
    // No event: the password was what was asked for already, and there is nothing to compare with.
    if stored.is_none() || app(ctx).passwords.verify(stored.as_ref(), password).await {
        Ok(outcome)
    } else {
        Err(refuse(key_reused(key)))
    }
}

/// The hash that a command stored, if it stored one and its owner was not erased meanwhile.
async fn stored_hash(ctx: &Context<'_>, outcome: &Outcome<Aggregate>) -> Result<Option<PasswordHash>> {
    let stored = outcome.events.iter().find_map(|event| match event {
        UserEvent::Registered { password_hash, .. } => password_hash.as_ref(),
        UserEvent::PasswordChanged { password_hash } => Some(password_hash),
        _ => None,
    });
    match stored {
        Some(stored) => revealed(ctx, stored).await,
        None => Ok(None),
    }
}
