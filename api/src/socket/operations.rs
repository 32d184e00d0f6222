//! The operations of one socket, polled by the socket's own task: a task per subscription would cost more memory than
//! the subscription.

use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use async_graphql::Response;
use async_graphql::parser::types::OperationType;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::OwnedSemaphorePermit;
use tracing::error;

use crate::documents::Cost;
use crate::http::panic_message;
use crate::metrics::Subscriber;
use crate::reply::{self, Outcome};
use crate::transport;

/// One operation.
pub(super) struct Running {
    pub(super) id: Box<str>,
    kind: Option<OperationType>,
    request: Box<str>,
    responses: BoxStream<'static, Response>,
    outcome: Outcome,
    cost: Option<Cost>,
    /// Among the requests under way; a subscription has none.
    place: Option<OwnedSemaphorePermit>,
    _counted: Option<Subscriber>,
}

impl Running {
    pub(super) fn new(
        id: &str,
        kind: Option<OperationType>,
        request: &str,
        responses: BoxStream<'static, Response>,
    ) -> Self {
        Self {
            id: id.into(),
            kind,
            request: request.into(),
            responses,
            outcome: Outcome::Answered,
            cost: None,
            place: None,
            _counted: (kind == Some(OperationType::Subscription)).then(Subscriber::new),
        }
    }

    /// A query or a mutation, which holds a place while it is executed and is told what it cost.
    pub(super) fn holds(&mut self, place: OwnedSemaphorePermit, cost: Option<Cost>) {
        (self.place, self.cost) = (Some(place), cost);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Said>> {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| self.responses.poll_next_unpin(context)));
        let mut response = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(None)) => return Poll::Ready(None),
            Ok(Poll::Ready(Some(response))) => response,
            Err(panic) => {
                let panic = panic_message(panic.as_ref());
                error!(request.id = &*self.request, panic, "a resolver panicked");
                self.responses = futures::stream::empty().boxed();
                Response::from_errors(vec![reply::internal(&self.request)])
            }
        };
        let outcome = transport::settle(&mut response);
        if outcome != Outcome::Answered {
            self.outcome = outcome;
        }
        Poll::Ready(Some(Said {
            response,
            outcome,
            cost: self.cost,
            request: transport::tells_request(self.kind, outcome).then(|| self.request.clone()),
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        transport::count(self.kind, self.outcome);
    }
}

/// A response, and what came of the operation by it.
pub(super) struct Said {
    pub(super) response: Response,
    pub(super) outcome: Outcome,
    pub(super) cost: Option<Cost>,
    /// The name of the request, if it is to be told.
    pub(super) request: Option<Box<str>>,
}

/// All operations of a socket.
#[derive(Default)]
pub(super) struct Operations {
    running: Vec<Running>,
    /// Who is asked first, so that a busy stream does not silence those behind it.
    turn: usize,
}

impl Operations {
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.running.iter().any(|running| &*running.id == id)
    }

    pub(super) fn insert(&mut self, running: Running) {
        // Most sockets have one.
        self.running.reserve_exact(1);
        self.running.push(running);
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.running.retain(|running| &*running.id != id);
    }

    pub(super) fn clear(&mut self) {
        self.running.clear();
    }

    /// The next response of any of them, by its id; `None` when that one has ended. Waits for ever without any.
    pub(super) async fn next(&mut self) -> (Box<str>, Option<Said>) {
        std::future::poll_fn(|context| {
            let count = self.running.len();
            for step in 0..count {
                let at = (self.turn + step) % count;
                if let Poll::Ready(response) = self.running[at].poll(context) {
                    self.turn = at + 1;
                    return Poll::Ready((self.running[at].id.clone(), response));
                }
            }
            Poll::Pending
        })
        .await
    }
}
