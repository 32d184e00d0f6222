//! Sending a command and answering for it.

use async_graphql::{Context, Result};
use kontor_domain::{ClaimKind, Order, Product, User};
use kontor_eventstore::{CommandContext, ExecuteError, Outcome, Stored};

use super::error::{internal, unauthenticated};
use super::input::{INPUT, Refusal, refuse};
use super::reads::app;
use super::user_errors::{Contended, EmailTaken, IdempotencyKeyReused, SkuTaken, UserError, VersionConflict};

/// An aggregate whose refusals the schema can say.
pub(crate) trait Refuses: Stored {
    /// What the aggregate said no with. `None` is what no mutation can bring about.
    fn refusal(id: Self::Id, error: &Self::Error) -> Option<UserError>;
}

/// A command that is ready to be sent.
pub(crate) struct Ready<A: Stored> {
    /// To which aggregate.
    pub(crate) id: A::Id,
    /// What is asked of it.
    pub(crate) command: A::Command,
    /// By whom, when, and once.
    pub(crate) context: CommandContext,
    /// The client's idempotency key, to be named if it was used before.
    pub(crate) key: String,
}

/// Sends a command to an aggregate that exists.
pub(crate) async fn execute<A: Refuses>(ctx: &Context<'_>, ready: Ready<A>) -> Result<Outcome<A>, Refusal> {
    let Ready {
        id,
        command,
        context,
        key,
    } = ready;
    let done = app(ctx).store.execute::<A>(id, command, context).await;
    done.map_err(|error| refused::<A>(ctx, id, error, key))
}

/// Sends the command that creates an aggregate, whose id is fresh.
pub(crate) async fn create<A: Refuses>(ctx: &Context<'_>, ready: Ready<A>) -> Result<Outcome<A>, Refusal> {
    let Ready {
        id,
        command,
        context,
        key,
    } = ready;
    let done = app(ctx).store.create::<A>(id, command, context).await;
    done.map_err(|error| refused::<A>(ctx, id, error, key))
}

fn refused<A: Refuses>(ctx: &Context<'_>, id: A::Id, error: ExecuteError<A::Error>, key: String) -> Refusal {
    match error {
        ExecuteError::Refused(error) => match A::refusal(id, &error) {
            Some(refusal) => refuse(refusal),
            None => internal(ctx, error).into(),
        },
        ExecuteError::VersionConflict { expected, actual } => refuse(VersionConflict::new(
            format!("the version is {actual}, not {expected}"),
            INPUT.field("expectedVersion").path(),
            int(expected),
            int(actual),
        )),
        ExecuteError::Contended { version } => refuse(contended(version)),
        ExecuteError::KeyReused => refuse(key_reused(key)),
        ExecuteError::ClaimTaken { kind, holder } => refuse(match kind {
            // Whose address it is, is nobody's business.
            ClaimKind::Email => UserError::from(EmailTaken::new(
                "another account has this e-mail address",
                INPUT.field("email").path(),
            )),
            ClaimKind::Sku => UserError::from(SkuTaken::new(
                "another product has this SKU",
                INPUT.field("sku").path(),
                holder.into(),
            )),
        }),
        // Their tokens end with them, and this one was a moment slower.
        ExecuteError::Erased => unauthenticated().into(),
        ExecuteError::Unavailable(reason) | ExecuteError::Unreadable(reason) => internal(ctx, reason).into(),
    }
}

fn contended(version: u64) -> Contended {
    let message = "too many others were writing at the same moment; send it again";
    Contended::new(message, INPUT.path(), int(version))
}

/// The key was used for something else.
pub(crate) fn key_reused(key: String) -> IdempotencyKeyReused {
    let message = "the idempotency key was used for another mutation or with other input";
    IdempotencyKeyReused::new(message, INPUT.field("idempotencyKey").path(), key)
}

fn int(version: u64) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
}

/// The version an edit expects. None has a negative one: that conflicts with whatever there is.
pub(crate) fn expected(version: Option<i32>) -> Option<u64> {
    version.map(|version| u64::try_from(version).unwrap_or(u64::MAX))
}

/// What came of a mutation: what the payloads have in common.
#[derive(Debug)]
pub(crate) struct Answer<I, E> {
    /// What was written to, and where the log stood behind it.
    pub(crate) written: Option<(I, u64)>,
    /// Why nothing was written.
    pub(crate) errors: Vec<E>,
}

impl<I, E> Answer<I, E>
where
    E: TryFrom<UserError, Error = UserError>,
{
    /// The payload's part of an attempt; the rest is a top-level error.
    pub(crate) fn of<A: Stored<Id = I>>(
        ctx: &Context<'_>,
        attempt: Result<Outcome<A>, Refusal>,
    ) -> Result<Self> {
        match attempt {
            Ok(outcome) => Ok(Self {
                written: Some((outcome.id, outcome.position)),
                errors: Vec::new(),
            }),
            Err(refusal) => Ok(Self {
                written: None,
                errors: errors(ctx, refusal)?,
            }),
        }
    }
}

/// The errors of a payload.
pub(crate) fn errors<E>(ctx: &Context<'_>, refusal: Refusal) -> Result<Vec<E>>
where
    E: TryFrom<UserError, Error = UserError>,
{
    match refusal {
        Refusal::Top(error) => Err(error),
        Refusal::User(errors) => errors
            .into_iter()
            .map(|error| {
                // A member is missing in the mutation's union.
                E::try_from(error)
                    .map_err(|error| internal(ctx, format_args!("unexpected refusal: {error:?}")))
            })
            .collect(),
    }
}

/// The aggregates, so that a payload can say which it is about.
pub(crate) type ProductOutcome = Outcome<Product>;
/// As above.
pub(crate) type OrderOutcome = Outcome<Order>;
/// As above.
pub(crate) type UserOutcome = Outcome<User>;
