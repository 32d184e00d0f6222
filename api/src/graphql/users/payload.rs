//! What the mutations of users answer.

use async_graphql::{Context, Description, ID, Object, OutputType, Result};
use kontor_domain::user::MAX_PAYMENT_METHODS;
use kontor_domain::{User as Aggregate, UserError as Refused, UserId};

use super::{User, fresh, payment_method_not_found};
use crate::graphql::command::{Answer, Refuses, UserOutcome};
use crate::graphql::input::{INPUT, Refusal};
use crate::graphql::scalars::Position;
use crate::graphql::user_errors::{
    AccountDeactivated, CustomerRoleStays, InvalidToken, TooManyPaymentMethods, UserError, UserNotFound,
    refusals,
};

refusals! {
    /// Why `registerUser` did nothing.
    RegisterUserError: InvalidInput, IdempotencyKeyReused, EmailTaken, WeakPassword;
    /// Why `changeProfile` did nothing.
    ChangeProfileError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound, AccountDeactivated;
    /// Why `chooseNotificationChannels` did nothing.
    ChooseNotificationChannelsError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound,
        AccountDeactivated;
    /// Why `changeEmail` did nothing.
    ChangeEmailError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound, AccountDeactivated,
        EmailTaken, TooManyAttempts;
    /// Why `changePassword` did nothing.
    ChangePasswordError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound,
        AccountDeactivated, InvalidCredentials, WeakPassword, TooManyAttempts;
    /// Why `resetPassword` did nothing.
    ResetPasswordError: InvalidInput, WeakPassword, InvalidToken, TooManyAttempts, AccountDeactivated, Contended,
        VersionConflict, IdempotencyKeyReused, UserNotFound;
    /// Why `verifyEmail` did nothing.
    VerifyEmailError: InvalidToken, TooManyAttempts, AccountDeactivated, Contended, VersionConflict, IdempotencyKeyReused,
        UserNotFound;
    /// Why `savePaymentMethod` did nothing.
    SavePaymentMethodError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound,
        AccountDeactivated, TooManyPaymentMethods;
    /// Why `removePaymentMethod` did nothing.
    RemovePaymentMethodError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound,
        AccountDeactivated, PaymentMethodNotFound;
    /// Why `grantRole` did nothing.
    GrantRoleError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound, AccountDeactivated;
    /// Why `revokeRole` did nothing.
    RevokeRoleError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound, AccountDeactivated,
        CustomerRoleStays;
    /// Why `deactivateUser` did nothing.
    DeactivateUserError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound;
    /// Why `reactivateUser` did nothing.
    ReactivateUserError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, UserNotFound;
}

impl Refuses for Aggregate {
    fn refusal(id: UserId, error: &Refused) -> Option<UserError> {
        let message = match error {
            Refused::Erased => Refused::NotFound.to_string(),
            other => other.to_string(),
        };
        Some(match *error {
            // Of somebody who was erased nothing is told, not even that.
            Refused::NotFound | Refused::Erased => {
                let path = INPUT.field("userId").path();
                UserNotFound::new(message, path, id.to_string().into()).into()
            }
            Refused::Deactivated => AccountDeactivated::new(message, INPUT.path()).into(),
            Refused::CustomerRoleStays => CustomerRoleStays::new(message, INPUT.field("role").path()).into(),
            Refused::AnotherEmail => InvalidToken::new(message, INPUT.field("token").path()).into(),
            Refused::TooManyPaymentMethods => {
                let maximum = i32::try_from(MAX_PAYMENT_METHODS).unwrap_or(i32::MAX);
                TooManyPaymentMethods::new(message, INPUT.path(), maximum).into()
            }
            Refused::UnknownPaymentMethod { id } => {
                payment_method_not_found(id, INPUT.field("paymentMethodId").path())
            }
            Refused::AlreadyRegistered => return None,
        })
    }
}

/// The answer to a mutation of a user: either it was done, or `userErrors` says why not.
#[derive(Debug, Description)]
pub(crate) struct UserPayload<E>(Answer<UserId, E>);

#[Object(
    use_type_description,
    concrete(name = "RegisterUserPayload", params(RegisterUserError)),
    concrete(name = "ChangeProfilePayload", params(ChangeProfileError)),
    concrete(
        name = "ChooseNotificationChannelsPayload",
        params(ChooseNotificationChannelsError)
    ),
    concrete(name = "ChangeEmailPayload", params(ChangeEmailError)),
    concrete(name = "ChangePasswordPayload", params(ChangePasswordError)),
    concrete(name = "ResetPasswordPayload", params(ResetPasswordError)),
    concrete(name = "RemovePaymentMethodPayload", params(RemovePaymentMethodError)),
    concrete(name = "GrantRolePayload", params(GrantRoleError)),
    concrete(name = "RevokeRolePayload", params(RevokeRoleError)),
    concrete(name = "DeactivateUserPayload", params(DeactivateUserError)),
    concrete(name = "ReactivateUserPayload", params(ReactivateUserError))
)]
impl<E: OutputType> UserPayload<E> {
    /// The user, at least as new as `position`; null if the mutation was refused. Asking for it waits until the users have
    /// caught up, usually some milliseconds, and answers `CONSISTENCY_TIMEOUT` here if that takes too long: the mutation was
    /// done all the same.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        match self.0.written {
            Some((id, position)) => fresh(ctx, id, position).await,
            None => Ok(None),
        }
    }

    /// The user's id; null if the mutation was refused. Costs nothing.
    async fn user_id(&self) -> Option<ID> {
        self.0.written.map(|(id, _)| id.to_string().into())
    }

    /// Where the log stands behind this mutation: as `atLeast` of a query, it makes the answer include it. Null if the
    /// mutation was refused.
    async fn position(&self) -> Option<Position> {
        self.0.written.map(|(_, position)| Position(position))
    }

    /// Why nothing was done; empty if it was done.
    async fn user_errors(&self) -> &[E] {
        &self.0.errors
    }
}

impl<E> UserPayload<E>
where
    E: TryFrom<UserError, Error = UserError>,
{
    pub(super) fn of(ctx: &Context<'_>, attempt: Result<UserOutcome, Refusal>) -> Result<Self> {
        Answer::of(ctx, attempt).map(Self)
    }
}
