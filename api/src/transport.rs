//! What all three ways in share: the engine, who is asking, and how long things may take.

use std::net::IpAddr;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{Executor, Response};
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use kontor_eventstore::Ids;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::RequestInfo;
use crate::auth::Verified;
use crate::documents::Engine;
use crate::edge::Edge;
use crate::gate::Gate;
use crate::reply::Outcome;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For the head of a request to come in, from its first byte on; for the first one, from when the connection is opened.
    pub head: Duration,
    /// For a body to come in.
    pub body: Duration,
    /// For a query or a mutation to be answered.
    pub request: Duration,
    /// From the opening of a socket to `connection_init`.
    pub init: Duration,
    /// Of silence before a peer is asked whether it is there.
    pub ping: Duration,
    /// Of silence after which it is not.
    pub dead: Duration,
    /// For one message to leave. A reader slower than this is cut off and comes back with its cursor.
    pub send: Duration,
    /// For anything to leave, over any protocol: a connection whose reader is slower than this is cut off.
    pub stalled: Duration,
    /// Between a close frame and its answer.
    pub goodbye: Duration,
    /// Between two comments on a stream of server-sent events.
    pub comment: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(15),
            body: Duration::from_secs(15),
            request: Duration::from_secs(30),
            init: Duration::from_secs(10),
            ping: Duration::from_secs(25),
            dead: Duration::from_secs(60),
            send: Duration::from_secs(10),
            stalled: Duration::from_secs(30),
            goodbye: Duration::from_secs(2),
            comment: Duration::from_secs(15),
        }
    }
}

/// State of the GraphQL routes.
pub struct Transport<E> {
    /// Executes.
    pub engine: Engine<E>,
    /// Knows who is asking.
    pub gate: Gate,
    /// Names requests.
    pub ids: Ids,
    /// How long things may take.
    pub timing: Timing,
    /// Who may come in, and how often.
    pub edge: Edge,
    /// Ends sockets and streams.
    pub stop: CancellationToken,
    /// Sockets that are open.
    pub sockets: TaskTracker,
}

impl<E> std::fmt::Debug for Transport<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl<E: Executor> Transport<E> {
    /// Names the request, by the client's own name for it if that is harmless.
    pub(crate) fn info(&self, headers: &HeaderMap, address: Option<IpAddr>) -> RequestInfo {
        let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
        let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok());
        RequestInfo {
            request_id: given
                .filter(|id| is_harmless(id))
                .map_or_else(|| self.ids.next().to_string(), ToOwned::to_owned),
            traceparent: traceparent.filter(|it| is_traceparent(it)).map(ToOwned::to_owned),
            address,
            user_agent: headers
                .get(USER_AGENT)
                .and_then(|value| value.to_str().ok())
                .map(ToOwned::to_owned),
            session: self
                .gate
                .renewal
                .as_ref()
                .and_then(|renewal| renewal.desk.cookie.read(headers)),
            sets_cookies: true,
        }
    }

    /// When a token's time is over, on the runtime's clock.
    pub(crate) fn end_of(&self, verified: &Verified) -> Instant {
        let left = (verified.expires - self.gate.clock.now())
            .to_std()
            .unwrap_or(Duration::ZERO);
        Instant::now() + left
    }
}

/// Counts an operation.
pub(crate) fn count(kind: Option<OperationType>, outcome: Outcome) {
    let kind = match kind {
        Some(OperationType::Query) => "query",
        Some(OperationType::Mutation) => "mutation",
        Some(OperationType::Subscription) => "subscription",
        None => "unknown",
    };
    let outcome = match outcome {
        Outcome::Answered => "answered",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
    };
    metrics::counter!("kontor_graphql_operations_total", "kind" => kind, "outcome" => outcome).increment(1);
}

/// Gives a request error its code, and says how the operation went.
pub(crate) fn settle(response: &mut Response) -> Outcome {
    let outcome = crate::reply::outcome(response);
    if outcome == Outcome::Refused {
        crate::reply::name_the_refusal(response);
    }
    outcome
}

/// Whether an answer over a socket or a stream says the name of its request: a single one does, and one with errors. What a
/// subscription tells is the same for many, and nobody asks why it happened.
pub(crate) fn tells_request(kind: Option<OperationType>, outcome: Outcome) -> bool {
    kind != Some(OperationType::Subscription) || outcome != Outcome::Answered
}

/// A name that can be logged and sent back as it is.
fn is_harmless(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

/// W3C Trace Context, section 3.2: `00-<32 hex>-<16 hex>-<2 hex>`.
fn is_traceparent(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() == 55
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}
