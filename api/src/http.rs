//! GraphQL over HTTP, as the specification of that name has it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{Executor, ServerError};
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State, WebSocketUpgrade};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures::FutureExt;
use tracing::error;

use crate::RequestInfo;
use crate::auth::Verified;
use crate::documents::{Asking, Cost};
use crate::gate::GateError;
use crate::media::{self, Accepted, Media};
use crate::params::Params;
use crate::rates::Verdict;
use crate::reply::{self, Code, Outcome};
use crate::transport::{self, Transport};
use crate::{edge, socket, sse};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// When to come back while sessions cannot be read, in seconds.
const SESSIONS_AFTER: u32 = 1;

/// Why a request is not executed.
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) error: Box<ServerError>,
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
    pub(crate) media: Media,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, error: ServerError) -> Self {
        Self {
            status,
            error: Box::new(error),
            header: None,
            media: Media::GraphqlResponse,
        }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reply::error(Code::BadRequest, message))
    }

    fn method(message: &str, allowed: &'static str) -> Self {
        let mut problem = Self::bad(message);
        problem.status = StatusCode::METHOD_NOT_ALLOWED;
        problem.header = Some((ALLOW, HeaderValue::from_static(allowed)));
        problem
    }

    fn too_slow() -> Self {
        let mut problem = Self::bad("the body did not come in time");
        problem.status = StatusCode::REQUEST_TIMEOUT;
        problem
    }

    fn not_acceptable(message: &str) -> Self {
        let mut problem = Self::bad(message);
        problem.status = StatusCode::NOT_ACCEPTABLE;
        problem.media = Media::Json;
        problem
    }

    /// A document that cannot be executed: in `application/json` that is an answer like any other.
    pub(crate) fn document(error: ServerError, media: Media) -> Self {
        let status = match media {
            Media::GraphqlResponse => StatusCode::BAD_REQUEST,
            Media::Json => StatusCode::OK,
        };
        let mut problem = Self::new(status, error);
        problem.media = media;
        problem
    }

    /// Whoever asked too often: in `application/json` that is an answer like any other, too.
    fn rate_limited(retry_after: u64, media: Media) -> Self {
        let mut problem = Self::document(edge::rate_limited(retry_after), media);
        if media == Media::GraphqlResponse {
            problem.status = StatusCode::TOO_MANY_REQUESTS;
        }
        problem.header = Some((RETRY_AFTER, HeaderValue::from(retry_after)));
        problem
    }

    fn in_media(mut self, media: Media) -> Self {
        self.media = media;
        self
    }

    pub(crate) fn into_response(self) -> Response {
        let body = reply::errors(std::slice::from_ref(&*self.error));
        let mut response = respond(self.status, self.media, body);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<GateError> for Problem {
    fn from(error: GateError) -> Self {
        if let GateError::Unavailable = error {
            let refusal = reply::retryable(Code::SessionsUnavailable, error.to_string(), SESSIONS_AFTER);
            let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, refusal);
            problem.header = Some((RETRY_AFTER, HeaderValue::from(SESSIONS_AFTER)));
            return problem;
        }
        let mut problem = Self::new(
            StatusCode::UNAUTHORIZED,
            reply::error(Code::Unauthenticated, error.to_string()),
        );
        // RFC 6750, section 3.1.
        let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
        problem.header = Some((WWW_AUTHENTICATE, challenge));
        problem
    }
}

/// An operation that may be executed.
pub(crate) struct Accepting {
    pub(crate) asking: Asking,
    pub(crate) kind: Option<OperationType>,
    pub(crate) cost: Option<Cost>,
    pub(crate) viewer: Option<Verified>,
    /// Names the request in the log, should it panic.
    pub(crate) trace: String,
}

/// `/graphql`, whatever the method.
pub(crate) async fn graphql<E: Executor>(
    State(transport): State<Arc<Transport<E>>>,
    request: Request,
) -> Response {
    let info = transport.info(request.headers(), transport.edge.address(&request));
    let id = HeaderValue::from_str(&info.request_id).ok();
    let trace = info.request_id.clone();
    // What goes with the answer, whatever that is.
    let mut headers = HeaderMap::new();
    let answer = AssertUnwindSafe(answer(transport, request, info, &mut headers))
        .catch_unwind()
        .await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(panic) => {
            error!(
                request.id = trace,
                panic = panic_message(panic.as_ref()),
                "a resolver panicked"
            );
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, reply::internal(&trace)).into_response()
        }
    };
    if !headers.is_empty() {
        // Before what the operation itself has set: a cookie that it takes away stays away.
        headers.extend(std::mem::take(response.headers_mut()));
        *response.headers_mut() = headers;
    }
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

async fn answer<E: Executor>(
    transport: Arc<Transport<E>>,
    request: Request,
    info: RequestInfo,
    headers: &mut HeaderMap,
) -> Result<Response, Problem> {
    let is_post = match *request.method() {
        Method::POST => true,
        Method::GET if request.headers().contains_key(UPGRADE) => {
            return upgrade(transport, request, info, headers).await;
        }
        Method::GET | Method::HEAD => false,
        _ => return Err(Problem::method("GraphQL is asked with GET or POST", "GET, POST")),
    };
    let accepted = Accepted::of(request.headers());
    if accepted.single.is_none() && !accepted.stream {
        return Err(Problem::not_acceptable(
            "the answer comes as application/graphql-response+json, application/json or text/event-stream",
        ));
    }
    let media = accepted.single.unwrap_or(Media::GraphqlResponse);
    let mut info = info;
    // A stream's headers have gone by the time an operation sets one.
    info.sets_cookies = accepted.single.is_some();
    let edge = &transport.edge;
    let _place = edge
        .place()
        .map_err(|error| edge::overloaded(error).in_media(media))?;
    let address = info.address;
    if let Some(verdict) = edge.still_refused(address) {
        return Ok(counted(&verdict, media).unwrap_or_default());
    }
    let found = if is_post {
        read_body(&transport, request, info, media, headers).await
    } else {
        read_uri(&transport, request, info, media, headers).await
    };
    // Also what cannot be executed has been asked for.
    let (user, cost) = found.as_ref().map_or((None, 1), |operation| {
        let user = operation.viewer.as_ref().map(|verified| verified.viewer.user_id);
        (user, operation.cost.map_or(1, |cost| cost.requested))
    });
    let verdict = edge.ask(address, user, cost).await;
    if let Some(refused) = verdict.as_ref().and_then(|verdict| counted(verdict, media)) {
        return Ok(refused);
    }
    let answer = match found {
        Ok(operation) => execute(&transport, operation, accepted, media).await,
        Err(problem) => Err(problem.in_media(media)),
    };
    let mut response = answer.unwrap_or_else(Problem::into_response);
    if let Some(verdict) = verdict {
        verdict.write(response.headers_mut());
    }
    Ok(response)
}

/// What is answered to who is refused.
fn counted(verdict: &Verdict, media: Media) -> Option<Response> {
    let wait = Verdict::seconds(verdict.retry_after?);
    let mut response = Problem::rate_limited(wait, media).into_response();
    verdict.write(response.headers_mut());
    Some(response)
}

async fn upgrade<E: Executor>(
    transport: Arc<Transport<E>>,
    request: Request,
    info: RequestInfo,
    headers: &mut HeaderMap,
) -> Result<Response, Problem> {
    // Clients that can send headers need not repeat the token in `connection_init`.
    let edge = &transport.edge;
    edge.check_origin(request.headers())?;
    let viewer = transport.gate.viewer(request.headers(), headers).await?;
    let user = viewer.as_ref().map(|verified| verified.viewer.user_id);
    let verdict = edge.ask(info.address, user, 1).await;
    if let Some(refused) = verdict.and_then(|verdict| counted(&verdict, Media::GraphqlResponse)) {
        return Ok(refused);
    }
    let place = edge.socket_place(info.address)?;
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|rejection| Problem::bad(rejection.body_text()))?;
    socket::open(transport, upgrade, viewer, info, place)
}

async fn read_body<E: Executor>(
    transport: &Transport<E>,
    request: Request,
    info: RequestInfo,
    media: Media,
    headers: &mut HeaderMap,
) -> Result<Accepting, Problem> {
    if !media::is_json(request.headers()) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            reply::error(Code::BadRequest, "the body must be application/json in UTF-8"),
        ));
    }
    let viewer = transport.gate.viewer(request.headers(), headers).await?;
    let limit = transport.engine.limits().body_bytes;
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > limit) {
        return Err(too_large(limit));
    }
    let body = tokio::time::timeout(
        transport.timing.body,
        axum::body::to_bytes(request.into_body(), limit),
    );
    let body =
        body.await.map_err(|_| Problem::too_slow())?.map_err(|error| {
            match std::error::Error::source(&error) {
                Some(cause) if cause.to_string().contains("limit") => too_large(limit),
                _ => Problem::bad("the body could not be read"),
            }
        })?;
    let params = Params::from_json(&body).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
    accept(transport, params, viewer, info, media)
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        reply::error(
            Code::LimitExceeded,
            format!("the body is too large: at most {limit} bytes allowed"),
        ),
    )
}

async fn read_uri<E: Executor>(
    transport: &Transport<E>,
    request: Request,
    info: RequestInfo,
    media: Media,
    headers: &mut HeaderMap,
) -> Result<Accepting, Problem> {
    let viewer = transport.gate.viewer(request.headers(), headers).await?;
    let params =
        Params::from_uri(request.uri()).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
    let operation = accept(transport, params, viewer, info, media)?;
    if operation.kind == Some(OperationType::Mutation) {
        return Err(Problem::method("a mutation is sent with POST", "POST"));
    }
    Ok(operation)
}

fn accept<E: Executor>(
    transport: &Transport<E>,
    params: Params<'_>,
    viewer: Option<Verified>,
    info: RequestInfo,
    media: Media,
) -> Result<Accepting, Problem> {
    let refused = |error: ServerError| {
        transport::count(None, Outcome::Refused);
        // What is no request is none in any media type.
        if reply::code(&error) == Some(Code::BadRequest.as_str()) {
            Problem::new(StatusCode::BAD_REQUEST, error)
        } else {
            Problem::document(error, media)
        }
    };
    let Params { query, operation } = params;
    let engine = &transport.engine;
    let prepared = engine.find(query, &operation.extensions).map_err(refused)?;
    let cost = engine.cost(&prepared, &operation).map_err(refused)?;
    let asking = Asking {
        prepared,
        operation,
        viewer: viewer.as_ref().map(|verified| verified.viewer.clone()),
        info,
    };
    Ok(Accepting {
        trace: asking.info.request_id.clone(),
        kind: asking.kind(),
        asking,
        cost,
        viewer,
    })
}

async fn execute<E: Executor>(
    transport: &Arc<Transport<E>>,
    operation: Accepting,
    accepted: Accepted,
    media: Media,
) -> Result<Response, Problem> {
    let streams = operation.kind == Some(OperationType::Subscription);
    if streams && !accepted.stream {
        return Err(Problem::not_acceptable(
            "a subscription comes as text/event-stream, or over a WebSocket",
        ));
    }
    if streams || accepted.single.is_none() {
        return Ok(sse::answer(transport, operation, media));
    }
    let limit = transport.timing.request;
    let mut response = transport.engine.execute(operation.asking, limit).await;
    let outcome = transport::settle(&mut response);
    transport::count(operation.kind, outcome);
    Ok(write(&response, outcome, operation.cost, media))
}

/// A single response, in full.
pub(crate) fn write(
    response: &async_graphql::Response,
    outcome: Outcome,
    cost: Option<Cost>,
    media: Media,
) -> Response {
    let status = match (outcome, media) {
        (Outcome::Refused, Media::GraphqlResponse) if is_late(response) => StatusCode::GATEWAY_TIMEOUT,
        (Outcome::Refused, Media::GraphqlResponse) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    };
    let mut body = Vec::with_capacity(1_024);
    reply::write(&mut body, response, outcome, cost, None);
    let mut written = respond(status, media, body);
    if !response.http_headers.is_empty() {
        written.headers_mut().extend(response.http_headers.clone());
    }
    written
}

fn is_late(response: &async_graphql::Response) -> bool {
    let code = response.errors.first().and_then(reply::code);
    code == Some(Code::TimedOut.as_str())
}

fn respond(status: StatusCode, media: Media, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media.header());
    response
}

/// What a panic said, if it said it in words.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
