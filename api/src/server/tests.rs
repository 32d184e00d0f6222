//! The transport over a small schema: every status code, and every close code.

mod edge;
mod heads;
mod http;
mod socket;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, ErrorExtensions, MergedObject, Object, Schema, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, stream};
use kontor_domain::{Role, UserId};
use kontor_eventstore::{Clock, Ids, ManualClock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::auth::{Grant, LIFETIME, SigningKey, Tokens};
use crate::standing::Standing;
use crate::{RequestInfo, Viewer};

struct Basics;

#[Object]
impl Basics {
    async fn hello(&self, #[graphql(default)] name: String) -> String {
        format!("hello {name}")
    }

    async fn viewer(&self, context: &Context<'_>) -> Option<String> {
        let viewer: &Option<Viewer> = context.data_unchecked();
        viewer.as_ref().map(|viewer| viewer.user_id.to_string())
    }

    async fn request(&self, context: &Context<'_>) -> String {
        let info: &RequestInfo = context.data_unchecked();
        format!(
            "{} {}",
            info.request_id,
            info.traceparent.as_deref().unwrap_or("-")
        )
    }

    async fn forbidden(&self) -> async_graphql::Result<String> {
        std::future::ready(()).await;
        Err(async_graphql::Error::new("not for you").extend_with(|_, e| e.set("code", "FORBIDDEN")))
    }

    async fn panics(&self, #[graphql(default)] calm: bool) -> bool {
        assert!(calm, "a secret");
        calm
    }
}

struct Slow;

#[Object]
impl Slow {
    async fn never(&self) -> bool {
        std::future::pending().await
    }

    async fn many(&self, #[graphql(default = 10)] first: i32) -> Vec<Line> {
        (0..first).map(|number| Line { number }).collect()
    }
}

#[derive(SimpleObject)]
struct Line {
    number: i32,
}

#[derive(MergedObject)]
struct Query(Basics, crate::timed::Timed<Slow, 400>);

struct Mutation;

#[Object]
impl Mutation {
    async fn change(&self) -> bool {
        true
    }
}

struct Updates;

#[Subscription]
impl Updates {
    async fn count(&self, to: i32) -> impl Stream<Item = i32> {
        stream::iter(1..=to)
    }

    /// One value, then nothing for ever.
    async fn idle(&self) -> impl Stream<Item = i32> {
        stream::iter([0]).chain(stream::pending())
    }

    /// More than any buffer holds.
    async fn flood(&self) -> impl Stream<Item = String> {
        stream::repeat("x".repeat(64 * 1024))
    }

    async fn breaks(&self) -> impl Stream<Item = i32> {
        stream::iter([1, 0]).map(|n| {
            assert!(n > 0, "a secret");
            n
        })
    }
}

type Tiny = Schema<Query, Mutation, Updates>;

fn tiny() -> Tiny {
    Schema::new(Query(Basics, crate::timed::Timed::new(Slow)), Mutation, Updates)
}

/// A transport with its clock and its way to stop.
struct Bench {
    transport: Transport<Tiny>,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(
            DateTime::<Utc>::from_timestamp(1_700_000_000, 0).unwrap(),
        ));
        let injected: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let transport = Transport {
            engine: Engine::new(tiny(), Limits::default()),
            ids: Ids::seeded(Arc::clone(&injected), 1),
            gate: Gate {
                tokens: Tokens::from_keys(vec![SigningKey::generate(injected.now()).unwrap()]).unwrap(),
                standing: Standing::default(),
                clock: injected,
                renewal: None,
            },
            timing: Timing {
                goodbye: Duration::from_millis(500),
                ..Timing::default()
            },
            edge: Edge::new(&Protection::default(), &[], None),
            stop: CancellationToken::new(),
            sockets: TaskTracker::new(),
        };
        Self { transport, clock }
    }

    fn user() -> UserId {
        "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
    }

    fn token(&self) -> String {
        let grant = Grant {
            user_id: Self::user(),
            roles: &[Role::Customer],
            session: "ses_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            version: 1,
        };
        let (token, _) = self.transport.gate.tokens.issue(grant, self.clock.now()).unwrap();
        token
    }

    /// To so long before tokens issued until now expire.
    fn forward_to_expiry(&self, left: Duration) {
        self.clock.set(self.clock.now() + LIFETIME - left);
    }

    fn router(self) -> Router {
        around(endpoint(self.transport), Vec::new(), false)
    }
}
