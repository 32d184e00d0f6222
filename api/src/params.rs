//! The parameters of a GraphQL request: the same four in a body, in a URL and in a socket's `subscribe`.

use std::borrow::Cow;
use std::collections::HashMap;

use async_graphql::{ServerError, Value, Variables};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::documents::Operation;
use crate::reply::{self, Code};

/// The extension that names a document by its hash instead of holding it.
const NAMED: &str = "persistedQuery";

/// A request, borrowing its document from where it was read.
#[derive(Debug)]
pub struct Params<'a> {
    /// The document, unless the extensions name it.
    pub query: Option<Cow<'a, str>>,
    /// The rest.
    pub operation: Operation,
}

#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow, default)]
    query: Option<Cow<'a, str>>,
    #[serde(default, rename = "operationName")]
    operation_name: Option<String>,
    #[serde(default)]
    variables: Variables,
    #[serde(default)]
    extensions: Option<HashMap<String, Value>>,
}

#[derive(Deserialize)]
struct Url {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<String>,
    extensions: Option<String>,
}

impl<'a> Params<'a> {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// When it is malformed, not an object, or lacks the document.
    pub fn from_json(body: &'a [u8]) -> Result<Self, ServerError> {
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return Err(bad("batches are not supported: send one operation per request"));
        }
        let json: Json<'a> = serde_json::from_slice(body).map_err(|error| {
            if error.is_data() {
                bad(format!("the body is not a GraphQL request: {error}"))
            } else {
                bad(format!("the body is not JSON: {error}"))
            }
        })?;
        let params = Self {
            query: json.query,
            operation: Operation {
                name: json.operation_name,
                variables: json.variables,
                extensions: json.extensions.unwrap_or_default(),
            },
        };
        params.with_a_document()
    }

    /// Refuses what neither is nor names a document.
    fn with_a_document(self) -> Result<Self, ServerError> {
        if self.query.is_none() && !self.operation.extensions.contains_key(NAMED) {
            return Err(bad("the parameter `query` is missing"));
        }
        Ok(self)
    }
}

impl Params<'static> {
    /// Reads a URL's query string, in which `variables` and `extensions` are JSON.
    ///
    /// # Errors
    /// When a parameter is there twice or malformed, or the document is missing and not named either.
    pub fn from_uri(uri: &axum::http::Uri) -> Result<Self, ServerError> {
        let axum::extract::Query(url) = axum::extract::Query::<Url>::try_from_uri(uri)
            .map_err(|error| bad(format!("the URL's parameters are not a GraphQL request: {error}")))?;
        let params = Self {
            query: url.query.map(Cow::Owned),
            operation: Operation {
                name: url.operation_name.filter(|name| !name.is_empty()),
                variables: json("variables", url.variables.as_deref())?,
                extensions: json::<Option<_>>("extensions", url.extensions.as_deref())?.unwrap_or_default(),
            },
        };
        params.with_a_document()
    }
}

fn json<T: Default + DeserializeOwned>(name: &str, text: Option<&str>) -> Result<T, ServerError> {
    match text {
        None | Some("") => Ok(T::default()),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| bad(format!("the parameter `{name}` is not a JSON object: {error}"))),
    }
}

fn bad(message: impl Into<String>) -> ServerError {
    reply::error(Code::BadRequest, message)
}
