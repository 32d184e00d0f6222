//! The password, asked of whoever is logged in already.

use async_graphql::Context;
use kontor_domain::UserId;
use kontor_eventstore::Deed;
use kontor_eventstore::deeds::Kind;

use super::log_in::{attempt, from_address};
use crate::graphql::access::deed;
use crate::graphql::input::{At, Refusal, refuse};
use crate::graphql::reads::app;
use crate::graphql::user_errors::InvalidCredentials;
use crate::throttle::Counted;

/// One attempt of a mutation at the password of the account that asks. Whoever has found a token guesses no further than whoever
/// has not, and is seen doing it.
pub(super) struct Confirmation {
    id: UserId,
    mutation: &'static str,
    own: Counted,
}

impl Confirmation {
    /// Counts it.
    pub(super) async fn begin(
        ctx: &Context<'_>,
        mutation: &'static str,
        id: UserId,
    ) -> Result<Self, Refusal> {
        let app = app(ctx);
        let own = Counted::new(mutation, &id.to_string(), app.throttle.terms.account);
        let it = Self { id, mutation, own };
        let counted = attempt(ctx, [Some(it.own.clone()), from_address(ctx)]).await;
        if counted.is_err() {
            app.deeds.note(it.deed(ctx, Kind::PasswordThrottled));
        }
        counted.map(|()| it)
    }

    /// It was the right one.
    pub(super) async fn right(&self, ctx: &Context<'_>) {
        app(ctx)
            .throttle
            .forgive(&self.own, from_address(ctx).as_ref())
            .await;
    }

    /// It was not.
    pub(super) fn wrong(&self, ctx: &Context<'_>, at: At<'_>) -> Refusal {
        app(ctx).deeds.note(self.deed(ctx, Kind::PasswordRefused));
        refuse(InvalidCredentials::new(
            "this is not the present password",
            at.path(),
        ))
    }

    fn deed(&self, ctx: &Context<'_>, kind: Kind) -> Deed {
        deed(ctx, kind).to(self.id.to_string()).detail(self.mutation)
    }
}
