//! Who sends a command, why, and when: what becomes the metadata of its events (L9).

use std::fmt;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use kontor_domain::{Personal, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Somebody without an account, or not logged in.
    Anonymous,
    /// A user.
    User(UserId),
    /// A process manager or an import, by name.
    System(&'static str),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::User(id) => id.fmt(f),
            Self::System(name) => write!(f, "system:{name}"),
        }
    }
}

impl Actor {
    /// Whoever runs the shop, at a terminal.
    pub const OPERATOR: Self = Self::System("operator");
}

/// The request that somebody acts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its id, as it was answered: the correlation id of everything it sets off.
    pub request: String,
    /// Where it came from, as far as proxies that we trust can say.
    pub address: Option<Personal<IpAddr>>,
}

/// Makes a command happen once (L4): the same key gives the original answer, for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Unique across the shop: whoever builds it puts the actor or the causing event in front.
    pub key: String,
    /// SHA-256 over what was asked; the same key with another fingerprint is refused.
    pub fingerprint: [u8; 32],
}

impl IdempotencyKey {
    /// A key of `scope`, bound to `input`, the canonical form of what was asked.
    #[must_use]
    pub fn new(scope: impl fmt::Display, key: &str, input: &[u8]) -> Self {
        Self {
            key: format!("{scope}/{key}"),
            fingerprint: Sha256::digest(input).into(),
        }
    }

    /// The key of step `step` of the process `process` in answer to one event: derived, so that a repeat is
    /// recognised whoever repeats it.
    #[must_use]
    pub fn derived(process: &str, cause: &str, step: impl fmt::Display) -> Self {
        let key = format!("{process}/{cause}/{step}");
        let fingerprint = Sha256::digest(key.as_bytes()).into();
        Self { key, fingerprint }
    }
}

/// What travels with a command.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// This command. Retries after a conflict keep it.
    pub command_id: String,
    /// What all work set off by one request shares.
    pub correlation_id: String,
    /// The event or command this one answers, if any.
    pub causation_id: Option<String>,
    /// Who acts.
    pub actor: Actor,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// Where the request came from, if this command is its own. What processes do in answer is done from nowhere.
    pub address: Option<Personal<IpAddr>>,
    /// When the command was given, by the injected clock.
    pub time: DateTime<Utc>,
    /// Whether `time` is history being written down (an import). Processes that react keep that time.
    pub backdated: bool,
    /// Makes the command happen once.
    pub key: Option<IdempotencyKey>,
    /// The version the sender saw; any other is a [`crate::ExecuteError::VersionConflict`].
    pub expected_version: Option<u64>,
}

impl CommandContext {
    /// A context that starts a new correlation.
    #[must_use]
    pub fn new(command_id: String, actor: Actor, time: DateTime<Utc>) -> Self {
        Self {
            correlation_id: command_id.clone(),
            command_id,
            causation_id: None,
            actor,
            traceparent: None,
            address: None,
            time,
            backdated: false,
            key: None,
            expected_version: None,
        }
    }

    /// The same, as part of a request.
    #[must_use]
    pub fn asked_by(mut self, origin: Origin) -> Self {
        self.correlation_id = origin.request;
        self.address = origin.address;
        self
    }

    /// The same, to happen once under `key`.
    #[must_use]
    pub fn once(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The same, only on `version`.
    #[must_use]
    pub fn expecting(mut self, version: Option<u64>) -> Self {
        self.expected_version = version;
        self
    }

    pub(crate) fn metadata(&self) -> Metadata {
        Metadata {
            command_id: self.command_id.clone(),
            correlation_id: self.correlation_id.clone(),
            causation_id: self.causation_id.clone(),
            actor: self.actor.to_string(),
            traceparent: self.traceparent.clone(),
            address: self.address.clone(),
            time: self.time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            backdated: self.backdated.then(|| "true".to_owned()),
        }
    }
}

/// Metadata as stored: a flat object of strings, which is what cqrs-es reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// See [`CommandContext::command_id`].
    pub command_id: String,
    /// See [`CommandContext::correlation_id`].
    pub correlation_id: String,
    /// See [`CommandContext::causation_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    /// [`Actor`], displayed.
    pub actor: String,
    /// See [`CommandContext::traceparent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// See [`CommandContext::address`]. The request itself is the correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Personal<IpAddr>>,
    /// RFC 3339, UTC, microseconds.
    pub time: String,
    /// `"true"` when the time is history being written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backdated: Option<String>,
}
