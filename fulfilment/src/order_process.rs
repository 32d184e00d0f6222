//! Sees an order through: reserve every product, then confirm or reject; release or commit what was reserved.
//!
//! | the order was | the process |
//! | --- | --- |
//! | placed | asks every product for its pieces; says so if all said yes, which confirms an order that costs nothing here; rejects with what was refused if not |
//! | rejected or cancelled | has every product release what it holds for the order |
//! | shipped | has every product commit it: the pieces leave the house |
//! | returned, to be restocked | has the products take the pieces back |
//!
//! Where something is to be paid, [`crate::cashier`] sees to it: this process says in a table what each order waits for, in the
//! transaction that moves its checkpoint. Each step is decided by the aggregates and recorded as an
//! event, refusals too, so the process has no state of its own beyond its checkpoint: whatever it repeats, the keys of its
//! commands to products make the log answer as before, and an order is decided once. An order cancelled while it is being
//! reserved refuses its confirmation; what was reserved is then released by the answer to the cancellation, which comes later
//! in the order's own stream.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::{BoxFuture, try_join_all};
use futures::{StreamExt, TryStreamExt};
use kontor_domain::order::stock_needed;
use kontor_domain::{
    Order, OrderCommand, OrderError, OrderEvent, OrderId, OrderItem, Product, ProductCommand, ProductError,
    ProductEvent, ProductId, Quantity, RefusalReason, RefusedItem,
};
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{
    Actor, Body, Clock, CommandContext, Consumer, ExecuteError, IdempotencyKey, Metadata, Outcome, Parked,
    Recorded, Store, crash,
};
use sqlx::PgConnection;

use crate::payments::PaymentTerms;
use crate::pending::{self, Cause, Wait};

/// Orders seen to at the same time.
const CONCURRENCY: usize = 256;
/// What it is called.
pub const NAME: &str = "order_process";
/// A shopper waits for what comes of it.
const PATIENCE: Duration = Duration::from_millis(25);

/// The process manager of orders.
pub struct OrderProcess {
    store: Store,
    clock: Arc<dyn Clock>,
    terms: PaymentTerms,
}

/// Why an event could not be answered.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// It passes; the whole batch is tried again.
    #[error("{0}")]
    Later(String),
    /// It does not: the order is parked.
    #[error("{0}")]
    Never(String),
}

impl From<ReadError> for StepError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Undecodable(_) => Self::Never(error.to_string()),
            ReadError::Database(_) | ReadError::Malformed(_) => Self::Later(error.to_string()),
        }
    }
}

impl Consumer for OrderProcess {
    fn name(&self) -> &'static str {
        NAME
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn concerns(&self, event: &Recorded) -> bool {
        match &event.body {
            Body::Order(..) => true,
            Body::Unreadable(it) => it.aggregate_type == "order",
            _ => false,
        }
    }

    fn handle<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>> {
        Box::pin(async move {
            let mut orders: HashMap<Result<OrderId, &str>, Vec<Arc<Recorded>>> = HashMap::new();
            for event in events {
                let order = match &event.body {
                    Body::Order(id, _) => Ok(*id),
                    // Not even its id, perhaps.
                    Body::Unreadable(it) if self.concerns(event) => {
                        it.aggregate_id.parse().map_err(|_| it.aggregate_id.as_str())
                    }
                    _ => continue,
                };
                orders.entry(order).or_default().push(Arc::clone(event));
            }
            // One order's events in order, different orders side by side.
            let parked: Vec<Vec<Parked>> = futures::stream::iter(orders.into_values())
                .map(|events| self.answer_in_order(events))
                .buffer_unordered(CONCURRENCY)
                .try_collect()
                .await
                .map_err(|error: StepError| sqlx::Error::Protocol(error.to_string()))?;
            let waits = self.waits(events).await?;
            pending::sync(connection, waits, self.terms.pay_within).await?;
            Ok(parked.into_iter().flatten().collect())
        })
    }
}

impl OrderProcess {
    /// A process manager that sends its commands to `store`.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, terms: PaymentTerms) -> Self {
        Self { store, clock, terms }
    }

    /// What the orders of these events wait for by now: those that have a payment.
    async fn waits(&self, events: &[Arc<Recorded>]) -> Result<Vec<Wait>, sqlx::Error> {
        let mut newest: HashMap<OrderId, (Arc<Recorded>, bool)> = HashMap::new();
        for event in events {
            if let Body::Order(id, it) = &event.body {
                let retry = matches!(it, OrderEvent::RetryRequested { .. });
                let known = newest.entry(*id).or_insert((Arc::clone(event), false));
                *known = (Arc::clone(event), known.1 || retry);
            }
        }
        let waits: Vec<Option<Wait>> = futures::stream::iter(newest)
            .map(|(id, (event, retry))| self.wait(id, event, retry))
            .buffer_unordered(CONCURRENCY)
            // What cannot be read is parked.
            .filter(|wait| std::future::ready(!matches!(wait, Err(ReadError::Undecodable(_)))))
            .try_collect()
            .await?;
        Ok(waits.into_iter().flatten().collect())
    }

    async fn wait(&self, id: OrderId, event: Arc<Recorded>, retry: bool) -> Result<Option<Wait>, ReadError> {
        self.store
            .look(id, event.sequence, |order: &Order, version| {
                order.payment()?;
                let cause = Cause::of(&event, retry);
                Some(Wait::of(id, order, version, self.terms.capture, cause))
            })
            .await
    }

    /// Answers one order's events; from the first that cannot be answered on, they are parked.
    async fn answer_in_order(&self, events: Vec<Arc<Recorded>>) -> Result<Vec<Parked>, StepError> {
        let mut parked = Vec::new();
        for event in events {
            if !parked.is_empty() {
                parked.push(Parked::waiting(&event));
                continue;
            }
            match self.answer(&event).await {
                Ok(()) => {}
                Err(StepError::Never(error)) => parked.push(Parked::failed(&event, error)),
                Err(later @ StepError::Later(_)) => return Err(later),
            }
        }
        Ok(parked)
    }

    async fn answer(&self, event: &Recorded) -> Result<(), StepError> {
        let step = match &event.body {
            Body::Order(id, it) => Step {
                process: self,
                order_id: *id,
                event,
                it,
                origin: OnceLock::new(),
            },
            Body::Unreadable(it) => return Err(StepError::Never(it.error.clone())),
            _ => return Ok(()),
        };
        step.answer().await
    }
}

/// The answer to one event of an order.
struct Step<'a> {
    process: &'a OrderProcess,
    order_id: OrderId,
    event: &'a Recorded,
    it: &'a OrderEvent,
    /// Who asked for what it answers; decoded for the first command.
    origin: OnceLock<Option<Metadata>>,
}

impl Step<'_> {
    async fn answer(&self) -> Result<(), StepError> {
        let order_id = self.order_id;
        match self.it {
            OrderEvent::Placed { items, .. } => self.reserve(items).await,
            OrderEvent::Rejected { .. } | OrderEvent::Cancelled { .. } => {
                self.tell_all("release", |_| ProductCommand::Release { order_id })
                    .await
            }
            OrderEvent::Shipped { .. } => {
                self.tell_all("commit", |_| ProductCommand::Commit { order_id })
                    .await
            }
            OrderEvent::ItemsReturned {
                lines, restock: true, ..
            } => {
                let mut pieces: BTreeMap<ProductId, Quantity> = BTreeMap::new();
                for line in lines {
                    let sum = match pieces.get(&line.product_id) {
                        Some(sum) => sum.checked_add(line.quantity).map_err(never)?,
                        None => line.quantity,
                    };
                    pieces.insert(line.product_id, sum);
                }
                self.tell("return", &pieces, |quantity| ProductCommand::ReturnStock {
                    order_id,
                    quantity,
                })
                .await
            }
            OrderEvent::Confirmed { .. }
            | OrderEvent::Delivered {}
            | OrderEvent::ItemsReturned { .. }
            | OrderEvent::Reserved {}
            | OrderEvent::PaymentActionRequired { .. }
            | OrderEvent::PaymentAuthorised { .. }
            | OrderEvent::PaymentDeclined { .. }
            | OrderEvent::PaymentCaptured { .. }
            | OrderEvent::PaymentVoided { .. }
            | OrderEvent::PaymentRefunded { .. }
            | OrderEvent::RefundOrdered { .. }
            | OrderEvent::SettledByHand { .. }
            | OrderEvent::RetryRequested { .. } => Ok(()),
        }
    }

    async fn reserve(&self, items: &[OrderItem]) -> Result<(), StepError> {
        let needed = stock_needed(items).map_err(never)?;
        let answers = needed
            .iter()
            .map(|(product_id, quantity)| self.reserve_one(*product_id, *quantity));
        let refused: Vec<RefusedItem> = try_join_all(answers).await?.into_iter().flatten().collect();
        crash::point("process.reserved");
        let (name, command) = if refused.is_empty() {
            ("mark_reserved", OrderCommand::MarkReserved)
        } else {
            ("reject", OrderCommand::Reject { refused })
        };
        // Without a key to remember it by: an order is decided once, and refuses whatever comes behind that.
        let context = self.context(format!("{NAME}/{}/{name}/order", self.cause()));
        let outcome = self
            .process
            .store
            .execute::<Order>(self.order_id, command, context)
            .await;
        crash::point("process.decided");
        match outcome {
            // Decided before, or cancelled in the meantime: its own event releases what was reserved here.
            Ok(_) | Err(ExecuteError::Refused(OrderError::NotAllowed { .. })) => Ok(()),
            Err(error) => Err(step_error(error)),
        }
    }

    /// Asks one product for its pieces. The product's answer is an event either way, so that a repeat finds it.
    async fn reserve_one(
        &self,
        product_id: ProductId,
        requested: Quantity,
    ) -> Result<Option<RefusedItem>, StepError> {
        let order_id = self.order_id;
        let command = ProductCommand::Reserve {
            order_id,
            quantity: requested,
        };
        let outcome = self
            .process
            .store
            .execute::<Product>(product_id, command, self.once("reserve", product_id))
            .await;
        crash::point("process.reserve_one");
        let refusal = |available, reason| {
            Some(RefusedItem {
                product_id,
                requested,
                available,
                reason,
            })
        };
        match outcome {
            Ok(Outcome { events, .. }) => Ok(events.iter().find_map(|event| match event {
                ProductEvent::ReservationRefused {
                    available, reason, ..
                } => refusal(*available, *reason),
                _ => None,
            })),
            Err(ExecuteError::Refused(ProductError::NotFound)) => {
                Ok(refusal(0, RefusalReason::UnknownProduct))
            }
            Err(error) => Err(step_error(error)),
        }
    }

    /// Sends a command to every product of the order.
    async fn tell_all(
        &self,
        name: &str,
        command: impl Fn(Quantity) -> ProductCommand,
    ) -> Result<(), StepError> {
        let items = self
            .process
            .store
            .recall(self.order_id, |order: &Order| order.items().to_vec())
            .await?;
        self.tell(name, &stock_needed(&items).map_err(never)?, command)
            .await
    }

    async fn tell(
        &self,
        name: &str,
        pieces: &BTreeMap<ProductId, Quantity>,
        command: impl Fn(Quantity) -> ProductCommand,
    ) -> Result<(), StepError> {
        let told = pieces.iter().map(|(product_id, quantity)| {
            let command = command(*quantity);
            async move {
                match self
                    .process
                    .store
                    .execute::<Product>(*product_id, command, self.once(name, product_id))
                    .await
                {
                    Ok(_) | Err(ExecuteError::Refused(ProductError::NotFound)) => Ok(()),
                    Err(error) => Err(step_error(error)),
                }
            }
        });
        try_join_all(told).await?;
        crash::point("process.told");
        Ok(())
    }

    fn cause(&self) -> String {
        format!("{}/{}", self.order_id, self.event.sequence)
    }

    /// The context of the command `name` to `target`, carried out once however often it is sent.
    fn once(&self, name: &str, target: impl Display) -> CommandContext {
        let key = IdempotencyKey::derived(NAME, &self.cause(), format_args!("{name}/{target}"));
        self.context(key.key.clone()).once(key)
    }

    /// The context of a command: everything about it follows from the event.
    fn context(&self, command_id: String) -> CommandContext {
        let origin = self.origin.get_or_init(|| self.event.metadata().ok()).as_ref();
        let backdated = origin.is_some_and(|it| it.backdated.is_some());
        let time = if backdated {
            self.event.time
        } else {
            self.process.clock.now()
        };
        let mut context = CommandContext::new(command_id, Actor::System(NAME), time);
        context.backdated = backdated;
        context.causation_id = Some(format!("order/{}", self.cause()));
        if let Some(origin) = origin {
            context.correlation_id.clone_from(&origin.correlation_id);
            context.traceparent.clone_from(&origin.traceparent);
        }
        context
    }
}

fn never(error: impl Display) -> StepError {
    StepError::Never(error.to_string())
}

fn step_error<E: std::error::Error>(error: ExecuteError<E>) -> StepError {
    match error {
        ExecuteError::Contended { .. } | ExecuteError::Unavailable(_) => StepError::Later(error.to_string()),
        other => StepError::Never(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_derived_key_depends_on_event_step_and_product_and_on_nothing_else() {
        let keys: HashSet<String> = [
            ("a/1", "reserve/x"),
            ("a/1", "reserve/y"),
            ("a/2", "reserve/x"),
            ("b/1", "reserve/x"),
        ]
        .into_iter()
        .map(|(cause, step)| IdempotencyKey::derived(NAME, cause, step).key)
        .collect();
        assert_eq!(keys.len(), 4);
        assert_eq!(
            IdempotencyKey::derived(NAME, "a/1", "reserve/x"),
            IdempotencyKey::derived(NAME, "a/1", "reserve/x")
        );
    }
}
