//! How long a group of resolvers may take. What is in one room of the schema (products, orders, …) shares a limit, and a room
//! that does not answer leaves the rest of the request alone.

use std::borrow::Cow;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{
    ContainerType, Context, ContextSelectionSet, ObjectType, OutputType, Positioned, ServerError,
    ServerResult, Value,
};
use futures::poll;

use crate::reply::{self, Code};

/// Root fields, each of which may take so many milliseconds.
#[derive(Debug, Default)]
pub struct Timed<T, const MILLISECONDS: u64>(T);

impl<T, const MILLISECONDS: u64> Timed<T, MILLISECONDS> {
    /// These, in time.
    pub const fn new(fields: T) -> Self {
        Self(fields)
    }
}

/// What took too long; a change that was begun may still be done.
#[must_use]
pub fn too_late(limit: Duration) -> ServerError {
    let message = format!(
        "this took longer than {} ms; a change may still be done: send it again with the same idempotencyKey",
        limit.as_millis()
    );
    reply::error(Code::TimedOut, message)
}

impl<T: ContainerType, const MILLISECONDS: u64> ContainerType for Timed<T, MILLISECONDS> {
    fn is_empty() -> bool {
        T::is_empty()
    }

    async fn resolve_field(&self, ctx: &Context<'_>) -> ServerResult<Option<Value>> {
        let mut answer = pin!(self.0.resolve_field(ctx));
        // Most are answered at once: another room's field, or one out of memory.
        if let Poll::Ready(answer) = poll!(answer.as_mut()) {
            return answer;
        }
        let limit = Duration::from_millis(MILLISECONDS);
        tokio::time::timeout(limit, answer)
            .await
            .unwrap_or_else(|_| Err(ctx.set_error_path(too_late(limit))))
    }

    async fn find_entity(&self, ctx: &Context<'_>, params: &Value) -> ServerResult<Option<Value>> {
        self.0.find_entity(ctx, params).await
    }
}

impl<T: OutputType + ContainerType, const MILLISECONDS: u64> OutputType for Timed<T, MILLISECONDS> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        self.0.resolve(ctx, field).await
    }
}

impl<T: ObjectType, const MILLISECONDS: u64> ObjectType for Timed<T, MILLISECONDS> {}
