//! How long the head of a request may take.
//!
//! hyper starts its limit as soon as the answer before has gone, and so would close every connection that is kept for the next
//! request: proxies keep theirs for minutes. Here the time begins with the first byte of the head, and for the first head of a
//! connection when that is opened.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// hyper's timer of one connection, which it has for nothing but heads.
pub(super) struct HeadTimer {
    limit: Duration,
    /// How often something was read from the connection.
    pub(super) heard: Arc<AtomicUsize>,
}

impl HeadTimer {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            heard: Arc::default(),
        }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, limit: Duration) -> Pin<Box<dyn Sleep>> {
        let heard = self.heard.load(Ordering::Relaxed);
        Box::pin(Patience {
            limit,
            heard: Arc::clone(&self.heard),
            idle_since: (heard > 0).then_some(heard),
            running: None,
        })
    }

    fn sleep_until(&self, _deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(self.limit)
    }
}

/// For one head.
struct Patience {
    limit: Duration,
    heard: Arc<AtomicUsize>,
    /// While no more than this was read, nobody has begun.
    idle_since: Option<usize>,
    /// Made when it is needed: most heads are read at once.
    running: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Sleep for Patience {}

impl Future for Patience {
    type Output = ();

    /// hyper asks whenever it has read something and the head is not complete.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.running.is_none() && self.idle_since == Some(self.heard.load(Ordering::Relaxed)) {
            return Poll::Pending;
        }
        let limit = self.limit;
        let running = self
            .running
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        running.as_mut().poll(context)
    }
}
