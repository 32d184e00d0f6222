//! A shop to sell from: Kontor on a database of the bench's own, its accounts, and products with stock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use kontor_eventstore::{Clock, SystemClock};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::http::{Client, post};
use crate::postgres;
use crate::server::Server;

/// How long everything that follows the log may take to come to its head.
const PATIENCE: Duration = Duration::from_secs(60);
/// Products made at the same time.
const CONCURRENCY: usize = 32;
const CREATE: &str = "mutation($input: CreateProductInput!) { createProduct(input: $input) { \
                      productId userErrors { ... on UserError { code message } } } }";
const PLACE: &str = "mutation Place($input: PlaceOrderInput!) { placeOrder(input: $input) { orderId position \
                     userErrors { ... on UserError { code message path } } } }";

/// A shop that is open.
pub(crate) struct Shop {
    /// Kontor.
    pub(crate) server: Server,
    /// Its database, to look at from outside.
    pub(crate) pool: PgPool,
    /// An access token of a customer.
    pub(crate) customer: Arc<str>,
    /// An access token of the staff.
    pub(crate) staff: Arc<str>,
}

/// The present moment, by the clock that Kontor's events are dated with.
pub(crate) fn now() -> DateTime<Utc> {
    SystemClock.now()
}

impl Shop {
    /// A shop on a database, which may be an empty one.
    pub(crate) async fn open(database_url: &str) -> Result<Self> {
        let server = Server::kontor(database_url).await?;
        let pool = postgres::pool(database_url, 4).await?;
        let customer = server.log_in("customer@example.com").await?.into();
        let staff = server.log_in("staff@example.com").await?.into();
        Ok(Self {
            server,
            pool,
            customer,
            staff,
        })
    }

    /// New products with so many pieces each; their ids.
    pub(crate) async fn stock(&self, name: &str, products: usize, pieces: u32) -> Result<Vec<String>> {
        let ids: Vec<Result<String>> = futures::stream::iter(0..products)
            .map(|number| self.product(format!("{name}-{number}"), pieces))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let ids: Vec<String> = ids.into_iter().collect::<Result<_>>()?;
        self.caught_up().await?;
        Ok(ids)
    }

    async fn product(&self, sku: String, pieces: u32) -> Result<String> {
        let mut client = Client::connect(self.server.address).await?;
        let create = json!({ "input": {
            "idempotencyKey": format!("create-{sku}"), "sku": sku, "name": format!("Product {sku}"),
            "description": "Made to be measured: of no use, in any colour, and always in stock.",
            "category": "bench", "price": { "amountMinor": 1_250, "currency": "GBP" },
        } });
        let created = client.graphql(Some(&self.staff), CREATE, create).await?;
        let id = created["createProduct"]["productId"]
            .as_str()
            .context("a product's id")?
            .to_owned();
        let key = format!("receive-{sku}");
        self.change(
            "receiveStock",
            json!({ "idempotencyKey": key, "productId": id, "quantity": pieces }),
        )
        .await?;
        Ok(id)
    }

    /// Sends a mutation, as staff. Its input is of the type that is called like it.
    pub(crate) async fn change(&self, mutation: &str, input: Value) -> Result<Value> {
        let input_type = format!("{}{}Input", mutation[..1].to_uppercase(), &mutation[1..]);
        let query = format!(
            "mutation($input: {input_type}!) {{ {mutation}(input: $input) {{ \
             position userErrors {{ ... on UserError {{ code message }} }} }} }}"
        );
        let mut client = Client::connect(self.server.address).await?;
        client
            .graphql(Some(&self.staff), &query, json!({ "input": input }))
            .await
    }

    /// Writes the n-th request of the series `key`: an order of one piece of one of the products, in turn.
    pub(crate) fn order(
        &self,
        key: &str,
        products: Vec<String>,
    ) -> impl Fn(u64, &mut Vec<u8>) + Send + Sync + 'static {
        let (key, token) = (key.to_owned(), Arc::clone(&self.customer));
        move |number, request| {
            let place = usize::try_from(number).unwrap_or(0) % products.len();
            let product = &products[place];
            request.extend(post(Some(&token), &order(&format!("{key}-{number}"), product, 1)));
        }
    }

    /// Waits until so many orders placed since then are confirmed in the view; fails if one is rejected.
    pub(crate) async fn confirmed(&self, since: DateTime<Utc>, orders: u64) -> Result<()> {
        let started = Instant::now();
        loop {
            let confirmed = self.count(since, "CONFIRMED").await?;
            if confirmed >= orders {
                return Ok(());
            }
            if started.elapsed() > PATIENCE || self.count(since, "REJECTED").await? > 0 {
                bail!("{confirmed} of {orders} orders were confirmed");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Orders placed since then that are in this status.
    pub(crate) async fn count(&self, since: DateTime<Utc>, status: &str) -> Result<u64> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM orders WHERE status = $1 AND placed_at >= $2")
                .bind(status)
                .bind(since)
                .fetch_one(&self.pool)
                .await?;
        Ok(count.unsigned_abs())
    }

    /// Waits until everybody has come to the head of the log, and nobody adds to it.
    pub(crate) async fn caught_up(&self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let behind: bool = sqlx::query_scalar(
                "SELECT (SELECT max(position) FROM events) > (SELECT min(position) FROM checkpoints)",
            )
            .fetch_one(&self.pool)
            .await?;
            if !behind {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the views do not come to the head of the log");
    }

    /// What never may be: a product that promises more than it has, or another number of pieces than its orders hold.
    pub(crate) async fn never_oversold(&self) -> Result<()> {
        self.caught_up().await?;
        let wrong: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM products p
             LEFT JOIN (SELECT item->>'product_id' AS id, sum((item->>'quantity')::bigint) AS pieces
                        FROM orders, json_array_elements(items) AS item WHERE status = 'CONFIRMED' GROUP BY 1) held USING (id)
             WHERE p.available < 0 OR p.available <> p.on_hand - p.reserved OR p.reserved <> coalesce(held.pieces, 0)",
        )
        .fetch_one(&self.pool)
        .await?;
        if wrong > 0 {
            bail!("{wrong} products hold other pieces than their orders");
        }
        Ok(())
    }
}

/// The body of a request that orders so many pieces of one product.
pub(crate) fn order(key: &str, product: &str, pieces: u32) -> String {
    format!(
        r#"{{"query":"{PLACE}","variables":{{"input":{{"idempotencyKey":"{key}","items":[{{"productId":"{product}","quantity":{pieces}}}],"shippingAddress":{{"recipient":"A Customer","line1":"1 Quay","city":"Harbour","postalCode":"20457","country":"DE"}}}}}},"operationName":"Place"}}"#
    )
}
