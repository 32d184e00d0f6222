//! The endpoint under anything: documents made from the schema, bytes changed, methods and media types at random. No panic, no 5xx,
//! no `INTERNAL`, no answer that takes a second.
//!
//! For some seconds each time; `KONTOR_FUZZ_SECONDS=600` is the long form.

mod documents;

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use kontor_domain::Role;
use kontor_tests::Shop;
use kontor_tests::api::{ApiShop, Door};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use self::documents::{Choices, Documents};

/// No answer may take longer.
const LIMIT: Duration = Duration::from_secs(1);

fn seconds() -> u64 {
    let given = std::env::var("KONTOR_FUZZ_SECONDS").ok();
    given.and_then(|seconds| seconds.parse().ok()).unwrap_or(5)
}

/// Endless choices, the same each time the short form runs, and others in the long form.
fn runner() -> TestRunner {
    if seconds() > 60 {
        return TestRunner::new(proptest::test_runner::Config::default());
    }
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(proptest::test_runner::Config::default(), rng)
}

fn choices(runner: &mut TestRunner) -> Choices {
    Choices::new(vec(any::<u32>(), 64..512).new_tree(runner).unwrap().current())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_request_is_answered_quickly_and_never_with_a_fault_of_ours() {
    // A position that does not exist yet is waited for, as told; here, not long.
    let door = Door {
        patience: Duration::from_millis(200),
        ..Door::default()
    };
    let api = ApiShop::over(Shop::start().await, door).await;
    let item = api.product("FUZZED").stock(1_000_000).await;
    let shopper = api.shopper().await;
    let order = shopper.place(&[(&item, 1)]).await;
    let documents = Documents::of(
        &kontor_api::graphql::sdl(),
        vec![item.id.to_string(), order.id.clone(), shopper.id()],
    );
    let (admin, staff) = (api.admin().await, api.staff().await);
    let people: [Option<(String, &[Role])>; 4] = [
        None,
        Some((shopper.id(), &[Role::Customer])),
        Some((staff.id(), &[Role::Customer, Role::Staff])),
        Some((admin.id(), &[Role::Customer, Role::Admin])),
    ];
    let (http, url) = (
        reqwest::Client::new(),
        format!("http://{}/graphql", api.address()),
    );
    let mut runner = runner();
    let (started, mut asked, mut executed) = (Instant::now(), 0_u64, 0_u64);
    while started.elapsed() < Duration::from_secs(seconds()) {
        let mut choices = choices(&mut runner);
        let (query, variables) = documents.document(&mut choices);
        let mut body = json!({ "query": query, "variables": variables })
            .to_string()
            .into_bytes();
        if choices.one_in(4) {
            choices.spoil(&mut body);
        }
        let mut request = match choices.up_to(20) {
            0 => {
                let parameters = [("query", query.clone()), ("variables", variables.to_string())];
                http.get(reqwest::Url::parse_with_params(&url, parameters).unwrap())
            }
            1 => http.put(&url).body(body.clone()),
            _ => http.post(&url).body(body.clone()),
        };
        let media = [
            "application/json",
            "application/json; charset=utf-8",
            "text/plain",
            "application/json; charset=latin1",
        ];
        request = request.header("content-type", media[choices.mostly_first(media.len())]);
        let accept = [
            "application/graphql-response+json",
            "application/json",
            "*/*",
            "text/html",
            "text/event-stream;q=0",
        ];
        request = request.header("accept", accept[choices.mostly_first(accept.len())]);
        // Each time another token: what is asked for may end the session of this one.
        if let Some((id, roles)) = &people[choices.up_to(people.len())] {
            request = request.bearer_auth(api.token(id.parse().unwrap(), roles));
        }
        let sent = Instant::now();
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        // A subscription goes on for as long as anybody listens.
        if response.headers()["content-type"] == "text/event-stream" {
            assert!(sent.elapsed() < LIMIT, "{query}");
            (asked, executed) = (asked + 1, executed + 1);
            continue;
        }
        let text = response.text().await.unwrap();
        let took = sent.elapsed();
        let told = || {
            format!(
                "{status} in {took:?}: {text}\n  to {}",
                String::from_utf8_lossy(&body)
            )
        };
        assert!(status < 500 && !text.contains("INTERNAL"), "{}", told());
        assert!(took < LIMIT, "{}", told());
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", told()));
        asked += 1;
        executed += u64::from(json.get("data").is_some());
    }
    println!("{asked} requests, {executed} of them executed");
    assert!(
        executed * 10 > asked,
        "{executed} of {asked} were executed: the generator makes nothing but nonsense"
    );
    assert_eq!(api.page("/healthz").await.0, 200);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_message_on_a_socket_is_answered_or_ends_it_with_a_code() {
    let api = ApiShop::start().await;
    let documents = Documents::of(&kontor_api::graphql::sdl(), Vec::new());
    let mut runner = runner();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds()) {
        let mut request = format!("ws://{}/graphql", api.address())
            .into_client_request()
            .unwrap();
        let protocol = "graphql-transport-ws".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let mut said = Vec::new();
        let mut choices = choices(&mut runner);
        let init = json!({ "type": "connection_init" }).to_string();
        if !choices.one_in(8) {
            said.push(init.clone().into_bytes());
        }
        for id in 0..choices.up_to(6) {
            let (query, variables) = documents.document(&mut choices);
            let payload = json!({ "query": query, "variables": variables });
            let mut message = match choices.up_to(8) {
                0 => json!({ "type": "ping", "payload": payload }).to_string(),
                1 => json!({ "type": "complete", "id": id.to_string() }).to_string(),
                2 => init.clone(),
                _ => json!({ "type": "subscribe", "id": id.to_string(), "payload": payload }).to_string(),
            }
            .into_bytes();
            if choices.one_in(4) {
                choices.spoil(&mut message);
            }
            said.push(message);
        }
        for message in &said {
            let message = match String::from_utf8(message.clone()) {
                Ok(text) => Message::text(text),
                Err(bytes) => Message::binary(bytes.into_bytes()),
            };
            // It may have been closed already.
            if socket.send(message).await.is_err() {
                break;
            }
        }
        let told = || {
            said.iter()
                .map(|it| String::from_utf8_lossy(it).into_owned())
                .collect::<Vec<_>>()
        };
        // Whatever was before it, the last word is an answer or a code.
        let _ = socket
            .send(Message::text(
                json!({ "type": "ping", "payload": { "last": 1 } }).to_string(),
            ))
            .await;
        let answered = async {
            while let Some(Ok(message)) = socket.next().await {
                match message {
                    Message::Close(frame) => {
                        let code = u16::from(frame.unwrap().code);
                        assert!((4400..4500).contains(&code), "{code} to {:?}", told());
                        return;
                    }
                    Message::Text(text) => {
                        assert!(!text.contains("INTERNAL"), "{text} to {:?}", told());
                        if text.contains(r#""pong","payload":{"last":1}"#) {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        };
        let answered = tokio::time::timeout(LIMIT, answered).await;
        assert!(answered.is_ok(), "no answer to {:?}", told());
    }
    api.finish().await;
}
