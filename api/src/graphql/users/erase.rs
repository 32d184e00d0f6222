//! The right to be forgotten.

use async_graphql::{Context, Description, ID, InputObject, Object, Result};
use kontor_domain::{User as Aggregate, UserCommand, UserId};
use kontor_fulfilment::erasure::{self, Erased};
use kontor_projections::users::Users;
use kontor_projections::view::View;

use super::confirm::Confirmation;
use crate::graphql::access::{Permission, logged_in, require};
use crate::graphql::command::{Ready, UserOutcome, errors, execute};
use crate::graphql::error::internal;
use crate::graphql::input::{Check, INPUT, Refusal};
use crate::graphql::reads::{app, reach, unreadable};
use crate::graphql::scalars::{Count, DateTime, Position};
use crate::graphql::user_errors::refusals;
use crate::sessions::erased;

refusals! {
    /// Why `eraseUser` did nothing.
    EraseUserError: InvalidInput, IdempotencyKeyReused, Contended, UserNotFound, InvalidCredentials,
                    TooManyAttempts;
}

/// What `eraseUser` takes.
#[derive(InputObject)]
pub(crate) struct EraseUserInput {
    /// 1 to 200 characters that you make up for this request, such as a UUID. Sent again with the same input, it gives the
    /// first answer again and does nothing; with other input it gives `IdempotencyKeyReused`.
    pub(crate) idempotency_key: String,
    /// Who is to be forgotten, `usr_...`; if left out, you.
    pub(crate) user_id: Option<ID>,
    /// Your password, if it is you who is to be forgotten: so that nobody else with your session can do it.
    #[graphql(secret)]
    pub(crate) password: Option<String>,
}

/// What was erased where. What is sealed stays where it is, and nobody can read it any more: its key is destroyed.
#[derive(Debug, Clone, Description)]
pub(crate) struct ErasureCertificate {
    person: UserId,
    erased: Erased,
}

fn count(number: u64) -> Count {
    Count(number.cast_signed())
}

#[Object(use_type_description)]
impl ErasureCertificate {
    /// Who was erased. The id remains; it says nothing about the person but when they registered.
    async fn user_id(&self) -> ID {
        self.person.to_string().into()
    }

    /// Where the end of the account stands in the log.
    async fn position(&self) -> Position {
        Position(self.erased.position)
    }

    /// When the key was destroyed.
    async fn erased_at(&self) -> DateTime {
        DateTime(self.erased.at)
    }

    /// Keys destroyed. Name, e-mail address, telephone number and postal addresses in events, orders and the account were
    /// sealed with them.
    async fn keys(&self) -> Count {
        count(self.erased.certificate.log.keys)
    }

    /// Snapshots of the account deleted.
    async fn snapshots(&self) -> Count {
        count(self.erased.certificate.log.snapshots)
    }

    /// Fingerprints of the person's requests blanked.
    async fn fingerprints(&self) -> Count {
        count(self.erased.certificate.log.fingerprints)
    }

    /// Entries of the audit, by or about the person, of which it was known from which network address; it is gone.
    async fn deeds(&self) -> Count {
        count(self.erased.certificate.log.deeds)
    }

    /// Sessions ended, and their records removed.
    async fn sessions(&self) -> Count {
        count(self.erased.sessions)
    }

    /// Tokens in mails to the person that prove nothing any more.
    async fn tokens(&self) -> Count {
        count(self.erased.certificate.tokens)
    }

    /// Messages to the person that will not be sent any more.
    async fn notifications(&self) -> Count {
        count(self.erased.certificate.notifications)
    }

    /// Messages to the person deleted from the shop's outbox.
    async fn messages(&self) -> Count {
        count(self.erased.certificate.messages)
    }

    /// Events of the account from before the shop sealed what they hold. They cannot be erased, and stay readable in the database.
    async fn readable_events(&self) -> Count {
        count(self.erased.certificate.log.readable_events)
    }
}

/// The answer to `eraseUser`: either it was done, or `userErrors` says why not.
#[derive(Debug, Description)]
pub(crate) struct EraseUserPayload {
    done: Option<(UserId, u64)>,
    errors: Vec<EraseUserError>,
}

#[Object(use_type_description)]
impl EraseUserPayload {
    /// What was erased where; null if the mutation was refused. Asking for it waits until everything is erased, usually some
    /// milliseconds, and answers `CONSISTENCY_TIMEOUT` here if that takes too long: it will be done all the same.
    async fn certificate(&self, ctx: &Context<'_>) -> Result<Option<ErasureCertificate>> {
        let Some((person, position)) = self.done else {
            return Ok(None);
        };
        for consumer in [erasure::NAME, erased::NAME, Users::NAME] {
            reach(ctx, consumer, position).await?;
        }
        let found = erasure::certificate(app(ctx).store.pool(), person).await;
        let found = found.map_err(unreadable(ctx))?;
        Ok(found.map(|erased| ErasureCertificate { person, erased }))
    }

    /// Where the log stands behind this mutation: as `atLeast` of a query, it makes the answer include it. Null if the
    /// mutation was refused.
    async fn position(&self) -> Option<Position> {
        self.done.map(|(_, position)| Position(position))
    }

    /// Why nothing was done; empty if it was done.
    async fn user_errors(&self) -> &[EraseUserError] {
        &self.errors
    }
}

/// The mutation that forgets somebody.
#[derive(Debug, Default)]
pub(crate) struct ErasureMutations;

#[Object]
impl ErasureMutations {
    /// Forgets a person, for good: yourself, confirmed with your password, or anybody else, for admins. The account ends, its
    /// e-mail address becomes free, and what is stored of the person cannot be read by anybody any more. Their orders remain, with
    /// null where the person was. Done again, it changes nothing.
    async fn erase_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who is to be forgotten.")] input: EraseUserInput,
    ) -> Result<EraseUserPayload> {
        Ok(match erase(ctx, input).await {
            Ok(outcome) => EraseUserPayload {
                done: Some((outcome.id, outcome.position)),
                errors: Vec::new(),
            },
            Err(refusal) => EraseUserPayload {
                done: None,
                errors: errors(ctx, refusal)?,
            },
        })
    }
}

async fn erase(ctx: &Context<'_>, input: EraseUserInput) -> Result<UserOutcome, Refusal> {
    let viewer = logged_in(ctx)?;
    let mut check = Check::default();
    let context = check.context(ctx, "eraseUser", &input, &input.idempotency_key);
    let id = match &input.user_id {
        Some(id) => check.id(INPUT.field("userId"), id),
        None => Some(viewer.user_id),
    };
    let (Some(context), Some(id)) = (context, id) else {
        return Err(check.refusal());
    };
    if id == viewer.user_id {
        confirm(ctx, id, input.password).await?;
    } else {
        require(ctx, Permission::UserManage)?;
    }
    let ready = Ready::<Aggregate> {
        id,
        command: UserCommand::Erase,
        context,
        key: input.idempotency_key,
    };
    execute(ctx, ready).await
}

/// That it is they themselves. Whoever is erased already has no password any more, and is told again what was done.
async fn confirm(ctx: &Context<'_>, id: UserId, password: Option<String>) -> Result<(), Refusal> {
    let app = app(ctx);
    let attempt = Confirmation::begin(ctx, "eraseUser", id).await?;
    let look = |user: &Aggregate, _| (user.is_erased(), user.password_hash().cloned());
    let (erased, hash) = app
        .store
        .inspect(id, look)
        .await
        .map_err(|error| internal(ctx, error))?;
    if erased
        || app
            .passwords
            .verify(hash.as_ref(), password.unwrap_or_default())
            .await
    {
        attempt.right(ctx).await;
        return Ok(());
    }
    Err(attempt.wrong(ctx, INPUT.field("password")))
}
