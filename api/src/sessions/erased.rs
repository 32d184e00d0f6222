//! Whoever is erased has no sessions any more. Their access tokens end at once, as those of a closed account do
//! ([`AccountChanges`]); here the records go, with what they say of the person's devices.
//!
//! A follower of the log of its own: Redis may be away, and a key must not wait for that to be destroyed.
//!
//! [`AccountChanges`]: kontor_projections::account_changes::AccountChanges

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use kontor_domain::UserEvent;
use kontor_eventstore::{Body, Consumer, Parked, Recorded};
use kontor_fulfilment::erasure;
use sqlx::PgConnection;

use super::{EndedSessions, Sessions};

/// The consumer's name.
pub const NAME: &str = "erased_sessions";

/// The consumer that ends the sessions of people who are erased.
#[derive(Debug)]
pub struct ErasedSessions(Sessions);

impl ErasedSessions {
    /// Among these.
    #[must_use]
    pub const fn new(sessions: Sessions) -> Self {
        Self(sessions)
    }
}

impl Consumer for ErasedSessions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn concerns(&self, event: &Recorded) -> bool {
        matches!(event.body, Body::User(_, UserEvent::Erased { .. }))
    }

    fn handle<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>> {
        Box::pin(async move {
            for event in events {
                let Body::User(person, UserEvent::Erased { .. }) = event.body else {
                    continue;
                };
                let ended = self.0.end_all(person, None).await;
                // Tried again like anything else that is away.
                let ended = ended.map_err(|error| sqlx::Error::Io(io::Error::other(error)))?;
                EndedSessions::write(&mut *connection, &ended).await?;
                erasure::note_sessions(connection, person, event.position, ended.len() as u64).await?;
            }
            Ok(Vec::new())
        })
    }
}
