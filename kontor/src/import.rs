//! `kontor import online-retail`: a real shop's year, taken in through the same commands as everybody's.
//!
//! `file` reads the lines, `planner` decides purely what a shop makes of each, `run` and `jobs` send the commands,
//! `reconcile` compares file, log and views. Everything that is sent follows from the file alone (ids, keys, times), so
//! whoever is stopped half-way runs it again: the log recognises what it has.
//!
//! What becomes of what, and why: `docs/decisions/004-online-retail.md`.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::runtime::Runtime;

mod catalogue;
mod confirmations;
mod countries;
mod file;
mod jobs;
mod ledger;
mod logged;
mod money;
mod names;
mod plan;
mod planner;
mod reconcile;
mod refusal;
mod report;
mod run;

pub use money::Thousandths;
pub use reconcile::{Books, Class, Hours, Reconciliation, Sum};
pub use refusal::Refusal;

/// How to import.
#[derive(Debug, Clone)]
pub struct Options {
    /// Invoices under way at the same time.
    pub in_flight: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { in_flight: IN_FLIGHT }
    }
}

/// Enough to keep the writer's groups full. What they cause, some fifty events each, is still in memory when the order
/// process comes to read it; with more under way it would be read from Postgres.
const IN_FLIGHT: usize = 96;

/// Imports the "Online Retail" file into the shop, whose workers must be running, here or in another process.
///
/// # Errors
/// When the file is not there or not of this kind, the log cannot be written, nobody confirms orders, or
/// [`Runtime::stop`] is cancelled; run it again then. What is refused, or does not add up, is not an error but told in
/// the [`Reconciliation`].
pub async fn online_retail(runtime: &Runtime, file: &Path, options: Options) -> Result<Reconciliation> {
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let entries = file::read(&path)?;
        let plan = plan::Plan::of(&entries);
        anyhow::Ok((entries, plan))
    });
    let (entries, plan) = read
        .await?
        .with_context(|| format!("{} cannot be imported", file.display()))?;
    let imported = async {
        let taken = run::run(runtime, &entries, &plan, &options).await?;
        reconcile::reconcile(runtime, &entries, &plan, taken).await
    };
    // Whatever else went wrong then, went wrong because of it.
    imported.await.map_err(|error| {
        if runtime.stop.is_cancelled() {
            anyhow!(jobs::STOPPED)
        } else {
            error
        }
    })
}

#[cfg(test)]
mod tests;
