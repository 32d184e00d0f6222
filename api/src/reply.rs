//! What goes back: GraphQL responses and errors as JSON.

use std::collections::BTreeMap;

use async_graphql::{ErrorExtensionValues, Response, ServerError, Value};
use serde::Serialize;

use crate::documents::Cost;

/// Why a request was not executed, as `extensions.code` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request is not one: malformed JSON, a wrong parameter, a batch.
    BadRequest,
    /// The document is not GraphQL.
    ParseFailed,
    /// The document does not fit the schema.
    ValidationFailed,
    /// The document or the request is larger than allowed.
    LimitExceeded,
    /// The access token is not valid, or not any more.
    Unauthenticated,
    /// Sessions cannot be read at the moment.
    SessionsUnavailable,
    /// A page of another origin asks in the name of whoever looks at it.
    Forbidden,
    /// Too much was asked for, for now.
    RateLimited,
    /// Too many are asking, for now.
    Overloaded,
    /// It took too long.
    TimedOut,
    /// Only the hash of a document was sent, and no such document is known: send both.
    PersistedQueryNotFound,
    /// Only documents of a list are executed, and this is none of them.
    UntrustedDocument,
    /// Something broke here.
    Internal,
}

impl Code {
    /// As clients see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BAD_REQUEST",
            Self::ParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::ValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::LimitExceeded => "GRAPHQL_LIMIT_EXCEEDED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::SessionsUnavailable => "SESSIONS_UNAVAILABLE",
            Self::Forbidden => "FORBIDDEN",
            Self::RateLimited => "RATE_LIMITED",
            Self::Overloaded => "OVERLOADED",
            Self::TimedOut => "TIMED_OUT",
            Self::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::UntrustedDocument => "UNTRUSTED_DOCUMENT",
            Self::Internal => "INTERNAL",
        }
    }
}

/// An error with a code, about no place in particular.
#[must_use]
pub fn error(code: Code, message: impl Into<String>) -> ServerError {
    with_code(ServerError::new(message, None), code)
}

/// The same error, with a code.
#[must_use]
pub fn with_code(mut error: ServerError, code: Code) -> ServerError {
    error
        .extensions
        .get_or_insert_with(ErrorExtensionValues::default)
        .set("code", code.as_str());
    error
}

/// An error that may be gone after so many seconds.
#[must_use]
pub fn retryable(code: Code, message: impl Into<String>, retry_after: u32) -> ServerError {
    let mut error = error(code, message);
    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
    extensions.set("retryable", true);
    extensions.set("retryAfter", retry_after);
    error
}

/// The same error, with the name of the request that it answers.
#[must_use]
pub fn of_request(mut error: ServerError, request: &str) -> ServerError {
    error
        .extensions
        .get_or_insert_with(ErrorExtensionValues::default)
        .set("requestId", request);
    error
}

/// The code of an error, if it has one.
#[must_use]
pub fn code(error: &ServerError) -> Option<&str> {
    match error.extensions.as_ref()?.get("code")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}

/// An error that says when to come back, in seconds.
#[must_use]
pub fn later(code: Code, message: impl Into<String>, retry_after: u64) -> ServerError {
    let mut error = error(code, message);
    error
        .extensions
        .get_or_insert_with(ErrorExtensionValues::default)
        .set("retryAfter", retry_after);
    error
}

/// An error that says nothing but where to look.
#[must_use]
pub fn internal(trace_id: &str) -> ServerError {
    let mut error = error(Code::Internal, "internal error");
    error
        .extensions
        .get_or_insert_with(ErrorExtensionValues::default)
        .set("traceId", trace_id);
    error
}

/// How an operation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Without errors.
    Answered,
    /// It was executed, and errors were raised on the way.
    Failed,
    /// It was not executed: a *request error* of the GraphQL specification, section 7.1.2.
    Refused,
}

/// How an operation went. async-graphql gives `data: null` for both; only an error raised while executing has a path.
#[must_use]
pub fn outcome(response: &Response) -> Outcome {
    if response.errors.is_empty() {
        Outcome::Answered
    } else if response.data == Value::Null && response.errors.iter().all(|error| error.path.is_empty()) {
        Outcome::Refused
    } else {
        Outcome::Failed
    }
}

/// Of one refusal. A document of wrong names would be answered at fifteen times its length.
const MOST_ERRORS: usize = 50;

/// Gives async-graphql's own request errors their code.
pub fn name_the_refusal(response: &mut Response) {
    response.errors.truncate(MOST_ERRORS);
    for error in &mut response.errors {
        if error
            .extensions
            .as_ref()
            .is_none_or(|known| known.get("code").is_none())
        {
            *error = with_code(
                std::mem::replace(error, ServerError::new(String::new(), None)),
                Code::ValidationFailed,
            );
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    /// Absent, not null, when nothing was executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ServerError],
    #[serde(skip_serializing_if = "Beside::is_empty")]
    extensions: Beside<'a>,
}

/// What is said beside the answer.
#[derive(Serialize)]
struct Beside<'a> {
    #[serde(flatten)]
    said: &'a BTreeMap<String, Value>,
    /// Every answer says it, so it is not made into a value first.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Cost>,
    /// The name of the request, where no header says it.
    #[serde(rename = "requestId", skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
}

impl Beside<'_> {
    fn is_empty(&self) -> bool {
        self.said.is_empty() && self.cost.is_none() && self.request.is_none()
    }
}

/// Appends a response as JSON, with what it cost and the name of the request if those are to be told.
pub fn write(
    into: &mut Vec<u8>,
    response: &Response,
    outcome: Outcome,
    cost: Option<Cost>,
    request: Option<&str>,
) {
    let body = Body {
        data: (outcome != Outcome::Refused).then_some(&response.data),
        errors: &response.errors,
        extensions: Beside {
            said: &response.extensions,
            cost,
            request,
        },
    };
    // Values of GraphQL are always JSON, and a vector takes everything.
    let _ = serde_json::to_writer(into, &body);
}

/// `{"errors":[…]}`.
#[must_use]
pub fn errors(errors: &[ServerError]) -> Vec<u8> {
    let body = Body {
        data: None,
        errors,
        extensions: Beside {
            said: &BTreeMap::new(),
            cost: None,
            request: None,
        },
    };
    serde_json::to_vec(&body).unwrap_or_default()
}
