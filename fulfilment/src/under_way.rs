//! Tasks that are under way, what each is about, and what they come to.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::error;

/// What ends within this is handed over together.
const TOGETHER: Duration = Duration::from_millis(2);

/// Tasks under way. Dropped, they end where they are.
pub(crate) struct UnderWay<K, T> {
    tasks: JoinSet<T>,
    about: HashMap<Id, K>,
    /// What has ended and is not handed over yet.
    ended: Vec<Result<(Id, T), JoinError>>,
    /// Until when others are waited for.
    until: Instant,
}

impl<K, T: Send + 'static> UnderWay<K, T> {
    pub(crate) fn new() -> Self {
        Self {
            tasks: JoinSet::new(),
            about: HashMap::new(),
            ended: Vec::new(),
            until: Instant::now(),
        }
    }

    pub(crate) fn begin(&mut self, about: K, task: impl Future<Output = T> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.about.insert(handle.id(), about);
    }

    /// What they are about.
    pub(crate) fn about(&self) -> impl Iterator<Item = &K> {
        self.about.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.about.len()
    }

    /// Waits for the next to end, and a little for others; then none of them is under way any more. Given up while it waits,
    /// it has lost nothing: the next call hands it over. What panicked comes to nothing.
    pub(crate) async fn next(&mut self) -> Vec<T> {
        if self.ended.is_empty() {
            match self.tasks.join_next_with_id().await {
                Some(first) => {
                    self.ended.push(first);
                    self.until = Instant::now() + TOGETHER;
                }
                None => std::future::pending().await,
            }
        }
        while let Ok(Some(next)) = timeout_at(self.until, self.tasks.join_next_with_id()).await {
            self.ended.push(next);
        }
        let mut results = Vec::with_capacity(self.ended.len());
        for ended in self.ended.drain(..) {
            match ended {
                Ok((id, result)) => {
                    self.about.remove(&id);
                    results.push(result);
                }
                Err(error) => {
                    self.about.remove(&error.id());
                    error!(%error, "what was under way failed; it will be tried again");
                }
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_waiting_loses_nothing() {
        let mut under_way = UnderWay::new();
        under_way.begin("first", std::future::ready(1));
        under_way.begin("never", std::future::pending());
        // Long enough for the first to have ended, not for others to be waited for.
        let short = tokio::time::timeout(TOGETHER / 2, under_way.next()).await;
        assert!(short.is_err());
        assert_eq!(under_way.next().await, [1]);
        assert_eq!(under_way.about().collect::<Vec<_>>(), [&"never"]);
    }

    #[tokio::test]
    async fn what_panics_is_not_under_way_any_more() {
        let mut under_way = UnderWay::new();
        under_way.begin((), async { assert_eq!(1, 2, "on purpose") });
        assert_eq!(under_way.next().await, []);
        assert_eq!(under_way.len(), 0);
    }
}
