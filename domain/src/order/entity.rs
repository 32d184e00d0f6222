//! What the event store is to know of orders: whose they are, and what of them is personal.

use super::{Order, OrderEvent, SCHEMA};
use crate::entity::Entity;
use crate::ids::{OrderId, UserId};
use crate::personal::PersonalValue;

impl Entity for Order {
    const SCHEMA: u32 = SCHEMA;
    type Id = OrderId;

    fn person(&self, _id: OrderId, event: &OrderEvent) -> Option<UserId> {
        match event {
            OrderEvent::Placed { customer_id, .. } => Some(*customer_id),
            _ => self.customer_id(),
        }
    }

    /// Goods and money go their way whoever they were for; only nobody orders for somebody who is no more.
    fn outlives_its_person(event: &OrderEvent) -> bool {
        !matches!(event, OrderEvent::Placed { .. })
    }

    fn personal_in(event: &mut OrderEvent) -> Vec<&mut dyn PersonalValue> {
        match event {
            OrderEvent::Placed {
                shipping_address,
                payment,
                ..
            } => {
                let token = payment.as_mut().map(|token| token as &mut dyn PersonalValue);
                token
                    .into_iter()
                    .chain([shipping_address as &mut dyn PersonalValue])
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    fn personal(&mut self) -> Vec<&mut dyn PersonalValue> {
        let payment = self.placed.as_mut().and_then(|placed| placed.payment.as_mut());
        let method = payment.map(|payment| &mut payment.method as &mut dyn PersonalValue);
        method.into_iter().collect()
    }
}
