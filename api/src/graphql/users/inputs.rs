//! What the mutations of users take.

use async_graphql::{ID, InputObject};

use super::Role;

/// What `registerUser` takes.
#[derive(InputObject)]
pub(crate) struct RegisterUserInput {
    /// 1 to 200 characters that you make up for this request, such as a UUID. Sent again with the same input, it gives the
    /// first answer again and does nothing; with other input it gives `IdempotencyKeyReused`.
    pub(crate) idempotency_key: String,
    /// The e-mail address: 3 to 254 characters with one `@`. Must be free, without regard to case.
    pub(crate) email: String,
    /// What to call them: 1 to 200 characters on one line.
    pub(crate) name: String,
    /// A telephone number: 3 to 32 digits, `+`, `-`, spaces and parentheses.
    pub(crate) phone: Option<String>,
    /// The password: 8 to 128 characters of any kind.
    #[graphql(secret)]
    pub(crate) password: String,
}

/// What `logIn` takes.
#[derive(InputObject)]
pub(crate) struct LogInInput {
    /// The e-mail address, in any case.
    pub(crate) email: String,
    /// The password.
    #[graphql(secret)]
    pub(crate) password: String,
    /// Whether the refresh token is to be put into a cookie that no script can read (`HttpOnly; Secure; SameSite=Lax`), as browsers
    /// should have it, instead of into the answer. The access token of a request that comes with that cookie is renewed on the way
    /// when it has expired: the answer has the new one in the header `x-access-token`.
    pub(crate) in_cookie: Option<bool>,
}

/// What `refreshSession` takes.
#[derive(InputObject)]
pub(crate) struct RefreshSessionInput {
    /// The refresh token that `logIn` or the last `refreshSession` gave; if left out, the one in the cookie.
    #[graphql(secret)]
    pub(crate) refresh_token: Option<String>,
}

/// What `endSession` takes.
#[derive(InputObject)]
pub(crate) struct EndSessionInput {
    /// The session, `ses_...`, as `sessions` lists it.
    pub(crate) session_id: ID,
}

/// What `endAllSessions` takes.
#[derive(InputObject)]
pub(crate) struct EndAllSessionsInput {
    /// Whether the session that asks goes on; if left out, it does not.
    pub(crate) keep_current: Option<bool>,
}

/// What `requestPasswordReset` takes.
#[derive(InputObject)]
pub(crate) struct RequestPasswordResetInput {
    /// The e-mail address of the account, in any case.
    pub(crate) email: String,
}

/// What `resetPassword` takes.
#[derive(InputObject)]
pub(crate) struct ResetPasswordInput {
    /// The token from the mail.
    #[graphql(secret)]
    pub(crate) token: String,
    /// The password you want: 8 to 128 characters of any kind.
    #[graphql(secret)]
    pub(crate) new_password: String,
}

/// What `requestEmailVerification` takes.
#[derive(InputObject)]
pub(crate) struct RequestEmailVerificationInput {
    /// The e-mail address of your account as you see it, so that nobody waits for a mail that goes elsewhere.
    pub(crate) email: String,
}

/// What `verifyEmail` takes.
#[derive(InputObject)]
pub(crate) struct VerifyEmailInput {
    /// The token from the mail.
    #[graphql(secret)]
    pub(crate) token: String,
}

/// What `logOut` takes.
#[derive(InputObject)]
pub(crate) struct LogOutInput {
    /// The refresh token of the session, if the access token has expired. If left out: the session of the access token, or else of
    /// the cookie.
    #[graphql(secret)]
    pub(crate) refresh_token: Option<String>,
}

/// Declares inputs that change one's own account: what they share is written once.
macro_rules! own_account {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(InputObject)]
        pub(crate) struct $name {
            /// 1 to 200 characters that you make up for this request, such as a UUID. Sent again with the same input, it
            /// gives the first answer again and does nothing; with other input it gives `IdempotencyKeyReused`.
            pub(crate) idempotency_key: String,
            /// The version of your account that you saw. If there is another one by now, nothing is done and
            /// `VersionConflict` says which. If left out, the account is changed whatever its version.
            pub(crate) expected_version: Option<i32>,
            $($(#[$field_meta])* pub(crate) $field: $ty,)*
        }
    )+};
}

own_account! {
    /// What `changeProfile` takes.
    ChangeProfileInput {
        /// The new name: 1 to 200 characters on one line.
        name: String,
        /// The new telephone number: 3 to 32 digits, `+`, `-`, spaces and parentheses. Left out, there is none from now on.
        phone: Option<String>,
    }
    /// What `chooseNotificationChannels` takes.
    ChooseNotificationChannelsInput {
        /// Whether you want to be told by e-mail what happens to you and your orders.
        email: bool,
        /// Whether you want to be told by SMS. Nothing is sent there while your account has no telephone number.
        sms: bool,
    }
    /// What `changeEmail` takes.
    ChangeEmailInput {
        /// The new e-mail address: 3 to 254 characters with one `@`. Must be free, without regard to case.
        email: String,
    }
    /// What `changePassword` takes.
    ChangePasswordInput {
        /// The password you have.
        #[graphql(secret)]
        current_password: String,
        /// The password you want: 8 to 128 characters of any kind.
        #[graphql(secret)]
        new_password: String,
    }
    /// What `savePaymentMethod` takes.
    SavePaymentMethodInput {
        /// What the payment gateway calls it, as its own library in your app got it: 1 to 255 visible ASCII characters. Never shown
        /// again.
        #[graphql(secret)]
        token: String,
        /// What you want to call it, to know it again: 1 to 60 characters on one line.
        label: String,
    }
    /// What `removePaymentMethod` takes.
    RemovePaymentMethodInput {
        /// The payment method, `pay_...`.
        payment_method_id: ID,
    }
}

/// Declares inputs that change somebody's account: what they share is written once.
macro_rules! any_account {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(InputObject)]
        pub(crate) struct $name {
            /// 1 to 200 characters that you make up for this request, such as a UUID. Sent again with the same input, it
            /// gives the first answer again and does nothing; with other input it gives `IdempotencyKeyReused`.
            pub(crate) idempotency_key: String,
            /// The user, `usr_...`.
            pub(crate) user_id: ID,
            /// The version that you saw. If there is another one by now, nothing is done and `VersionConflict` says which.
            /// If left out, the account is changed whatever its version.
            pub(crate) expected_version: Option<i32>,
            $($(#[$field_doc])* pub(crate) $field: $ty,)*
        }
    )+};
}

any_account! {
    /// What `grantRole` takes.
    GrantRoleInput {
        /// The role to give.
        role: Role,
    }
    /// What `revokeRole` takes.
    RevokeRoleInput {
        /// The role to take; not `CUSTOMER`, which every account has.
        role: Role,
    }
    /// What `deactivateUser` takes.
    DeactivateUserInput {
        /// Why: 1 to 500 characters; may have several lines.
        reason: String,
    }
    /// What `reactivateUser` takes.
    ReactivateUserInput {}
}
