use axum::body::Body;
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {:?}", self.text))
    }

    pub(super) fn code(&self) -> String {
        self.json()["errors"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or("none")
            .to_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(super) async fn ask(bench: Bench, request: Request<Body>) -> Answer {
    let response = bench.router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

pub(super) fn post() -> Builder {
    Request::post("/graphql").header(header::CONTENT_TYPE, "application/json")
}

pub(super) fn json_post(body: &Value) -> Request<Body> {
    post().body(Body::from(body.to_string())).unwrap()
}

pub(super) fn accepting(accept: &str, query: &str) -> Request<Body> {
    let body = json!({ "query": query }).to_string();
    post()
        .header(header::ACCEPT, accept)
        .body(Body::from(body))
        .unwrap()
}

pub(super) fn get(query: &str) -> Request<Body> {
    Request::get(format!("/graphql?{query}"))
        .body(Body::empty())
        .unwrap()
}

pub(super) const RESPONSE: &str = "application/graphql-response+json";
pub(super) const JSON: &str = "application/json";

#[tokio::test]
async fn a_query_is_answered_in_the_type_that_was_asked_for() {
    for (accept, media) in [(RESPONSE, RESPONSE), (JSON, JSON), ("*/*", RESPONSE)] {
        let answer = ask(Bench::new(), accepting(accept, "{hello(name:\"you\")}")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), format!("{media}; charset=utf-8"));
        assert_eq!(answer.json(), json!({ "data": { "hello": "hello you" } }));
    }
}

#[tokio::test]
async fn all_parameters_are_taken_from_a_body() {
    let body = json!({
        "query": "query A { hello } query B($n: String!) { hello(name: $n) }",
        "operationName": "B", "variables": { "n": "b" }, "extensions": { "any": 1 }, "unknown": true,
    });
    assert_eq!(
        ask(Bench::new(), json_post(&body)).await.json()["data"]["hello"],
        "hello b"
    );
    let nulls = json!({ "query": "{hello}", "operationName": null, "variables": null, "extensions": null });
    assert_eq!(ask(Bench::new(), json_post(&nulls)).await.status, 200);
}

#[tokio::test]
async fn all_parameters_are_taken_from_a_url() {
    let url = "query=query+A%7Bhello%7Dquery+B(%24n:String!)%7Bhello(name:%24n)%7D&operationName=B\
        &variables=%7B%22n%22:%22b%22%7D&extensions=%7B%7D";
    assert_eq!(
        ask(Bench::new(), get(url)).await.json(),
        json!({ "data": { "hello": "hello b" } })
    );
}

#[tokio::test]
async fn what_does_not_fit_has_the_status_of_its_media_type() {
    for (query, code) in [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{nothing}", "GRAPHQL_VALIDATION_FAILED"),
        ("query A{hello} query B{hello}", "GRAPHQL_VALIDATION_FAILED"),
        ("query($n: Int!){hello}", "GRAPHQL_VALIDATION_FAILED"),
        ("{...f} fragment f on Query{...f}", "GRAPHQL_VALIDATION_FAILED"),
        (&format!("{{{}}}", "hello ".repeat(31)), "GRAPHQL_LIMIT_EXCEEDED"),
    ] {
        for (accept, status) in [(RESPONSE, 400), (JSON, 200)] {
            let answer = ask(Bench::new(), accepting(accept, query)).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (status, code),
                "{query} as {accept}"
            );
            assert!(answer.json().get("data").is_none());
        }
    }
}

#[tokio::test]
async fn an_error_of_a_resolver_is_an_answer() {
    let answer = ask(Bench::new(), accepting(RESPONSE, "{forbidden}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (200, "FORBIDDEN"));
    assert_eq!(answer.json().get("data"), Some(&Value::Null));
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_400() {
    for body in [
        "",
        "{",
        "null",
        "1",
        "[]",
        r#"[{"query":"{hello}"}]"#,
        "{}",
        r#"{"query":1}"#,
        r#"{"query":null}"#,
        r#"{"query":"{hello}","variables":[]}"#,
        r#"{"query":"{hello}","operationName":1}"#,
        r#"{"query":"{hello}","query":"{hello}"}"#,
        r#"{"query":"{hello}","extensions":""}"#,
        "\u{feff}{\"query\":\"{hello}\"}",
    ] {
        for accept in [RESPONSE, JSON] {
            let request = post().header("accept", accept).body(Body::from(body)).unwrap();
            let answer = ask(Bench::new(), request).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "BAD_REQUEST"),
                "{body}"
            );
            assert_eq!(answer.header("content-type"), format!("{accept}; charset=utf-8"));
        }
    }
    for query in [
        "",
        "query=%7Bhello%7D&variables=1",
        "query=a&query=b",
        "query=%7Bhello%7D&variables=%7B",
    ] {
        let answer = ask(Bench::new(), get(query)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "BAD_REQUEST"),
            "{query}"
        );
    }
}

#[tokio::test]
async fn only_json_may_be_posted() {
    for media in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data"),
    ] {
        let mut request = Request::post("/graphql");
        if let Some(media) = media {
            request = request.header(header::CONTENT_TYPE, media);
        }
        let body = json!({ "query": "mutation{change}" }).to_string();
        let answer = ask(Bench::new(), request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, 415, "{media:?}");
    }
}

#[tokio::test]
async fn a_mutation_is_posted() {
    let answer = ask(Bench::new(), get("query=mutation%7Bchange%7D")).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    let answer = ask(Bench::new(), json_post(&json!({ "query": "mutation{change}" }))).await;
    assert_eq!(answer.json(), json!({ "data": { "change": true } }));
    let request = Request::put("/graphql").body(Body::empty()).unwrap();
    let answer = ask(Bench::new(), request).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, POST"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_we_have_gets_406() {
    assert_eq!(
        ask(Bench::new(), accepting("text/html", "{hello}")).await.status,
        406
    );
    assert_eq!(
        ask(Bench::new(), accepting(JSON, "subscription{count(to:1)}"))
            .await
            .status,
        406
    );
}

#[tokio::test]
async fn a_body_has_a_limit_announced_or_not() {
    let large = json!({ "query": format!("#{}", "x".repeat(256 * 1024)) }).to_string();
    let announced = post()
        .header(header::CONTENT_LENGTH, large.len())
        .body(Body::from(large.clone()))
        .unwrap();
    let chunks = stream::iter([Ok::<_, std::io::Error>(large)]);
    let streamed = post().body(Body::from_stream(chunks)).unwrap();
    for request in [announced, streamed] {
        let answer = ask(Bench::new(), request).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (413, "GRAPHQL_LIMIT_EXCEEDED")
        );
    }
}

fn with_token(authorization: &str) -> Request<Body> {
    post()
        .header(header::AUTHORIZATION, authorization)
        .body(Body::from(r#"{"query":"{viewer}"}"#))
        .unwrap()
}

#[tokio::test]
async fn a_token_names_the_viewer() {
    let bench = Bench::new();
    let token = bench.token();
    let answer = ask(bench, with_token(&format!("Bearer {token}"))).await;
    assert_eq!(answer.json()["data"]["viewer"], Bench::user().to_string());
    let answer = ask(Bench::new(), json_post(&json!({ "query": "{viewer}" }))).await;
    assert_eq!(answer.json()["data"]["viewer"], Value::Null);
}

#[tokio::test]
async fn a_token_that_is_no_good_is_401() {
    let expired = Bench::new();
    let token = expired.token();
    expired.forward_to_expiry(Duration::ZERO);
    let others = Bench::new().token();
    for (bench, authorization) in [
        (expired, format!("Bearer {token}")),
        (Bench::new(), format!("Bearer {others}")),
        (Bench::new(), "Bearer".to_owned()),
        (Bench::new(), "Bearer x.y.z".to_owned()),
        (Bench::new(), "Basic dXNlcjpwYXNz".to_owned()),
    ] {
        let answer = ask(bench, with_token(&authorization)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "UNAUTHENTICATED"),
            "{authorization}"
        );
        assert_eq!(
            answer.header("www-authenticate"),
            r#"Bearer error="invalid_token""#
        );
    }
}

#[tokio::test]
async fn a_request_has_a_name() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ask_with = async |id: &str, trace: &str| {
        let request = post().header("x-request-id", id).header("traceparent", trace);
        ask(
            Bench::new(),
            request.body(Body::from(r#"{"query":"{request}"}"#)).unwrap(),
        )
        .await
    };
    let answer = ask_with("mine-1", trace).await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(answer.json()["data"]["request"], format!("mine-1 {trace}"));
    let answer = ask_with("a\"b", "nonsense").await;
    assert_eq!(answer.header("x-request-id").len(), 26);
    assert_eq!(
        answer.json()["data"]["request"],
        format!("{} -", answer.header("x-request-id"))
    );
}

#[tokio::test]
async fn a_panic_is_an_opaque_answer() {
    let answer = ask(Bench::new(), accepting(JSON, "{panics}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "INTERNAL"));
    assert_eq!(
        answer.json()["errors"][0]["extensions"]["traceId"],
        answer.header("x-request-id")
    );
    assert!(!answer.text.contains("secret"));
}

#[tokio::test]
async fn a_document_is_parsed_once() {
    let bench = Bench::new();
    let first = bench.transport.engine.prepare("{hello}").unwrap();
    let again = bench.transport.engine.prepare("{hello}").unwrap();
    assert!(Arc::ptr_eq(&first, &again));
}

#[tokio::test]
async fn of_many_errors_the_first_are_told() {
    let wrong = (0..60)
        .map(|n| format!("query q{n}{{wrong}}"))
        .collect::<Vec<_>>()
        .join(" ");
    let errors = ask(Bench::new(), accepting(JSON, &wrong)).await.json()["errors"].clone();
    assert_eq!(errors.as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn the_specification_to_the_letter() {
    // A client that says nothing of what it takes.
    let bare = ask(Bench::new(), json_post(&json!({ "query": "{hello}" }))).await;
    assert_eq!(
        bare.header("content-type"),
        "application/graphql-response+json; charset=utf-8"
    );
    // What is written as empty in a URL is not there.
    let url = "query=%7Bhello%7D&operationName=&variables=&extensions=";
    assert_eq!(ask(Bench::new(), get(url)).await.status, 200);
    for wrong in [
        "query=%7Bhello%7D&extensions=%5B%5D",
        "query=%7Bhello%7D&variables=%5B%5D",
    ] {
        let answer = ask(Bench::new(), get(wrong)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "BAD_REQUEST"),
            "{wrong}"
        );
    }
    // Not UTF-8, said or not.
    let latin = post()
        .header(header::ACCEPT, RESPONSE)
        .body(Body::from(&b"{\"query\":\"{hello(name:\\\"\xe4\\\")}\"}"[..]));
    assert_eq!(ask(Bench::new(), latin.unwrap()).await.status, 400);
    let told = Request::post("/graphql").header(header::CONTENT_TYPE, "application/json; charset=iso-8859-1");
    assert_eq!(
        ask(Bench::new(), told.body(Body::from("{}")).unwrap())
            .await
            .status,
        415
    );
    for method in ["DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let request = Request::builder()
            .method(method)
            .uri("/graphql")
            .body(Body::empty());
        let answer = ask(Bench::new(), request.unwrap()).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, "GET, POST"),
            "{method}"
        );
    }
    // Data that is there, even in part, is a 200; `data: null` of a resolver's error too.
    for query in ["{forbidden}", "{hello}"] {
        assert_eq!(
            ask(Bench::new(), accepting(RESPONSE, query)).await.status,
            200,
            "{query}"
        );
    }
    // A variable that does not fit is a request error.
    let wrong = json!({ "query": "query($n: String!) { hello(name: $n) }", "variables": { "n": [1] } });
    let answer = ask(Bench::new(), json_post(&wrong)).await;
    assert_eq!((answer.status, answer.json().get("data").is_none()), (400, true));
    // GET answers what POST does, without a body for HEAD's sake.
    let head = Request::head("/graphql?query=%7Bhello%7D")
        .body(Body::empty())
        .unwrap();
    assert_eq!(ask(Bench::new(), head).await.status, 200);
}
