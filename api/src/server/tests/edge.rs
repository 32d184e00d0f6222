//! Bounds on what is asked, by whom and how often.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;
use tower::ServiceExt;

use super::http::{JSON, RESPONSE, accepting, ask, get, json_post};
use super::socket::Socket;
use super::*;
use crate::guard::cost::Costs;
use crate::persisted::TrustedDocuments;
use crate::rates::RateLimits;

impl Bench {
    fn protected(mut self, protection: &Protection) -> Self {
        self.transport.edge = Edge::new(protection, &[], None);
        self
    }

    fn with_engine(mut self, change: impl FnOnce(Engine<Tiny>) -> Engine<Tiny>) -> Self {
        self.transport.engine = change(Engine::new(tiny(), Limits::default()));
        self
    }

    fn costing(self) -> Self {
        self.with_engine(|engine| engine.costing(Costs::of(&tiny().sdl())))
    }
}

fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            use std::fmt::Write;
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn persisted(hash: &str) -> Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } })
}

#[tokio::test]
async fn an_answer_says_what_it_cost() {
    let answer = ask(
        Bench::new().costing(),
        accepting(RESPONSE, "{many(first: 7){number}}"),
    )
    .await;
    assert_eq!(
        answer.json()["extensions"]["cost"],
        json!({ "requested": 15, "limit": 13_000 })
    );
    let mut socket = Socket::ready(Bench::new().costing()).await;
    socket.subscribe("one", "{many{number}}").await;
    let cost = &socket.hear().await["payload"]["extensions"]["cost"];
    assert_eq!(cost, &json!({ "requested": 21, "limit": 13_000 }));
}

#[tokio::test]
async fn what_costs_too_much_is_not_executed() {
    let field = |n| format!("a{n}: many(first: $n) {{ number }} ");
    let fields = (0..80).map(field).collect::<Vec<String>>().concat();
    let query = format!("query($n: Int!) {{ ...f }} fragment f on Query {{ {fields} }}");
    let limits = || Limits {
        root_fields: 100,
        ..Limits::default()
    };
    for (n, status) in [(80, 200), (82, 400)] {
        let mut bench = Bench::new();
        bench.transport.engine = Engine::new(tiny(), limits()).costing(Costs::of(&tiny().sdl()));
        let answer = ask(
            bench,
            json_post(&json!({ "query": query, "variables": { "n": n } })),
        )
        .await;
        assert_eq!(answer.status, status, "{}", answer.text);
        if status == 400 {
            let extensions = &answer.json()["errors"][0]["extensions"];
            assert_eq!(extensions["code"], "GRAPHQL_LIMIT_EXCEEDED");
            assert_eq!(extensions["cost"]["limit"], 13_000);
            assert!(extensions["cost"]["requested"].as_u64().unwrap() > 13_000);
        }
    }
}

#[tokio::test]
async fn a_request_has_a_time_limit() {
    for (accept, status) in [(RESPONSE, 504), (JSON, 200)] {
        let mut bench = Bench::new();
        bench.transport.timing.request = Duration::from_millis(20);
        let answer = ask(bench, accepting(accept, "{never}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, "TIMED_OUT"));
        assert!(answer.json().get("data").is_none());
    }
    let mut bench = Bench::new();
    bench.transport.timing.request = Duration::from_millis(20);
    let mut socket = Socket::ready(bench).await;
    socket.subscribe("one", "{never}").await;
    let message = socket.hear().await;
    assert_eq!(message["type"], "error");
    assert_eq!(message["payload"][0]["extensions"]["code"], "TIMED_OUT");
}

#[tokio::test]
async fn a_group_of_resolvers_has_one_of_its_own() {
    let answer = ask(Bench::new(), accepting(RESPONSE, "{never}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (200, "TIMED_OUT"));
    assert_eq!(answer.json()["errors"][0]["path"], json!(["never"]));
    assert_eq!(answer.json()["data"], Value::Null);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.transport.timing.body = Duration::from_millis(20);
    let never = Body::from_stream(stream::pending::<Result<String, std::io::Error>>());
    let request = Request::post("/graphql").header(header::CONTENT_TYPE, JSON);
    let answer = ask(bench, request.body(never).unwrap()).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "BAD_REQUEST"));
}

#[tokio::test]
async fn over_the_bound_requests_are_turned_away() {
    let protection = Protection {
        requests: 1,
        ..Protection::default()
    };
    let router = Bench::new().protected(&protection).router();
    // Under way until its group's time is over.
    let slow = tokio::spawn(router.clone().oneshot(accepting(RESPONSE, "{never}")));
    let turned_away = loop {
        let response = router
            .clone()
            .oneshot(accepting(RESPONSE, "{hello}"))
            .await
            .unwrap();
        if response.status() != StatusCode::OK {
            break response;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(turned_away.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(turned_away.headers()[header::RETRY_AFTER], "1");
    assert_eq!(slow.await.unwrap().unwrap().status(), StatusCode::OK);
    let response = router.oneshot(accepting(RESPONSE, "{hello}")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn one_address_opens_so_many_sockets() {
    let protection = Protection {
        sockets_of_address: 1,
        ..Protection::default()
    };
    let bench = Bench::new().protected(&protection);
    let place = bench
        .transport
        .edge
        .socket_place("127.0.0.1".parse().ok())
        .ok()
        .unwrap();
    let protocol = || vec![("sec-websocket-protocol", "graphql-transport-ws".to_owned())];
    let transport = bench.transport.edge.clone();
    match Socket::connect(bench, &protocol()).await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status().as_u16(), 429);
            assert_eq!(response.headers()["retry-after"], "5");
        }
        other => panic!("{:?}", other.err()),
    }
    drop(place);
    let mut again = Bench::new();
    again.transport.edge = transport;
    let mut socket = Socket::connect(again, &protocol()).await.unwrap();
    socket.say(json!({ "type": "connection_init" })).await;
    socket.hear().await;
}

#[tokio::test]
async fn a_foreign_page_opens_no_socket_with_cookies() {
    for (origin, cookie, welcome) in [
        (Some("https://evil.example"), true, false),
        (Some("null"), true, false),
        (Some("https://evil.example"), false, true),
        (Some("own"), true, true),
        (None, true, true),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let own = format!("http://{address}");
        let mut headers = vec![
            ("sec-websocket-protocol", "graphql-transport-ws".to_owned()),
            ("host", address.to_string()),
        ];
        if let Some(origin) = origin {
            headers.push(("origin", if origin == "own" { own } else { origin.to_owned() }));
        }
        if cookie {
            headers.push(("cookie", "session=x".to_owned()));
        }
        match Socket::connect(Bench::new(), &headers).await {
            Ok(_) => assert!(welcome, "{origin:?} {cookie}"),
            Err(Error::Http(response)) => {
                assert_eq!(response.status().as_u16(), 403);
                assert!(!welcome, "{origin:?} {cookie}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_document_sent_once_can_be_named_by_its_hash() {
    let router = Bench::new().router();
    let hash = sha256("{hello}");
    let extensions = persisted(&hash)
        .to_string()
        .replace('"', "%22")
        .replace('{', "%7B")
        .replace('}', "%7D");
    let url = format!("extensions={extensions}");
    let ask = async |request: Request<Body>| {
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (status, body) = ask(get(&url)).await;
    assert_eq!(status, 400);
    assert_eq!(body["errors"][0]["message"], "PersistedQueryNotFound");
    assert_eq!(
        body["errors"][0]["extensions"]["code"],
        "PERSISTED_QUERY_NOT_FOUND"
    );
    // What is not its hash is not kept.
    let lie = json!({ "query": "{request}", "extensions": persisted(&hash) });
    assert_eq!(ask(json_post(&lie)).await.0, 400);
    let both = json!({ "query": "{hello}", "extensions": persisted(&hash) });
    assert_eq!(ask(json_post(&both)).await.1["data"]["hello"], "hello ");
    for request in [get(&url), json_post(&json!({ "extensions": persisted(&hash) }))] {
        assert_eq!(
            ask(request).await,
            (200, json!({ "data": { "hello": "hello " } }))
        );
    }
    for wrong in [
        json!({ "persistedQuery": { "version": 2, "sha256Hash": hash } }),
        json!({ "persistedQuery": { "version": 1, "sha256Hash": "abc" } }),
        json!({ "persistedQuery": { "version": 1 } }),
    ] {
        assert_eq!(
            ask(json_post(&json!({ "extensions": wrong }))).await.0,
            400,
            "{wrong}"
        );
    }
    // A mutation named in a URL is still a mutation.
    let change = "mutation{change}";
    let both = json!({ "query": change, "extensions": persisted(&sha256(change)) });
    assert_eq!(ask(json_post(&both)).await.0, 200);
    let url = url.replace(&hash, &sha256(change));
    assert_eq!(ask(get(&url)).await.0, 405);
}

#[tokio::test]
async fn nothing_but_trusted_documents_is_executed() {
    let hash = sha256("{hello}");
    let manifest = json!({ hash.clone(): "{hello}" }).to_string();
    let trusted = Arc::new(TrustedDocuments::from_json(&manifest).unwrap());
    let bench = || {
        let source = Documents::Trusted(Arc::clone(&trusted));
        Bench::new().with_engine(|engine| engine.from_source(source))
    };
    for good in [
        json!({ "query": "{hello}" }),
        json!({ "extensions": persisted(&hash) }),
        // The text does not matter where the hash is known.
        json!({ "query": "{request}", "extensions": persisted(&hash) }),
    ] {
        assert_eq!(
            ask(bench(), json_post(&good)).await.json()["data"]["hello"],
            "hello "
        );
    }
    for other in [
        json!({ "query": "{request}" }),
        json!({ "query": "{ hello }" }),
        json!({ "query": "{request}", "extensions": persisted(&sha256("{request}")) }),
        json!({ "query": "{__schema{types{name}}}" }),
    ] {
        let answer = ask(bench(), json_post(&other)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "UNTRUSTED_DOCUMENT"),
            "{other}"
        );
    }
    let mut socket = Socket::ready(bench()).await;
    socket.subscribe("one", "subscription{idle}").await;
    assert_eq!(
        socket.hear().await["payload"][0]["extensions"]["code"],
        "UNTRUSTED_DOCUMENT"
    );
}

#[tokio::test]
async fn a_silent_schema_tells_nothing() {
    let silent = || Bench::new().with_engine(Engine::silent);
    for query in [
        "{__schema{types{name}}}",
        "{__type(name:\"Query\"){name}}",
        "{...f} fragment f on Query{__schema{types{name}}}",
        "{... on Query{__type(name:\"Query\"){name}}}",
    ] {
        let answer = ask(silent(), accepting(RESPONSE, query)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "GRAPHQL_VALIDATION_FAILED"),
            "{query}"
        );
        assert_eq!(
            ask(Bench::new(), accepting(RESPONSE, query)).await.status,
            200,
            "{query}"
        );
    }
    assert_eq!(
        ask(silent(), accepting(RESPONSE, "{__typename}")).await.status,
        200
    );
    for wrong in [
        "{helo}",
        "{hello(nme:\"\")}",
        "{hello @skp(if:true)}",
        "{hello @skip(iff:true)}",
    ] {
        let told = ask(silent(), accepting(RESPONSE, wrong)).await.text;
        assert!(!told.contains("Did you mean"), "{told}");
    }
    let helpful = ask(Bench::new(), accepting(RESPONSE, "{helo}")).await.text;
    assert!(helpful.contains("Did you mean"), "{helpful}");
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let answer = ask(Bench::new(), accepting(RESPONSE, "{hello}")).await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert!(
        answer
            .header("content-security-policy")
            .contains("frame-ancestors 'none'")
    );
    assert_eq!(answer.header("strict-transport-security"), "");
    let router = around(endpoint(Bench::new().transport), Vec::new(), true);
    let response = router.oneshot(accepting(RESPONSE, "{hello}")).await.unwrap();
    assert!(
        response.headers()["strict-transport-security"]
            .to_str()
            .unwrap()
            .contains("max-age=31536000")
    );
}

#[tokio::test]
async fn large_answers_are_packed_for_who_takes_it() {
    let packed = async |query: &str, accept: &str, encoding: &str| {
        let mut request = accepting(accept, query);
        request
            .headers_mut()
            .insert(header::ACCEPT_ENCODING, encoding.parse().unwrap());
        let response = Bench::new().router().oneshot(request).await.unwrap();
        let packing = response.headers().get(header::CONTENT_ENCODING);
        packing.map_or(String::new(), |it| it.to_str().unwrap().to_owned())
    };
    let large = "{many(first: 500){number}}";
    assert_eq!(packed(large, RESPONSE, "gzip").await, "gzip");
    assert_eq!(packed(large, RESPONSE, "br, gzip;q=0.5").await, "br");
    assert_eq!(packed(large, RESPONSE, "identity").await, "");
    assert_eq!(packed("{hello}", RESPONSE, "gzip").await, "");
    assert_eq!(
        packed("subscription{idle}", "text/event-stream", "gzip").await,
        ""
    );
}

#[tokio::test]
async fn pages_of_configured_origins_may_ask() {
    for (origins, allowed) in [
        (vec![], ""),
        (vec!["https://shop.example"], "https://shop.example"),
        (vec!["https://other.example"], ""),
        (vec!["*"], "*"),
    ] {
        let origins = origins.into_iter().map(HeaderValue::from_static).collect();
        let router = around(endpoint(Bench::new().transport), origins, false);
        let request = Request::options("/graphql")
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .body(Body::empty())
            .unwrap();
        let response = router.oneshot(request).await.unwrap();
        let told = response.headers().get("access-control-allow-origin");
        assert_eq!(told.map_or("", |it| it.to_str().unwrap()), allowed);
    }
}

#[tokio::test]
async fn who_asks_too_often_over_a_socket_is_told_when_to_come_back() {
    let protection = Protection {
        rates: Some(RateLimits {
            address: "1/3".parse().unwrap(),
            ..RateLimits::default()
        }),
        ..Protection::default()
    };
    // One for the upgrade.
    let mut socket = Socket::ready(Bench::new().protected(&protection)).await;
    for id in ["one", "two"] {
        socket.subscribe(id, "{hello}").await;
        assert_eq!(socket.hear().await["type"], "next");
        assert_eq!(socket.hear().await["type"], "complete");
    }
    socket.subscribe("three", "{hello}").await;
    let message = socket.hear().await;
    assert_eq!(message["type"], "error");
    let extensions = &message["payload"][0]["extensions"];
    assert_eq!(
        (&extensions["code"], &extensions["retryAfter"]),
        (&json!("RATE_LIMITED"), &json!(1))
    );
}
