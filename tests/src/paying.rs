//! Orders that are paid, and what the bank that pretends has in its books about them.

use std::time::Duration;

use kontor::runtime::Runtime;
use kontor_domain::{Order, OrderCommand, OrderId, OrderStatus, Payment, PaymentReference, UserId};
use kontor_eventstore::{CommandContext, Outcome, read};
use kontor_fulfilment::payments::{DeskError, Simulator};

use crate::builders::Item;
use crate::shop::Shop;
use crate::wait::eventually;

/// What a customer's app causes when they are back from the bank's page: asks the gateway how the payment is, and tells the
/// order. `None` if the order knows of no payment to ask for.
pub(crate) async fn look_up(
    runtime: &Runtime,
    order: OrderId,
    context: CommandContext,
) -> Result<Option<Outcome<Order>>, DeskError> {
    let known = |order: &Order, _| order.payment()?.reference().cloned();
    let Some(reference) = runtime.store.look(order, 0, known).await? else {
        return Ok(None);
    };
    let desk = &runtime.payments.desk;
    let payment = desk.ask_about(&reference).await?;
    desk.observe(order, payment, context).await.map(Some)
}

impl Shop {
    /// The customer is back from the bank's page; what the order learnt.
    pub async fn customer_is_back(&self, order: OrderId) -> Outcome<Order> {
        let told = look_up(&self.runtime, order, self.context()).await;
        told.unwrap().expect("a payment to ask for")
    }

    /// What the bank calls an order's payment, as soon as the order knows.
    pub async fn reference_of(&self, order: OrderId) -> PaymentReference {
        let mut reference = None;
        eventually("the payment has a name", async || {
            let known = |order: &Order, _| order.payment()?.reference().cloned();
            reference = self.store.look(order, 0, known).await.unwrap();
            reference.is_some().then_some(())
        })
        .await;
        reference.unwrap()
    }

    /// Places an order that is paid by a payment method of the simulator, such as `tok_approved`.
    pub async fn paid_order(&self, customer_id: UserId, items: &[(&Item, u32)], token: &str) -> OrderId {
        let id = OrderId::from_ulid(self.store.ids().next());
        let placing = self.placing_paid(customer_id, items, token);
        let created = self.store.create::<Order>(id, placing, self.context()).await;
        created.unwrap();
        id
    }

    /// The command that places such an order.
    #[must_use]
    pub fn placing_paid(&self, customer_id: UserId, items: &[(&Item, u32)], token: &str) -> OrderCommand {
        match self.placing(customer_id, items) {
            OrderCommand::Place {
                customer_id,
                items,
                shipping_address,
                ..
            } => OrderCommand::Place {
                customer_id,
                items,
                shipping_address,
                payment: Some(token.parse().unwrap()),
            },
            other => other,
        }
    }

    /// The bank that pretends.
    #[must_use]
    pub fn bank(&self) -> &Simulator {
        self.runtime
            .payments
            .simulator
            .as_ref()
            .expect("payments are simulated")
    }

    /// What the bank's ledger says of an order, oldest first: kind and pence of each entry.
    pub async fn ledger_of(&self, id: OrderId) -> Vec<(String, i64)> {
        sqlx::query_as(
            "SELECT kind, amount_minor FROM simulator.ledger WHERE order_id = $1 ORDER BY entered_at",
        )
        .bind(id.to_string())
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Which orders wait for the gateway or the customer, and for what.
    pub async fn waiting(&self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT order_id, step FROM pending_orders ORDER BY since, order_id")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Waits until everybody has caught up and no order waits for anything any more.
    pub async fn nothing_waits(&self) {
        loop {
            // By now it is known what waits.
            self.caught_up().await;
            let before = read::head(&self.pool).await.unwrap();
            eventually("no order waits any more", async || {
                self.waiting().await.is_empty().then_some(())
            })
            .await;
            if read::head(&self.pool).await.unwrap() == before {
                return;
            }
        }
    }

    /// Waits until nobody is left to be told anything.
    pub async fn everybody_told(&self) {
        eventually("everybody is told", async || {
            let waiting: i64 =
                sqlx::query_scalar("SELECT count(*) FROM notifications WHERE state = 'WAITING'")
                    .fetch_one(&self.pool)
                    .await
                    .unwrap();
            (waiting == 0).then_some(())
        })
        .await;
    }

    /// Waits until an order has come to a status, as the log has it.
    pub async fn until_it_is(&self, id: OrderId, status: OrderStatus) {
        self.until_order(id, &format!("{status:?}"), |order| order.status() == Some(status))
            .await;
    }

    /// Waits until what an order knows of its payment is like that.
    pub async fn until_paid(&self, id: OrderId, what: &str, is: impl Fn(&Payment) -> bool) {
        self.until_order(id, what, |order| order.payment().is_some_and(&is))
            .await;
    }

    /// Waits until an order is like that, as the log has it.
    pub async fn until_order(&self, id: OrderId, what: &str, is: impl Fn(&Order) -> bool) {
        eventually(&format!("{id}: {what}"), async || {
            let seen = self.store.look(id, 0, |order: &Order, _| is(order)).await;
            seen.unwrap().then_some(())
        })
        .await;
    }

    /// How long it took from the first of an order's events of one kind to the first of another, by the clock of the process.
    pub async fn took(&self, id: OrderId, from: &str, to: &str) -> Duration {
        let milliseconds: i64 = sqlx::query_scalar(
            "SELECT (extract(epoch FROM min(timestamp) FILTER (WHERE event_type = $3)
                                      - min(timestamp) FILTER (WHERE event_type = $2)) * 1000)::bigint
             FROM events WHERE aggregate_type = 'order' AND aggregate_id = $1",
        )
        .bind(id.to_string())
        .bind(from)
        .bind(to)
        .fetch_one(&self.pool)
        .await
        .unwrap();
        Duration::from_millis(milliseconds.unsigned_abs())
    }
}
