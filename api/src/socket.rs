//! GraphQL over a WebSocket: the graphql-transport-ws protocol, one task and some kilobytes per socket.

mod operations;
mod protocol;

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{Executor, ServerError};
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use axum::response::Response;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until, timeout};

use self::operations::{Operations, Running, Said};
use self::protocol::{FromClient, close};
use crate::RequestInfo;
use crate::auth::{TokenError, Verified};
use crate::documents::Asking;
use crate::edge::SocketPlace;
use crate::http::Problem;
use crate::metrics::OpenSocket;
use crate::params::Params;
use crate::rates::Verdict;
use crate::reply::{self, Code, Outcome};
use crate::transport::Transport;

/// Bytes read at a time. Most of what clients say is less, and 128 kB, the default, is nine tenths of what an idle socket costs.
const READ: usize = 1024;
/// Bytes written at a time.
const WRITTEN: usize = 4 * 1024;
/// What may wait to be written: one message, since each is waited for. Larger answers go over HTTP.
const MOST_UNSENT: usize = 4 * 1024 * 1024;
/// RFC 6455, section 5.5: a control frame has at most 125 bytes, two of them the code.
const LONGEST_REASON: usize = 123;

/// Why a socket ends.
enum End {
    /// We say so.
    Close(u16, Cow<'static, str>),
    /// The client said so.
    Closed,
    /// Nobody is there.
    Gone,
}

/// Turns the connection into a socket.
pub(crate) fn open<E: Executor>(
    transport: Arc<Transport<E>>,
    upgrade: WebSocketUpgrade,
    viewer: Option<Verified>,
    info: RequestInfo,
    place: SocketPlace,
) -> Result<Response, Problem> {
    if !upgrade.requested_protocols().any(|name| name == protocol::NAME) {
        return Err(Problem::bad(format!(
            "the socket's subprotocol must be {}",
            protocol::NAME
        )));
    }
    let tracker = transport.sockets.clone();
    Ok(upgrade
        .protocols([protocol::NAME])
        .read_buffer_size(READ)
        .write_buffer_size(WRITTEN)
        .max_write_buffer_size(MOST_UNSENT)
        .max_message_size(transport.engine.limits().body_bytes)
        .max_frame_size(transport.engine.limits().body_bytes)
        .on_upgrade(move |socket| {
            // In a task of its own: this one holds on to what the upgrade took.
            tracker.spawn(Box::new(Session::new(transport, socket, viewer, info, place)).run());
            std::future::ready(())
        }))
}

struct Session<E> {
    transport: Arc<Transport<E>>,
    socket: WebSocket,
    operations: Operations,
    viewer: Option<Verified>,
    /// What the upgrade came with.
    info: RequestInfo,
    /// When the access token's time is over.
    expiry: Option<Instant>,
    /// `connection_init` has been there.
    welcome: bool,
    opened: Instant,
    /// The last message of any kind.
    heard: Instant,
    /// Since then the client was asked whether it is there.
    asked: bool,
    _counted: OpenSocket,
    _place: SocketPlace,
}

impl<E: Executor> Session<E> {
    fn new(
        transport: Arc<Transport<E>>,
        socket: WebSocket,
        viewer: Option<Verified>,
        info: RequestInfo,
        place: SocketPlace,
    ) -> Self {
        let now = Instant::now();
        Self {
            expiry: viewer.as_ref().map(|verified| transport.end_of(verified)),
            transport,
            socket,
            operations: Operations::default(),
            viewer,
            info,
            welcome: false,
            opened: now,
            heard: now,
            asked: false,
            _counted: OpenSocket::new(),
            _place: place,
        }
    }

    /// On the heap, because a future has room for what it was given and for what it makes of it.
    async fn run(mut self: Box<Self>) {
        let end = match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.operations.clear();
        let frame = match end {
            End::Close(code, reason) => Some((code, reason)),
            End::Closed => None,
            End::Gone => return,
        };
        // The answer to a close frame is waited for: a connection dropped with unread bytes is reset, and the frame
        // may be lost with it.
        let goodbye = async {
            if let Some((code, reason)) = frame {
                let reason = shortened(&reason).into();
                if self
                    .socket
                    .send(Message::Close(Some(CloseFrame { code, reason })))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            while let Some(Ok(_)) = self.socket.recv().await {}
        };
        let _ = timeout(self.transport.timing.goodbye, goodbye).await;
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let stop = self.transport.stop.clone();
        let stopped = stop.cancelled();
        let timer = sleep_until(self.deadline());
        let mut rung = self.transport.gate.standing.watch();
        tokio::pin!(stopped, timer);
        loop {
            tokio::select! {
                message = self.socket.recv() => {
                    self.heard = Instant::now();
                    self.asked = false;
                    // On the heap: clients say little, and what it takes to understand them would be kept ready for each.
                    Box::pin(self.client_says(message)).await?;
                    timer.as_mut().reset(self.deadline());
                }
                (id, said) = self.operations.next() => self.respond(&id, said).await?,
                () = &mut timer => {
                    Box::pin(self.time_passes()).await?;
                    timer.as_mut().reset(self.deadline());
                }
                Ok(()) = rung.changed() => self.still_stands()?,
                () = &mut stopped => {
                    return Err(End::Close(close::RESTART, "The server restarts".into()));
                }
            }
        }
    }

    /// Ends the socket if its token says what is not true any more.
    fn still_stands(&self) -> Result<(), End> {
        let Some(verified) = &self.viewer else {
            return Ok(());
        };
        self.transport.gate.standing.check(verified).map_err(|why| {
            let code = match why {
                // Somebody who comes back with a new token is welcome.
                TokenError::Outdated => close::UNAUTHORIZED,
                _ => close::FORBIDDEN,
            };
            End::Close(code, why.to_string().into())
        })
    }

    /// When to look again, at the latest.
    fn deadline(&self) -> Instant {
        let timing = &self.transport.timing;
        let silence = if self.asked { timing.dead } else { timing.ping };
        let mut deadline = self.heard + silence;
        if !self.welcome {
            deadline = deadline.min(self.opened + timing.init);
        }
        self.expiry.map_or(deadline, |expiry| deadline.min(expiry))
    }

    async fn time_passes(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let timing = self.transport.timing;
        if self.expiry.is_some_and(|expiry| expiry <= now) {
            return Err(End::Close(
                close::UNAUTHORIZED,
                "The access token has expired".into(),
            ));
        }
        if !self.welcome && self.opened + timing.init <= now {
            return Err(End::Close(
                close::INIT_TIMEOUT,
                "Connection initialisation timeout".into(),
            ));
        }
        if self.asked && self.heard + timing.dead <= now {
            return Err(End::Gone);
        }
        if !self.asked && self.heard + timing.ping <= now {
            self.asked = true;
            // Answered by every WebSocket implementation, also where a page cannot.
            self.send(Message::Ping(Bytes::new())).await?;
        }
        Ok(())
    }

    async fn client_says(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let text = match message {
            None => return Err(End::Gone),
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Close(_))) => return Err(End::Closed),
            Some(Ok(Message::Binary(_))) => return Err(bad("The message is not text")),
            // Too large, or not WebSocket. If the connection is what broke, saying so fails and that is all.
            Some(Err(_)) => return Err(bad("The message cannot be read")),
        };
        match FromClient::read(&text).map_err(bad)? {
            FromClient::Init { authorization } => self.init(authorization.as_deref()).await,
            FromClient::Subscribe { id, payload } => self.subscribe(&id, payload).await,
            FromClient::Complete { id } => {
                self.operations.remove(&id);
                Ok(())
            }
            FromClient::Ping { payload } => self.send(Message::Text(protocol::pong(payload))).await,
            FromClient::Pong => Ok(()),
        }
    }

    async fn init(&mut self, authorization: Option<&str>) -> Result<(), End> {
        if self.welcome {
            return Err(End::Close(
                close::TOO_MANY_INITS,
                "Too many initialisation requests".into(),
            ));
        }
        if let Some(authorization) = authorization {
            let verified = self
                .transport
                .gate
                .bearer(authorization)
                .await
                .map_err(|error| End::Close(close::FORBIDDEN, format!("Forbidden: {error}").into()))?;
            self.expiry = Some(self.transport.end_of(&verified));
            self.viewer = Some(verified);
        }
        self.welcome = true;
        self.send(Message::Text(protocol::ACK)).await
    }

    async fn subscribe(&mut self, id: &str, payload: &RawValue) -> Result<(), End> {
        if !self.welcome {
            return Err(End::Close(close::UNAUTHORIZED, "Unauthorized".into()));
        }
        if self.operations.contains(id) {
            let reason = format!("Subscriber for {id} already exists");
            return Err(End::Close(close::DUPLICATE, reason.into()));
        }
        let params = Params::from_json(payload.get().as_bytes())
            .map_err(|error| End::Close(close::BAD_MESSAGE, error.message.into()))?;
        let request = self.transport.ids.next().to_string();
        let limit = self.transport.engine.limits().operations;
        if self.operations.len() >= limit {
            let message = format!("too many operations on one socket: at most {limit} allowed");
            let error = reply::error(Code::LimitExceeded, message);
            return self.refuse(id, error, &request).await;
        }
        match self.begin(id, &request, params).await {
            Ok(running) => {
                self.operations.insert(running);
                Ok(())
            }
            Err(error) => {
                crate::transport::count(None, Outcome::Refused);
                self.refuse(id, error, &request).await
            }
        }
    }

    /// As over HTTP: what may be executed, what it costs, and whether there is room for it.
    async fn begin(&mut self, id: &str, request: &str, params: Params<'_>) -> Result<Running, ServerError> {
        let Params { query, operation } = params;
        let (engine, edge) = (&self.transport.engine, &self.transport.edge);
        let user = self.viewer.as_ref().map(|verified| verified.viewer.user_id);
        let found = engine.find(query, &operation.extensions);
        let found = found.and_then(|prepared| Ok((engine.cost(&prepared, &operation)?, prepared)));
        let cost = found.as_ref().ok().and_then(|(cost, _)| *cost);
        let verdict = edge
            .ask(self.info.address, user, cost.map_or(1, |cost| cost.requested))
            .await;
        if let Some(wait) = verdict.and_then(|verdict| verdict.retry_after) {
            return Err(crate::edge::rate_limited(Verdict::seconds(wait)));
        }
        let (_, prepared) = found?;
        let info = RequestInfo {
            request_id: request.to_owned(),
            sets_cookies: false,
            ..self.info.clone()
        };
        let asking = Asking {
            prepared,
            operation,
            viewer: self.viewer.as_ref().map(|verified| verified.viewer.clone()),
            info,
        };
        let kind = asking.kind();
        let streams = kind == Some(OperationType::Subscription);
        let responses = engine.stream(asking, self.transport.timing.request);
        let mut running = Running::new(id, kind, request, responses);
        if !streams {
            running.holds(edge.place()?, cost);
        }
        Ok(running)
    }

    async fn respond(&mut self, id: &str, said: Option<Said>) -> Result<(), End> {
        let message = match said {
            None => {
                self.operations.remove(id);
                protocol::complete(id)
            }
            Some(said) if said.outcome == Outcome::Refused => {
                self.operations.remove(id);
                errors(id, said.response.errors, said.request.as_deref())
            }
            Some(said) => protocol::with_payload(id, "next", |into| {
                let request = said.request.as_deref();
                reply::write(into, &said.response, said.outcome, said.cost, request);
            }),
        };
        self.send(Message::Text(message)).await
    }

    async fn refuse(&mut self, id: &str, error: ServerError, request: &str) -> Result<(), End> {
        self.send(Message::Text(errors(id, vec![error], Some(request))))
            .await
    }

    /// Waits until the message is with the operating system, but not for ever: what a reader does not take waits here
    /// in memory.
    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(self.transport.timing.send, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Close(
                close::SLOW,
                "The reader is too slow: come back with the last cursor".into(),
            )),
        }
    }
}

fn bad(reason: &'static str) -> End {
    End::Close(close::BAD_MESSAGE, reason.into())
}

/// The protocol has no room beside errors, so each of them says the name of the request.
fn errors(id: &str, mut errors: Vec<ServerError>, request: Option<&str>) -> Utf8Bytes {
    if let Some(request) = request {
        errors = errors
            .into_iter()
            .map(|error| reply::of_request(error, request))
            .collect();
    }
    protocol::with_payload(id, "error", |into| {
        let _ = serde_json::to_writer(into, &errors);
    })
}

fn shortened(reason: &str) -> &str {
    let mut end = reason.len().min(LONGEST_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
