//! What protection costs: the same query with everything on and with everything off; and what the worst document costs that
//! passes the guard.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kontor::commands::run;
use kontor::runtime::Runtime;
use kontor::terminal::say;
use kontor_api::{Limits, Passwords, Protection, RouterOptions, router, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::{Client, Until, load, post};
use crate::report::{Measure, Target, median};
use crate::server::Server;
use crate::shop::Shop;
use crate::{postgres, server};

const PRODUCTS: usize = 1_000;
const CONNECTIONS: usize = 16;
const REQUESTS: u64 = 20_000;
const ROUNDS: usize = 11;
/// How often each hostile document is sent, differently each time.
const REPEATED: u32 = 20;
const QUERY: &str = "query Product($id: ID!) { product(id: $id) { id name sku description category \
                     price { amountMinor currency } available } }";

/// Kontor's endpoint with nothing before it. Runs until it is killed.
pub(crate) async fn unguarded() -> Result<()> {
    let variable = |name: &'static str| std::env::var(name).context(name);
    let runtime = Runtime::open(
        &variable("DATABASE_URL")?,
        &variable("REDIS_URL")?,
        &server::privacy(),
    )
    .await?;
    let app = Arc::new(run::app(&runtime, Passwords::new(), &run::AccountTerms::default()).await?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let options = RouterOptions {
        metrics: Some(kontor_api::metrics::install()),
        stop: runtime.stop.clone(),
        limits: Limits {
            body_bytes: usize::MAX,
            document_bytes: usize::MAX,
            tokens: u64::MAX,
            nesting: u64::MAX,
            depth: u64::MAX,
            aliases: u64::MAX,
            root_fields: u64::MAX,
            directives: u64::MAX,
            nodes: u64::MAX,
            complexity: u64::MAX,
            operations: usize::MAX,
        },
        protection: Protection {
            rates: None,
            requests: usize::MAX,
            ..Protection::default()
        },
        ..RouterOptions::default()
    };
    let sockets = options.sockets.clone();
    say(format!("http://{}", listener.local_addr()?));
    let timing = options.timing;
    let router = router(app, options);
    serve(listener, router, timing, runtime.stop.clone(), sockets).await;
    Ok(())
}

/// Processor time of the server per request, in turn: with a token, counted by address, user and cost, and with neither.
pub(crate) async fn guards(admin: &str) -> Result<Vec<Measure>> {
    let url = postgres::database(admin, "bench_guards").await?;
    let shop = Shop::open(&url).await?;
    let ids = shop.stock("guarded", PRODUCTS, 100).await?;
    let guarded = Server::answering(
        &url,
        &[
            // As always, but for rates that a load can stay below.
            ("KONTOR_RATE_LIMIT_ADDRESS", "1000000/4000000"),
            ("KONTOR_RATE_LIMIT_USER", "1000000/4000000"),
            ("KONTOR_RATE_LIMIT_COST", "100000000/400000000"),
        ],
    )
    .await?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("unguarded").env("DATABASE_URL", &url);
    let unguarded = Server::start(command, "")?;
    let ask = |token: Option<&str>, id: &str| {
        post(
            token,
            &format!(r#"{{"query":"{QUERY}","variables":{{"id":"{id}"}},"operationName":"Product"}}"#),
        )
    };
    let with: Arc<[Vec<u8>]> = ids.iter().map(|id| ask(Some(&shop.customer), id)).collect();
    let without: Arc<[Vec<u8>]> = ids.iter().map(|id| ask(None, id)).collect();
    let (mut on, mut off, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first round only warms both up. Each is compared with its neighbour in time, and is first every other time: the
    // machine's speed changes by more than what is looked for.
    for round in 0..=ROUNDS {
        let (kept, open) = if round % 2 == 0 {
            let kept = cost(&guarded, &with).await?;
            (kept, cost(&unguarded, &without).await?)
        } else {
            let open = cost(&unguarded, &without).await?;
            (cost(&guarded, &with).await?, open)
        };
        if round > 0 {
            say(format!("  {kept:.1} µs, unguarded {open:.1} µs"));
            on.push(kept);
            off.push(open);
            ratios.push(kept / open);
        }
    }
    drop(unguarded);
    let (on, off, ratio) = (median(&on), median(&off), median(&ratios));
    let hostile = hostile(&guarded, &shop.customer, &ids).await?;
    guarded.stop()?;
    shop.server.stop()?;
    let mut measures = vec![Measure {
        what: "server CPU per product(id), guards, limits, JWT on ÷ off",
        figure: ratio,
        unit: "",
        target: Target::AtMost(1.15),
        detail: format!("median of {ROUNDS} pairs; {on:.1} µs and {off:.1} µs a request"),
    }];
    measures.push(hostile);
    Ok(measures)
}

async fn cost(server: &Server, requests: &Arc<[Vec<u8>]>) -> Result<f64> {
    let requests = Arc::clone(requests);
    let before = server.cpu()?;
    let done = load(
        server.address,
        CONNECTIONS,
        Until::Sent(REQUESTS),
        move |number, request| {
            let place = usize::try_from(number).unwrap_or(0) % requests.len();
            request.extend_from_slice(&requests[place]);
        },
    );
    done.await?;
    let each = server.cpu()?.saturating_sub(before) / u32::try_from(REQUESTS)?;
    Ok(each.as_secs_f64() * 1e6)
}

/// The dearest of the documents that somebody who means harm would send, each as large as the limits let it be.
async fn hostile(server: &Server, token: &str, ids: &[String]) -> Result<Measure> {
    let mut client = Client::connect(server.address).await?;
    let (mut worst, mut told) = (0.0_f64, String::new());
    for (name, document, variables) in documents(ids) {
        let before = server.cpu()?;
        for number in 0..REPEATED {
            // Another document each time, so that it is read anew.
            let body = json!({ "query": format!("{document} #{number}"), "variables": variables });
            client.any(&post(Some(token), &body.to_string())).await?;
        }
        let each = (server.cpu()?.saturating_sub(before) / REPEATED).as_secs_f64() * 1e3;
        say(format!("  {name}: {each:.1} ms"));
        if each > worst {
            (worst, told) = (each, name.to_owned());
        }
    }
    Ok(Measure {
        what: "worst hostile document at the default limits, server CPU",
        figure: worst,
        unit: " ms",
        target: Target::AtMost(20.0),
        detail: told,
    })
}

fn doubling_fragments() -> String {
    let mut doubling = "{ ...d0 }".to_owned();
    for n in 0..40 {
        let _ = write!(
            doubling,
            " fragment d{n} on Query {{ ...d{m} ...d{m} }}",
            m = n + 1
        );
    }
    doubling += " fragment d40 on Query { __typename }";
    doubling
}

fn documents(ids: &[String]) -> Vec<(&'static str, String, Value)> {
    let none = Value::Null;
    let id = ids.first().map_or("", String::as_str);
    let many = |count: usize, piece: &dyn Fn(usize) -> String| -> String { (0..count).map(piece).collect() };
    let pages = many(25, &|n| {
        format!("a{n}: products(first: 100) {{ nodes {{ id name sku description }} }} ")
    });
    let wide = "products(first: 100) { edges { node { id name sku description category available unitsSold version \
                createdAt updatedAt price { amountMinor currency } } } }";
    let wide = many(8, &|n| format!("a{n}: {wide} "));
    let introspection = include_str!("../tests/all/api/introspection.graphql");
    let fragments = many(300, &|n| {
        format!(" fragment f{n} on Product {{ id ...f{} }}", n + 1)
    });
    let doubling = doubling_fragments();
    let lines = many(200, &|n| {
        format!("{{ productId: \"{}\", quantity: 1 }} ", ids[n % ids.len()])
    });
    let product = |inner: &str| format!("{{ product(id: \"{id}\") {{ {inner} }} }}");
    vec![
        ("pages of products", format!("{{ {pages} }}"), none.clone()),
        ("pages of whole products", format!("{{ {wide} }}"), none.clone()),
        ("the schema", introspection.to_owned(), none.clone()),
        (
            "types of types of types",
            "{ __schema { types { fields { type { fields { type { name } } } } } } }".to_owned(),
            none.clone(),
        ),
        (
            "a field five thousand times",
            product(&"id ".repeat(4_900)),
            none.clone(),
        ),
        (
            "unknown fields",
            product(&many(2_400, &|n| format!("nmae{n} "))),
            none.clone(),
        ),
        (
            "unknown arguments",
            product(&many(900, &|n| format!("name(a{n}: 1) "))),
            none.clone(),
        ),
        (
            "a chain of fragments",
            format!(
                "{{ product(id: \"{id}\") {{ ...f270 }} }} {fragments} fragment f300 on Product {{ id }}"
            ),
            none.clone(),
        ),
        ("doubling fragments", doubling, none.clone()),
        (
            "hundreds of variables",
            format!(
                "query({}) {{ __typename }}",
                many(1_200, &|n| format!("$v{n}: Int "))
            ),
            none.clone(),
        ),
        (
            "fields that differ in their arguments",
            format!(
                "{{ {} }}",
                many(30, &|_| format!(
                    "product(id: \"{id}\") {{ {} }} ",
                    "id name ".repeat(75)
                ))
            ),
            none.clone(),
        ),
        (
            "a block string of all there is room for",
            format!(
                "{{ products(search: \"\"\"{}\"\"\") {{ nodes {{ id }} }} }}",
                "\\\"\"\" ".repeat(12_000)
            ),
            none.clone(),
        ),
        (
            "an order of many lines",
            format!(
                "mutation {{ placeOrder(input: {{ idempotencyKey: \"x\", items: [{lines}] }}) {{ orderId }} }}"
            ),
            none,
        ),
        (
            "variables in variables",
            "query($v: [Int]) { __typename }".to_owned(),
            json!({ "v": vec![vec![1; 100]; 800] }),
        ),
        (
            "brackets",
            format!("{{ a(b: {}1{}) }}", "[".repeat(29), "]".repeat(29)),
            json!(HashMap::from([("v", "x".repeat(200_000))])),
        ),
    ]
}

/// For the part on sockets: how long one handshake may wait.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
