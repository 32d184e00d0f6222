//! The messages of the graphql-transport-ws protocol.

use std::borrow::Cow;

use axum::extract::ws::Utf8Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What the subprotocol is called.
pub(super) const NAME: &str = "graphql-transport-ws";

/// Close codes: the protocol's own, and two of RFC 6455's registry.
pub(super) mod close {
    /// Service restart: come back, to whichever process answers.
    pub(crate) const RESTART: u16 = 1012;
    /// Try again later: the reader was too slow and has missed nothing it cannot ask for with its cursor.
    pub(crate) const SLOW: u16 = 1013;
    /// A message that is none.
    pub(crate) const BAD_MESSAGE: u16 = 4400;
    /// `subscribe` before the acknowledgement, or the access token's time is over.
    pub(crate) const UNAUTHORIZED: u16 = 4401;
    /// The access token is no good.
    pub(crate) const FORBIDDEN: u16 = 4403;
    /// No `connection_init` in time.
    pub(crate) const INIT_TIMEOUT: u16 = 4408;
    /// An id that is in use.
    pub(crate) const DUPLICATE: u16 = 4409;
    /// A second `connection_init`.
    pub(crate) const TOO_MANY_INITS: u16 = 4429;
}

/// What a client may say.
pub(super) enum FromClient<'a> {
    Init { authorization: Option<String> },
    Subscribe { id: Cow<'a, str>, payload: &'a RawValue },
    Complete { id: Cow<'a, str> },
    Ping { payload: Option<&'a RawValue> },
    Pong,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct InitPayload {
    #[serde(default, alias = "Authorization")]
    authorization: Option<String>,
}

impl<'a> FromClient<'a> {
    /// Reads a message; the error is the reason to close with.
    pub(super) fn read(text: &'a str) -> Result<Self, &'static str> {
        let Envelope { kind, id, payload } =
            serde_json::from_str(text).map_err(|_| "The message is not an object with a type")?;
        let payload = payload.filter(|payload| payload.get() != "null");
        let needs_id = || id.filter(|id| !id.is_empty()).ok_or("The message needs an id");
        match kind.as_ref() {
            "connection_init" => {
                let payload: InitPayload = match payload {
                    Some(payload) if payload.get().starts_with('{') => serde_json::from_str(payload.get())
                        .map_err(|_| "The authorization must be a string")?,
                    Some(_) => return Err("The payload of connection_init must be an object"),
                    None => InitPayload::default(),
                };
                Ok(Self::Init {
                    authorization: payload.authorization,
                })
            }
            "subscribe" => Ok(Self::Subscribe {
                id: needs_id()?,
                payload: payload.ok_or("The subscribe message needs a payload")?,
            }),
            "complete" => Ok(Self::Complete { id: needs_id()? }),
            "ping" => Ok(Self::Ping { payload }),
            "pong" => Ok(Self::Pong),
            _ => Err("The type of the message is not known"),
        }
    }
}

pub(super) const ACK: Utf8Bytes = Utf8Bytes::from_static(r#"{"type":"connection_ack"}"#);

/// The same payload back, as graphql-ws does it.
pub(super) fn pong(payload: Option<&RawValue>) -> Utf8Bytes {
    match payload {
        None => Utf8Bytes::from_static(r#"{"type":"pong"}"#),
        Some(payload) => format!(r#"{{"type":"pong","payload":{payload}}}"#).into(),
    }
}

pub(super) fn complete(id: &str) -> Utf8Bytes {
    text(start(id, "complete", 0))
}

/// `next` or `error`, with a payload that `write` appends.
pub(super) fn with_payload(id: &str, kind: &str, write: impl FnOnce(&mut Vec<u8>)) -> Utf8Bytes {
    let mut message = start(id, kind, 512);
    message.extend_from_slice(br#","payload":"#);
    write(&mut message);
    text(message)
}

fn start(id: &str, kind: &str, room: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(id.len() + room + 40);
    message.extend_from_slice(br#"{"id":"#);
    // A string is always JSON, and a vector takes everything.
    let _ = serde_json::to_writer(&mut message, id);
    message.extend_from_slice(br#","type":""#);
    message.extend_from_slice(kind.as_bytes());
    message.push(b'"');
    message
}

fn text(mut message: Vec<u8>) -> Utf8Bytes {
    message.push(b'}');
    String::from_utf8(message).unwrap_or_default().into()
}
