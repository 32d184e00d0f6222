//! Waiting for a condition.

use std::time::Duration;

/// What no condition needs, however busy the machine: whoever waits so long waits for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at that nobody announces.
const LOOK: Duration = Duration::from_millis(10);

/// Looks again and again until there is something to see; panics with `what` after [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let seen = async {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    let Ok(seen) = tokio::time::timeout(PATIENCE, seen).await else {
        panic!("never happened within {} s: {what}", PATIENCE.as_secs());
    };
    seen
}
