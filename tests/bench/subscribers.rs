//! Subscribers: what an idle one weighs, and how long the last of a thousand waits.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use kontor::terminal::say;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::http::{Client, Until, check, load, post};
use crate::postgres;
use crate::report::{Measure, Target, megabytes, percentile};
use crate::shop::{Shop, now, order};
use crate::socket::Socket;

/// Idle subscribers whose memory is measured.
const IDLE: usize = 2_000;
/// Subscribers that wait for a message.
const WAITING: usize = 1_000;
/// Sockets opened at the same time.
const CONCURRENCY: usize = 64;
/// Events of one order that everybody follows.
const RETURNS: u32 = 200;
/// Orders of a customer with a thousand screens; each gives two events.
const ORDERS: u32 = 120;
/// Within which the last message must be there, for the bench to go on.
const PATIENCE: Duration = Duration::from_secs(20);
const ONE: &str =
    "subscription($id: ID!) { orderUpdates(orderId: $id) { cursor node { id status version updatedAt } } }";
const MINE: &str = "subscription { myOrderUpdates { cursor node { id status version updatedAt } } }";

/// Memory, idle and per subscriber, and the time to the last of a thousand.
pub(crate) async fn subscribers(admin: &str) -> Result<Vec<Measure>> {
    let url = postgres::database(admin, "bench_subscribers").await?;
    let shop = Shop::open(&url).await?;
    let products = shop.stock("followed", 1, 1_000_000).await?;
    let product = products.first().context("a product")?.clone();
    let since = now();
    load(
        shop.server.address,
        CONCURRENCY,
        Until::Sent(IDLE as u64),
        shop.order("idle", products),
    )
    .await?;
    shop.confirmed(since, IDLE as u64).await?;
    shop.caught_up().await?;
    let orders: Vec<String> = sqlx::query_scalar("SELECT id FROM orders WHERE placed_at >= $1")
        .bind(since)
        .fetch_all(&shop.pool)
        .await?;
    // Started afresh: memory that placing orders has left behind would hide what subscribers take.
    shop.server.stop()?;

    let shop = Shop::open(&url).await?;
    let idle = shop.server.settled().await?;
    say(format!("  idle: {:.1} MB", megabytes(idle)));
    let sockets = open(&shop, ONE, orders.iter().map(|id| json!({ "id": id }))).await?;
    let full = shop.server.settled().await?;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people to read")]
    let each = full.saturating_sub(idle) as f64 / sockets.len() as f64 / 1e3;
    say(format!(
        "  with {} idle subscribers: {:.1} MB, {each:.1} kB each",
        sockets.len(),
        megabytes(full)
    ));
    drop(sockets);

    let one = one_order(&shop, &product).await?;
    say(format!("  one order, followed by {WAITING}: {one}"));
    let mine = all_orders(&shop, &product).await?;
    say(format!("  a customer's orders, followed by {WAITING}: {mine}"));
    shop.server.stop()?;
    Ok(vec![
        Measure {
            what: "order event → last of 1,000 subscribers, p99",
            figure: one.p99.max(mine.p99),
            unit: " ms",
            target: Target::AtMost(50.0),
            detail: format!(
                "the worse of one order ({one}) and a customer's orders ({mine}), from the command's time"
            ),
        },
        Measure {
            what: "memory per idle subscriber",
            figure: each,
            unit: " kB",
            target: Target::AtMost(20.0),
            detail: format!(
                "{IDLE} sockets, each on an order of its own: {:.1} to {:.1} MB",
                megabytes(idle),
                megabytes(full)
            ),
        },
        Measure {
            what: "resident memory of the idle process",
            figure: megabytes(idle),
            unit: " MB",
            target: Target::AtMost(60.0),
            detail: format!("{IDLE} orders in its views"),
        },
    ])
}

async fn open(shop: &Shop, query: &str, variables: impl Iterator<Item = Value>) -> Result<Vec<Socket>> {
    let address = shop.server.address;
    let sockets: Vec<Socket> = futures::stream::iter(variables)
        .map(|variables| Socket::subscribe(address, &shop.customer, query, variables))
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    // Counted by the server once it has taken the subscription; before that an event could pass unnoticed.
    let mut client = Client::connect(address).await?;
    let metrics = crate::http::get("/metrics");
    let wanted = format!("kontor_subscribers {}", sockets.len());
    let taken = async {
        loop {
            let page = client.send(&metrics).await?;
            if std::str::from_utf8(page)?.lines().any(|line| line == wanted) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, taken)
        .await
        .context("the server does not count as many subscribers")??;
    Ok(sockets)
}

/// Everybody follows one order, to which something happens again and again: items of it come back.
async fn one_order(shop: &Shop, product: &str) -> Result<Times> {
    let since = now();
    let mut client = Client::connect(shop.server.address).await?;
    let placed = client
        .send(&post(Some(&shop.customer), &order("many", product, RETURNS)))
        .await?;
    check(placed)?;
    let placed: Value = serde_json::from_slice(placed)?;
    let id = placed["data"]["placeOrder"]["orderId"]
        .as_str()
        .context("an order's id")?
        .to_owned();
    shop.confirmed(since, 1).await?;
    let parcel = json!({ "idempotencyKey": "ship", "orderId": id, "trackingNumber": "TRACK-1" });
    shop.change("shipOrder", parcel).await?;
    shop.change(
        "deliverOrder",
        json!({ "idempotencyKey": "deliver", "orderId": id }),
    )
    .await?;
    shop.caught_up().await?;

    let sockets = open(shop, ONE, std::iter::repeat_n(json!({ "id": id }), WAITING)).await?;
    // The order as it is comes first.
    let audience = Audience::of(sockets);
    audience.heard(0).await?;
    let from: i64 = sqlx::query_scalar("SELECT max(position) FROM events")
        .fetch_one(&shop.pool)
        .await?;
    for number in 1..=RETURNS {
        let back = json!({
            "idempotencyKey": format!("return-{number}"), "orderId": id, "items": [{ "item": 0, "quantity": 1 }],
            "refund": { "amountMinor": 1_250, "currency": "GBP" }, "reason": "not as described", "restock": false,
        });
        shop.change("returnItems", back).await?;
        audience.heard(usize::try_from(number)?).await?;
    }
    audience.times(shop, from, 1).await
}

/// Everybody follows all orders of one customer, who places one after another.
async fn all_orders(shop: &Shop, product: &str) -> Result<Times> {
    let sockets = open(shop, MINE, std::iter::repeat_n(Value::Null, WAITING)).await?;
    let audience = Audience::of(sockets);
    let from: i64 = sqlx::query_scalar("SELECT max(position) FROM events")
        .fetch_one(&shop.pool)
        .await?;
    let mut client = Client::connect(shop.server.address).await?;
    for number in 1..=ORDERS {
        check(
            client
                .send(&post(
                    Some(&shop.customer),
                    &order(&format!("mine-{number}"), product, 1),
                ))
                .await?,
        )?;
        // Placed, and confirmed.
        audience.heard(usize::try_from(2 * number)? - 1).await?;
    }
    audience.times(shop, from, 0).await
}

/// A thousand listeners, and when the last of them had each message.
struct Audience {
    heard: Rc<RefCell<Heard>>,
    anew: Rc<Notify>,
    /// End with this.
    _listeners: JoinSet<()>,
}

#[derive(Default)]
struct Heard {
    messages: Vec<Message>,
    failed: Option<anyhow::Error>,
}

/// A message, the same for everybody.
struct Message {
    text: Vec<u8>,
    listeners: usize,
    last: DateTime<Utc>,
}

/// How long the last listener waited, in milliseconds.
struct Times {
    p50: f64,
    p99: f64,
    max: f64,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.1}, p99 {:.1}, max {:.1} ms",
            self.p50, self.p99, self.max
        )
    }
}

impl Audience {
    fn of(sockets: Vec<Socket>) -> Self {
        let (heard, anew) = (Rc::<RefCell<Heard>>::default(), Rc::<Notify>::default());
        let mut listeners = JoinSet::new();
        for socket in sockets {
            let (heard, anew) = (Rc::clone(&heard), Rc::clone(&anew));
            listeners.spawn_local(async move {
                if let Err(error) = listen(socket, &heard, &anew).await {
                    heard.borrow_mut().failed = Some(error);
                    anew.notify_one();
                }
            });
        }
        Self {
            heard,
            anew,
            _listeners: listeners,
        }
    }

    /// Waits until everybody has the message of this number, from 0.
    async fn heard(&self, number: usize) -> Result<()> {
        let everybody = async {
            loop {
                if let Some(error) = self.heard.borrow_mut().failed.take() {
                    return Err(error);
                }
                if self
                    .heard
                    .borrow()
                    .messages
                    .get(number)
                    .is_some_and(|message| message.listeners == WAITING)
                {
                    return Ok(());
                }
                self.anew.notified().await;
            }
        };
        timeout(PATIENCE, everybody)
            .await
            .with_context(|| format!("not everybody got message {number}"))?
    }

    /// From the time of each order event behind `from`, which is that of its command and so before its commit, to its
    /// arrival at the last listener. `skipped`: messages before the first event's.
    async fn times(self, shop: &Shop, from: i64, skipped: usize) -> Result<Times> {
        let events: Vec<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT timestamp FROM events WHERE aggregate_type = 'order' AND position > $1 ORDER BY position",
        )
        .bind(from)
        .fetch_all(&shop.pool)
        .await?;
        let heard = self.heard.borrow();
        let messages = &heard.messages[skipped..];
        if messages.len() != events.len() || messages.iter().any(|message| message.listeners != WAITING) {
            bail!(
                "{} events, {} messages, or not everybody has all of them",
                events.len(),
                messages.len()
            );
        }
        let waits: Vec<f64> = messages
            .iter()
            .zip(&events)
            .filter_map(|(message, event)| (message.last - event).to_std().ok())
            .map(|wait| wait.as_secs_f64() * 1e3)
            .collect();
        Ok(Times {
            p50: percentile(&waits, 50),
            p99: percentile(&waits, 99),
            max: percentile(&waits, 100),
        })
    }
}

async fn listen(mut socket: Socket, heard: &RefCell<Heard>, anew: &Notify) -> Result<()> {
    for number in 0.. {
        let text = socket.next().await?;
        let mut heard = heard.borrow_mut();
        let at = now();
        match heard.messages.get_mut(number) {
            None => heard.messages.push(Message {
                text: text.to_owned(),
                listeners: 1,
                last: at,
            }),
            // Nothing missed, nothing twice, in order: then everybody's n-th message is the same.
            Some(message) if message.text != text => {
                bail!(
                    "message {number} is {} for one, {} for another",
                    lossy(&message.text),
                    lossy(text)
                );
            }
            Some(message) => {
                (message.listeners, message.last) = (message.listeners + 1, at);
                if message.listeners == WAITING {
                    anew.notify_one();
                }
            }
        }
    }
    Ok(())
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
