//! What the event store is to know of users: which address they hold, and what of them is personal.

use super::{Account, SCHEMA, User, UserEvent};
use crate::claims::{ClaimChange, ClaimKind};
use crate::entity::Entity;
use crate::ids::UserId;
use crate::personal::{Personal, PersonalData, PersonalValue};
use crate::text::Email;

impl Entity for User {
    const SCHEMA: u32 = SCHEMA;
    type Id = UserId;

    fn claim_changes(event: &UserEvent) -> Vec<ClaimChange> {
        let kind = ClaimKind::Email;
        let folded = |email: &Personal<Email>| email.reveal().map(Email::folded);
        match event {
            UserEvent::Registered { email, .. } => folded(email)
                .map(|value| ClaimChange::Take { kind, value })
                .into_iter()
                .collect(),
            UserEvent::EmailChanged { email, previous } => {
                let (value, previous) = (folded(email), folded(previous));
                if value == previous {
                    return Vec::new(); // Only the spelling changed.
                }
                let release = previous.map(|value| ClaimChange::Release { kind, value });
                let take = value.map(|value| ClaimChange::Take { kind, value });
                release.into_iter().chain(take).collect()
            }
            UserEvent::Erased { email } => folded(email)
                .map(|value| ClaimChange::Release { kind, value })
                .into_iter()
                .collect(),
            _ => Vec::new(),
        }
    }

    fn person(&self, id: UserId, _event: &UserEvent) -> Option<UserId> {
        Some(id)
    }

    fn personal_in(event: &mut UserEvent) -> Vec<&mut dyn PersonalValue> {
        match event {
            UserEvent::Registered {
                email,
                name,
                phone,
                password_hash,
                ..
            } => and_if_there(and_if_there(vec![email, name], phone), password_hash),
            UserEvent::ProfileChanged { name, phone } => and_if_there(vec![name], phone),
            UserEvent::EmailChanged { email, previous } => vec![email, previous],
            UserEvent::PaymentMethodSaved { token, label, .. } => vec![token, label],
            UserEvent::PasswordChanged { password_hash } => vec![password_hash],
            UserEvent::Deactivated { reason } => vec![reason],
            UserEvent::Erased { email } => vec![email],
            UserEvent::EmailVerified {}
            | UserEvent::ChannelsChosen { .. }
            | UserEvent::RoleGranted { .. }
            | UserEvent::RoleRevoked { .. }
            | UserEvent::Reactivated {}
            | UserEvent::PaymentMethodRemoved { .. } => Vec::new(),
        }
    }

    fn personal(&mut self) -> Vec<&mut dyn PersonalValue> {
        match &mut self.account {
            Some(Account {
                email,
                name,
                phone,
                password_hash,
                payment_methods,
                ..
            }) => {
                let mut values = and_if_there(vec![email, name], phone);
                values = and_if_there(values, password_hash);
                values.extend(payment_methods.personal());
                values
            }
            None => Vec::new(),
        }
    }
}

fn and_if_there<'a, T: PersonalData>(
    mut values: Vec<&'a mut dyn PersonalValue>,
    further: &'a mut Option<Personal<T>>,
) -> Vec<&'a mut dyn PersonalValue> {
    values.extend(further.as_mut().map(|value| value as &mut dyn PersonalValue));
    values
}
