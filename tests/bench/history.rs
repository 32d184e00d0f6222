//! A shop's past: a million events, decided by the domain itself, put where the log keeps them.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::DomainEvent;
use cqrs_es::event_sink::EventSink;
use futures::FutureExt;
use kontor_domain::order::stock_needed;
use kontor_domain::{
    Address, Entity, Money, Order, OrderCommand, OrderId, OrderItem, Personal, Product, ProductCommand, ProductEvent,
    ProductId, Quantity, RefusedItem, ReturnLine, User, UserCommand, UserId,
};
use kontor_eventstore::Metadata;
use kontor_projections::copy::Copy;
use sqlx::PgConnection;
use ulid::Ulid;

const PRODUCTS: u64 = 2_000;
const CUSTOMERS: u64 = 5_000;
/// Orders behind the newest at which an order gets further: so that orders are under way side by side, as in a shop.
const DECIDED: usize = 2;
const SHIPPED: usize = 300;
const DELIVERED: usize = 900;
const RETURNED: usize = 1_500;
/// Events written in one go.
const BATCH: u64 = 20_000;

/// An aggregate, and where its stream ends.
#[derive(Default)]
struct Stream<A: Entity> {
    id: Option<A::Id>,
    state: A,
    version: u64,
}

/// The shop, while its past is being made up.
struct Past<'a> {
    connection: &'a mut PgConnection,
    rows: Copy,
    position: u64,
    time: DateTime<Utc>,
    chance: u64,
    products: Vec<Stream<Product>>,
    customers: Vec<UserId>,
    orders: VecDeque<Stream<Order>>,
}

/// Fills the empty table `events` with at least so many events of a year; how many there are, and how many orders.
pub async fn write(connection: &mut PgConnection, events: u64) -> Result<(u64, u64)> {
    let time = "2025-01-01T00:00:00Z".parse()?;
    let mut past = Past {
        connection,
        rows: Copy::default(),
        position: 0,
        time,
        chance: 1,
        products: Vec::new(),
        customers: Vec::new(),
        orders: VecDeque::new(),
    };
    past.open().await?;
    let mut orders = 0;
    while past.position < events {
        past.time += TimeDelta::seconds(300);
        past.place().await?;
        orders += 1;
        past.go_on(DECIDED, Past::decide).await?;
        past.go_on(SHIPPED, Past::ship).await?;
        past.go_on(DELIVERED, Past::deliver).await?;
        past.go_on(RETURNED, Past::take_back).await?;
        past.orders.truncate(RETURNED + 1);
    }
    past.flush().await?;
    Ok((past.position, orders))
}

impl Past<'_> {
    /// Accounts and a stocked catalogue.
    async fn open(&mut self) -> Result<()> {
        for number in 0..CUSTOMERS {
            let id = UserId::from_ulid(self.ulid());
            let register = UserCommand::Register {
                email: Personal::new(format!("customer-{number}@example.com").parse()?),
                name: Personal::new(format!("Customer {number}").parse()?),
                phone: None,
                password_hash: None,
            };
            self.tell(&mut Stream { id: Some(id), ..Stream::<User>::default() }, register).await?;
            self.customers.push(id);
        }
        for number in 0..PRODUCTS {
            let mut product = Stream { id: Some(ProductId::from_ulid(self.ulid())), ..Stream::<Product>::default() };
            let create = ProductCommand::Create {
                sku: format!("SKU-{number:05}").parse()?,
                name: format!("Product {number}").parse()?,
                description: "Sold, shipped and now and then brought back, all through a year.".parse()?,
                category: format!("shelf-{}", number % 20).parse()?,
                price: money(100 + i64::try_from(self.chance(5_000))?)?,
            };
            self.tell(&mut product, create).await?;
            let receive = ProductCommand::ReceiveStock { quantity: Quantity::new(200)?, reference: None };
            self.tell(&mut product, receive).await?;
            self.products.push(product);
        }
        Ok(())
    }

    /// One to six lines, some products in more demand than others.
    async fn place(&mut self) -> Result<()> {
        let mut items = Vec::new();
        for _ in 0..=self.chance(6) {
            let place = self.chance(PRODUCTS).min(self.chance(PRODUCTS));
            let quantity = Quantity::new(u32::try_from(1 + self.chance(3))?)?;
            let product = &self.products[usize::try_from(place)?];
            items.push(OrderItem {
                product_id: product.id.context("an id")?,
                sku: product.state.sku().context("a SKU")?.clone(),
                name: product.state.name().context("a name")?.clone(),
                unit_price: product.state.price().context("a price")?,
                quantity,
            });
        }
        let customer = usize::try_from(self.chance(CUSTOMERS))?;
        let place = OrderCommand::Place { customer_id: self.customers[customer], items, shipping_address: address()? };
        let mut order = Stream { id: Some(OrderId::from_ulid(self.ulid())), ..Stream::<Order>::default() };
        self.tell(&mut order, place).await?;
        self.orders.push_front(order);
        Ok(())
    }

    /// Does the next step of the order so many behind the newest.
    async fn go_on(&mut self, behind: usize, step: impl AsyncFn(&mut Self, &mut Stream<Order>) -> Result<()>) -> Result<()> {
        let Some(order) = self.orders.get_mut(behind) else { return Ok(()) };
        let mut order = std::mem::take(order);
        step(self, &mut order).await?;
        self.orders[behind] = order;
        Ok(())
    }

    /// Reserves and confirms, or rejects; goods come in where they ran out; one order in thirty is called off.
    async fn decide(&mut self, order: &mut Stream<Order>) -> Result<()> {
        let order_id = order.id.context("an id")?;
        let mut refused = Vec::new();
        for (product_id, quantity) in stock_needed(order.state.items())? {
            let reserve = ProductCommand::Reserve { order_id, quantity };
            for event in self.tell_product(product_id, reserve).await? {
                if let ProductEvent::ReservationRefused { requested, available, reason, .. } = event {
                    refused.push(RefusedItem { product_id, requested, available, reason });
                    let receive = ProductCommand::ReceiveStock { quantity: Quantity::new(500)?, reference: None };
                    self.tell_product(product_id, receive).await?;
                }
            }
        }
        let confirmed = refused.is_empty();
        let command = if confirmed { OrderCommand::Confirm } else { OrderCommand::Reject { refused } };
        self.tell(order, command).await?;
        let cancelled = confirmed && self.chance(30) == 0;
        if cancelled {
            self.tell(order, OrderCommand::Cancel { reason: "changed their mind".parse()? }).await?;
        }
        if cancelled || !confirmed {
            self.tell_products(order, |_| ProductCommand::Release { order_id }).await?;
        }
        Ok(())
    }

    async fn ship(&mut self, order: &mut Stream<Order>) -> Result<()> {
        let order_id = order.id.context("an id")?;
        if order.state.status() != Some(kontor_domain::OrderStatus::Confirmed) {
            return Ok(());
        }
        let tracking_number = format!("TRACK-{}", self.position).parse()?;
        self.tell(order, OrderCommand::Ship { tracking_number, carrier: None }).await?;
        self.tell_products(order, |_| ProductCommand::Commit { order_id }).await
    }

    async fn deliver(&mut self, order: &mut Stream<Order>) -> Result<()> {
        if order.state.status() == Some(kontor_domain::OrderStatus::Shipped) {
            self.tell(order, OrderCommand::Deliver).await?;
        }
        Ok(())
    }

    /// One order in forty comes back, its first line at least.
    async fn take_back(&mut self, order: &mut Stream<Order>) -> Result<()> {
        if order.state.status() != Some(kontor_domain::OrderStatus::Delivered) || self.chance(40) != 0 {
            return Ok(());
        }
        let item = order.state.items().first().context("a line")?.clone();
        let returned = OrderCommand::ReturnItems {
            lines: vec![ReturnLine { line: 0, quantity: item.quantity }],
            refund: item.line_total()?,
            reason: "not as described".parse()?,
            restock: true,
        };
        self.tell(order, returned).await?;
        let order_id = order.id.context("an id")?;
        let command = ProductCommand::ReturnStock { order_id, quantity: item.quantity };
        self.tell_product(item.product_id, command).await?;
        Ok(())
    }

    async fn tell_products(&mut self, order: &Stream<Order>, command: impl Fn(Quantity) -> ProductCommand) -> Result<()> {
        for (product_id, quantity) in stock_needed(order.state.items())? {
            self.tell_product(product_id, command(quantity)).await?;
        }
        Ok(())
    }

    async fn tell_product(&mut self, id: ProductId, command: ProductCommand) -> Result<Vec<ProductEvent>> {
        // They were made one after another, so their ids are in order.
        let place = self.products.binary_search_by_key(&Some(id), |product| product.id);
        let place = place.ok().context("a product that is known")?;
        let mut product = std::mem::take(&mut self.products[place]);
        let events = self.tell(&mut product, command).await?;
        self.products[place] = product;
        Ok(events)
    }

    /// Has the domain decide, and notes the events as the store's writer would.
    async fn tell<A: Entity>(&mut self, stream: &mut Stream<A>, command: A::Command) -> Result<Vec<A::Event>> {
        let sink = EventSink::<A>::default();
        let handled = stream.state.handle(command, &(), &sink).now_or_never();
        let (Some(Ok(())), Some(events)) = (handled, sink.collect().now_or_never()) else {
            bail!("a {} refuses its part in the past", A::TYPE);
        };
        let id = stream.id.context("an id")?.to_string();
        let command_id = self.ulid().to_string();
        let metadata = Metadata {
            correlation_id: command_id.clone(),
            causation_id: Some(format!("{}/{id}/{}", A::TYPE, stream.version)),
            command_id,
            actor: "system:bench".to_owned(),
            traceparent: None,
            time: self.time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            backdated: None,
        };
        for event in &events {
            stream.version += 1;
            self.position += 1;
            self.rows
                .row(9)
                .text(A::TYPE)
                .text(&id)
                .integer(stream.version.cast_signed())
                .text(event.event_type())
                .text(event.event_version())
                .json(event)
                .json(&metadata)
                .time(self.time)
                .integer(self.position.cast_signed());
            if self.position.is_multiple_of(BATCH) {
                self.flush().await?;
            }
        }
        Ok(events)
    }

    async fn flush(&mut self) -> Result<()> {
        std::mem::take(&mut self.rows).into_table(self.connection, "events").await?;
        Ok(())
    }

    /// A number below `bound`; the same ones on every run (SplitMix64).
    fn chance(&mut self, bound: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Rises, as Kontor's own do.
    fn ulid(&mut self) -> Ulid {
        let random = (u128::from(self.position) << 40) | u128::from(self.chance(1 << 40));
        Ulid::from_parts(self.time.timestamp_millis().unsigned_abs(), random)
    }
}

fn money(amount_minor: i64) -> Result<Money> {
    Ok(Money::new(amount_minor, "GBP".parse()?)?)
}

fn address() -> Result<Personal<Address>> {
    Ok(Personal::new(Address {
        recipient: "A Customer".parse()?,
        line1: "1 Quay".parse()?,
        line2: None,
        city: "Harbour".parse()?,
        region: None,
        postal_code: "20457".parse()?,
        country: "DE".parse()?,
        phone: None,
    }))
}
