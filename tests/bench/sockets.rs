//! Ten thousand open sockets: what the process takes up, and whether every handshake succeeds.

use anyhow::{Context, Result};
use futures::StreamExt;
use kontor::terminal::say;
use serde_json::json;
use tokio::time::timeout;

use crate::guards::HANDSHAKE;
use crate::http::check;
use crate::postgres;
use crate::report::{Measure, Target, megabytes};
use crate::shop::{Shop, order};
use crate::socket::Socket;

const SOCKETS: usize = 10_000;
/// Opened at the same time.
const CONCURRENCY: usize = 128;
const QUERY: &str =
    "subscription($id: ID!) { orderUpdates(orderId: $id) { cursor node { id status version } } }";

/// Memory with all of them open, each following an order; and how many could not be opened.
pub(crate) async fn sockets(admin: &str) -> Result<Vec<Measure>> {
    let shop = Shop::open(&postgres::database(admin, "bench_sockets").await?).await?;
    let product = shop.stock("watched", 1, 1_000).await?.remove(0);
    let mut client = crate::http::Client::connect(shop.server.address).await?;
    let placed = client
        .send(&crate::http::post(
            Some(&shop.customer),
            &order("watched", &product, 1),
        ))
        .await?;
    check(placed)?;
    let placed: serde_json::Value = serde_json::from_slice(placed)?;
    let id = placed["data"]["placeOrder"]["orderId"]
        .as_str()
        .context("an order")?
        .to_owned();
    let opened: Vec<Option<Socket>> = futures::stream::iter(0..SOCKETS)
        .map(|_| async {
            let socket = Socket::subscribe(shop.server.address, &shop.customer, QUERY, json!({ "id": id }));
            match timeout(HANDSHAKE, socket).await {
                Ok(Ok(socket)) => Some(socket),
                Ok(Err(error)) => {
                    say(format!("  {error:#}"));
                    None
                }
                Err(_) => None,
            }
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let failed = opened.iter().filter(|socket| socket.is_none()).count();
    let memory = shop.server.settled().await?;
    say(format!(
        "  {:.1} MB, {failed} handshakes failed",
        megabytes(memory)
    ));
    drop(opened);
    shop.server.stop()?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    Ok(vec![
        Measure {
            what: "memory of the process with 10,000 open sockets",
            figure: megabytes(memory),
            unit: " MB",
            target: Target::AtMost(400.0),
            detail: "each with a subscription of its own".to_owned(),
        },
        Measure {
            what: "handshakes that failed, of 10,000",
            figure: failed as f64,
            unit: "",
            target: Target::AtMost(0.0),
            detail: format!("{CONCURRENCY} at once"),
        },
    ])
}
