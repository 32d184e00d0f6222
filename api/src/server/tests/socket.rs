use futures::SinkExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;

/// A server on a free port, and a client's socket to it.
pub(super) struct Socket {
    pub(super) stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(super) address: std::net::SocketAddr,
    stop: CancellationToken,
    sockets: TaskTracker,
    served: tokio::task::JoinHandle<()>,
}

impl Socket {
    pub(super) async fn connect(bench: Bench, headers: &[(&'static str, String)]) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, sockets) = (bench.transport.stop.clone(), bench.transport.sockets.clone());
        let timing = bench.transport.timing;
        let served = tokio::spawn(serve(
            listener,
            bench.router(),
            timing,
            stop.clone(),
            sockets.clone(),
        ));
        let mut request = format!("ws://{address}/graphql").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (stream, _) = connect_async(request).await?;
        Ok(Self {
            stream,
            address,
            stop,
            sockets,
            served,
        })
    }

    pub(super) async fn open(bench: Bench) -> Self {
        Self::connect(
            bench,
            &[("sec-websocket-protocol", "graphql-transport-ws".to_owned())],
        )
        .await
        .unwrap()
    }

    /// Open, and `connection_init` acknowledged.
    pub(super) async fn ready(bench: Bench) -> Self {
        let mut socket = Self::open(bench).await;
        socket.say(json!({ "type": "connection_init" })).await;
        assert_eq!(socket.hear().await, json!({ "type": "connection_ack" }));
        socket
    }

    pub(super) async fn say(&mut self, message: Value) {
        self.stream
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    pub(super) async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({ "id": id, "type": "subscribe", "payload": { "query": query } }))
            .await;
    }

    pub(super) async fn hear(&mut self) -> Value {
        loop {
            match self.stream.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) async fn closed(&mut self) -> u16 {
        loop {
            match self.stream.next().await.unwrap().unwrap() {
                Message::Close(frame) => return frame.unwrap().code.into(),
                Message::Text(_) | Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn another_subprotocol_is_400() {
    for headers in [vec![], vec![("sec-websocket-protocol", "graphql-ws".to_owned())]] {
        match Socket::connect(Bench::new(), &headers).await {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 400),
            other => panic!("{:?}", other.err()),
        }
    }
}

#[tokio::test]
async fn a_subscription_runs_to_its_end() {
    let mut socket = Socket::ready(Bench::new()).await;
    socket.subscribe("one", "subscription{count(to:2)}").await;
    for n in 1..=2 {
        let next = json!({ "id": "one", "type": "next", "payload": { "data": { "count": n } } });
        assert_eq!(socket.hear().await, next);
    }
    assert_eq!(socket.hear().await, json!({ "id": "one", "type": "complete" }));
    // The id is free again.
    socket.subscribe("one", "{hello(name:\"you\")}").await;
    assert_eq!(socket.hear().await["payload"]["data"]["hello"], "hello you");
    assert_eq!(socket.hear().await, json!({ "id": "one", "type": "complete" }));
    socket.subscribe("two", "mutation{change}").await;
    let mut answer = socket.hear().await["payload"].take();
    assert!(
        answer["extensions"]
            .as_object_mut()
            .unwrap()
            .remove("requestId")
            .is_some()
    );
    assert_eq!(answer, json!({ "data": { "change": true }, "extensions": {} }));
}

#[tokio::test]
async fn a_single_answer_says_which_request_it_is_and_an_update_does_not() {
    let mut socket = Socket::ready(Bench::new()).await;
    socket.subscribe("one", "{request}").await;
    let payload = socket.hear().await["payload"].take();
    let request = payload["extensions"]["requestId"].as_str().unwrap().to_owned();
    // The same that resolvers and the log know.
    assert_eq!(payload["data"]["request"], format!("{request} -"));
    assert_eq!(socket.hear().await["type"], "complete");
    socket.subscribe("one", "{forbidden}").await;
    let other = socket.hear().await["payload"]["extensions"]["requestId"].take();
    assert!(other.is_string() && other != request);
    assert_eq!(socket.hear().await["type"], "complete");
    // Whether it was executed or not, and whoever refuses.
    for query in ["{", "{nothing}", "subscription{nothing}", "{panics}"] {
        socket.subscribe("one", query).await;
        let message = socket.hear().await;
        assert_eq!(message["type"], "error", "{message}");
        let known = &message["payload"][0]["extensions"]["requestId"];
        assert!(known.is_string(), "{message}");
    }
    socket.subscribe("one", "subscription{count(to:1)}").await;
    assert_eq!(socket.hear().await["payload"], json!({ "data": { "count": 1 } }));
    assert_eq!(socket.hear().await["type"], "complete");
    socket.subscribe("one", "subscription{breaks}").await;
    assert_eq!(socket.hear().await["payload"], json!({ "data": { "breaks": 1 } }));
    assert!(socket.hear().await["payload"][0]["extensions"]["requestId"].is_string());
}

#[tokio::test]
async fn a_client_completes_what_it_does_not_want_any_more() {
    let mut socket = Socket::ready(Bench::new()).await;
    socket.subscribe("one", "subscription{idle}").await;
    assert_eq!(socket.hear().await["type"], "next");
    socket.say(json!({ "id": "one", "type": "complete" })).await;
    socket.say(json!({ "id": "unknown", "type": "complete" })).await;
    socket.subscribe("one", "subscription{idle}").await;
    assert_eq!(socket.hear().await["type"], "next");
}

#[tokio::test]
async fn request_errors_end_the_operation_and_nothing_else() {
    let mut socket = Socket::ready(Bench::new()).await;
    for (query, code) in [
        ("subscription{", "GRAPHQL_PARSE_FAILED"),
        ("subscription{nothing}", "GRAPHQL_VALIDATION_FAILED"),
        (&format!("{{{}}}", "hello ".repeat(31)), "GRAPHQL_LIMIT_EXCEEDED"),
    ] {
        socket.subscribe("one", query).await;
        let message = socket.hear().await;
        assert_eq!(
            (&message["id"], &message["type"]),
            (&json!("one"), &json!("error"))
        );
        assert_eq!(message["payload"][0]["extensions"]["code"], code);
    }
    socket.subscribe("one", "{hello}").await;
    assert_eq!(socket.hear().await["type"], "next");
}

#[tokio::test]
async fn an_error_of_a_resolver_is_part_of_the_answer() {
    let mut socket = Socket::ready(Bench::new()).await;
    socket.subscribe("one", "{forbidden}").await;
    let message = socket.hear().await;
    assert_eq!(message["type"], "next");
    assert_eq!(message["payload"]["errors"][0]["extensions"]["code"], "FORBIDDEN");
}

#[tokio::test]
async fn a_panic_ends_its_operation_and_nothing_else() {
    let mut socket = Socket::ready(Bench::new()).await;
    socket.subscribe("idle", "subscription{idle}").await;
    socket.hear().await;
    socket.subscribe("one", "{panics}").await;
    let message = socket.hear().await;
    assert_eq!(
        (&message["id"], &message["type"]),
        (&json!("one"), &json!("error"))
    );
    assert_eq!(message["payload"][0]["extensions"]["code"], "INTERNAL");
    assert!(!message.to_string().contains("secret"));
    socket.subscribe("one", "{hello}").await;
    assert_eq!(socket.hear().await["type"], "next");
}

#[tokio::test]
async fn pings_are_answered_and_pongs_are_welcome() {
    let mut socket = Socket::ready(Bench::new()).await;
    socket.say(json!({ "type": "pong" })).await;
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.hear().await, json!({ "type": "pong" }));
    socket.say(json!({ "type": "ping", "payload": { "a": 1 } })).await;
    assert_eq!(
        socket.hear().await,
        json!({ "type": "pong", "payload": { "a": 1 } })
    );
}

#[tokio::test]
async fn a_token_names_the_viewer_in_the_init_or_in_the_upgrade() {
    for field in ["authorization", "Authorization"] {
        let bench = Bench::new();
        let token = bench.token();
        let mut socket = Socket::open(bench).await;
        let payload = json!({ field: format!("Bearer {token}") });
        socket
            .say(json!({ "type": "connection_init", "payload": payload }))
            .await;
        socket.hear().await;
        socket.subscribe("one", "{viewer}").await;
        assert_eq!(
            socket.hear().await["payload"]["data"]["viewer"],
            Bench::user().to_string()
        );
    }
    let bench = Bench::new();
    let headers = [
        ("sec-websocket-protocol", "graphql-transport-ws".to_owned()),
        ("authorization", format!("Bearer {}", bench.token())),
    ];
    let mut socket = Socket::connect(bench, &headers).await.unwrap();
    socket.say(json!({ "type": "connection_init" })).await;
    socket.hear().await;
    socket.subscribe("one", "{viewer}").await;
    assert_eq!(
        socket.hear().await["payload"]["data"]["viewer"],
        Bench::user().to_string()
    );
}

#[tokio::test]
async fn bad_messages_are_4400() {
    for message in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"nonsense"}"#,
        r#"{"type":"complete"}"#,
        r#"{"type":"subscribe","id":"1"}"#,
        r#"{"type":"subscribe","payload":{"query":"{hello}"}}"#,
        r#"{"type":"subscribe","id":"","payload":{"query":"{hello}"}}"#,
        r#"{"type":"subscribe","id":"1","payload":{}}"#,
        r#"{"type":"subscribe","id":"1","payload":"x"}"#,
    ] {
        let mut socket = Socket::ready(Bench::new()).await;
        socket.stream.send(Message::text(message)).await.unwrap();
        assert_eq!(socket.closed().await, 4400, "{message}");
    }
    let mut socket = Socket::ready(Bench::new()).await;
    socket.stream.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(socket.closed().await, 4400);
    for payload in [json!([]), json!("x"), json!({ "authorization": 1 })] {
        let mut socket = Socket::open(Bench::new()).await;
        socket
            .say(json!({ "type": "connection_init", "payload": payload }))
            .await;
        assert_eq!(socket.closed().await, 4400, "{payload}");
    }
}

#[tokio::test]
async fn too_large_a_message_is_4400() {
    let mut socket = Socket::ready(Bench::new()).await;
    let large = "x".repeat(Limits::default().body_bytes + 1);
    socket.stream.send(Message::text(large)).await.unwrap();
    assert_eq!(socket.closed().await, 4400);
}

#[tokio::test]
async fn subscribing_before_the_init_is_4401() {
    let mut socket = Socket::open(Bench::new()).await;
    socket.subscribe("one", "{hello}").await;
    assert_eq!(socket.closed().await, 4401);
}

#[tokio::test]
async fn a_bad_token_is_4403() {
    let mut socket = Socket::open(Bench::new()).await;
    socket
        .say(json!({ "type": "connection_init", "payload": { "authorization": "Bearer x" } }))
        .await;
    assert_eq!(socket.closed().await, 4403);
}

#[tokio::test]
async fn no_init_in_time_is_4408() {
    let mut bench = Bench::new();
    bench.transport.timing.init = Duration::from_millis(20);
    assert_eq!(Socket::open(bench).await.closed().await, 4408);
}

#[tokio::test]
async fn an_id_in_use_is_4409() {
    let mut socket = Socket::ready(Bench::new()).await;
    socket.subscribe("one", "subscription{idle}").await;
    socket.subscribe("one", "{hello}").await;
    assert_eq!(socket.closed().await, 4409);
}

#[tokio::test]
async fn a_second_init_is_4429() {
    let mut socket = Socket::ready(Bench::new()).await;
    socket.say(json!({ "type": "connection_init" })).await;
    assert_eq!(socket.closed().await, 4429);
}

#[tokio::test]
async fn more_operations_than_allowed_are_refused_one_by_one() {
    let mut bench = Bench::new();
    let limits = Limits {
        operations: 1,
        ..Limits::default()
    };
    bench.transport.engine = Engine::new(tiny(), limits);
    let mut socket = Socket::ready(bench).await;
    socket.subscribe("one", "subscription{idle}").await;
    assert_eq!(socket.hear().await["type"], "next");
    socket.subscribe("two", "{hello}").await;
    let message = socket.hear().await;
    assert_eq!(
        (&message["id"], &message["type"]),
        (&json!("two"), &json!("error"))
    );
}

#[tokio::test]
async fn a_token_that_expires_ends_its_subscriptions_with_4401() {
    let bench = Bench::new();
    let token = bench.token();
    bench.forward_to_expiry(Duration::from_millis(300));
    let mut socket = Socket::open(bench).await;
    let payload = json!({ "authorization": format!("Bearer {token}") });
    socket
        .say(json!({ "type": "connection_init", "payload": payload }))
        .await;
    socket.hear().await;
    socket.subscribe("one", "subscription{idle}").await;
    assert_eq!(socket.closed().await, 4401);
}

#[tokio::test]
async fn a_restart_is_1012_and_the_server_waits_for_it() {
    let mut socket = Socket::ready(Bench::new()).await;
    socket.subscribe("one", "subscription{idle}").await;
    socket.hear().await;
    socket.stop.cancel();
    assert_eq!(socket.closed().await, 1012);
    let Socket {
        stream,
        sockets,
        served,
        ..
    } = socket;
    drop(stream);
    served.await.unwrap();
    assert!(sockets.is_empty());
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_off() {
    let mut bench = Bench::new();
    bench.transport.timing.send = Duration::from_millis(50);
    let mut socket = Socket::ready(bench).await;
    socket.subscribe("one", "subscription{flood}").await;
    // Nothing is read from here on, so the socket's task ends only if the server ends it.
    socket.sockets.close();
    socket.sockets.wait().await;
}

#[tokio::test]
async fn a_quiet_peer_is_pinged_and_a_dead_one_is_dropped() {
    let mut bench = Bench::new();
    bench.transport.timing.ping = Duration::from_millis(10);
    bench.transport.timing.dead = Duration::from_secs(1);
    let mut socket = Socket::ready(bench).await;
    // tungstenite answers while it is read from.
    for _ in 0..5 {
        assert!(matches!(
            socket.stream.next().await.unwrap().unwrap(),
            Message::Ping(_)
        ));
    }
    // From here on it is not, and answers no more.
    socket.sockets.close();
    socket.sockets.wait().await;
}
