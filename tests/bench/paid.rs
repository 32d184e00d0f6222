//! Orders that are paid, with a bank that takes ten milliseconds to answer: how long one takes to be confirmed, how many
//! are confirmed, and how ten thousand get on for which the bank was away.
//!
//! Kontor's runtime and the load share this process, without HTTP in between; processor time and memory are of both.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use kontor::runtime::Runtime;
use kontor::terminal::say;
use kontor_api::Passwords;
use kontor_domain::{
    ClaimKind, Order, OrderCommand, OrderId, OrderItem, Personal, Product, ProductCommand, ProductId,
    Quantity, UserId,
};
use kontor_eventstore::{Actor, CommandContext, SystemClock};
use kontor_fulfilment::notifications::NotificationsConfig;
use kontor_fulfilment::payments::{GatewayBy, PaymentsConfig, SimulatorSettings};
use kontor_projections::orders::Orders;
use kontor_projections::updates::{Topic, Updates};
use kontor_tests::examples::{address, gbp};
use tempfile::TempDir;

use crate::report::{Measure, Target, median, megabytes, percentile};
use crate::server::{cpu_of, resident_of};
use crate::{postgres, server};

const LATENCY: Duration = Duration::from_millis(10);
const PRODUCTS: usize = 100;
/// Ample, whatever is sold.
const PIECES: u32 = 1_000_000;
/// Between two orders that arrive: a hundred a second.
const ARRIVAL: Duration = Duration::from_millis(10);
const ARRIVING: usize = 1_500;
const CLIENTS: usize = 64;
const ROUNDS: usize = 3;
const DURATION: Duration = Duration::from_secs(4);
const WAITING: u64 = 10_000;
/// How long the ten thousand are watched while they wait.
const WATCHED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two counts of what is confirmed. Counting costs the database more than an order does.
const LOOK: Duration = Duration::from_millis(200);

/// All three.
pub(crate) async fn paid(admin: &str) -> Result<Vec<Measure>> {
    let house = House::open(&postgres::database(admin, "bench_paid").await?).await?;
    let measures = vec![
        house.seen().await?,
        house.sustained(admin).await?,
        house.the_bank_was_away().await?,
    ];
    house.close().await;
    Ok(measures)
}

/// A shop, and its bank.
struct House {
    runtime: Runtime,
    updates: Updates<Orders>,
    items: Arc<[OrderItem]>,
    customer: UserId,
    placed: Arc<AtomicU64>,
    _outbox: TempDir,
}

impl House {
    async fn open(url: &str) -> Result<Self> {
        let redis = std::env::var("REDIS_URL")?;
        let payments = PaymentsConfig {
            gateway: GatewayBy::Simulator(SimulatorSettings {
                latency: LATENCY,
                ..SimulatorSettings::default()
            }),
            ..PaymentsConfig::default()
        };
        let runtime =
            Runtime::with(url, &redis, &payments, &server::privacy(), Arc::new(SystemClock)).await?;
        let outbox = TempDir::new()?;
        runtime.spawn_workers();
        runtime.spawn_senders(NotificationsConfig::to_outbox(outbox.path().to_owned()).open(&runtime.clock)?);
        kontor::seed::seed(&runtime, &Passwords::new()).await?;
        let customer = runtime
            .store
            .holder(ClaimKind::Email, "customer@example.com")
            .await?;
        let customer = customer.context("the sample customer")?;
        let mut house = Self {
            updates: Updates::spawn(
                runtime.store.clone(),
                Arc::clone(&runtime.progress),
                runtime.stop.clone(),
            ),
            items: Arc::default(),
            customer: customer.parse()?,
            placed: Arc::default(),
            runtime,
            _outbox: outbox,
        };
        let mut items = Vec::new();
        for number in 0..PRODUCTS {
            items.push(house.product(number).await?);
        }
        house.items = items.into();
        house.caught_up().await?;
        Ok(house)
    }

    async fn close(self) {
        self.runtime.close().await;
    }

    fn context(&self) -> CommandContext {
        let id = self.runtime.store.ids().next().to_string();
        CommandContext::new(id, Actor::System("bench"), self.runtime.clock.now())
    }

    async fn product(&self, number: usize) -> Result<OrderItem> {
        let store = &self.runtime.store;
        let item = OrderItem {
            product_id: ProductId::from_ulid(store.ids().next()),
            sku: format!("PAID-{number}").parse()?,
            name: format!("Product {number}").parse()?,
            unit_price: gbp(1_250),
            quantity: Quantity::new(1)?,
        };
        let create = ProductCommand::Create {
            sku: item.sku.clone(),
            name: item.name.clone(),
            description: "For the bench.".parse()?,
            category: "bench".parse()?,
            price: item.unit_price,
        };
        let receive = ProductCommand::ReceiveStock {
            quantity: Quantity::new(PIECES)?,
            reference: None,
        };
        store
            .create::<Product>(item.product_id, create, self.context())
            .await?;
        store
            .execute::<Product>(item.product_id, receive, self.context())
            .await?;
        Ok(item)
    }

    /// The next order, and its placing, which is done when it is in the log.
    fn place(&self) -> (OrderId, impl Future<Output = Result<()>> + Send + 'static) {
        let (store, context) = (self.runtime.store.clone(), self.context());
        let number = self.placed.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(number).unwrap_or(0) % self.items.len();
        let (items, customer_id) = (vec![self.items[place].clone()], self.customer);
        let id = OrderId::from_ulid(store.ids().next());
        let placing = async move {
            let command = OrderCommand::Place {
                customer_id,
                items,
                shipping_address: address(),
                payment: Some(Personal::new("tok_approved".parse()?)),
            };
            store.create::<Order>(id, command, context).await?;
            Ok(())
        };
        (id, placing)
    }

    /// Waits until so many orders are confirmed, and everybody has come to the head of the log.
    async fn confirmed(&self, orders: u64) -> Result<()> {
        let started = Instant::now();
        loop {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM orders WHERE status = 'CONFIRMED'")
                .fetch_one(self.runtime.pool())
                .await?;
            if count.unsigned_abs() >= orders {
                return self.caught_up().await;
            }
            if started.elapsed() > PATIENCE {
                bail!("{count} of {orders} orders were confirmed");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn caught_up(&self) -> Result<()> {
        let head = *self.runtime.store.head().borrow();
        for consumer in self.runtime.consumers() {
            self.runtime
                .progress
                .reach(consumer.name(), head, PATIENCE)
                .await?;
        }
        Ok(())
    }

    /// From the command to the subscriber's news that the order is confirmed, a hundred arriving each second.
    async fn seen(&self) -> Result<Measure> {
        let begun: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
        let mut news = self.updates.follow(Topic::Customer(self.customer), None);
        let known = Arc::clone(&begun);
        let listening = tokio::spawn(async move {
            let mut times = Vec::new();
            while times.len() < ARRIVING {
                let update = news.next().await.context("the updates ended")??;
                if update.row.status == "CONFIRMED" {
                    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                    let since = known.get(&update.row.id).context("an order of this bench")?;
                    times.push(since.elapsed().as_secs_f64() * 1e3);
                }
            }
            anyhow::Ok(times)
        });
        let mut arrivals = tokio::time::interval(ARRIVAL);
        let mut placing = tokio::task::JoinSet::new();
        for _ in 0..ARRIVING {
            arrivals.tick().await;
            let (id, order) = self.place();
            begun
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id.to_string(), Instant::now());
            placing.spawn(order);
        }
        while let Some(placed) = placing.join_next().await {
            placed??;
        }
        let times = tokio::time::timeout(PATIENCE, listening).await???;
        let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
        say(format!("  100 orders/s: p50 {p50:.1} ms, p99 {p99:.1} ms"));
        Ok(Measure {
            what: "placed and paid → CONFIRMED seen, 100 orders/s, p99",
            figure: p99,
            unit: " ms",
            target: Target::AtMost(100.0),
            detail: format!("p50 {p50:.1} ms; the bank takes {} ms", LATENCY.as_millis()),
        })
    }

    /// Orders placed by 64 at once, until the last is paid and confirmed and every view has it.
    async fn sustained(&self, admin: &str) -> Result<Measure> {
        let mut yardstick = postgres::Yardstick::new(admin, DURATION).await?;
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (before, started) = (self.placed.load(Ordering::Relaxed), Instant::now());
            let clients = (0..CLIENTS).map(|_| async {
                while started.elapsed() < DURATION {
                    tokio::spawn(self.place().1).await??;
                }
                anyhow::Ok(())
            });
            futures::future::try_join_all(clients).await?;
            let placing = started.elapsed().as_secs_f64();
            let placed = self.placed.load(Ordering::Relaxed);
            self.confirmed(placed).await?;
            let took = started.elapsed().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
            let orders = (placed - before) as f64;
            let inserts = yardstick.round().await?;
            say(format!(
                "  {:.0} placed/s, {:.0} confirmed/s ({:.1} s behind), pgbench {inserts:.0}/s",
                orders / placing,
                orders / took,
                took - placing
            ));
            rates.push(orders / took);
            ratios.push(orders / took / inserts);
        }
        Ok(Measure {
            what: "orders paid and confirmed/s, views caught up ÷ pgbench",
            figure: median(&ratios),
            unit: "",
            target: Target::AtLeast(0.15),
            detail: format!("{:.0}/s and {:.0}/s", median(&rates), yardstick.median()),
        })
    }

    /// Ten thousand orders wait for a bank that is away, and then it is back.
    async fn the_bank_was_away(&self) -> Result<Measure> {
        let bank = self.runtime.payments.simulator.as_ref().context("a bank")?;
        let before = self.placed.load(Ordering::Relaxed);
        bank.set_down(true);
        let clients = (0..CLIENTS).map(|_| async {
            while self.placed.load(Ordering::Relaxed) < before + WAITING {
                tokio::spawn(self.place().1).await??;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(clients).await?;
        self.caught_up().await?;
        let this = Path::new("/proc/self");
        let (cpu, watched) = (cpu_of(this)?, Instant::now());
        tokio::time::sleep(WATCHED).await;
        let idle = (cpu_of(this)?.saturating_sub(cpu)).as_secs_f64() / watched.elapsed().as_secs_f64();
        let waiting = resident_of(this)?;

        bank.set_down(false);
        let (cpu, back) = (cpu_of(this)?, Instant::now());
        self.confirmed(self.placed.load(Ordering::Relaxed)).await?;
        let took = back.elapsed().as_secs_f64();
        let busy = (cpu_of(this)?.saturating_sub(cpu)).as_secs_f64() / took;
        let after = resident_of(this)?;
        Ok(Measure {
            what: "10,000 orders waiting for a bank: all confirmed after",
            figure: took,
            unit: " s",
            target: Target::Reported,
            detail: format!(
                "{:.0} % of a core and {:.0} MB while they wait, {:.0} % and {:.0} MB then",
                idle * 1e2,
                megabytes(waiting),
                busy * 1e2,
                megabytes(after)
            ),
        })
    }
}
