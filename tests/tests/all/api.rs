//! The API as clients meet it: over its own HTTP, WebSocket and Server-Sent Events.

mod accounts;
mod audit;
mod catalogue;
mod consistency;
mod edge;
mod enumeration;
mod feeds;
mod fuzz;
mod health;
mod idempotency;
mod isolation;
mod keys;
mod lists;
mod log;
mod metadata;
mod orders;
mod pages;
mod payment_methods;
mod payments;
mod permissions;
mod placing;
mod production;
mod recovery;
mod redis;
mod rush;
mod schema;
mod sessions;
mod standing;
mod throttle;
mod waiting;

use kontor_eventstore::Worker;
use kontor_tests::Shop;
use kontor_tests::api::{ApiShop, Door};

/// A shop whose views follow the log and whose orders nobody sees to: they stay `PENDING` until a branch comes to work.
async fn without_order_process() -> ApiShop {
    let shop = Shop::quiet().await;
    let runtime = &shop.runtime;
    let worker = Worker::new(shop.store.clone(), runtime.progress.clone(), "views".to_owned());
    for consumer in runtime.consumers() {
        if consumer.name() != "order_process" {
            tokio::spawn(worker.clone().run(consumer, runtime.stop.clone()));
        }
    }
    ApiShop::over(shop, Door::default()).await
}
