//! Top-level errors: the few that are not part of a mutation's payload. Each carries a `code`, which the HTTP side turns
//! into a status.

use std::fmt::Display;

use async_graphql::{Context, Error, ErrorExtensions};
use kontor_eventstore::NotYet;

use crate::app::RequestInfo;

/// Nobody is logged in, and the field needs somebody.
pub(crate) const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
/// The viewer may not do this.
pub(crate) const FORBIDDEN: &str = "FORBIDDEN";
/// An argument could not be read: a scalar, a cursor, an id, a page size.
pub(crate) const BAD_USER_INPUT: &str = "BAD_USER_INPUT";
/// A view did not reach the position asked for in time.
pub(crate) const CONSISTENCY_TIMEOUT: &str = "CONSISTENCY_TIMEOUT";
/// Sessions cannot be read at the moment; to be tried again.
pub(crate) const SESSIONS_UNAVAILABLE: &str = "SESSIONS_UNAVAILABLE";
/// Something of ours is broken or away.
pub(crate) const INTERNAL: &str = "INTERNAL";

fn coded(code: &'static str, message: impl Into<String>) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code))
}

/// Nobody is logged in.
pub(crate) fn unauthenticated() -> Error {
    coded(UNAUTHENTICATED, "log in first: this needs a bearer token")
}

/// The viewer lacks the permission.
pub(crate) fn forbidden(permission: &'static str) -> Error {
    coded(FORBIDDEN, "your account may not do this")
        .extend_with(|_, extensions| extensions.set("permission", permission))
}

/// An argument cannot be read.
pub(crate) fn bad_user_input(message: impl Into<String>) -> Error {
    coded(BAD_USER_INPUT, message)
}

/// Text that is looked for as it was typed. Postgres takes no U+0000, and so has none.
///
/// # Errors
/// `BAD_USER_INPUT` if there is one in it.
pub(crate) fn sought<'a>(texts: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Result<(), Error> {
    let bad = texts
        .into_iter()
        .find(|(_, text)| text.is_some_and(|text| text.contains('\0')));
    match bad {
        Some((path, _)) => Err(bad_user_input(format!("{path}: must not contain U+0000"))),
        None => Ok(()),
    }
}

/// Sessions cannot be read. `retryAfter` is in seconds.
pub(crate) fn sessions_unavailable() -> Error {
    coded(
        SESSIONS_UNAVAILABLE,
        "sessions cannot be read at the moment; try again",
    )
    .extend_with(|_, extensions| {
        extensions.set("retryable", true);
        extensions.set("retryAfter", 1);
    })
}

/// What a subscription was asked to follow is not there, or not for this viewer: the two look alike.
pub(crate) fn not_found(what: &str) -> Error {
    coded(FORBIDDEN, format!("there is no such {what} that you may see"))
}

/// The view is behind.
pub(crate) fn consistency_timeout(not_yet: &NotYet) -> Error {
    coded(
        CONSISTENCY_TIMEOUT,
        "the view has not reached this position yet; ask again",
    )
    .extend_with(|_, extensions| {
        extensions.set("consumer", not_yet.consumer.as_str());
        extensions.set("wanted", not_yet.wanted.to_string());
        extensions.set("reached", not_yet.reached.to_string());
    })
}

/// Whose fault it was, kept apart from the request's context: a stream outlives that.
#[derive(Debug, Clone)]
pub(crate) struct Incident {
    trace_id: String,
}

impl Incident {
    /// The request that is being answered.
    pub(crate) fn of(ctx: &Context<'_>) -> Self {
        let info = ctx.data_opt::<RequestInfo>();
        let traced = info.and_then(|info| trace_id(info.traceparent.as_deref()?));
        let trace_id = traced
            .or_else(|| info.map(|info| info.request_id.as_str()))
            .unwrap_or_default();
        Self {
            trace_id: trace_id.to_owned(),
        }
    }

    /// Logs the cause, here and only here, and answers with nothing but an id to ask about.
    pub(crate) fn internal(&self, cause: impl Display) -> Error {
        tracing::error!(trace.id = self.trace_id, error = %cause, "a request failed");
        let trace_id = self.trace_id.as_str();
        coded(INTERNAL, "internal error").extend_with(|_, extensions| extensions.set("traceId", trace_id))
    }
}

/// [`Incident::internal`] of the request that is being answered.
pub(crate) fn internal(ctx: &Context<'_>, cause: impl Display) -> Error {
    Incident::of(ctx).internal(cause)
}

/// The trace id in a W3C `traceparent` header.
fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1).filter(|id| id.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_id_is_the_second_part() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id(header), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(trace_id("00-short-00f067aa0ba902b7-01"), None);
        assert_eq!(trace_id(""), None);
    }
}
