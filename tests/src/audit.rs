//! Everything against everything, when nothing is under way: the orders' events, the bank's own ledger, the shelves, and the
//! record of what customers were told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use cqrs_es::Aggregate;
use kontor_domain::order::stock_needed;
use kontor_domain::{
    Order, OrderEvent, OrderId, OrderStatus, Payment, Product, ProductEvent, ProductId, UserEvent,
};
use kontor_eventstore::{Body, Recorded};
use kontor_fulfilment::notifications::occasion;

use crate::shop::Shop;

mod view;

/// Events read at once.
const PAGE: usize = 4_000;
/// Faults told in full; the rest is only counted.
const TOLD: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Audit {
    /// What was counted, in the order to show it.
    pub counts: Vec<(String, i64)>,
    /// What is not as it must be.
    pub faults: Vec<String>,
}

impl Audit {
    /// Panics if anything is not as it must be.
    pub fn assert_faultless(&self) {
        let told: Vec<_> = self.faults.iter().take(TOLD).collect();
        assert!(told.is_empty(), "{} faults: {told:#?}", self.faults.len());
    }

    /// What was counted under this name.
    #[must_use]
    pub fn number(&self, what: &str) -> i64 {
        let counted = self.counts.iter().find(|(name, _)| name == what);
        counted.unwrap_or_else(|| panic!("nobody counted {what}")).1
    }

    fn count(&mut self, what: impl Into<String>, number: i64) {
        self.counts.push((what.into(), number));
    }

    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    fn expect_same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, one: &T, other: &T) {
        if one != other {
            self.fault(format!("{what}: {one:?} is not {other:?}"));
        }
    }
}

/// The log, folded.
#[derive(Default)]
struct Log {
    orders: BTreeMap<OrderId, OrderStory>,
    shelves: BTreeMap<ProductId, Shelf>,
    /// Positions of what customers are to be told.
    worth_telling: BTreeSet<i64>,
    /// How many people registered by themselves: each is sent a mail that proves their address.
    registered: usize,
}

#[derive(Default)]
struct OrderStory {
    order: Order,
    happened: BTreeMap<&'static str, u32>,
}

/// What should be on a shelf, worked out from deliveries and orders, beside what the product says.
#[derive(Default)]
struct Shelf {
    product: Product,
    came: i64,
    left: i64,
    promised: u64,
}

/// What the bank's books say of one order.
#[derive(Debug, Default)]
struct Statement {
    payments: u32,
    /// Of its payment.
    status: Option<String>,
    entries: BTreeMap<String, u32>,
    sums: BTreeMap<String, i64>,
}

impl Statement {
    fn entries(&self, kind: &str) -> u32 {
        self.entries.get(kind).copied().unwrap_or(0)
    }

    fn sum(&self, kind: &str) -> i64 {
        self.sums.get(kind).copied().unwrap_or(0)
    }
}

impl OrderStory {
    fn times(&self, event: &str) -> u32 {
        self.happened.get(event).copied().unwrap_or(0)
    }
}

impl Log {
    async fn read(shop: &Shop) -> Self {
        let (mut log, mut position) = (Self::default(), 0);
        loop {
            let events = shop.store.after(position, PAGE).await.unwrap();
            let Some(last) = events.last() else { return log };
            position = last.position;
            for event in events {
                log.take(&event);
            }
        }
    }

    fn take(&mut self, event: &Recorded) {
        if occasion(&event.body).is_some() {
            self.worth_telling.insert(event.position.cast_signed());
        }
        match &event.body {
            Body::User(_, UserEvent::Registered { .. }) => {
                let themselves = !event.metadata().unwrap().actor.starts_with("system:");
                self.registered += usize::from(themselves);
            }
            Body::Order(id, it) => {
                let story = self.orders.entry(*id).or_default();
                story.order.apply(it.clone());
                *story.happened.entry(it.name()).or_default() += 1;
                match it {
                    OrderEvent::Shipped { .. } => {
                        for (product, quantity) in stock_needed(story.order.items()).unwrap() {
                            self.shelves.entry(product).or_default().left += i64::from(quantity.get());
                        }
                    }
                    OrderEvent::ItemsReturned {
                        lines, restock: true, ..
                    } => {
                        for line in lines {
                            self.shelves.entry(line.product_id).or_default().left -=
                                i64::from(line.quantity.get());
                        }
                    }
                    _ => {}
                }
            }
            Body::Product(id, it) => {
                let shelf = self.shelves.entry(*id).or_default();
                match it {
                    ProductEvent::StockReceived { quantity, .. } => shelf.came += i64::from(quantity.get()),
                    ProductEvent::StockAdjusted { delta, .. } => shelf.came += i64::from(*delta),
                    _ => {}
                }
                shelf.product.apply(it.clone());
            }
            _ => {}
        }
    }

    fn promise(&mut self) {
        let confirmed = (self.orders.values()).filter(|it| it.order.status() == Some(OrderStatus::Confirmed));
        for story in confirmed {
            for (product, quantity) in stock_needed(story.order.items()).unwrap() {
                self.shelves.entry(product).or_default().promised += u64::from(quantity.get());
            }
        }
    }
}

impl Shop {
    /// Holds everything against everything. Call it when everybody has caught up and nothing waits. For shops that take the
    /// money at shipment, whose customers want mails and nothing else.
    pub async fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        let mut log = Log::read(self).await;
        log.promise();
        self.audit_money(&log, &mut audit).await;
        for (id, shelf) in &log.shelves {
            let (on_hand, reserved) = (shelf.product.on_hand().cast_signed(), shelf.product.reserved());
            audit.expect_same(
                &format!("{id} on hand, and received less shipped"),
                &on_hand,
                &(shelf.came - shelf.left),
            );
            audit.expect_same(
                &format!("{id} reserved, and confirmed"),
                &reserved,
                &shelf.promised,
            );
        }
        let sum = |of: fn(&Shelf) -> i64| log.shelves.values().map(of).sum::<i64>();
        audit.count("pieces received and adjusted", sum(|it| it.came));
        audit.count("pieces shipped, less returned", sum(|it| it.left));
        audit.count("pieces on hand", sum(|it| it.product.on_hand().cast_signed()));
        audit.count(
            "pieces reserved for confirmed orders",
            sum(|it| it.promised.cast_signed()),
        );
        self.audit_notifications(&log, &mut audit).await;
        audit
    }

    async fn audit_money(&self, log: &Log, audit: &mut Audit) {
        let mut statements = self.statements().await;
        let mut views = self.payments_in_view().await;
        let mut kept_by_views = 0;
        let mut statuses: BTreeMap<&str, i64> = BTreeMap::new();
        let mut kept_by_orders = 0;
        for (id, story) in &log.orders {
            let status = story.order.status();
            *statuses
                .entry(status.map_or("NOWHERE", OrderStatus::as_str))
                .or_default() += 1;
            let statement = statements.remove(&id.to_string()).unwrap_or_default();
            kept_by_orders += (story.order.payment()).map_or(0, |it| {
                it.captured().amount_minor() - it.refunded().amount_minor()
            });
            let view = views.remove(&id.to_string()).unwrap_or_default();
            kept_by_views += view.captured - view.paid_back;
            let mut unlike = unlike(story, &statement);
            unlike.extend(view.unlike(story, &statement));
            for what in unlike {
                audit.fault(format!(
                    "{id} {status:?}: {what}; {statement:?}; {:?}",
                    story.happened
                ));
            }
        }
        for id in views.keys() {
            audit.fault(format!("{id} is in the view, and the log knows nothing of it"));
        }
        for id in statements.keys() {
            audit.fault(format!(
                "the bank has a payment for {id}, of which the log knows nothing"
            ));
        }
        for (order, step) in self.waiting().await {
            audit.fault(format!("{order} still waits: {step}"));
        }
        audit.count("orders", i64::try_from(log.orders.len()).unwrap());
        for (status, number) in statuses {
            audit.count(format!("  {status}"), number);
        }
        let ledger: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT kind, count(*), sum(amount_minor)::bigint FROM simulator.ledger GROUP BY kind ORDER BY kind",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let sums: HashMap<&str, i64> = ledger
            .iter()
            .map(|(kind, _, sum)| (kind.as_str(), *sum))
            .collect();
        let sum = |kind: &str| sums.get(kind).copied().unwrap_or(0);
        let kept_by_bank = sum("CAPTURE") - sum("REFUND");
        audit.expect_same(
            "captured less refunded, by the bank and by the orders",
            &kept_by_bank,
            &kept_by_orders,
        );
        audit.expect_same(
            "captured less refunded, by the bank and by the view",
            &kept_by_bank,
            &kept_by_views,
        );
        for (kind, entries, sum) in &ledger {
            audit.count(format!("ledger: {kind}"), *entries);
            audit.count(format!("ledger: {kind}, pence"), *sum);
        }
        audit.count("captured less refunded, pence, by the orders", kept_by_orders);
        audit.count("captured less refunded, pence, by the view", kept_by_views);
    }

    /// What the bank says of each order it ever heard of.
    async fn statements(&self) -> BTreeMap<String, Statement> {
        let mut statements: BTreeMap<String, Statement> = BTreeMap::new();
        let payments: Vec<(String, String)> =
            sqlx::query_as("SELECT order_id, status FROM simulator.payments")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        for (order, status) in payments {
            let statement = statements.entry(order).or_default();
            statement.payments += 1;
            statement.status = Some(status);
        }
        let entries: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT order_id, kind, amount_minor FROM simulator.ledger")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        for (order, kind, pence) in entries {
            let statement = statements.entry(order).or_default();
            *statement.entries.entry(kind.clone()).or_default() += 1;
            *statement.sums.entry(kind).or_default() += pence;
        }
        statements
    }

    async fn audit_notifications(&self, log: &Log, audit: &mut Audit) {
        let record: Vec<(i64, String, String)> =
            sqlx::query_as("SELECT position, channel, state FROM notifications ORDER BY position")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        let told: BTreeSet<i64> = record.iter().map(|(position, ..)| *position).collect();
        audit.expect_same("notifications, and positions", &record.len(), &told.len());
        for position in told.symmetric_difference(&log.worth_telling) {
            audit.fault(format!(
                "position {position} is worth telling or told, and not both"
            ));
        }
        for (position, channel, state) in &record {
            if (channel.as_str(), state.as_str()) != ("EMAIL", "SENT") {
                audit.fault(format!("notification {position}/{channel} is {state}"));
            }
        }
        let files = std::fs::read_dir(self.outbox()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mails = names.filter(|name| Path::new(name).extension().is_some_and(|it| it == "eml"));
        let (proving, telling): (Vec<_>, Vec<_>) = mails.partition(|name| name.starts_with("account-"));
        audit.expect_same("mails, and notifications", &telling.len(), &record.len());
        audit.expect_same(
            "mails that prove an address, and people who registered",
            &proving.len(),
            &log.registered,
        );
        audit.count(
            "notifications, each sent and recorded once",
            i64::try_from(record.len()).unwrap(),
        );
    }
}

/// What of an order is not as the bank has it, or as it must be in its status.
fn unlike(story: &OrderStory, bank: &Statement) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |so: bool, what: &str| {
        if !so {
            faults.push(what.to_owned());
        }
    };
    for once in [
        "Placed",
        "Reserved",
        "PaymentAuthorised",
        "PaymentDeclined",
        "PaymentCaptured",
        "PaymentVoided",
        "Confirmed",
        "Rejected",
        "Cancelled",
        "Shipped",
        "Delivered",
    ] {
        must(story.times(once) <= 1, once);
    }
    must(bank.payments <= 1, "one payment at most");
    must(bank.entries("AUTHORISE") <= 1, "held once at most");
    must(bank.entries("CAPTURE") <= 1, "captured once at most");
    must(bank.entries("VOID") <= 1, "let go once at most");
    let order = &story.order;
    must(
        order.pending(kontor_domain::CaptureAt::Shipment).is_none(),
        "it waits for nothing",
    );
    let total = order.total().map_or(0, kontor_domain::Money::amount_minor);
    let ended = matches!(
        order.status(),
        Some(OrderStatus::Rejected | OrderStatus::Cancelled)
    );
    must(order.status() != Some(OrderStatus::Pending), "it ended");
    let Some(payment) = order.payment() else {
        must(bank.payments == 0, "nothing was to be paid");
        return faults;
    };
    let says = |of: fn(&Payment) -> kontor_domain::Money| of(payment).amount_minor();
    let (held, taken, back) = (bank.sum("AUTHORISE"), bank.sum("CAPTURE"), bank.sum("REFUND"));
    must(says(Payment::authorised) == held, "held as the order says");
    must(says(Payment::captured) == taken, "captured as the order says");
    must(says(Payment::refunded) == back, "paid back as the order says");
    must(
        story.times("PaymentAuthorised") == bank.entries("AUTHORISE"),
        "an event for the authorisation",
    );
    must(
        story.times("PaymentCaptured") == bank.entries("CAPTURE"),
        "an event for the capture",
    );
    must(
        story.times("PaymentRefunded") == bank.entries("REFUND"),
        "an event for each refund",
    );
    // Where nothing was ever asked for, the order says that there is nothing to let go.
    must(
        story.times("PaymentVoided") >= bank.entries("VOID"),
        "an event for what was let go",
    );
    if ended {
        must(
            bank.entries("VOID") == 1 || held == taken,
            "nothing is held for an order that has ended",
        );
        must(taken == back, "nothing is kept of an order that has ended");
    } else {
        must(held == total, "the total is held");
        must(bank.entries("VOID") == 0, "not let go");
        let gone = order.status() != Some(OrderStatus::Confirmed);
        must(
            taken == if gone { total } else { 0 },
            "captured when it was shipped",
        );
        must(
            back == order.owed().map_or(0, kontor_domain::Money::amount_minor),
            "paid back what was promised",
        );
    }
    faults
}
