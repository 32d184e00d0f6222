//! What the integration tests are made with: a database for each, shops on it, and builders for what is sold there.
//!
//! ```no_run
//! # async fn example() {
//! use kontor_tests::Shop;
//!
//! let shop = Shop::start().await; // a fresh database, a runtime and its workers
//! let lamp = shop.product("LAMP").price(10_00).stock(50).await;
//! let customer = shop.customer().await;
//! let order = shop.order(customer, &[(&lamp, 2)]).await;
//! shop.caught_up().await; // every view and mirror has come to the head, and nothing is left to do
//! assert_eq!(shop.order_row(order).await.status, "CONFIRMED");
//! shop.finish().await; // nothing parked, views as the log says; the database goes
//! # }
//! ```
//!
//! A test waits for a condition ([`eventually`], [`Shop::caught_up`]), never for a time. It needs a Postgres and a Redis,
//! which `scripts/with-servers` starts and names in `DATABASE_URL` and `REDIS_URL`; it makes a database of its own, and
//! its keys in Redis carry that database's incarnation, so tests run side by side.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "in a test, a panic is the report"
)]

pub mod api;
mod audit;
mod books;
mod builders;
pub mod chaos;
pub mod children;
mod database;
pub mod examples;
mod keys;
mod paying;
pub mod proxy;
pub mod python;
mod shop;
pub mod smtp;
mod wait;

pub use audit::Audit;
pub use builders::{Item, ProductBuilder};
pub use database::{Database, plain};
pub use shop::{KEK, Opening, Shop, keys};
pub use wait::{PATIENCE, eventually};
