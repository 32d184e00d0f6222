//! Payment methods that customers keep for orders to come.

use async_graphql::{Context, ID, Object, Result, SimpleObject};
use kontor_domain::{
    PaymentMethodId, PaymentMethodLabel, PaymentMethodToken, Personal, SavedPaymentMethod, User as Aggregate,
    UserCommand, UserEvent, UserId,
};

use super::inputs::{RemovePaymentMethodInput, SavePaymentMethodInput};
use super::payload::{RemovePaymentMethodError, SavePaymentMethodError, UserPayload};
use super::{User, fresh};
use crate::graphql::access::logged_in;
use crate::graphql::command::{Answer, Ready, UserOutcome, execute, expected};
use crate::graphql::error::internal;
use crate::graphql::input::{Check, INPUT, Refusal};
use crate::graphql::reads::{app, revealed};
use crate::graphql::scalars::Position;
use crate::graphql::user_errors::{PaymentMethodNotFound, UserError};

/// A payment method that somebody keeps for orders to come. What the payment gateway calls it is never shown.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct PaymentMethod {
    /// Names it: `pay_` and a ULID. As `payment.savedMethod` of `placeOrder`, it pays an order of its owner, and of nobody else.
    id: ID,
    /// What its owner calls it.
    label: String,
}

impl PaymentMethod {
    /// None once its owner was erased.
    pub(super) async fn named(
        ctx: &Context<'_>,
        id: &str,
        label: &Personal<PaymentMethodLabel>,
    ) -> Result<Option<Self>> {
        let label = revealed(ctx, label).await?;
        Ok(label.map(|label| Self {
            id: id.into(),
            label: label.as_str().to_owned(),
        }))
    }
}

/// Also for one that somebody else keeps: whose it is, is nobody's business.
pub(crate) fn payment_method_not_found(id: PaymentMethodId, path: Vec<String>) -> UserError {
    PaymentMethodNotFound::new("you keep no such payment method", path, id.to_string().into()).into()
}

/// The answer to `savePaymentMethod`: either it was done, or `userErrors` says why not.
#[derive(Debug)]
pub(crate) struct SavePaymentMethodPayload {
    answer: Answer<UserId, SavePaymentMethodError>,
    saved: Option<PaymentMethod>,
}

/// The answer to `savePaymentMethod`: either it was done, or `userErrors` says why not.
#[Object]
impl SavePaymentMethodPayload {
    /// The payment method; null if the mutation was refused, or if you have removed it meanwhile.
    async fn payment_method(&self) -> Option<&PaymentMethod> {
        self.saved.as_ref()
    }

    /// You, at least as new as `position`; null if the mutation was refused. Asking for it waits until the users have caught up,
    /// usually some milliseconds, and answers `CONSISTENCY_TIMEOUT` here if that takes too long: the mutation was done all the
    /// same.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        match self.answer.written {
            Some((id, position)) => fresh(ctx, id, position).await,
            None => Ok(None),
        }
    }

    /// Your id; null if the mutation was refused. Costs nothing.
    async fn user_id(&self) -> Option<ID> {
        self.answer.written.map(|(id, _)| id.to_string().into())
    }

    /// Where the log stands behind this mutation: as `atLeast` of a query, it makes the answer include it. Null if the
    /// mutation was refused.
    async fn position(&self) -> Option<Position> {
        self.answer.written.map(|(_, position)| Position(position))
    }

    /// Why nothing was done; empty if it was done.
    async fn user_errors(&self) -> &[SavePaymentMethodError] {
        &self.answer.errors
    }
}

/// Mutations of the payment methods one keeps.
#[derive(Debug, Default)]
pub(crate) struct PaymentMethodMutations;

#[Object]
impl PaymentMethodMutations {
    /// Keeps a payment method for your orders to come. For everybody who is logged in. One that you keep already is only called
    /// otherwise from now on.
    async fn save_payment_method(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The payment method, and what to call it.")] input: SavePaymentMethodInput,
    ) -> Result<SavePaymentMethodPayload> {
        let id = logged_in(ctx)?.user_id;
        let (attempt, saved) = match save(ctx, id, input).await {
            Ok((outcome, saved)) => (Ok(outcome), saved),
            Err(refusal) => (Err(refusal), None),
        };
        let answer = Answer::of(ctx, attempt)?;
        Ok(SavePaymentMethodPayload { answer, saved })
    }

    /// Forgets a payment method that you keep. For everybody who is logged in. Orders that were placed with it go on.
    async fn remove_payment_method(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which payment method.")] input: RemovePaymentMethodInput,
    ) -> Result<UserPayload<RemovePaymentMethodError>> {
        let id = logged_in(ctx)?.user_id;
        UserPayload::of(ctx, remove(ctx, id, input).await)
    }
}

async fn save(
    ctx: &Context<'_>,
    user: UserId,
    input: SavePaymentMethodInput,
) -> Result<(UserOutcome, Option<PaymentMethod>), Refusal> {
    let mut check = Check::default();
    let context = check.context(ctx, "savePaymentMethod", &input, &input.idempotency_key);
    let token: Option<PaymentMethodToken> = check.text(INPUT.field("token"), &input.token);
    let label: Option<PaymentMethodLabel> = check.text(INPUT.field("label"), &input.label);
    let (Some(context), Some(token), Some(label)) = (context, token, label) else {
        return Err(check.refusal());
    };
    let store = &app(ctx).store;
    let ready = Ready::<Aggregate> {
        id: user,
        command: UserCommand::SavePaymentMethod {
            id: PaymentMethodId::from_ulid(store.ids().next()),
            token: Personal::new(token.clone()),
            label: Personal::new(label),
        },
        context: context.expecting(expected(input.expected_version)),
        key: input.idempotency_key,
    };
    let outcome = execute(ctx, ready).await?;
    let saved = outcome.events.iter().find_map(|event| match event {
        UserEvent::PaymentMethodSaved { id, label, .. } => Some((*id, label.clone())),
        _ => None,
    });
    let saved = if saved.is_some() {
        saved
    } else {
        // It was kept already, and called so.
        let token = Personal::new(token);
        let kept = |user: &Aggregate, _| {
            let called = |it: &SavedPaymentMethod| (it.id, it.label.clone());
            user.payment_methods().find(|it| it.token == token).map(called)
        };
        let kept = store.look(user, outcome.version, kept).await;
        kept.map_err(|error| internal(ctx, error))?
    };
    let saved = match saved {
        Some((id, label)) => PaymentMethod::named(ctx, &id.to_string(), &label).await?,
        None => None,
    };
    Ok((outcome, saved))
}

async fn remove(
    ctx: &Context<'_>,
    user: UserId,
    input: RemovePaymentMethodInput,
) -> Result<UserOutcome, Refusal> {
    let mut check = Check::default();
    let context = check.context(ctx, "removePaymentMethod", &input, &input.idempotency_key);
    let id: Option<PaymentMethodId> = check.id(INPUT.field("paymentMethodId"), &input.payment_method_id);
    let (Some(context), Some(id)) = (context, id) else {
        return Err(check.refusal());
    };
    let ready = Ready::<Aggregate> {
        id: user,
        command: UserCommand::RemovePaymentMethod { id },
        context: context.expecting(expected(input.expected_version)),
        key: input.idempotency_key,
    };
    execute(ctx, ready).await
}
