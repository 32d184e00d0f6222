//! What may be asked of a user, and why the answer may be no.

use super::{MAX_PAYMENT_METHODS, Role};
use crate::ids::PaymentMethodId;
use crate::payment::PaymentMethodToken;
use crate::personal::Personal;
use crate::text::{Email, PasswordHash, PaymentMethodLabel, PersonName, Phone, Reason};

/// What may be asked of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserCommand {
    /// Opens the account, as a customer.
    Register {
        /// Must be free, without regard to case.
        email: Personal<Email>,
        /// What to call them.
        name: Personal<PersonName>,
        /// Where to call them.
        phone: Option<Personal<Phone>>,
        /// Without one nobody can log in until a password is set: imported customers begin so.
        password_hash: Option<Personal<PasswordHash>>,
    },
    /// Replaces name and phone; no phone removes it.
    ChangeProfile {
        /// The new name.
        name: Personal<PersonName>,
        /// The new phone number, or none.
        phone: Option<Personal<Phone>>,
    },
    /// Moves the account to another e-mail address.
    ChangeEmail {
        /// Must be free, without regard to case.
        email: Personal<Email>,
    },
    /// The account's owner has shown that they read mail sent to this address.
    VerifyEmail {
        /// Which.
        email: Personal<Email>,
    },
    /// Chooses how to be told what happens. Before that: by e-mail, not by SMS.
    ChooseChannels {
        /// By e-mail.
        email: bool,
        /// By SMS, if there is a phone number.
        sms: bool,
    },
    /// Sets the password. Whether the old one was right is checked before.
    ChangePassword {
        /// The new hash.
        password_hash: Personal<PasswordHash>,
    },
    /// Gives a role.
    GrantRole {
        /// The role.
        role: Role,
    },
    /// Takes a role. [`Role::Customer`] stays.
    RevokeRole {
        /// The role.
        role: Role,
    },
    /// Closes the account; it keeps its e-mail address, and can be opened again.
    Deactivate {
        /// Why.
        reason: Personal<Reason>,
    },
    /// Opens a closed account again.
    Reactivate,
    /// Forgets the person and ends the account for good, closed or not.
    Erase,
    /// Keeps a means of payment for orders to come. One that is kept already is only called otherwise, under the id it has.
    SavePaymentMethod {
        /// What it is to be known by.
        id: PaymentMethodId,
        /// What the gateway calls it.
        token: Personal<PaymentMethodToken>,
        /// What its owner calls it.
        label: Personal<PaymentMethodLabel>,
    },
    /// Forgets a means of payment. Orders that were placed with it go on.
    RemovePaymentMethod {
        /// Which.
        id: PaymentMethodId,
    },
}

/// Why a user command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Nobody registered under this id.
    #[error("there is no such user")]
    NotFound,
    /// The id is taken by an account.
    #[error("the user is already registered")]
    AlreadyRegistered,
    /// A closed account takes no changes until it is opened again.
    #[error("the account is deactivated")]
    Deactivated,
    /// The account has moved to another address since.
    #[error("the account has another e-mail address")]
    AnotherEmail,
    /// Every account is a customer's.
    #[error("the customer role cannot be revoked")]
    CustomerRoleStays,
    /// As many means of payment are kept as can be.
    #[error("an account keeps at most {MAX_PAYMENT_METHODS} payment methods")]
    TooManyPaymentMethods,
    /// The account keeps no such means of payment.
    #[error("there is no such payment method")]
    UnknownPaymentMethod {
        /// The id asked for.
        id: PaymentMethodId,
    },
    /// The person was forgotten.
    #[error("the account was erased")]
    Erased,
}
