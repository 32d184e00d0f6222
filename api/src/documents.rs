//! Documents, parsed once: half of what a query from memory costs is parsing it (DESIGN section 4).

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{DocumentOperations, ExecutableDocument, OperationType};
use async_graphql::{Executor, Request, Response, ServerError, Value, Variables};
use futures::stream::BoxStream;
use moka::sync::Cache;

use crate::RequestInfo;
use crate::auth::Viewer;
use crate::guard::{self, Limits, Refusal};
use crate::reply::{self, Code};

/// Bytes that parsed documents may take up, roughly; the least used go first.
const CACHED_BYTES: u64 = 8 * 1024 * 1024;
/// A parsed document takes up about this many times its text.
const BYTES_PER_BYTE: usize = 24;

/// A document that has passed the guard.
#[derive(Debug)]
pub struct Prepared {
    document: ExecutableDocument,
}

impl Prepared {
    /// What kind of operation `name` is; `None` when there is no one such operation, which execution will say.
    #[must_use]
    pub fn kind(&self, name: Option<&str>) -> Option<OperationType> {
        match (&self.document.operations, name) {
            (DocumentOperations::Single(operation), None) => Some(operation.node.ty),
            (DocumentOperations::Multiple(operations), Some(name)) => {
                operations.get(name).map(|operation| operation.node.ty)
            }
            (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => {
                operations.values().next().map(|operation| operation.node.ty)
            }
            (DocumentOperations::Single(_), Some(_)) | (DocumentOperations::Multiple(_), None) => None,
        }
    }
}

/// One operation to execute, whichever way it came.
#[derive(Debug, Clone, Default)]
pub struct Operation {
    /// Which operation of the document.
    pub name: Option<String>,
    /// Its variables.
    pub variables: Variables,
    /// What clients add for servers that know of it.
    pub extensions: HashMap<String, Value>,
}

/// The schema, behind a cache of documents and the guard.
#[derive(Clone)]
pub struct Engine<E> {
    schema: E,
    documents: Cache<Arc<str>, Arc<Prepared>>,
    limits: Arc<Limits>,
}

impl<E> std::fmt::Debug for Engine<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<E: Executor> Engine<E> {
    /// In front of `schema`.
    #[must_use]
    pub fn new(schema: E, limits: Limits) -> Self {
        Self {
            schema,
            documents: Cache::builder()
                .weigher(|text: &Arc<str>, _: &Arc<Prepared>| {
                    u32::try_from(text.len().saturating_mul(BYTES_PER_BYTE)).unwrap_or(u32::MAX)
                })
                .max_capacity(CACHED_BYTES)
                .build(),
            limits: Arc::new(limits),
        }
    }

    /// The bounds it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The document behind `text`. Only good ones are kept: bad ones come in endless variety.
    ///
    /// # Errors
    /// As GraphQL says it: too large, or not a document.
    pub fn prepare(&self, text: &str) -> Result<Arc<Prepared>, ServerError> {
        if let Some(prepared) = self.documents.get(text) {
            return Ok(prepared);
        }
        guard::before_parsing(text, &self.limits).map_err(|refusal| refused(&refusal))?;
        let document =
            parse_query(text).map_err(|error| reply::with_code(error.into(), Code::ParseFailed))?;
        guard::before_validation(&document, &self.limits).map_err(|refusal| refused(&refusal))?;
        let prepared = Arc::new(Prepared { document });
        self.documents.insert(text.into(), Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Executes a query or a mutation.
    pub async fn execute(&self, request: Request) -> Response {
        self.schema.execute(request).await
    }

    /// Executes any operation; a query or mutation gives one response.
    #[must_use]
    pub fn stream(&self, request: Request) -> BoxStream<'static, Response> {
        self.schema.execute_stream(request, None)
    }
}

/// What async-graphql executes.
#[must_use]
pub fn request(
    prepared: &Prepared,
    operation: Operation,
    viewer: Option<Viewer>,
    info: RequestInfo,
) -> Request {
    // The text itself is not needed any more.
    let mut request = Request::new(String::new())
        .variables(operation.variables)
        .data(viewer)
        .data(info);
    request.operation_name = operation.name;
    request.extensions.0 = operation.extensions;
    request.set_parsed_query(prepared.document.clone());
    request
}

fn refused(refusal: &Refusal) -> ServerError {
    let code = match refusal {
        Refusal::Limit { .. } => Code::LimitExceeded,
        Refusal::Cycle { .. } => Code::ValidationFailed,
        Refusal::OpenBlockString => Code::ParseFailed,
    };
    reply::error(code, refusal.to_string())
}
