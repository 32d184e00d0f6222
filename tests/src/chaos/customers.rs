//! Customers and staff: each order has a fate, by its number, and somebody who sees to it that it is fulfilled.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cqrs_es::Aggregate;
use kontor_domain::{Order, OrderId, OrderStatus, UserId};
use kontor_eventstore::{Body, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::counter::{Answer, Asked, Wish};
use super::{Dice, insist};
use crate::builders::Item;
use crate::examples::{gbp, line};

/// How long one wish may take before it is put again, under the same key.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Every order as the log has it, followed from the outside.
#[derive(Debug)]
pub(super) struct Observer {
    orders: std::sync::Mutex<HashMap<OrderId, Order>>,
    position: watch::Sender<u64>,
}

impl Observer {
    pub(super) fn follow(store: Store, stop: CancellationToken) -> Arc<Self> {
        let observer = Arc::new(Self {
            orders: std::sync::Mutex::new(HashMap::new()),
            position: watch::Sender::new(0),
        });
        let seen = Arc::clone(&observer);
        tokio::spawn(async move {
            let (mut head, mut position) = (store.head(), 0);
            while !stop.is_cancelled() {
                head.mark_unchanged();
                let events = store.after(position, 1_000).await.unwrap_or_default();
                let Some(last) = events.last() else {
                    // What is there is announced; Postgres may be dead, so look anyway.
                    let _ = tokio::time::timeout(Duration::from_millis(200), head.changed()).await;
                    continue;
                };
                position = last.position;
                {
                    let mut orders = seen.orders.lock().unwrap();
                    for event in &events {
                        if let Body::Order(id, it) = &event.body {
                            orders.entry(*id).or_default().apply(it.clone());
                        }
                    }
                }
                seen.position.send_replace(position);
            }
        });
        observer
    }

    /// Waits until an order is like that.
    async fn until<T>(&self, id: OrderId, what: &str, is: impl Fn(&Order) -> Option<T>) -> T {
        let mut position = self.position.subscribe();
        let seen = async {
            loop {
                position.mark_unchanged();
                if let Some(seen) = self.orders.lock().unwrap().get(&id).and_then(&is) {
                    return seen;
                }
                position.changed().await.expect("somebody follows the log");
            }
        };
        tokio::time::timeout(Duration::from_secs(240), seen)
            .await
            .unwrap_or_else(|_| {
                let orders = self.orders.lock().unwrap();
                let order = orders.get(&id);
                let read = *self.position.borrow();
                panic!("{id} never came to this: {what}; read up to {read}, it is {order:?}")
            })
    }
}

/// What the customer does at their bank, when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtTheBank {
    Approves,
    Refuses,
    Forgets,
    /// When the order has expired.
    ComesLate,
}

/// What becomes of the order if it can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    CancelledAtOnce,
    Cancelled,
    Left,
    Shipped,
    Delivered,
    Returned { restock: bool },
    Refunded,
}

#[derive(Debug, Clone, Copy)]
struct Fate {
    token: Option<&'static str>,
    bank: AtTheBank,
    then: Then,
    /// Wants one of what there is not enough of.
    scarce: bool,
}

impl Fate {
    fn of(dice: &mut Dice) -> Self {
        let (token, bank) = match dice.roll(100) {
            0..=44 => (Some("tok_approved"), AtTheBank::Approves),
            45..=51 => (Some("tok_declined"), AtTheBank::Approves),
            52..=55 => (Some("tok_insufficient_funds"), AtTheBank::Approves),
            56..=63 => (Some("tok_needs_action"), AtTheBank::Approves),
            64..=66 => (Some("tok_needs_action"), AtTheBank::Refuses),
            67..=68 => (Some("tok_needs_action"), AtTheBank::Forgets),
            69..=70 => (Some("tok_needs_action"), AtTheBank::ComesLate),
            71..=75 => (Some("tok_slow"), AtTheBank::Approves),
            76..=80 => (Some("tok_timeout_after_charge"), AtTheBank::Approves),
            81..=84 => (Some("tok_fails_1"), AtTheBank::Approves),
            85..=87 => (Some("tok_fails_2"), AtTheBank::Approves),
            88..=89 => (Some("tok_fails_4"), AtTheBank::Approves),
            _ => (None, AtTheBank::Approves),
        };
        let then = match dice.roll(100) {
            0..=9 => Then::CancelledAtOnce,
            10..=21 => Then::Cancelled,
            22..=31 => Then::Left,
            32..=56 => Then::Shipped,
            57..=73 => Then::Delivered,
            74..=81 => Then::Returned { restock: true },
            82..=87 => Then::Returned { restock: false },
            _ => Then::Refunded,
        };
        Self {
            token,
            bank,
            then,
            scarce: dice.roll(20) == 0,
        }
    }
}

/// Everybody who wants something, and where they go with it.
pub(super) struct Customers {
    pub(super) observer: Arc<Observer>,
    pub(super) http: reqwest::Client,
    pub(super) counter: String,
    pub(super) gateway: String,
    pub(super) customer: UserId,
    pub(super) common: Item,
    pub(super) scarce: Item,
    pub(super) seed: u64,
    /// Orders that the log has acknowledged.
    pub(super) placed: AtomicUsize,
    /// Orders whose customer has nothing left to do.
    pub(super) done: AtomicUsize,
    /// How often something had to be asked once more.
    pub(super) repeats: AtomicUsize,
    pub(super) tokens: std::sync::Mutex<BTreeMap<&'static str, i64>>,
}

impl Customers {
    /// Lives through the order with this number.
    pub(super) async fn order(&self, number: usize, id: OrderId) {
        let mut dice = Dice::new(self.seed, number as u64);
        let fate = Fate::of(&mut dice);
        *(self.tokens.lock().unwrap())
            .entry(fate.token.unwrap_or("without a payment"))
            .or_default() += 1;
        let quantity = 1 + u32::try_from(dice.roll(3)).unwrap();
        let mut items = vec![line(&self.common, quantity)];
        if fate.scarce {
            items.push(line(&self.scarce, 1));
        }
        let place = Wish::Place {
            customer: self.customer,
            items,
            token: fate.token.map(str::to_owned),
        };
        let placed = self.ask(id, "place", place).await;
        assert_eq!(placed, Answer::Done, "{id}");
        self.placed.fetch_add(1, Ordering::Relaxed);
        if fate.then == Then::CancelledAtOnce {
            // Refused if it was rejected already.
            self.ask(id, "cancel", Wish::Cancel).await;
        } else {
            self.pay(id, fate).await;
            self.after(id, fate).await;
        }
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Does what the bank asks of the customer, if it does.
    async fn pay(&self, id: OrderId, fate: Fate) {
        if fate.token != Some("tok_needs_action") || fate.bank == AtTheBank::Forgets {
            return;
        }
        let reference = |order: &Order| {
            if order.status() != Some(OrderStatus::Pending) {
                return Some(None);
            }
            Some(Some(order.payment()?.reference()?.clone()))
        };
        let Some(reference) = self.observer.until(id, "its customer is asked", reference).await else {
            return;
        };
        if fate.bank == AtTheBank::ComesLate {
            let over = |order: &Order| (order.status() != Some(OrderStatus::Pending)).then_some(());
            self.observer.until(id, "its time is over", over).await;
        }
        let page = format!("{}/actions/{reference}", self.gateway);
        let approve = fate.bank != AtTheBank::Refuses;
        insist("the customer's page", async || {
            let sent = self
                .http
                .post(&page)
                .form(&[("approve", approve)])
                .timeout(ANSWER_WITHIN)
                .send()
                .await;
            self.good(sent)
        })
        .await;
        self.ask(id, "back", Wish::LookUp).await;
    }

    /// What staff and customer do with it once it is decided.
    async fn after(&self, id: OrderId, Fate { token, then, .. }: Fate) {
        let decided = |order: &Order| order.status().filter(|status| *status != OrderStatus::Pending);
        if self.observer.until(id, "it is decided", decided).await != OrderStatus::Confirmed {
            return;
        }
        match then {
            Then::Left | Then::CancelledAtOnce => return,
            Then::Cancelled => {
                self.done(id, "cancel", Wish::Cancel).await;
                return;
            }
            Then::Shipped | Then::Delivered | Then::Returned { .. } | Then::Refunded => {
                self.done(id, "ship", Wish::Ship).await;
            }
        }
        if then == Then::Shipped {
            return;
        }
        self.done(id, "deliver", Wish::Deliver).await;
        match then {
            Then::Returned { restock } => {
                let refund = self.common.price;
                self.done(id, "return", Wish::GiveBack { refund, restock }).await;
            }
            // Where nothing was paid, nothing is paid back.
            Then::Refunded if token.is_some() => {
                // Twice: the second may be promised before the first is paid.
                for (key, pence) in [("refund", 1_00), ("refund again", 1_50)] {
                    let amount = gbp(pence);
                    self.done(id, key, Wish::Refund { amount }).await;
                }
            }
            _ => {}
        }
    }

    async fn done(&self, id: OrderId, key: &str, wish: Wish) {
        assert_eq!(self.ask(id, key, wish).await, Answer::Done, "{id}: {key}");
    }

    /// Asks at the counter, again and again under one key, until there is an answer.
    async fn ask(&self, order: OrderId, key: &str, wish: Wish) -> Answer {
        let asked = Asked {
            key: format!("{order}/{key}"),
            order,
            wish,
        };
        insist(key, async || {
            let sent = self
                .http
                .post(&self.counter)
                .json(&asked)
                .timeout(ANSWER_WITHIN)
                .send()
                .await;
            self.good(sent)?.json().await.ok()
        })
        .await
    }

    /// An answer that is one.
    fn good(&self, sent: reqwest::Result<reqwest::Response>) -> Option<reqwest::Response> {
        let good = sent.ok().filter(|answer| {
            assert_ne!(answer.status(), 400, "asked the wrong thing");
            answer.status().is_success()
        });
        if good.is_none() {
            self.repeats.fetch_add(1, Ordering::Relaxed);
        }
        good
    }
}
