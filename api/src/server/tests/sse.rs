use axum::body::Body;
use axum::http::{Request, header};
use axum::middleware::map_response;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::http::{Answer, ask};
use super::*;

fn subscribe(query: &str) -> Request<Body> {
    Request::post("/graphql")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "text/event-stream")
        .body(Body::from(serde_json::json!({ "query": query }).to_string()))
        .unwrap()
}

fn is_stream(answer: &Answer) {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/event-stream");
}

#[tokio::test]
async fn a_subscription_is_streamed_to_its_end() {
    let answer = ask(Bench::new(), subscribe("subscription{count(to:2)}")).await;
    is_stream(&answer);
    assert_eq!(
        answer.text,
        "event: next\ndata: {\"data\":{\"count\":1}}\n\nevent: next\ndata: {\"data\":{\"count\":2}}\n\n\
         event: complete\ndata: \n\n"
    );
}

#[tokio::test]
async fn a_url_will_do_and_so_will_a_query() {
    let request = Request::get("/graphql?query=%7Bhello%7D")
        .header(header::ACCEPT, "text/event-stream")
        .body(Body::empty())
        .unwrap();
    let answer = ask(Bench::new(), request).await;
    is_stream(&answer);
    // It says which request it is, as the header does, which a browser's `EventSource` does not show.
    let request = answer.header("x-request-id");
    let told = format!(
        "event: next\ndata: {{\"data\":{{\"hello\":\"hello \"}},\"extensions\":{{\"requestId\":\"{request}\"}}}}\n\nevent: complete"
    );
    assert!(answer.text.starts_with(&told), "{}", answer.text);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_a_status() {
    for query in ["subscription{", "subscription{nothing}"] {
        let answer = ask(Bench::new(), subscribe(query)).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(
            answer.header("content-type"),
            "application/graphql-response+json; charset=utf-8"
        );
    }
}

#[tokio::test]
async fn a_panic_is_an_opaque_message() {
    let answer = ask(Bench::new(), subscribe("subscription{breaks}")).await;
    assert!(answer.text.contains("{\"data\":{\"breaks\":1}}"));
    assert!(answer.text.contains("INTERNAL"));
    let request = answer.header("x-request-id");
    assert_eq!(
        answer
            .text
            .matches(&format!("\"requestId\":\"{request}\""))
            .count(),
        1
    );
    assert!(!answer.text.contains("secret"));
}

#[tokio::test]
async fn a_restart_and_an_expired_token_end_the_stream_without_completing_it() {
    let stopping = Bench::new();
    let stop = stopping.transport.stop.clone();
    let expiring = Bench::new();
    let mut with_token = subscribe("subscription{idle}");
    let token = format!("Bearer {}", expiring.token()).parse().unwrap();
    with_token.headers_mut().insert(header::AUTHORIZATION, token);
    expiring.forward_to_expiry(Duration::from_millis(300));
    for (bench, request, stop) in [
        (stopping, subscribe("subscription{idle}"), Some(stop)),
        (expiring, with_token, None),
    ] {
        let response = bench.router().oneshot(request).await.unwrap();
        let mut events = response.into_body().into_data_stream();
        let first = events.next().await.unwrap().unwrap();
        assert_eq!(&first[..], b"event: next\ndata: {\"data\":{\"idle\":0}}\n\n");
        if let Some(stop) = stop {
            stop.cancel();
        }
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_off() {
    let timing = Timing {
        stalled: Duration::from_millis(50),
        ..Timing::default()
    };
    let given_up = CancellationToken::new();
    let tell = given_up.clone();
    let router = Bench::new()
        .router()
        .layer(map_response(move |response: Response| {
            let dropped = tell.clone().drop_guard();
            let watched = response.map(|body| {
                Body::from_stream(body.into_data_stream().inspect(move |_| {
                    let _held = &dropped;
                }))
            });
            std::future::ready(watched)
        }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, router, timing, stop, TaskTracker::new()));
    let request = "GET /graphql?query=subscription%7Bflood%7D HTTP/1.1\r\nhost: here\r\naccept: text/event-stream\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 15];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // Nothing is read from here on, and the connection stays open, so only the server ends the stream.
    let ended = tokio::time::timeout(Duration::from_secs(20), given_up.cancelled());
    ended.await.expect("the connection is cut off");
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive() {
    let mut bench = Bench::new();
    bench.transport.timing.comment = Duration::from_millis(10);
    let response = bench
        .router()
        .oneshot(subscribe("subscription{idle}"))
        .await
        .unwrap();
    let mut events = response.into_body().into_data_stream();
    events.next().await.unwrap().unwrap();
    assert_eq!(&events.next().await.unwrap().unwrap()[..], b":\n\n");
}
