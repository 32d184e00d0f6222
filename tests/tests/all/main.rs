//! The integration tests, in one binary: against a real Postgres and Redis, in several processes where it matters.

#![allow(
    clippy::inconsistent_digit_grouping,
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "a test tells its story in one piece, in tables, with amounts written as pounds_pence"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test, a panic is the report"
)]

mod api;
mod architecture;
mod chaos;
mod claims;
mod commands;
mod consumers;
mod crash;
mod erasure;
mod golden;
mod group;
mod histories;
mod hold;
mod import;
mod keys;
mod loading;
mod log;
mod mirrors;
mod notifications;
mod offers;
mod orders;
mod outage;
mod payments;
mod poison;
mod process;
mod products;
mod projecting;
mod rebuild;
mod sales;
mod shelf;
mod transaction;
mod updates;
mod users;
mod verify;

/// The program that plays the other process.
const HELPER: &str = env!("CARGO_BIN_EXE_kontor-test-helper");
