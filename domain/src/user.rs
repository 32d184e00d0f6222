//! A person with an account: who they are, how they prove it, what they may do.

use std::collections::BTreeSet;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};

use crate::claims::{ClaimChange, ClaimKind};
use crate::entity::{Entity, Schema};
use crate::ids::UserId;
use crate::personal::Personal;
use crate::text::{Email, PasswordHash, PersonName, Phone, Reason};

mod channels;
mod role;

pub use channels::Channels;
pub use role::Role;

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
        password_hash: Option<PasswordHash>,
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
        password_hash: PasswordHash,
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
        reason: Reason,
    },
    /// Opens a closed account again.
    Reactivate,
}

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
        password_hash: Option<PasswordHash>,
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
        password_hash: PasswordHash,
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
        reason: Reason,
    },
    /// The account was opened again.
    Reactivated {},
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
}

const SCHEMA: u32 = 3;

/// The state that user commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    schema: Schema<SCHEMA>,
    account: Option<Account>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    email: Personal<Email>,
    email_verified: bool,
    name: Personal<PersonName>,
    phone: Option<Personal<Phone>>,
    channels: Channels,
    password_hash: Option<PasswordHash>,
    roles: BTreeSet<Role>,
    active: bool,
}

impl User {
    /// Whether anybody registered under this id.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.account.is_some()
    }

    /// The e-mail address as typed.
    #[must_use]
    pub fn email(&self) -> Option<&Personal<Email>> {
        self.account.as_ref().map(|account| &account.email)
    }

    /// Whether the owner has shown that they read mail sent there.
    #[must_use]
    pub fn email_verified(&self) -> bool {
        self.account
            .as_ref()
            .is_some_and(|account| account.email_verified)
    }

    /// What to call them.
    #[must_use]
    pub fn name(&self) -> Option<&Personal<PersonName>> {
        self.account.as_ref().map(|account| &account.name)
    }

    /// Where to call them.
    #[must_use]
    pub fn phone(&self) -> Option<&Personal<Phone>> {
        self.account.as_ref()?.phone.as_ref()
    }

    /// How they want to be told what happens.
    #[must_use]
    pub fn channels(&self) -> Channels {
        self.account
            .as_ref()
            .map(|account| account.channels)
            .unwrap_or_default()
    }

    /// What the account may do; nothing if there is none.
    pub fn roles(&self) -> impl Iterator<Item = Role> {
        self.account.iter().flat_map(|a| a.roles.iter().copied())
    }

    /// Whether there is an account and it is open.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.active)
    }

    /// What to check a password against; none: nobody can log in.
    #[must_use]
    pub fn password_hash(&self) -> Option<&PasswordHash> {
        self.account.as_ref()?.password_hash.as_ref()
    }

    fn decide(&self, command: UserCommand) -> Result<Vec<UserEvent>, UserError> {
        match (&self.account, command) {
            (Some(account), command) => account.decide(command),
            (
                None,
                UserCommand::Register {
                    email,
                    name,
                    phone,
                    password_hash,
                },
            ) => Ok(vec![UserEvent::Registered {
                email,
                name,
                phone,
                password_hash,
                roles: vec![Role::Customer],
            }]),
            (None, _) => Err(UserError::NotFound),
        }
    }
}

impl Account {
    fn decide(&self, command: UserCommand) -> Result<Vec<UserEvent>, UserError> {
        let event = match command {
            UserCommand::Register { .. } => return Err(UserError::AlreadyRegistered),
            UserCommand::Reactivate => (!self.active).then_some(UserEvent::Reactivated {}),
            UserCommand::Deactivate { reason } => self.active.then_some(UserEvent::Deactivated { reason }),
            _ if !self.active => return Err(UserError::Deactivated),
            UserCommand::ChangeProfile { name, phone } => (name != self.name || phone != self.phone)
                .then_some(UserEvent::ProfileChanged { name, phone }),
            UserCommand::ChangeEmail { email } => (email != self.email).then(|| UserEvent::EmailChanged {
                email,
                previous: self.email.clone(),
            }),
            UserCommand::VerifyEmail { email } => {
                if email.reveal().folded() != self.email.reveal().folded() {
                    return Err(UserError::AnotherEmail);
                }
                (!self.email_verified).then_some(UserEvent::EmailVerified {})
            }
            UserCommand::ChooseChannels { email, sms } => {
                (self.channels != Channels { email, sms }).then_some(UserEvent::ChannelsChosen { email, sms })
            }
            UserCommand::ChangePassword { password_hash } => (self.password_hash.as_ref()
                != Some(&password_hash))
            .then_some(UserEvent::PasswordChanged { password_hash }),
            UserCommand::GrantRole { role } => {
                (!self.roles.contains(&role)).then_some(UserEvent::RoleGranted { role })
            }
            UserCommand::RevokeRole { role: Role::Customer } => return Err(UserError::CustomerRoleStays),
            UserCommand::RevokeRole { role } => self
                .roles
                .contains(&role)
                .then_some(UserEvent::RoleRevoked { role }),
        };
        Ok(event.into_iter().collect())
    }

    fn apply(&mut self, event: UserEvent) {
        match event {
            UserEvent::Registered { .. } => {} // Only the first event of a stream, taken by `User::apply`.
            UserEvent::ProfileChanged { name, phone } => {
                self.name = name;
                self.phone = phone;
            }
            UserEvent::EmailChanged { email, .. } => {
                // Another spelling of the same address is as good.
                self.email_verified &= email.reveal().folded() == self.email.reveal().folded();
                self.email = email;
            }
            UserEvent::EmailVerified {} => self.email_verified = true,
            UserEvent::ChannelsChosen { email, sms } => self.channels = Channels { email, sms },
            UserEvent::PasswordChanged { password_hash } => {
                self.password_hash = Some(password_hash);
            }
            UserEvent::RoleGranted { role } => {
                self.roles.insert(role);
            }
            UserEvent::RoleRevoked { role } => {
                self.roles.remove(&role);
            }
            UserEvent::Deactivated { .. } => self.active = false,
            UserEvent::Reactivated {} => self.active = true,
        }
    }
}

impl Aggregate for User {
    const TYPE: &'static str = "user";
    type Command = UserCommand;
    type Event = UserEvent;
    type Error = UserError;
    type Services = ();

    async fn handle(
        &mut self,
        command: UserCommand,
        _services: &(),
        sink: &EventSink<Self>,
    ) -> Result<(), UserError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: UserEvent) {
        match (&mut self.account, event) {
            (Some(account), event) => account.apply(event),
            (
                None,
                UserEvent::Registered {
                    email,
                    name,
                    phone,
                    password_hash,
                    roles,
                },
            ) => {
                self.account = Some(Account {
                    email,
                    email_verified: false,
                    name,
                    phone,
                    channels: Channels::default(),
                    password_hash,
                    roles: roles.into_iter().collect(),
                    active: true,
                });
            }
            (None, _) => {} // No such stream can be written: `decide` refuses everything before `Register`.
        }
    }
}

impl Entity for User {
    const SCHEMA: u32 = SCHEMA;
    type Id = UserId;

    fn claim_changes(event: &UserEvent) -> Vec<ClaimChange> {
        let kind = ClaimKind::Email;
        match event {
            UserEvent::Registered { email, .. } => vec![ClaimChange::Take {
                kind,
                value: email.reveal().folded(),
            }],
            UserEvent::EmailChanged { email, previous } => {
                let (value, previous) = (email.reveal().folded(), previous.reveal().folded());
                if value == previous {
                    return Vec::new(); // Only the spelling changed.
                }
                vec![
                    ClaimChange::Release {
                        kind,
                        value: previous,
                    },
                    ClaimChange::Take { kind, value },
                ]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
