//! What happened to a user.

use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use super::Role;
use crate::ids::PaymentMethodId;
use crate::payment::PaymentMethodToken;
use crate::personal::Personal;
use crate::text::{Email, PasswordHash, PaymentMethodLabel, PersonName, Phone, Reason};

/// What happened to a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum UserEvent {
    /// The account was opened.
    Registered {
        /// As typed.
        email: Personal<Email>,
        /// What to call them.
        name: Personal<PersonName>,
        /// Where to call them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phone: Option<Personal<Phone>>,
        /// Absent: nobody can log in yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password_hash: Option<Personal<PasswordHash>>,
        /// What the account may do from now on.
        roles: Vec<Role>,
    },
    /// Name and phone are now these.
    ProfileChanged {
        /// The name.
        name: Personal<PersonName>,
        /// The phone number; absent: none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phone: Option<Personal<Phone>>,
    },
    /// The account moved to another e-mail address.
    EmailChanged {
        /// The new one.
        email: Personal<Email>,
        /// The one before.
        previous: Personal<Email>,
    },
    /// The e-mail address of this moment is the owner's.
    EmailVerified {},
    /// The customer wants to be told on these channels, and no other.
    ChannelsChosen {
        /// By e-mail.
        email: bool,
        /// By SMS.
        sms: bool,
    },
    /// The password is now another one.
    PasswordChanged {
        /// The new hash.
        password_hash: Personal<PasswordHash>,
    },
    /// A role was given.
    RoleGranted {
        /// The role.
        role: Role,
    },
    /// A role was taken.
    RoleRevoked {
        /// The role.
        role: Role,
    },
    /// The account was closed.
    Deactivated {
        /// Why.
        reason: Personal<Reason>,
    },
    /// The account was opened again.
    Reactivated {},
    /// A means of payment is kept for orders to come; if it was kept already, it is called otherwise now.
    PaymentMethodSaved {
        /// What it is known by.
        id: PaymentMethodId,
        /// What the gateway calls it.
        token: Personal<PaymentMethodToken>,
        /// What its owner calls it.
        label: Personal<PaymentMethodLabel>,
    },
    /// A means of payment was forgotten.
    PaymentMethodRemoved {
        /// Which.
        id: PaymentMethodId,
    },
    /// The person is to be forgotten; the account is no more. From here on their key is not used, and then destroyed.
    Erased {
        /// Which address becomes free.
        email: Personal<Email>,
    },
}

impl UserEvent {
    /// The variant's name, as stored.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "Registered",
            Self::ProfileChanged { .. } => "ProfileChanged",
            Self::EmailChanged { .. } => "EmailChanged",
            Self::EmailVerified {} => "EmailVerified",
            Self::ChannelsChosen { .. } => "ChannelsChosen",
            Self::PasswordChanged { .. } => "PasswordChanged",
            Self::RoleGranted { .. } => "RoleGranted",
            Self::RoleRevoked { .. } => "RoleRevoked",
            Self::Deactivated { .. } => "Deactivated",
            Self::Reactivated {} => "Reactivated",
            Self::PaymentMethodSaved { .. } => "PaymentMethodSaved",
            Self::PaymentMethodRemoved { .. } => "PaymentMethodRemoved",
            Self::Erased { .. } => "Erased",
        }
    }
}

impl DomainEvent for UserEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
