//! A house in which everything is killed while customers order and pay: worker, API, gateway, Postgres and Redis.
//!
//! `make chaos` runs it long, `make test` a quick form. At the end, when it is quiet, [`Shop::audit`](crate::Shop::audit) holds
//! every order against the bank's own ledger, the shelves and the record of notifications.

use std::time::{Duration, Instant};

use kontor::terminal::say;
use kontor_fulfilment::notifications::NotificationsConfig;
use kontor_fulfilment::payments::stripe::SecretKey;
use kontor_fulfilment::payments::{GatewayBy, PaymentsConfig, Resilience, SimulatorSettings, StripeSettings};

pub mod counter;
mod customers;
pub mod gateway;
mod hot;
mod house;
mod killer;
mod run;

pub use hot::rush;
pub use run::{hot, run};

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

/// The key of the gateway's interface.
const SECRET: &str = "sk_test_kontor";

/// How the processes of this house are paid: by the gateway at that address, with little patience.
#[must_use]
pub fn payments(gateway: &str) -> PaymentsConfig {
    let stripe = StripeSettings {
        base_url: gateway.to_owned(),
        ..StripeSettings::new(SecretKey::new(SECRET))
    };
    PaymentsConfig {
        gateway: GatewayBy::Stripe(stripe),
        resilience: Resilience {
            time_limit: Duration::from_secs(2),
            open_for: Duration::from_secs(1),
            longest_pause: Duration::from_millis(500),
            ..Resilience::default()
        },
        ..PaymentsConfig::default()
    }
}

/// How the bank behaves: slow is slow, and silent is longer than the patience of [`payments`].
#[must_use]
fn bank(public_url: String) -> SimulatorSettings {
    SimulatorSettings {
        slow: Duration::from_secs(1),
        silence: Duration::from_secs(30),
        public_url,
        ..SimulatorSettings::default()
    }
}

/// Letters go out faster than any provider would take them: nobody waits for the last one here.
#[must_use]
pub fn post(outbox: std::path::PathBuf) -> NotificationsConfig {
    NotificationsConfig {
        rate: 5_000,
        ..NotificationsConfig::to_outbox(outbox)
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
