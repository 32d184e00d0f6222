//! A house in which everything is killed while customers order and pay: worker, API, gateway, Postgres and Redis. Its processes
//! are the program itself, and its customers and staff ask over the socket, as everybody does.
//!
//! `make chaos` runs it long, `make test` a quick form. At the end, when it is quiet, [`Shop::audit`](crate::Shop::audit) holds
//! every order against the bank's own ledger, the shelves and the record of notifications.

use std::time::{Duration, Instant};

use kontor::terminal::say;

mod customers;
mod hot;
mod house;
mod killer;
mod people;
mod quiet;
mod run;
mod trouble;

pub use hot::{hot, rush};
pub use run::run;

/// How much chaos.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Orders that are placed.
    pub orders: usize,
    /// Processes that are killed.
    pub kills: usize,
    /// Orders that are under way at the same time.
    pub customers: usize,
    /// How long customers have to pay.
    pub pay_within: Duration,
    /// Whether the leases of whoever dies run out by themselves. Otherwise they are ended, to save time.
    pub leases_run_out: bool,
    /// What chance makes of it.
    pub seed: u64,
    /// The helper program of the tests.
    pub program: String,
}

/// The outcome, as a table.
#[derive(Debug, Default)]
pub struct Report {
    /// Lines: what, and how many.
    pub lines: Vec<(String, i64)>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Prints the table.
    pub fn print(&self) {
        for (what, number) in &self.lines {
            say(format!("{what:<54} {number:>12}"));
        }
        say(format!("{:<54} {:>10} s", "time", self.took.as_secs()));
    }
}

/// Dice that fall the same way for the same seed.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64, of: u64) -> Self {
        Self(seed ^ of.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// One of `0..sides` (splitmix64).
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (it ^ (it >> 31)) % sides
    }
}

/// Tries until it works; panics when that takes longer than anything here can.
async fn insist<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(done) = attempt().await {
            return done;
        }
        assert!(
            started.elapsed() < Duration::from_secs(240),
            "never came to anything: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
