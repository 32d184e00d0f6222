//! What the event store is to know of orders: whose they are, and what of them is personal.

use super::{Order, OrderEvent, Payment, SCHEMA};
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
            OrderEvent::Rejected { cause, .. } => cause.personal().into_iter().collect(),
            OrderEvent::Cancelled { reason, .. }
            | OrderEvent::RefundOrdered { reason, .. }
            | OrderEvent::SettledByHand { reason, .. }
            | OrderEvent::ItemsReturned { reason, .. } => vec![reason],
            OrderEvent::Reserved {}
            | OrderEvent::PaymentActionRequired { .. }
            | OrderEvent::PaymentAuthorised { .. }
            | OrderEvent::PaymentDeclined { .. }
            | OrderEvent::PaymentCaptured { .. }
            | OrderEvent::PaymentVoided { .. }
            | OrderEvent::PaymentRefunded { .. }
            | OrderEvent::RetryRequested { .. }
            | OrderEvent::Confirmed { .. }
            | OrderEvent::Shipped { .. }
            | OrderEvent::Delivered {} => Vec::new(),
        }
    }

    fn personal(&mut self) -> Vec<&mut dyn PersonalValue> {
        let payment = self.placed.as_mut().and_then(|placed| placed.payment.as_mut());
        payment.map_or_else(Vec::new, Payment::personal)
    }
}
