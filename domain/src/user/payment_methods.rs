//! Means of payment that a customer keeps for orders to come.

use serde::{Deserialize, Serialize};

use super::{UserError, UserEvent};
use crate::ids::PaymentMethodId;
use crate::payment::PaymentMethodToken;
use crate::personal::{Personal, PersonalValue};
use crate::text::PaymentMethodLabel;

/// How many an account keeps at most.
pub const MAX_PAYMENT_METHODS: usize = 10;

/// A means of payment that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPaymentMethod {
    /// What it is known by: this may be shown.
    pub id: PaymentMethodId,
    /// What the gateway calls it: this may not.
    pub token: Personal<PaymentMethodToken>,
    /// What its owner calls it.
    pub label: Personal<PaymentMethodLabel>,
}

/// All that are kept, in the order in which they were saved. Each token once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct PaymentMethods(Vec<SavedPaymentMethod>);

impl PaymentMethods {
    pub(super) fn iter(&self) -> impl Iterator<Item = &SavedPaymentMethod> {
        self.0.iter()
    }

    pub(super) fn save(&self, wanted: SavedPaymentMethod) -> Result<Option<UserEvent>, UserError> {
        let SavedPaymentMethod { id, token, label } = wanted;
        let id = match self.0.iter().find(|kept| kept.token == token) {
            Some(kept) if kept.label == label => return Ok(None),
            Some(kept) => kept.id,
            None if self.0.len() >= MAX_PAYMENT_METHODS => return Err(UserError::TooManyPaymentMethods),
            None => id,
        };
        Ok(Some(UserEvent::PaymentMethodSaved { id, token, label }))
    }

    pub(super) fn remove(&self, id: PaymentMethodId) -> Result<UserEvent, UserError> {
        if self.0.iter().any(|kept| kept.id == id) {
            Ok(UserEvent::PaymentMethodRemoved { id })
        } else {
            Err(UserError::UnknownPaymentMethod { id })
        }
    }

    pub(super) fn saved(&mut self, method: SavedPaymentMethod) {
        match self.0.iter_mut().find(|kept| kept.id == method.id) {
            Some(kept) => *kept = method,
            None => self.0.push(method),
        }
    }

    /// What is personal in them.
    pub(super) fn personal(&mut self) -> impl Iterator<Item = &mut dyn PersonalValue> {
        self.0.iter_mut().flat_map(|kept| {
            let token: &mut dyn PersonalValue = &mut kept.token;
            [token, &mut kept.label]
        })
    }

    pub(super) fn removed(&mut self, id: PaymentMethodId) {
        self.0.retain(|kept| kept.id != id);
    }
}
