//! The integration tests, in one binary: against a real Postgres and Redis, in several processes where it matters.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test, a panic is the report"
)]

mod api;
mod architecture;
mod consumers;
mod crash;
mod golden;
mod group;
mod histories;
mod import;
mod log;
mod mirrors;
mod orders;
mod process;
mod products;
mod projecting;
mod rebuild;
mod sales;
mod updates;
mod users;
mod verify;

/// The program that plays the other process.
const HELPER: &str = env!("CARGO_BIN_EXE_kontor-test-helper");
