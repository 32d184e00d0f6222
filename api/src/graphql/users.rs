//! Users: who they are and what they may do. Password hashes never come here.

use std::sync::Arc;

use async_graphql::{Context, Description, Enum, ID, Object, Result, SimpleObject};
use chrono::Utc;
use kontor_domain::{self as domain, Email, PersonName, Phone, UserId};
use kontor_projections::users::{self as view, UserRow, Users};
use kontor_projections::view::View;

use super::access::{Permission, logged_in, require, viewer};
use super::connection::{Connection, Page};
use super::reads::{app, at_least, settled, stored, unreadable, user, visible_user};
use super::scalars::{DateTime, Position, id_argument, version};

mod account;
mod confirm;
mod erase;
mod export;
mod inputs;
mod log_in;
mod manage;
mod payload;
mod payment_methods;
mod recovery;
mod sessions;

pub(crate) use account::AccountMutations;
pub(crate) use erase::ErasureMutations;
pub(crate) use export::ExportQueries;
pub(crate) use log_in::LogInMutation;
pub(crate) use manage::UserMutations;
pub(crate) use payment_methods::{PaymentMethodMutations, payment_method_not_found};
pub(crate) use recovery::RecoveryMutations;
pub(crate) use sessions::{SessionMutations, SessionQueries};

use payment_methods::PaymentMethod;

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "kontor_domain::Role")]
pub(crate) enum Role {
    /// Places orders and sees their own. Every account has it.
    Customer,
    /// Keeps the catalogue and the stock, ships orders, sees every order and every account.
    Staff,
    /// Gives and takes roles, closes and opens accounts; and whatever staff may.
    Admin,
}

/// The ways on which a customer is told what happens: registered, order confirmed, rejected, shipped and so on.
#[derive(Debug, Clone, Copy, SimpleObject)]
pub(crate) struct NotificationChannels {
    /// By e-mail. True until they choose.
    email: bool,
    /// By SMS, while the account has a telephone number. False until they choose.
    sms: bool,
}

/// A person with an account. Seen by themselves and by staff; to everybody else it is as if they did not exist.
#[derive(Debug, Clone, Description)]
pub(crate) struct User(pub(crate) Arc<UserRow>);

#[Object(use_type_description)]
impl User {
    /// Names the user: `usr_` and a ULID. Sorts by the time of registration.
    pub(crate) async fn id(&self) -> ID {
        ID::from(self.0.id.as_str())
    }

    /// The e-mail address as it was typed; unique without regard to case. Null once the person was erased.
    async fn email(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        stored::<Email>(ctx, self.0.email.as_deref()).await
    }

    /// Whether somebody has shown that they read mail sent to that address: see `requestEmailVerification`.
    async fn email_verified(&self) -> bool {
        self.0.email_verified
    }

    /// What to call them: 1 to 200 characters. Null once the person was erased.
    async fn name(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        stored::<PersonName>(ctx, self.0.name.as_deref()).await
    }

    /// A telephone number, if they gave one. Null once the person was erased.
    async fn phone(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        stored::<Phone>(ctx, self.0.phone.as_deref()).await
    }

    /// How they want to be told what happens to them and their orders.
    async fn channels(&self) -> NotificationChannels {
        NotificationChannels {
            email: self.0.by_email,
            sms: self.0.by_sms,
        }
    }

    /// Payment methods they keep for orders to come, in the order in which they were saved: at most 10.
    async fn payment_methods(&self, ctx: &Context<'_>) -> Result<Vec<PaymentMethod>> {
        let mut kept = Vec::new();
        for method in self.0.payment_methods.iter() {
            kept.extend(PaymentMethod::named(ctx, &method.id, &method.label).await?);
        }
        Ok(kept)
    }

    /// What the account may do. A role given or taken counts within seconds; access tokens from before it are good no more.
    async fn roles(&self) -> Vec<Role> {
        let role = |role: &String| domain::Role::parse(role).map(Role::from);
        self.0.roles.iter().filter_map(role).collect()
    }

    /// Whether they can log in: false once the account was deactivated.
    async fn active(&self) -> bool {
        self.0.active
    }

    /// When they registered.
    async fn registered_at(&self) -> DateTime {
        DateTime(self.0.registered_at)
    }

    /// When anything about the account last changed.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }

    /// How often the account has changed: what edits take as `expectedVersion`.
    async fn version(&self) -> i32 {
        version(self.0.version)
    }
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self(Arc::new(row))
    }
}

/// Queries of users.
#[derive(Debug, Default)]
pub(crate) struct UserQueries;

#[Object]
impl UserQueries {
    /// Whose token the request carries; null if nobody is logged in.
    async fn me(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Option<User>> {
        let Some(viewer) = viewer(ctx) else {
            return Ok(None);
        };
        super::reads::at_least(ctx, Users::NAME, at_least).await?;
        // Whoever has just registered and logged in need not be in the view yet.
        let row = settled(ctx, Users::NAME, || user(ctx, viewer.user_id)).await?;
        Ok(row.map(User))
    }

    /// A user by their id; null if there is none, or none that you may see: customers see themselves, staff see all.
    /// `UNAUTHENTICATED` if you are not logged in.
    async fn user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user's id, `usr_...`; `BAD_USER_INPUT` if it is no such id.")] id: ID,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Option<User>> {
        let viewer = logged_in(ctx)?;
        let id: UserId = id_argument("id", &id)?;
        super::reads::at_least(ctx, Users::NAME, at_least).await?;
        Ok(visible_user(ctx, viewer, id).await?.map(User))
    }

    /// All users, newest first. For staff; `FORBIDDEN` for customers. Needs `user:read-all`.
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most: 1 to 100, otherwise `BAD_USER_INPUT`.",
            default = 20
        )]
        first: i32,
        #[graphql(
            desc = "The cursor behind which the page begins; `BAD_USER_INPUT` if it is not one of this list."
        )]
        after: Option<String>,
        #[graphql(
            desc = "Answer with nothing older than this position, waiting for it if need be; `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<Connection<User>> {
        require(ctx, Permission::UserReadAll)?;
        let page = Page::<(chrono::DateTime<Utc>, UserId)>::new(Some(first), after.as_deref())?;
        super::reads::at_least(ctx, Users::NAME, at_least).await?;
        let after = page.after.map(|(time, id)| (time, id.to_string()));
        let after = after.as_ref().map(|(time, id)| (*time, id.as_str()));
        let rows = view::list(app(ctx).store.pool(), after, page.limit()).await;
        let key = |row: &UserRow| Some((row.registered_at, row.id.parse().ok()?));
        Ok(page.connection(rows.map_err(unreadable(ctx))?, key, User::from))
    }
}

/// E-mail address, name and telephone number in the clear.
type Known = (Option<String>, Option<String>, Option<String>);

async fn stored_person(ctx: &Context<'_>, row: &UserRow) -> Result<Known> {
    Ok((
        stored::<Email>(ctx, row.email.as_deref()).await?,
        stored::<PersonName>(ctx, row.name.as_deref()).await?,
        stored::<Phone>(ctx, row.phone.as_deref()).await?,
    ))
}

/// A user as of a position. For those who have just written it.
async fn fresh(ctx: &Context<'_>, id: UserId, position: u64) -> Result<Option<User>> {
    at_least(ctx, Users::NAME, Some(Position(position))).await?;
    Ok(user(ctx, id).await?.map(User))
}
