//! Threads for work that nobody waits for at the counter.
//!
//! Workers and the endpoint of one process share its processors. When there is more to do than those can, customers who order are
//! to be answered first; what becomes of their orders may take a moment longer, and is cheaper for it, as more is done at once.

use std::io;

use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle, Runtime};

/// How far they step back: to about a third of the time of a thread that does not, where both want all of it.
const NICE: i32 = 5;

/// A Tokio runtime whose threads yield to those of the rest of the process.
pub(crate) struct Background {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Background {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the machine gives none.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("kontor-work")
            // Of a thread on Linux, of the whole process elsewhere; and where it is refused, nothing is lost but the order.
            .on_thread_start(|| {
                let _ = setpriority_process(None, NICE);
            })
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// To spawn there.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // From within another runtime, which must not be blocked.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
