//! What a product costs the server, beside a plain axum handler that says the same.

use std::collections::HashMap;
use std::io::BufRead;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use kontor::terminal::say;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::http::{self, Client, Until, load, post};
use crate::postgres;
use crate::report::{Measure, Target, median};
use crate::server::Server;
use crate::shop::Shop;

const PRODUCTS: usize = 1_000;
const CONNECTIONS: usize = 16;
const REQUESTS: u64 = 20_000;
const ROUNDS: usize = 3;
const QUERY: &str = "query Product($id: ID!) { product(id: $id) { id name sku description category \
                     price { amountMinor currency } available } }";

/// The answer, as a struct.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    data: Data,
    extensions: Extensions,
}

#[derive(Clone, Serialize, Deserialize)]
struct Extensions {
    cost: Cost,
}

#[derive(Clone, Serialize, Deserialize)]
struct Cost {
    requested: u64,
    limit: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Data {
    product: Product,
}

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    id: String,
    name: String,
    sku: String,
    description: String,
    category: String,
    price: Price,
    available: i64,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Price {
    amount_minor: i64,
    currency: String,
}

/// The plain server: reads the answers it is to give from standard input, one a line, keeps them in memory by id, and
/// serialises one for each request. Runs until it is killed.
pub(crate) async fn plain() -> Result<()> {
    let mut answers = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let answer: Answer = serde_json::from_str(&line?)?;
        answers.insert(answer.data.product.id.clone(), answer);
    }
    let router = Router::new()
        .route("/product/{id}", get(answer))
        .with_state(Arc::new(answers));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(format!("http://{}", listener.local_addr()?));
    // As Kontor does it.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn answer(
    State(answers): State<Arc<HashMap<String, Answer>>>,
    Path(id): Path<String>,
) -> Result<Json<Answer>, StatusCode> {
    answers.get(&id).cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
}

/// Processor time of the server per request, in turn.
pub(crate) async fn product(admin: &str) -> Result<Measure> {
    let shop = Shop::open(&postgres::database(admin, "bench_product").await?).await?;
    let ids = shop.stock("looked-at", PRODUCTS, 100).await?;
    let ask = |id: &str| {
        post(
            None,
            &format!(r#"{{"query":"{QUERY}","variables":{{"id":"{id}"}},"operationName":"Product"}}"#),
        )
    };
    let mut client = Client::connect(shop.server.address).await?;
    let mut answers = String::new();
    for id in &ids {
        let answer = client.send(&ask(id)).await?;
        http::check(answer)?;
        answers.push_str(std::str::from_utf8(answer)?);
        answers.push('\n');
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("plain-axum");
    let plain = Server::start(command, &answers)?;
    let last = ids.last().context("a product")?;
    let said = client.send(&ask(last)).await?;
    if said
        != Client::connect(plain.address)
            .await?
            .send(&http::get(&format!("/product/{last}")))
            .await?
    {
        bail!("the plain server says something else");
    }

    let asked: Arc<[Vec<u8>]> = ids.iter().map(|id| ask(id)).collect();
    let got: Arc<[Vec<u8>]> = ids
        .iter()
        .map(|id| http::get(&format!("/product/{id}")))
        .collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first round only warms both up.
    for round in 0..=ROUNDS {
        let kontor = cost(&shop.server, &asked).await?;
        let axum = cost(&plain, &got).await?;
        if round > 0 {
            say(format!(
                "  {:.1} µs, plain axum {:.1} µs",
                micros(kontor),
                micros(axum)
            ));
            ours.push(micros(kontor));
            theirs.push(micros(axum));
        }
    }
    drop(plain);
    shop.server.stop()?;
    let (kontor, axum) = (median(&ours), median(&theirs));
    Ok(Measure {
        what: "server CPU per product(id) ÷ plain axum, same JSON",
        figure: kontor / axum,
        unit: "",
        target: Target::AtMost(5.0),
        detail: format!("{kontor:.1} µs and {axum:.1} µs a request"),
    })
}

async fn cost(server: &Server, requests: &Arc<[Vec<u8>]>) -> Result<Duration> {
    let requests = Arc::clone(requests);
    let before = server.cpu()?;
    load(
        server.address,
        CONNECTIONS,
        Until::Sent(REQUESTS),
        move |number, request| {
            let place = usize::try_from(number).unwrap_or(0) % requests.len();
            request.extend_from_slice(&requests[place]);
        },
    )
    .await?;
    Ok(server.cpu()?.saturating_sub(before) / u32::try_from(REQUESTS)?)
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
