//! One invoice at a time: what is sent for it, and what is made of the answers.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroI32;

use anyhow::{Context, Result, bail};
use kontor_domain::{
    Currency, Money, Order, OrderCommand, OrderId, OrderItem, OrderStatus, PersonName, Personal, Product,
    ProductCommand, ProductId, ProductName, Reason, ReturnLine, Sku, TrackingNumber, UserId,
};
use kontor_eventstore::{Answer, CommandContext, ExecuteError, IdempotencyKey, Outcome, Stored};
use tokio::sync::SetOnce;
use tokio::sync::oneshot::Receiver;
use tracing::warn;

use super::confirmations::{Confirmations, Decision};
use super::countries;
use super::file::{Entry, Line};
use super::names::{context, order_id, return_key};
use super::plan::{Cancellation, Correction, Item, Job, Piece, Plan, Sale, clean};
use super::refusal::Refusal;
use crate::runtime::Runtime;

/// What an import says that was told to stop.
pub(super) const STOPPED: &str = "stopped before the end; run it again, and it goes on from there";
/// How often a command is sent again that others kept overtaking.
const ATTEMPTS: usize = 5;

/// An invoice's answer from the shop: it was taken, or why not. An error ends the import.
pub(super) type Taken = Result<(), Refusal>;

/// What all invoices need.
pub(super) struct Counter<'a> {
    /// The shop.
    pub(super) runtime: &'a Runtime,
    /// The file.
    pub(super) entries: &'a [Entry],
    /// What to do.
    pub(super) plan: &'a Plan,
    /// The products of the plan's articles, as far as they are used.
    pub(super) products: Vec<Option<ProductId>>,
    /// The accounts of the plan's buyers.
    pub(super) users: Vec<UserId>,
    /// Keys that had been answered when the import began.
    pub(super) answered: HashMap<String, Answer>,
    /// What the order process says.
    pub(super) confirmations: Confirmations,
    /// The shop's money.
    pub(super) currency: Currency,
    /// Of each sale, once it is known: its order, or why there is none.
    pub(super) orders: Vec<SetOnce<Result<OrderId, Refusal>>>,
}

/// Whether a key has been answered.
pub(super) enum Known<'a> {
    /// Not yet.
    No,
    /// For the same input.
    Yes(&'a Answer),
    /// For another.
    Other,
}

impl Counter<'_> {
    /// Whether a key had been answered when the import began.
    pub(super) fn known(&self, key: &IdempotencyKey) -> Known<'_> {
        match self.answered.get(&key.key) {
            None => Known::No,
            Some(answer) if answer.fingerprint == key.fingerprint => Known::Yes(answer),
            Some(_) => Known::Other,
        }
    }

    /// Does one job. What was refused is told by line.
    pub(super) async fn carry_out(&self, job: Job) -> Result<Vec<(usize, Refusal)>> {
        if self.runtime.stop.is_cancelled() {
            bail!(STOPPED);
        }
        match job {
            Job::Sale(index) => {
                let sale = &self.plan.sales[index];
                let taken = self
                    .sell(sale)
                    .await
                    .with_context(|| format!("invoice {}", sale.invoice))?;
                let refused = taken.err().into_iter();
                let refused = refused
                    .flat_map(|why| sale.items.iter().map(move |item| (item.line, why)))
                    .collect();
                let _ = self.orders[index].set(taken);
                Ok(refused)
            }
            Job::Correction(index) => {
                let correction = &self.plan.corrections[index];
                let Some(line) = self.entries[correction.line].line() else {
                    return Ok(Vec::new());
                };
                let taken = self
                    .correct(correction, line)
                    .await
                    .with_context(|| format!("invoice {}", line.invoice))?;
                Ok(taken
                    .err()
                    .map(|why| (correction.line, why))
                    .into_iter()
                    .collect())
            }
            Job::Cancellation(index) => {
                let cancellation = &self.plan.cancellations[index];
                self.take_back(cancellation)
                    .await
                    .with_context(|| format!("invoice {}", cancellation.invoice))
            }
        }
    }

    /// Places an order, waits until it is confirmed, ships and delivers it.
    async fn sell(&self, sale: &Sale) -> Result<Result<OrderId, Refusal>> {
        let key = sale.place_key(self.entries);
        let (id, placed) = match self.known(&key) {
            Known::Other => return Ok(Err(Refusal::OtherContent)),
            Known::Yes(answer) => (answer.aggregate_id.parse()?, true),
            Known::No => (order_id(sale), false),
        };
        if placed && matches!(self.known(&sale.key("deliver")), Known::Yes(_)) {
            return Ok(Ok(id));
        }
        let decision = self.confirmations.of(id);
        let mut repeated = placed;
        if !placed {
            let context = context(sale.time, &sale.invoice, key);
            match self.send::<Order>(id, self.placing(sale)?, context, true).await? {
                Ok(outcome) => repeated = outcome.repeated,
                Err(why) => return Ok(Err(why)),
            }
        }
        if let Err(why) = self.confirmed(id, repeated, decision).await? {
            return Ok(Err(why));
        }
        let tracking_number = TrackingNumber::new(sale.parcel())?;
        let ship = OrderCommand::Ship {
            tracking_number,
            carrier: None,
        };
        for (step, command) in [("ship", ship), ("deliver", OrderCommand::Deliver)] {
            let context = context(sale.time, &sale.invoice, sale.key(step));
            if let Err(why) = self.send::<Order>(id, command, context, false).await? {
                return Ok(Err(why));
            }
        }
        Ok(Ok(id))
    }

    /// Waits for the order process. An order of an earlier run, or of one beside this, may have been decided before
    /// anybody listened here.
    async fn confirmed(&self, id: OrderId, repeated: bool, decision: Receiver<Decision>) -> Result<Taken> {
        if repeated {
            let status = self
                .runtime
                .store
                .inspect::<Order, _>(id, |order, _| order.status())
                .await?;
            match status {
                Some(OrderStatus::Pending) => {}
                Some(OrderStatus::Rejected | OrderStatus::Cancelled) | None => {
                    return Ok(Err(Refusal::OrderNotKept));
                }
                Some(OrderStatus::Confirmed | OrderStatus::Shipped | OrderStatus::Delivered) => {
                    return Ok(Ok(()));
                }
            }
        }
        Ok(match self.decided(decision).await? {
            Decision::Confirmed => Ok(()),
            Decision::NotKept => Err(Refusal::OrderNotKept),
            Decision::Parked => Err(Refusal::Parked),
        })
    }

    async fn decided(&self, decision: Receiver<Decision>) -> Result<Decision> {
        tokio::select! {
            decision = decision => decision.context("nobody follows the log any more"),
            () = self.runtime.stop.cancelled() => bail!(STOPPED),
        }
    }

    fn placing(&self, sale: &Sale) -> Result<OrderCommand> {
        let buyer = &self.plan.buyers[sale.buyer];
        let recipient = PersonName::new(buyer.display_name())?;
        let items: Result<Vec<OrderItem>> = sale.items.iter().map(|item| self.item(item)).collect();
        Ok(OrderCommand::Place {
            customer_id: self.users[sale.buyer],
            items: items?,
            shipping_address: Personal::new(countries::address(recipient, &sale.country)?),
            payment: None,
        })
    }

    fn item(&self, item: &Item) -> Result<OrderItem> {
        let article = &self.plan.articles[item.article];
        let told = self.entries[item.line]
            .line()
            .map_or(String::new(), |line| clean(&line.description, 200));
        Ok(OrderItem {
            product_id: self.product(item.article)?,
            sku: Sku::new(&*article.sku)?,
            name: ProductName::new(if told.is_empty() {
                article.name.clone()
            } else {
                told
            })?,
            unit_price: Money::new(item.price, self.currency)?,
            quantity: item.quantity,
        })
    }

    fn product(&self, article: usize) -> Result<ProductId> {
        self.products[article].context("an article that is used was not created")
    }

    /// Sets the stock right.
    async fn correct(&self, correction: &Correction, line: &Line) -> Result<Taken> {
        let key = correction.key(line, self.entries);
        match self.known(&key) {
            Known::Other => return Ok(Err(Refusal::OtherContent)),
            Known::Yes(_) => return Ok(Ok(())),
            Known::No => {}
        }
        let told = clean(&line.description, 500);
        let adjust = ProductCommand::AdjustStock {
            delta: NonZeroI32::new(line.quantity).context("a correction by nothing")?,
            reason: Reason::new(if told.is_empty() {
                "stock correction".to_owned()
            } else {
                told
            })?,
        };
        let context = context(line.time, &line.invoice, key);
        let sent = self
            .send::<Product>(self.product(correction.article)?, adjust, context, false)
            .await?;
        Ok(sent.map(drop))
    }

    /// Takes back what a cancellation names, order by order, once all of those orders are delivered.
    async fn take_back(&self, cancellation: &Cancellation) -> Result<Vec<(usize, Refusal)>> {
        let mut refused = HashMap::new();
        let mut orders = Vec::new();
        for it in &cancellation.returns {
            let sale = self.orders[it.sale].wait();
            let order = tokio::select! {
                order = sale => *order,
                () = self.runtime.stop.cancelled() => bail!(STOPPED),
            };
            if order.is_err() {
                refused.extend(it.pieces.iter().map(|piece| (piece.line, Refusal::SaleRefused)));
            }
            orders.push(order);
        }
        // A line is taken back wholly or not at all, so the rest of such a line is left out as well.
        let left_out: HashSet<usize> = refused.keys().copied().collect();
        for (it, order) in cancellation.returns.iter().zip(orders) {
            let pieces = it.pieces.iter().filter(|piece| !left_out.contains(&piece.line));
            let pieces: Vec<Piece> = pieces.cloned().collect();
            if let (Ok(id), false) = (order, pieces.is_empty())
                && let Err(why) = self
                    .give_back(cancellation, id, &self.plan.sales[it.sale], &pieces)
                    .await?
            {
                refused.extend(pieces.iter().map(|piece| (piece.line, why)));
            }
        }
        Ok(refused.into_iter().collect())
    }

    async fn give_back(
        &self,
        by: &Cancellation,
        id: OrderId,
        sale: &Sale,
        pieces: &[Piece],
    ) -> Result<Taken> {
        let key = return_key(&by.invoice, by.time, sale, pieces);
        match self.known(&key) {
            Known::Other => return Ok(Err(Refusal::OtherContent)),
            Known::Yes(_) => return Ok(Ok(())),
            Known::No => {}
        }
        let refund = pieces.iter().map(Piece::refund).sum();
        let command = OrderCommand::ReturnItems {
            lines: pieces
                .iter()
                .map(|it| ReturnLine {
                    line: it.item,
                    quantity: it.quantity,
                })
                .collect(),
            refund: Money::new(refund, self.currency)?,
            reason: Reason::new(format!("cancellation {}", by.invoice))?.into(),
            restock: true,
        };
        let sent = self
            .send::<Order>(id, command, context(by.time, &by.invoice, key), false)
            .await?;
        Ok(sent.map(drop))
    }

    /// Sends a command. A refusal is an answer; a log that cannot be written is not.
    pub(super) async fn send<A: Stored>(
        &self,
        id: A::Id,
        command: A::Command,
        context: CommandContext,
        fresh: bool,
    ) -> Result<Result<Outcome<A>, Refusal>> {
        let store = &self.runtime.store;
        for _ in 0..ATTEMPTS {
            let sent = if fresh {
                store.create::<A>(id, command.clone(), context.clone()).await
            } else {
                store.execute::<A>(id, command.clone(), context.clone()).await
            };
            match sent {
                Ok(outcome) => return Ok(Ok(outcome)),
                Err(ExecuteError::KeyReused) => return Ok(Err(Refusal::OtherContent)),
                Err(ExecuteError::Contended { .. }) => {}
                Err(error @ (ExecuteError::Unavailable(_) | ExecuteError::Unreadable(_))) => {
                    return Err(error.into());
                }
                Err(error) => {
                    warn!(command.id = context.command_id, %error, "not taken");
                    return Ok(Err(Refusal::ShopRefused));
                }
            }
        }
        bail!("others keep changing {id}; run it again when there is less to do");
    }
}
