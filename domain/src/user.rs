//! A person with an account: who they are, how they prove it, what they may do.

use std::collections::BTreeSet;

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::entity::Schema;
use crate::ids::PaymentMethodId;
use crate::payment::PaymentMethodToken;
use crate::personal::Personal;
use crate::text::{Email, PasswordHash, PersonName, Phone};

mod channels;
mod commands;
mod entity;
mod events;
mod payment_methods;
mod role;

pub use channels::Channels;
pub use commands::{UserCommand, UserError};
pub use events::UserEvent;
pub use payment_methods::{MAX_PAYMENT_METHODS, SavedPaymentMethod};
pub use role::Role;

use payment_methods::PaymentMethods;

const SCHEMA: u32 = 6;

/// The state that user commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    schema: Schema<SCHEMA>,
    account: Option<Account>,
    /// Whether there was an account of somebody who has been forgotten.
    erased: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    email: Personal<Email>,
    email_verified: bool,
    name: Personal<PersonName>,
    phone: Option<Personal<Phone>>,
    channels: Channels,
    password_hash: Option<Personal<PasswordHash>>,
    roles: BTreeSet<Role>,
    active: bool,
    payment_methods: PaymentMethods,
}

impl User {
    /// Whether anybody registered under this id.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.account.is_some()
    }

    /// Whether there was an account, of somebody who has been forgotten.
    #[must_use]
    pub const fn is_erased(&self) -> bool {
        self.erased
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
        self.account.as_ref()?.password_hash.as_ref()?.reveal()
    }

    /// The means of payment that are kept, in the order in which they were saved; none if there is no account.
    pub fn payment_methods(&self) -> impl Iterator<Item = &SavedPaymentMethod> {
        self.account
            .iter()
            .flat_map(|account| account.payment_methods.iter())
    }

    /// What the gateway calls one of them.
    #[must_use]
    pub fn payment_token(&self, id: PaymentMethodId) -> Option<&Personal<PaymentMethodToken>> {
        let kept = self.payment_methods().find(|method| method.id == id);
        kept.map(|method| &method.token)
    }

    fn decide(&self, command: UserCommand) -> Result<Vec<UserEvent>, UserError> {
        match (&self.account, command) {
            // Forgetting somebody twice changes nothing the second time.
            (_, UserCommand::Erase) if self.erased => Ok(Vec::new()),
            _ if self.erased => Err(UserError::Erased),
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
            UserCommand::Erase => Some(UserEvent::Erased {
                email: self.email.clone(),
            }),
            UserCommand::Reactivate => (!self.active).then_some(UserEvent::Reactivated {}),
            UserCommand::Deactivate { reason } => self.active.then_some(UserEvent::Deactivated { reason }),
            _ if !self.active => return Err(UserError::Deactivated),
            UserCommand::ChangeProfile { name, phone } => (name != self.name || phone != self.phone)
                .then_some(UserEvent::ProfileChanged { name, phone }),
            UserCommand::ChangeEmail { email } => return Ok(self.change_email(email)),
            UserCommand::VerifyEmail { email } => {
                if !Email::are_same(&email, &self.email) {
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
            UserCommand::SavePaymentMethod { id, token, label } => self
                .payment_methods
                .save(SavedPaymentMethod { id, token, label })?,
            UserCommand::RemovePaymentMethod { id } => Some(self.payment_methods.remove(id)?),
        };
        Ok(event.into_iter().collect())
    }

    /// Another spelling of a verified address is verified as well. It takes an event to say so: who reads the log cannot compare
    /// what is sealed.
    fn change_email(&self, email: Personal<Email>) -> Vec<UserEvent> {
        if email == self.email {
            return Vec::new();
        }
        let verified = self.email_verified && Email::are_same(&email, &self.email);
        let previous = self.email.clone();
        let mut events = vec![UserEvent::EmailChanged { email, previous }];
        events.extend(verified.then_some(UserEvent::EmailVerified {}));
        events
    }

    fn apply(&mut self, event: UserEvent) {
        match event {
            // The first and the last event of a stream, taken by `User::apply`.
            UserEvent::Registered { .. } | UserEvent::Erased { .. } => {}
            UserEvent::ProfileChanged { name, phone } => {
                self.name = name;
                self.phone = phone;
            }
            UserEvent::EmailChanged { email, previous } => {
                // From before addresses were sealed, no further event says that only the spelling changed.
                self.email_verified &= Email::are_same(&email, &previous);
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
            UserEvent::PaymentMethodSaved { id, token, label } => {
                self.payment_methods
                    .saved(SavedPaymentMethod { id, token, label });
            }
            UserEvent::PaymentMethodRemoved { id } => self.payment_methods.removed(id),
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
            (_, UserEvent::Erased { .. }) => {
                self.account = None;
                self.erased = true;
            }
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
                    payment_methods: PaymentMethods::default(),
                });
            }
            (None, _) => {} // No such stream can be written: `decide` refuses everything before `Register`.
        }
    }
}

#[cfg(test)]
mod tests;
