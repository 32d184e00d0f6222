//! What people do that changes nothing, and is to be known all the same: logging in, being refused, mending.
//!
//! Written down off the path of whoever does it, together with what comes in the same moment. What strangers can do as often as
//! they like takes one row a moment and address, however often they do it; and if Postgres is away for long, the newest is lost.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Ids;
use crate::context::{Actor, Origin};
use crate::store::Store;

mod scribe;

use scribe::Scribe;
pub use scribe::{keep_trimmed, trim};

/// Deeds that wait to be written, at most.
const WAITING: usize = 10_000;

/// Kinds of deeds, named as events are.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// How it is stored.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// By its name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Somebody logged in; of the account.
    LoggedIn,
    /// Somebody did not; of the account whose address was typed, if there is one.
    LogInFailed,
    /// Attempts at a log-in were too many to be looked at.
    LogInThrottled,
    /// Somebody who was logged in did not know their password when a mutation asked for it, the one in the detail; of the account.
    PasswordRefused,
    /// Attempts at such a mutation were too many to be looked at; of the account.
    PasswordThrottled,
    /// Sessions were ended by their owner; of the session, or of the account and how many.
    SessionsEnded,
    /// A refresh token was used that had been replaced long before, which ended its session; of the session.
    RefreshTokenReused,
    /// A mail to set a password was asked for; of the account, if there is one.
    PasswordResetRequested,
    /// A mutation was refused for want of the permission in the detail.
    PermissionRefused,
    /// A webhook was not believed, for the reason in the detail.
    WebhookRefused,
    /// Views were built afresh.
    ViewsReplayed,
    /// A key for access tokens was added.
    SigningKeyRotated,
    /// People's keys were encrypted with the present key-encryption key; how many, and which that is, in the detail.
    KeysRotated,
}

impl Kind {
    /// Whether anybody can do it as often as they like.
    const fn is_cheap(self) -> bool {
        matches!(
            self,
            Self::LogInFailed
                | Self::LogInThrottled
                | Self::PasswordRefused
                | Self::PasswordThrottled
                | Self::RefreshTokenReused
                | Self::PasswordResetRequested
                | Self::PermissionRefused
                | Self::WebhookRefused
        )
    }
}

/// Something that was done.
#[derive(Debug, Clone)]
pub struct Deed {
    /// What.
    pub kind: Kind,
    /// Who did it.
    pub actor: Actor,
    /// The id of the account or session it was done to, if there is one.
    pub subject: Option<String>,
    /// More about it, in our own words: never what somebody typed.
    pub detail: Option<String>,
    /// As part of which request.
    pub origin: Option<Origin>,
}

impl Deed {
    /// A deed of which no more is known yet.
    #[must_use]
    pub const fn new(kind: Kind, actor: Actor, origin: Option<Origin>) -> Self {
        Self {
            kind,
            actor,
            subject: None,
            detail: None,
            origin,
        }
    }

    /// The same, done to this.
    #[must_use]
    pub fn to(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The same, with more about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// A deed in its place.
#[derive(Debug)]
struct Noted {
    deed: Deed,
    position: u64,
    id: String,
    time: DateTime<Utc>,
    times: i32,
}

#[derive(Debug)]
enum Message {
    Note(Box<Noted>),
    /// Says so when all before it is written.
    Flush(oneshot::Sender<()>),
}

/// Notes deeds. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deeds {
    ids: Ids,
    head: watch::Receiver<u64>,
    queue: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
    closing: CancellationToken,
}

impl Deeds {
    /// Notes deeds beside this log. What comes back writes them down, until [`Deeds::close`].
    pub fn open(store: &Store) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (queue, waiting) = mpsc::channel(WAITING);
        let deeds = Self {
            ids: store.ids().clone(),
            head: store.head(),
            queue,
            lost: Arc::default(),
            closing: CancellationToken::new(),
        };
        let scribe = Scribe {
            pool: store.pool().clone(),
            lost: Arc::clone(&deeds.lost),
            closing: deeds.closing.clone(),
        };
        (deeds, scribe.run(waiting))
    }

    /// Notes it, at once and without waiting.
    pub fn note(&self, deed: Deed) {
        let noted = Noted {
            deed,
            position: *self.head.borrow(),
            id: self.ids.next().to_string(),
            time: self.ids.now(),
            times: 1,
        };
        if self.queue.try_send(Message::Note(Box::new(noted))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when everything noted here before is written down; as long as Postgres is away it does not.
    pub async fn flushed(&self) {
        let (done, told) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            // A scribe that has gone has written what it could.
            let _ = told.await;
        }
    }

    /// Has what is left written down, and nothing more taken. For when nobody does anything any more.
    pub fn close(&self) {
        self.closing.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_names() {
        assert_eq!(Kind::parse(Kind::LogInFailed.as_str()), Some(Kind::LogInFailed));
        assert_eq!(Kind::parse("Placed"), None);
    }
}
