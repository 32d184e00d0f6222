//! `make chaos`: thousands of orders, hundreds of kills, and then every order against the bank's own ledger.
//!
//! `KONTOR_CHAOS_ORDERS`, `KONTOR_CHAOS_KILLS` and `KONTOR_CHAOS_SEED` say how much of it, and which.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use kontor::terminal::say;
use kontor_tests::chaos::{Plan, hot, run};

#[tokio::main]
async fn main() -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("kontor-test-helper");
    let plan = Plan {
        orders: given("KONTOR_CHAOS_ORDERS", 20_000)?,
        kills: given("KONTOR_CHAOS_KILLS", 200)?,
        customers: 250,
        pay_within: Duration::from_secs(20),
        leases_run_out: true,
        seed: given("KONTOR_CHAOS_SEED", 1)?,
        program: program.to_str().context("a path in UTF-8")?.to_owned(),
    };
    say(format!(
        "{} orders, {} kills, seed {}",
        plan.orders, plan.kills, plan.seed
    ));
    let program = plan.program.clone();
    run(plan).await;
    hot(&program, 500, 5_000).await;
    say("every order ended, and money and goods are where they belong");
    Ok(())
}

fn given<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(variable: &str, usual: T) -> Result<T> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable} is no number: {text}")),
        Err(_) => Ok(usual),
    }
}
