//! How long a reader of the log lets events gather: the busier the house, the larger its batches and the cheaper each
//! event (`docs/decisions/008-consumers-gather.md`).

use std::time::Duration;

use tokio::time::Instant;

/// Events that a reader takes at once, at most: more than gather in the busiest house.
pub const BATCH: usize = 20_000;
/// Between two batches there is at least this, so that the next one gathers.
const SHORTEST: Duration = Duration::from_millis(5);
/// Events a second at which a reader lets them gather for as long as it ever does; below, in proportion.
const BUSY: f64 = 10_000.0;
/// How far back the rate looks: the last events of one order are no rush.
const WINDOW: Duration = Duration::from_millis(250);

/// The rate at which events pass a reader, and how long it therefore waits for more of them.
#[derive(Debug)]
pub struct Gathering {
    longest: Duration,
    /// Events a second, each counting for less the longer ago it was.
    rate: f64,
    counted: Instant,
}

impl Gathering {
    /// For a reader that waits this long in a house that is busy.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self {
            longest,
            rate: 0.0,
            counted: Instant::now(),
        }
    }

    /// How long to wait behind a batch of so many events: not at all if it was a full one, for whoever falls too far behind
    /// reads from Postgres what the process has forgotten, which is dearer. Whoever had nothing to do does not wait either.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a batch is far smaller than 2^52 events"
    )]
    pub fn behind(&mut self, events: u64) -> Duration {
        let now = Instant::now();
        // What came at once came within a microsecond.
        let elapsed = (now - self.counted).as_secs_f64().max(1e-6);
        self.counted = now;
        let faded = (-elapsed / WINDOW.as_secs_f64()).exp();
        self.rate = self.rate.mul_add(faded, events as f64 / elapsed * (1.0 - faded));
        if events >= BATCH as u64 {
            return Duration::ZERO;
        }
        let wait = self.longest.mul_f64((self.rate / BUSY).min(1.0));
        wait.max(SHORTEST.min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits behind batches of so many events that come in such intervals; the last of a second's.
    async fn settled(events: u64, interval: Duration) -> Duration {
        let mut gathering = Gathering::new(Duration::from_millis(500));
        let (mut last, begun) = (Duration::ZERO, Instant::now());
        while begun.elapsed() < Duration::from_secs(1) {
            tokio::time::advance(interval).await;
            last = gathering.behind(events);
        }
        last
    }

    #[tokio::test(start_paused = true)]
    async fn the_busier_the_house_the_longer_the_wait_whatever_the_batches() {
        let quiet = settled(1, Duration::from_millis(100)).await;
        assert_eq!(quiet, SHORTEST);
        let some = settled(50, Duration::from_millis(20)).await;
        assert!((120..135).contains(&some.as_millis()), "{some:?}");
        let same = settled(25, Duration::from_millis(10)).await;
        assert!((120..135).contains(&same.as_millis()), "{same:?}");
        let slow = settled(625, Duration::from_millis(250)).await;
        assert!((120..135).contains(&slow.as_millis()), "{slow:?}");
        let rush = settled(600, Duration::from_millis(50)).await;
        assert_eq!(rush, Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn one_order_is_no_rush_and_a_rush_is_forgotten() {
        let mut gathering = Gathering::new(Duration::from_millis(500));
        for _ in 0..6 {
            tokio::time::advance(Duration::from_millis(5)).await;
            assert_eq!(gathering.behind(1), SHORTEST);
        }
        assert_eq!(gathering.behind(5_000), Duration::from_millis(500));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(gathering.behind(1), SHORTEST);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_they_said() {
        let mut gathering = Gathering::new(Duration::from_millis(1));
        assert_eq!(gathering.behind(1), Duration::from_millis(1));
        assert_eq!(gathering.behind(10_000), Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_there_is_a_full_batch_more() {
        let mut gathering = Gathering::new(Duration::from_millis(500));
        assert_eq!(gathering.behind(BATCH as u64), Duration::ZERO);
        assert_eq!(gathering.behind(BATCH as u64), Duration::ZERO);
        assert_eq!(gathering.behind(BATCH as u64 - 1), Duration::from_millis(500));
    }
}
