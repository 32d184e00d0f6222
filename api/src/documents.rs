//! Documents, parsed once: half of what a query from memory costs is parsing it (DESIGN section 4).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection,
};
use async_graphql::{Executor, Name, Request, Response, ServerError, Value, Variables};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::Serialize;

use crate::RequestInfo;
use crate::auth::Viewer;
use crate::guard::cost::{self, Costs};
use crate::guard::inputs::Inputs;
use crate::guard::{self, Limits, Refusal};
use crate::multiplex::{Asked, Execution, Multiplexer, Place};
use crate::persisted::Documents;
use crate::reply::{self, Code};
use crate::timed;

/// Bytes that parsed documents may take up, roughly; the least used go first.
const CACHED_BYTES: u64 = 8 * 1024 * 1024;
/// How many that is, about.
const CACHED: usize = 1_024;
/// A parsed document takes up about this many times its text.
const BYTES_PER_BYTE: u64 = 24;

/// A document weighs what it takes up, parsed.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Arc<str>, Arc<Prepared>> for Bytes {
    fn weight(&self, text: &Arc<str>, _: &Arc<Prepared>) -> u64 {
        text.len() as u64 * BYTES_PER_BYTE
    }
}

/// A document that has passed the guard.
#[derive(Debug)]
pub struct Prepared {
    document: ExecutableDocument,
    /// What it costs, if it has one operation and that costs the same each time.
    cost: Option<u64>,
    /// Whether it was found valid with variables that were right.
    valid: AtomicBool,
}

/// What an operation costs, and what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Fields it may be answered with.
    pub requested: u64,
    /// How many it may at most.
    pub limit: u64,
}

impl Cost {
    /// As `extensions.cost` says it.
    #[must_use]
    pub fn told(self) -> Value {
        let fields = [("requested", self.requested), ("limit", self.limit)];
        Value::Object(
            fields
                .map(|(name, units)| (Name::new(name), units.into()))
                .into_iter()
                .collect(),
        )
    }
}

impl Prepared {
    fn operation(&self, name: Option<&str>) -> Option<&OperationDefinition> {
        match (&self.document.operations, name) {
            (DocumentOperations::Single(operation), None) => Some(&operation.node),
            (DocumentOperations::Multiple(operations), Some(name)) => {
                operations.get(name).map(|operation| &operation.node)
            }
            (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => {
                operations.values().next().map(|operation| &operation.node)
            }
            (DocumentOperations::Single(_), Some(_)) | (DocumentOperations::Multiple(_), None) => None,
        }
    }

    /// What kind of operation `name` is; `None` when there is no one such operation, which execution will say.
    #[must_use]
    pub fn kind(&self, name: Option<&str>) -> Option<OperationType> {
        self.operation(name).map(|operation| operation.ty)
    }

    /// Whether it has one operation: of others the values would not be looked at.
    fn is_single(&self) -> bool {
        self.document.operations.iter().count() == 1
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

/// An operation, and who asks for it.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The document it is in.
    pub prepared: Arc<Prepared>,
    /// Which operation, and its variables.
    pub operation: Operation,
    /// Who asks, if they are known.
    pub viewer: Option<Viewer>,
    /// The request it came with.
    pub info: RequestInfo,
}

impl Asking {
    /// What kind of operation it is; `None` when there is no one such operation, which execution will say.
    #[must_use]
    pub fn kind(&self) -> Option<OperationType> {
        self.prepared.kind(self.operation.name.as_deref())
    }

    /// What async-graphql executes.
    fn request(self) -> Request {
        let Self {
            prepared,
            operation,
            viewer,
            info,
        } = self;
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

    /// The same for all who ask it: it outlives whoever set it going, and says nothing of where they were.
    fn in_common(self) -> Self {
        let info = RequestInfo {
            request_id: self.info.request_id,
            traceparent: None,
            address: None,
            user_agent: None,
            session: None,
            sets_cookies: false,
        };
        Self { info, ..self }
    }

    /// What the answers depend on, if each is about one thing that happened: more than one field, or a fragment, may mix
    /// what happens here and there.
    fn asked(&self) -> Option<Asked> {
        let operation = self.prepared.operation(self.operation.name.as_deref())?;
        let [field] = operation.selection_set.node.items.as_slice() else {
            return None;
        };
        if !matches!(field.node, Selection::Field(_)) {
            return None;
        }
        Some(Asked {
            document: Arc::clone(&self.prepared),
            operation: self.operation.name.clone(),
            variables: serde_json::to_string(&self.operation.variables).ok()?,
            viewer: self.viewer.clone(),
        })
    }
}

/// The schema, behind a cache of documents and the guard.
#[derive(Clone)]
pub struct Engine<E> {
    schema: E,
    documents: Arc<Cache<Arc<str>, Arc<Prepared>, Bytes>>,
    limits: Arc<Limits>,
    costs: Option<Arc<Costs>>,
    /// Where documents come from that are only named.
    source: Documents,
    introspection: bool,
    subscriptions: Multiplexer,
    known: Option<Known<E>>,
}

/// For documents that were found valid before.
#[derive(Clone)]
struct Known<E> {
    /// The same schema, which does not look again.
    schema: E,
    /// What variables are right.
    inputs: Arc<Inputs>,
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
            documents: Arc::new(Cache::with_weighter(CACHED, CACHED_BYTES, Bytes)),
            limits: Arc::new(limits),
            costs: None,
            source: Documents::default(),
            introspection: true,
            subscriptions: Multiplexer::default(),
            known: None,
        }
    }

    /// Validates a document once, and from then on only its variables: a quarter of what a small answer costs is validation.
    /// `schema` is the same again in [`async_graphql::ValidationMode::Fast`], and `inputs` are its own.
    #[must_use]
    pub fn validating_once(mut self, schema: E, inputs: Inputs) -> Self {
        let inputs = Arc::new(inputs);
        self.known = Some(Known { schema, inputs });
        self
    }

    /// Bounds what an operation may cost by this schema.
    #[must_use]
    pub fn costing(mut self, costs: Costs) -> Self {
        self.costs = Some(Arc::new(costs));
        self
    }

    /// Executes only documents of this source.
    #[must_use]
    pub fn from_source(mut self, source: Documents) -> Self {
        self.source = source;
        self
    }

    /// Says nothing of the schema, and does not help with its names.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.introspection = false;
        self
    }

    /// The bounds it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The document that a request sends or names.
    ///
    /// # Errors
    /// As GraphQL says it: too large, not a document, not known, or not one that may be executed.
    pub fn find(
        &self,
        query: Option<Cow<'_, str>>,
        extensions: &HashMap<String, Value>,
    ) -> Result<Arc<Prepared>, ServerError> {
        let found = self.source.find(query, extensions)?;
        let prepared = self.prepare(&found.text)?;
        self.source.keep(&found);
        Ok(prepared)
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
        if !self.introspection && guard::asks_for_the_schema(&document) {
            let message = "this shop does not describe its schema";
            return Err(reply::error(Code::ValidationFailed, message));
        }
        let cost = self.fixed_cost(&document);
        let valid = AtomicBool::new(false);
        let prepared = Arc::new(Prepared {
            document,
            cost,
            valid,
        });
        self.documents.insert(text.into(), Arc::clone(&prepared));
        Ok(prepared)
    }

    fn fixed_cost(&self, document: &ExecutableDocument) -> Option<u64> {
        let costs = self.costs.as_ref()?;
        let mut operations = document.operations.iter();
        let (Some((_, operation)), None) = (operations.next(), operations.next()) else {
            return None;
        };
        cost::is_fixed(document).then(|| costs.cost(document, &operation.node, &Variables::default()))
    }

    /// What an operation of a document costs; `None` if nobody knows, or there is no such operation.
    ///
    /// # Errors
    /// When it costs more than it may.
    pub fn cost(&self, prepared: &Prepared, operation: &Operation) -> Result<Option<Cost>, ServerError> {
        let Some((costs, definition)) = self
            .costs
            .as_ref()
            .zip(prepared.operation(operation.name.as_deref()))
        else {
            return Ok(None);
        };
        let requested = prepared
            .cost
            .unwrap_or_else(|| costs.cost(&prepared.document, definition, &operation.variables));
        let cost = Cost {
            requested,
            limit: self.limits.complexity,
        };
        if requested <= cost.limit {
            return Ok(Some(cost));
        }
        let message = format!(
            "the operation may be answered with {requested} fields, at most {} allowed: ask for smaller pages",
            cost.limit
        );
        let mut error = reply::error(Code::LimitExceeded, message);
        if let Some(extensions) = &mut error.extensions {
            extensions.set("cost", cost.told());
        }
        Err(error)
    }

    /// Executes a query or a mutation, for so long and no longer.
    pub async fn execute(&self, asking: Asking, limit: Duration) -> Response {
        let known = self.known.as_ref().filter(|known| known.takes(&asking));
        let prepared = Arc::clone(&asking.prepared);
        let valid = prepared.valid.load(Ordering::Relaxed);
        let schema = known
            .filter(|_| valid)
            .map_or(&self.schema, |known| &known.schema);
        // On the heap: the futures of resolvers are large, and this one is held by many.
        let answer = Box::pin(schema.execute(asking.request()));
        let mut response = tokio::time::timeout(limit, answer)
            .await
            .unwrap_or_else(|_| Response::from_errors(vec![timed::too_late(limit)]));
        if known.is_some() && !valid && response.errors.is_empty() {
            prepared.valid.store(true, Ordering::Relaxed);
        }
        self.hush(&mut response);
        response
    }

    /// Executes any operation. A subscription goes on for as long as it likes; a query or mutation gives one response.
    #[must_use]
    pub fn stream(&self, asking: Asking, limit: Duration) -> BoxStream<'static, Response> {
        if asking.kind() == Some(OperationType::Subscription) {
            return self.subscribe(asking);
        }
        let engine = self.clone();
        stream::once(async move { engine.execute(asking, limit).await }).boxed()
    }

    fn subscribe(&self, asking: Asking) -> BoxStream<'static, Response> {
        let Some(asked) = asking.asked() else {
            return self.execution(asking).responses;
        };
        let own = self.execution(asking.clone());
        self.subscriptions
            .follow(asked, own, || self.execution(asking.in_common()))
    }

    /// Begins to execute a subscription.
    fn execution(&self, asking: Asking) -> Execution {
        let place = Place::default();
        let request = asking.request().data(place.clone());
        let mut responses = self.schema.execute_stream(request, None);
        if !self.introspection {
            let engine = self.clone();
            let hushed = responses.map(move |mut response| {
                engine.hush(&mut response);
                response
            });
            responses = hushed.boxed();
        }
        Execution { responses, place }
    }

    /// Takes what would help to guess names out of errors. async-graphql leaves some even when it is told not to.
    fn hush(&self, response: &mut Response) {
        if self.introspection {
            return;
        }
        for error in &mut response.errors {
            if let Some(at) = error.message.find(" Did you mean") {
                error.message.truncate(at);
            }
        }
    }
}

impl<E> Known<E> {
    /// Whether what is said of the document with these variables would be said with any that are right.
    fn takes(&self, asking: &Asking) -> bool {
        let Asking {
            prepared, operation, ..
        } = asking;
        prepared.is_single()
            && prepared
                .operation(operation.name.as_deref())
                .is_some_and(|definition| self.inputs.are_right(definition, &operation.variables))
    }
}

fn refused(refusal: &Refusal) -> ServerError {
    let code = match refusal {
        Refusal::Limit { .. } => Code::LimitExceeded,
        Refusal::Cycle { .. } => Code::ValidationFailed,
        Refusal::OpenBlockString => Code::ParseFailed,
    };
    reply::error(code, refusal.to_string())
}

#[cfg(test)]
mod tests;
