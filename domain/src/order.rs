//! An order: what a customer bought at which price, and how far it has come.

use std::collections::BTreeMap;

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::entity::{Entity, Schema};
use crate::ids::{OrderId, UserId};
use crate::money::Money;
use crate::text::{Quantity, TrackingNumber};

mod commands;
mod events;
mod items;
mod states;

pub use commands::{OrderCommand, OrderError};
pub use events::OrderEvent;
pub use items::{MAX_ITEMS, OrderItem, RefusedItem, ReturnLine, ReturnedLine, stock_needed, total};
pub use states::{OrderAction, OrderStatus, PerformedBy, TRANSITIONS, allowed_actions, transition};

const SCHEMA: u32 = 1;

/// The state that order commands are decided on. It leaves out the address: nothing is decided on it, and personal data
/// need not be in snapshots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    schema: Schema<SCHEMA>,
    placed: Option<Placed>,
}

/// An order that was placed. Invariants: `returned[i] <= items[i].quantity`, `refunded <= total`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Placed {
    status: OrderStatus,
    customer_id: UserId,
    items: Vec<OrderItem>,
    total: Money,
    tracking_number: Option<TrackingNumber>,
    /// Pieces that came back, item by item.
    returned: Vec<u32>,
    refunded: Money,
}

impl Order {
    /// Whether anything was placed under this id.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.placed.is_some()
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Option<OrderStatus> {
        self.placed.as_ref().map(|placed| placed.status)
    }

    /// Whose order it is.
    #[must_use]
    pub fn customer_id(&self) -> Option<UserId> {
        self.placed.as_ref().map(|placed| placed.customer_id)
    }

    /// The lines; none if it does not exist.
    #[must_use]
    pub fn items(&self) -> &[OrderItem] {
        self.placed.as_ref().map_or(&[], |placed| &placed.items)
    }

    /// What the items cost together.
    #[must_use]
    pub fn total(&self) -> Option<Money> {
        self.placed.as_ref().map(|placed| placed.total)
    }

    /// What has been paid back so far.
    #[must_use]
    pub fn refunded(&self) -> Option<Money> {
        self.placed.as_ref().map(|placed| placed.refunded)
    }

    /// What can be done to it now.
    pub fn allowed_actions(&self) -> impl Iterator<Item = OrderAction> {
        self.status().into_iter().flat_map(allowed_actions)
    }

    fn decide(&self, command: OrderCommand) -> Result<Vec<OrderEvent>, OrderError> {
        match (&self.placed, command) {
            (Some(placed), command) => placed.decide(command),
            (
                None,
                OrderCommand::Place {
                    customer_id,
                    items,
                    shipping_address,
                },
            ) => {
                let total = total(&items)?;
                stock_needed(&items)?;
                Ok(vec![OrderEvent::Placed {
                    customer_id,
                    items,
                    total,
                    shipping_address,
                }])
            }
            (None, _) => Err(OrderError::NotFound),
        }
    }
}

impl Placed {
    fn decide(&self, command: OrderCommand) -> Result<Vec<OrderEvent>, OrderError> {
        let action = match &command {
            OrderCommand::Place { .. } => return Err(OrderError::AlreadyPlaced),
            OrderCommand::Confirm => OrderAction::Confirm,
            OrderCommand::Reject { .. } => OrderAction::Reject,
            OrderCommand::Cancel { .. } => OrderAction::Cancel,
            OrderCommand::Ship { .. } => OrderAction::Ship,
            OrderCommand::Deliver => OrderAction::Deliver,
            OrderCommand::ReturnItems { .. } => OrderAction::ReturnItems,
        };
        if self.is_repeat(&command) {
            return Ok(Vec::new());
        }
        if transition(self.status, action).is_none() {
            return Err(OrderError::NotAllowed {
                status: self.status,
                action,
            });
        }
        let event = match command {
            OrderCommand::Place { .. } => return Err(OrderError::AlreadyPlaced),
            OrderCommand::Confirm => OrderEvent::Confirmed {
                total: self.total,
                pieces: self.items.iter().map(|item| u64::from(item.quantity.get())).sum(),
            },
            OrderCommand::Reject { refused } => OrderEvent::Rejected {
                refused,
                total: self.total,
            },
            OrderCommand::Cancel { reason } => OrderEvent::Cancelled {
                reason,
                was: self.status,
                total: self.total,
            },
            OrderCommand::Ship {
                tracking_number,
                carrier,
            } => OrderEvent::Shipped {
                tracking_number,
                carrier,
            },
            OrderCommand::Deliver => OrderEvent::Delivered {},
            OrderCommand::ReturnItems {
                lines,
                refund,
                reason,
                restock,
            } => OrderEvent::ItemsReturned {
                lines: self.returned_lines(&lines)?,
                refund,
                refunded: self.refunded_with(refund)?,
                reason,
                restock,
            },
        };
        Ok(vec![event])
    }

    /// Whether the command asks for what is already so.
    fn is_repeat(&self, command: &OrderCommand) -> bool {
        match (self.status, command) {
            (OrderStatus::Confirmed, OrderCommand::Confirm)
            | (OrderStatus::Rejected, OrderCommand::Reject { .. })
            | (OrderStatus::Cancelled, OrderCommand::Cancel { .. })
            | (OrderStatus::Delivered, OrderCommand::Deliver) => true,
            (OrderStatus::Shipped, OrderCommand::Ship { tracking_number, .. }) => {
                self.tracking_number.as_ref() == Some(tracking_number)
            }
            _ => false,
        }
    }

    fn returned_lines(&self, lines: &[ReturnLine]) -> Result<Vec<ReturnedLine>, OrderError> {
        if lines.is_empty() {
            return Err(OrderError::NothingReturned);
        }
        let mut returned: BTreeMap<u32, ReturnedLine> = BTreeMap::new();
        for &ReturnLine { line, quantity } in lines {
            let index = line as usize;
            let (Some(item), Some(already)) = (self.items.get(index), self.returned.get(index)) else {
                return Err(OrderError::UnknownLine { line });
            };
            let returnable = item.quantity.get() - already;
            let so_far = returned.get(&line).map_or(0, |line| line.quantity.get());
            let requested = so_far + quantity.get();
            let quantity = Quantity::new(requested)
                .ok()
                .filter(|quantity| quantity.get() <= returnable)
                .ok_or(OrderError::MoreThanDelivered {
                    line,
                    requested,
                    returnable,
                })?;
            let product_id = item.product_id;
            returned.insert(
                line,
                ReturnedLine {
                    line,
                    product_id,
                    quantity,
                },
            );
        }
        Ok(returned.into_values().collect())
    }

    fn refunded_with(&self, refund: Money) -> Result<Money, OrderError> {
        let refundable = self.total.checked_sub(self.refunded)?;
        let left = refundable.checked_sub(refund.non_negative()?)?;
        if left.amount_minor() < 0 {
            return Err(OrderError::RefundTooLarge { refund, refundable });
        }
        Ok(self.refunded.checked_add(refund)?)
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { .. } => {} // Only the first event of a stream, taken by `Order::apply`.
            OrderEvent::Confirmed { .. } => self.status = OrderStatus::Confirmed,
            OrderEvent::Rejected { .. } => self.status = OrderStatus::Rejected,
            OrderEvent::Cancelled { .. } => self.status = OrderStatus::Cancelled,
            OrderEvent::Shipped { tracking_number, .. } => {
                self.status = OrderStatus::Shipped;
                self.tracking_number = Some(tracking_number);
            }
            OrderEvent::Delivered {} => self.status = OrderStatus::Delivered,
            OrderEvent::ItemsReturned { lines, refunded, .. } => {
                for line in lines {
                    if let Some(returned) = self.returned.get_mut(line.line as usize) {
                        *returned += line.quantity.get();
                    }
                }
                self.refunded = refunded;
            }
        }
    }
}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Error = OrderError;
    type Services = ();

    async fn handle(
        &mut self,
        command: OrderCommand,
        _services: &(),
        sink: &EventSink<Self>,
    ) -> Result<(), OrderError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: OrderEvent) {
        match (&mut self.placed, event) {
            (Some(placed), event) => placed.apply(event),
            (
                None,
                OrderEvent::Placed {
                    customer_id,
                    items,
                    total,
                    ..
                },
            ) => {
                self.placed = Some(Placed {
                    status: OrderStatus::Pending,
                    customer_id,
                    returned: vec![0; items.len()],
                    items,
                    total,
                    tracking_number: None,
                    refunded: Money::zero(total.currency()),
                });
            }
            (None, _) => {} // No such stream can be written: `decide` refuses everything before `Place`.
        }
    }
}

impl Entity for Order {
    const SCHEMA: u32 = SCHEMA;
    type Id = OrderId;
}

#[cfg(test)]
mod tests;
