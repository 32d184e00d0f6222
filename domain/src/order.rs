//! An order: what a customer bought at which price, and how far it has come.

use std::collections::BTreeMap;

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::entity::Schema;
use crate::ids::UserId;
use crate::money::Money;
use crate::text::{Quantity, TrackingNumber};

mod commands;
mod due;
mod entity;
mod events;
mod items;
mod payment;
mod pending;
mod states;

pub use commands::{OrderCommand, OrderError};
pub use due::{CaptureAt, PaymentDue, PaymentStep};
pub use events::{OrderEvent, RejectionCause};
pub use items::{MAX_ITEMS, OrderItem, RefusedItem, ReturnLine, ReturnedLine, stock_needed, total};
pub use payment::Payment;
pub use pending::PendingStep;
pub use states::{OrderAction, OrderStatus, PerformedBy, TRANSITIONS, allowed_actions, transition};

const SCHEMA: u32 = 4;

/// The state that order commands are decided on. It leaves out the address: nothing is decided on it, and personal data
/// need not be in snapshots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    schema: Schema<SCHEMA>,
    placed: Option<Placed>,
}

/// An order that was placed. Invariants: `returned[i] <= items[i].quantity`, `owed <= total`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Placed {
    status: OrderStatus,
    customer_id: UserId,
    items: Vec<OrderItem>,
    total: Money,
    tracking_number: Option<TrackingNumber>,
    /// Pieces that came back, item by item.
    returned: Vec<u32>,
    /// What was promised back, for returned goods and without them.
    owed: Money,
    /// With a means of payment: what is known of the payment.
    payment: Option<Payment>,
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

    /// What has been promised back so far, for returned goods and without them.
    #[must_use]
    pub fn owed(&self) -> Option<Money> {
        self.placed.as_ref().map(|placed| placed.owed)
    }

    /// What has been paid back so far. Nobody says so of an order without a payment: there it is what is owed.
    #[must_use]
    pub fn refunded(&self) -> Option<Money> {
        let paid = self.payment().map(Payment::refunded);
        paid.or_else(|| self.owed())
    }

    /// What is known of its payment; none if it was placed without a means of payment.
    #[must_use]
    pub fn payment(&self) -> Option<&Payment> {
        self.placed.as_ref()?.payment.as_ref()
    }

    /// What has to be asked of the gateway next, if anything; see decision 012.
    #[must_use]
    pub fn payment_due(&self, capture: CaptureAt) -> Option<PaymentDue> {
        self.placed.as_ref()?.payment_due(capture)
    }

    /// What it waits for, if for anything.
    #[must_use]
    pub fn pending(&self, capture: CaptureAt) -> Option<PendingStep> {
        self.placed.as_ref()?.pending(capture)
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
                    payment,
                },
            ) => {
                let total = total(&items)?;
                stock_needed(&items)?;
                Ok(vec![OrderEvent::Placed {
                    customer_id,
                    items,
                    total,
                    shipping_address,
                    payment,
                }])
            }
            (None, _) => Err(OrderError::NotFound),
        }
    }
}

impl Placed {
    fn decide(&self, command: OrderCommand) -> Result<Vec<OrderEvent>, OrderError> {
        if self.is_repeat(&command) {
            return Ok(Vec::new());
        }
        if let Some(action) = self.action(&command)
            && transition(self.status, action).is_none()
        {
            return Err(OrderError::NotAllowed {
                status: self.status,
                action,
            });
        }
        let event = match command {
            OrderCommand::Place { .. } => return Err(OrderError::AlreadyPlaced),
            OrderCommand::Confirm if self.must_be_paid() => return Err(OrderError::NotPaid),
            OrderCommand::Confirm => self.confirmed(),
            OrderCommand::MarkReserved => return Ok(self.mark_reserved()),
            OrderCommand::ObservePayment { payment } => return self.observe(payment),
            OrderCommand::NothingToVoid => return Ok(self.nothing_to_void()),
            OrderCommand::SettleByHand { capture, reason } => return self.settle_by_hand(capture, reason),
            OrderCommand::Refund { amount, reason } => return self.order_refund(amount, reason),
            OrderCommand::Retry { capture } => {
                let step = self.pending(capture).ok_or(OrderError::NothingPending)?;
                OrderEvent::RetryRequested { step }
            }
            OrderCommand::Expire => self.rejected(RejectionCause::Expired),
            OrderCommand::GiveUp { reason } => self.rejected(RejectionCause::GivenUp(reason)),
            OrderCommand::Reject { refused } => OrderEvent::Rejected {
                refused,
                total: self.total,
                cause: RejectionCause::Stock,
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
                refunded: self.owed_with(refund)?,
                reason,
                restock,
            },
        };
        Ok(vec![event])
    }

    /// The row of the table that a command asks for. What is learnt or settled about money is true in every status.
    fn action(&self, command: &OrderCommand) -> Option<OrderAction> {
        Some(match command {
            OrderCommand::Place { .. }
            | OrderCommand::ObservePayment { .. }
            | OrderCommand::NothingToVoid
            | OrderCommand::Retry { .. }
            | OrderCommand::SettleByHand { .. } => return None,
            OrderCommand::MarkReserved if self.must_be_paid() => OrderAction::MarkReserved,
            OrderCommand::MarkReserved | OrderCommand::Confirm => OrderAction::Confirm,
            OrderCommand::Reject { .. } => OrderAction::Reject,
            OrderCommand::Expire => OrderAction::Expire,
            OrderCommand::GiveUp { .. } => OrderAction::GiveUp,
            OrderCommand::Cancel { .. } => OrderAction::Cancel,
            OrderCommand::Ship { .. } => OrderAction::Ship,
            OrderCommand::Deliver => OrderAction::Deliver,
            OrderCommand::ReturnItems { .. } => OrderAction::ReturnItems,
            OrderCommand::Refund { .. } => OrderAction::Refund,
        })
    }

    fn confirmed(&self) -> OrderEvent {
        OrderEvent::Confirmed {
            total: self.total,
            pieces: self.items.iter().map(|item| u64::from(item.quantity.get())).sum(),
        }
    }

    /// For another cause than stock.
    const fn rejected(&self, cause: RejectionCause) -> OrderEvent {
        OrderEvent::Rejected {
            refused: Vec::new(),
            total: self.total,
            cause,
        }
    }

    /// Whether the command asks for what is already so.
    fn is_repeat(&self, command: &OrderCommand) -> bool {
        match (self.status, command) {
            (OrderStatus::Confirmed, OrderCommand::Confirm | OrderCommand::MarkReserved)
            | (
                OrderStatus::Rejected,
                OrderCommand::Reject { .. } | OrderCommand::Expire | OrderCommand::GiveUp { .. },
            )
            | (OrderStatus::Cancelled, OrderCommand::Cancel { .. })
            | (OrderStatus::Delivered, OrderCommand::Deliver) => true,
            (OrderStatus::Pending, OrderCommand::MarkReserved) => {
                self.payment.as_ref().is_some_and(|payment| payment.reserved)
            }
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

    fn owed_with(&self, refund: Money) -> Result<Money, OrderError> {
        let refundable = self.refundable()?;
        let left = refundable.checked_sub(refund.non_negative()?)?;
        if left.amount_minor() < 0 {
            return Err(OrderError::RefundTooLarge { refund, refundable });
        }
        Ok(self.owed.checked_add(refund)?)
    }

    fn apply(&mut self, event: OrderEvent) {
        if let Some(payment) = &mut self.payment {
            payment.apply(event.clone());
        }
        match event {
            OrderEvent::Placed { .. } // Only the first event of a stream, taken by `Order::apply`.
            | OrderEvent::Reserved {}
            | OrderEvent::PaymentActionRequired { .. }
            | OrderEvent::PaymentAuthorised { .. }
            | OrderEvent::PaymentDeclined { .. }
            | OrderEvent::PaymentCaptured { .. }
            | OrderEvent::PaymentVoided { .. }
            | OrderEvent::PaymentRefunded { .. }
            | OrderEvent::RetryRequested { .. }
            | OrderEvent::SettledByHand { .. } => {}
            OrderEvent::RefundOrdered { owed, .. } => self.owed = owed,
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
                self.owed = refunded;
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
                    payment,
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
                    owed: Money::zero(total.currency()),
                    payment: payment.map(|method| Payment::new(method, total)),
                });
            }
            (None, _) => {} // No such stream can be written: `decide` refuses everything before `Place`.
        }
    }
}

#[cfg(test)]
mod tests;
