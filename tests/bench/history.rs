//! A shop's past: a million events, decided by the domain itself, put where the log keeps them.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use cqrs_es::DomainEvent;
use cqrs_es::event_sink::EventSink;
use kontor_domain::order::stock_needed;
use kontor_domain::{
    Address, Entity, Money, Order, OrderCommand, OrderId, OrderItem, OrderStatus, Personal, Product,
    ProductCommand, ProductEvent, ProductId, Quantity, Reason, RefusedItem, ReturnLine, User, UserCommand,
    UserId,
};
use kontor_eventstore::{Keyring, Metadata};
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
struct Stream<A: Entity> {
    id: A::Id,
    state: A,
    version: u64,
}

/// The log, while it is being filled.
struct Log<'a> {
    connection: &'a mut PgConnection,
    /// What is personal is sealed with.
    keyring: Option<&'a Keyring>,
    rows: Copy,
    position: u64,
    time: DateTime<Utc>,
    chance: u64,
}

/// The shop, while its past is being made up.
struct Past<'a> {
    log: Log<'a>,
    products: Vec<Stream<Product>>,
    customers: Vec<UserId>,
    /// The newest first.
    orders: VecDeque<Stream<Order>>,
}

/// Fills the empty table `events` with at least so many events of a year, what is personal in them sealed if there is a `keyring`; how
/// many there are, and how many orders.
pub(crate) async fn write(
    connection: &mut PgConnection,
    keyring: Option<&Keyring>,
    events: u64,
) -> Result<(u64, u64)> {
    let time = "2025-01-01T00:00:00Z".parse()?;
    let log = Log {
        connection,
        keyring,
        rows: Copy::default(),
        position: 0,
        time,
        chance: 1,
    };
    let mut past = Past {
        log,
        products: Vec::new(),
        customers: Vec::new(),
        orders: VecDeque::new(),
    };
    past.open().await?;
    let mut orders = 0;
    while past.log.position < events {
        past.log.time += TimeDelta::seconds(300);
        past.place().await?;
        orders += 1;
        past.decide(DECIDED).await?;
        past.ship(SHIPPED).await?;
        past.deliver(DELIVERED).await?;
        past.take_back(RETURNED).await?;
        past.orders.truncate(RETURNED + 1);
    }
    past.log.flush().await?;
    Ok((past.log.position, orders))
}

impl Past<'_> {
    /// Accounts and a stocked catalogue.
    async fn open(&mut self) -> Result<()> {
        for number in 0..CUSTOMERS {
            let mut customer = Stream::<User>::new(UserId::from_ulid(self.log.ulid()));
            let register = UserCommand::Register {
                email: Personal::new(format!("customer-{number}@example.com").parse()?),
                name: Personal::new(format!("Customer {number}").parse()?),
                phone: None,
                password_hash: None,
            };
            self.log.tell(&mut customer, register).await?;
            self.customers.push(customer.id);
        }
        for number in 0..PRODUCTS {
            let mut product = Stream::<Product>::new(ProductId::from_ulid(self.log.ulid()));
            let create = ProductCommand::Create {
                sku: format!("SKU-{number:05}").parse()?,
                name: format!("Product {number}").parse()?,
                description: "Sold, shipped and now and then brought back, all through a year.".parse()?,
                category: format!("shelf-{}", number % 20).parse()?,
                price: Money::new(100 + self.log.chance(5_000).cast_signed(), "GBP".parse()?)?,
            };
            self.log.tell(&mut product, create).await?;
            self.log.tell(&mut product, receive(200)?).await?;
            self.products.push(product);
        }
        Ok(())
    }

    /// One to six lines, some products in more demand than others.
    async fn place(&mut self) -> Result<()> {
        let mut items = Vec::new();
        for _ in 0..=self.log.chance(6) {
            let place = self.log.chance(PRODUCTS).min(self.log.chance(PRODUCTS));
            let product = &self.products[usize::try_from(place)?];
            items.push(OrderItem {
                product_id: product.id,
                sku: product.state.sku().context("a SKU")?.clone(),
                name: product.state.name().context("a name")?.clone(),
                unit_price: product.state.price().context("a price")?,
                quantity: Quantity::new(u32::try_from(1 + self.log.chance(3))?)?,
            });
        }
        let customer_id = self.customers[usize::try_from(self.log.chance(CUSTOMERS))?];
        let mut order = Stream::<Order>::new(OrderId::from_ulid(self.log.ulid()));
        let place = OrderCommand::Place {
            customer_id,
            items,
            shipping_address: address()?,
            payment: None,
        };
        self.log.tell(&mut order, place).await?;
        self.orders.push_front(order);
        Ok(())
    }

    /// Reserves and confirms, or rejects; goods come in where they ran out; one order in thirty is called off.
    async fn decide(&mut self, at: usize) -> Result<()> {
        if self.orders.len() <= at {
            return Ok(());
        }
        let order_id = self.orders[at].id;
        let mut refused = Vec::new();
        for (product_id, quantity) in stock_needed(self.orders[at].state.items())? {
            for event in self
                .tell_product(product_id, ProductCommand::Reserve { order_id, quantity })
                .await?
            {
                if let ProductEvent::ReservationRefused {
                    requested,
                    available,
                    reason,
                    ..
                } = event
                {
                    refused.push(RefusedItem {
                        product_id,
                        requested,
                        available,
                        reason,
                    });
                    self.tell_product(product_id, receive(500)?).await?;
                }
            }
        }
        let confirmed = refused.is_empty();
        let command = if confirmed {
            OrderCommand::Confirm
        } else {
            OrderCommand::Reject { refused }
        };
        self.log.tell(&mut self.orders[at], command).await?;
        let cancelled = confirmed && self.log.chance(30) == 0;
        if cancelled {
            let cancel = OrderCommand::Cancel {
                reason: "changed their mind".parse::<Reason>()?.into(),
            };
            self.log.tell(&mut self.orders[at], cancel).await?;
        }
        if cancelled || !confirmed {
            self.tell_products(at, |order_id| ProductCommand::Release { order_id })
                .await?;
        }
        Ok(())
    }

    async fn ship(&mut self, at: usize) -> Result<()> {
        if self.status(at) != Some(OrderStatus::Confirmed) {
            return Ok(());
        }
        let tracking_number = format!("TRACK-{}", self.log.position).parse()?;
        self.log
            .tell(
                &mut self.orders[at],
                OrderCommand::Ship {
                    tracking_number,
                    carrier: None,
                },
            )
            .await?;
        self.tell_products(at, |order_id| ProductCommand::Commit { order_id })
            .await
    }

    async fn deliver(&mut self, at: usize) -> Result<()> {
        if self.status(at) == Some(OrderStatus::Shipped) {
            self.log.tell(&mut self.orders[at], OrderCommand::Deliver).await?;
        }
        Ok(())
    }

    /// The first line of one order in forty comes back.
    async fn take_back(&mut self, at: usize) -> Result<()> {
        if self.status(at) != Some(OrderStatus::Delivered) || self.log.chance(40) != 0 {
            return Ok(());
        }
        let order = &mut self.orders[at];
        let item = order.state.items().first().context("a line")?.clone();
        let returned = OrderCommand::ReturnItems {
            lines: vec![ReturnLine {
                line: 0,
                quantity: item.quantity,
            }],
            refund: item.line_total()?,
            reason: "not as described".parse::<Reason>()?.into(),
            restock: true,
        };
        self.log.tell(order, returned).await?;
        let back = ProductCommand::ReturnStock {
            order_id: order.id,
            quantity: item.quantity,
        };
        self.tell_product(item.product_id, back).await?;
        Ok(())
    }

    fn status(&self, at: usize) -> Option<OrderStatus> {
        self.orders.get(at)?.state.status()
    }

    async fn tell_products(&mut self, at: usize, command: impl Fn(OrderId) -> ProductCommand) -> Result<()> {
        for product_id in stock_needed(self.orders[at].state.items())?.into_keys() {
            self.tell_product(product_id, command(self.orders[at].id)).await?;
        }
        Ok(())
    }

    async fn tell_product(&mut self, id: ProductId, command: ProductCommand) -> Result<Vec<ProductEvent>> {
        // They were made one after another, so their ids are in order.
        let place = self.products.binary_search_by_key(&id, |product| product.id);
        self.log
            .tell(&mut self.products[place.ok().context("a product")?], command)
            .await
    }
}

impl<A: Entity> Stream<A> {
    fn new(id: A::Id) -> Self {
        Self {
            id,
            state: A::default(),
            version: 0,
        }
    }
}

impl Log<'_> {
    /// Has the domain decide, and notes the events as the store's writer would.
    async fn tell<A: Entity>(
        &mut self,
        stream: &mut Stream<A>,
        command: A::Command,
    ) -> Result<Vec<A::Event>> {
        let sink = EventSink::<A>::default();
        stream.state.handle(command, &(), &sink).await?;
        let mut events = sink.collect().await;
        let id = stream.id.to_string();
        let command_id = self.ulid().to_string();
        let metadata = Metadata {
            correlation_id: command_id.clone(),
            causation_id: Some(format!("{}/{id}/{}", A::TYPE, stream.version)),
            command_id,
            actor: "system:bench".to_owned(),
            traceparent: None,
            address: None,
            time: self.time.to_rfc3339_opts(SecondsFormat::Micros, true),
            backdated: None,
        };
        for event in &mut events {
            if let (Some(keyring), Some(person)) = (self.keyring, stream.state.person(stream.id, event)) {
                keyring.seal(person, A::personal_in(event)).await?;
            }
            stream.version += 1;
            self.position += 1;
            self.rows
                .row(9)
                .text(A::TYPE)
                .text(&id)
                .integer(stream.version.cast_signed())
                .text(event.event_type())
                .text(event.event_version())
                .json(&*event)
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
        Ok(std::mem::take(&mut self.rows)
            .into_table(self.connection, "events")
            .await?)
    }

    /// A number below `bound`; the same ones on every run (`SplitMix64`).
    fn chance(&mut self, bound: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Rises, as Kontor's own do.
    fn ulid(&mut self) -> Ulid {
        let random = (u128::from(self.position) << 40) | u128::from(self.chance(1 << 40));
        Ulid::from_parts(self.time.timestamp_millis().unsigned_abs(), random)
    }
}

fn receive(pieces: u32) -> Result<ProductCommand> {
    Ok(ProductCommand::ReceiveStock {
        quantity: Quantity::new(pieces)?,
        reference: None,
    })
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
