//! Operations over Server-Sent Events: the *distinct connections mode* of the GraphQL over SSE protocol.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::Executor;
use axum::body::Body;
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use tracing::error;

use crate::auth::TokenError;
use crate::http::{Accepting, panic_message};
use crate::media::Media;
use crate::metrics::Subscriber;
use crate::reply::{self, Code, Outcome};
use crate::transport::{self, Transport};

/// With its empty data, which axum's own writer leaves out: a browser's `EventSource` drops an event that has none.
const COMPLETE: Bytes = Bytes::from_static(b"event: complete\ndata: \n\n");
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// Streams an operation. What is refused before it starts is refused with a status code, in JSON.
pub(crate) fn answer<E: Executor>(
    transport: &Arc<Transport<E>>,
    operation: Accepting,
    media: Media,
) -> Response {
    let kind = operation.kind;
    let limit = transport.timing.request;
    let mut responses = transport.engine.stream(operation.asking, limit).fuse();
    // async-graphql validates when it is first polled, and answers then if the document does not fit.
    let mut first = responses.next().now_or_never().flatten();
    let outcome = first.as_mut().map_or(Outcome::Answered, transport::settle);
    transport::count(kind, outcome);
    if let Some(refused) = first.as_ref().filter(|_| outcome == Outcome::Refused) {
        return crate::http::write(refused, outcome, None, media);
    }
    let subscriber = Subscriber::new();
    // Also in the headers, which a browser's `EventSource` keeps to itself.
    let request: Box<str> = operation.trace.as_str().into();
    let messages = stream::iter(first)
        .chain(guarded(responses, operation.trace))
        .map(move |mut response| {
            // Held for as long as the stream is.
            let _counted = &subscriber;
            let outcome = transport::settle(&mut response);
            let mut event = Vec::with_capacity(512);
            event.extend_from_slice(b"event: next\ndata: ");
            // JSON as serde_json writes it has no line breaks.
            let request = transport::tells_request(kind, outcome).then_some(&*request);
            reply::write(&mut event, &response, outcome, None, request);
            event.extend_from_slice(b"\n\n");
            Bytes::from(event)
        });
    // A stream that is cut off, by a restart or an expired token, ends without `complete`: the client comes back.
    let stop = transport.stop.clone().cancelled_owned();
    let expiry = operation
        .viewer
        .as_ref()
        .map(|verified| transport.end_of(verified));
    let expired = async move {
        match expiry {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    // One whose token has become untrue says so: the client comes back with another, or not at all.
    let standing = transport.gate.standing.clone();
    let (tell, told) = tokio::sync::oneshot::channel();
    let fallen = async move {
        match &operation.viewer {
            Some(verified) => {
                let _ = tell.send(standing.fallen(verified).await);
            }
            None => std::future::pending().await,
        }
    };
    let last_words = stream::once(told).filter_map(|why| std::future::ready(why.ok().map(last_words)));
    let events = messages
        .chain(stream::iter([COMPLETE]))
        .take_until(fallen)
        .chain(last_words)
        .take_until(stop)
        .take_until(expired)
        .boxed();
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
        // Asks nginx not to collect events before it passes them on.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let body = Body::from_stream(kept_alive(events, transport.timing.comment));
    (headers, body).into_response()
}

/// The error that ends a stream.
fn last_words(why: TokenError) -> Bytes {
    let mut event = b"event: next\ndata: ".to_vec();
    event.extend(reply::errors(&[reply::error(
        Code::Unauthenticated,
        why.to_string(),
    )]));
    event.extend_from_slice(b"\n\nevent: complete\ndata: \n\n");
    Bytes::from(event)
}

/// The same events, with a comment whenever there was none for so long: proxies cut what is silent.
fn kept_alive(
    events: BoxStream<'static, Bytes>,
    every: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold(events, move |mut events| async move {
        let event = match tokio::time::timeout(every, events.next()).await {
            Ok(event) => event?,
            Err(_) => COMMENT,
        };
        Some((Ok(event), events))
    })
}

/// The same responses; a panic becomes the last of them.
fn guarded(
    responses: impl Stream<Item = async_graphql::Response> + Send + 'static,
    trace: String,
) -> impl Stream<Item = async_graphql::Response> + Send + 'static {
    AssertUnwindSafe(responses).catch_unwind().map(move |response| {
        response.unwrap_or_else(|panic| {
            error!(
                request.id = trace,
                panic = panic_message(panic.as_ref()),
                "a resolver panicked"
            );
            async_graphql::Response::from_errors(vec![reply::internal(&trace)])
        })
    })
}
