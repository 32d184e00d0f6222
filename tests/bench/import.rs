//! The import of a real shop's year.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kontor::terminal::say;

use crate::report::{Measure, Target};
use crate::{postgres, server};

/// `kontor import online-retail` of the unpacked file, from an empty database to its reconciliation.
pub(crate) async fn import(admin: &str, file: &Path) -> Result<Measure> {
    let lines = BufReader::new(File::open(file).context("the online-retail file")?)
        .split(b'\n')
        .count();
    let url = postgres::database(admin, "bench_import").await?;
    let started = Instant::now();
    let output = server::kontor()?
        .args(["import", "online-retail"])
        .arg(file)
        .env("DATABASE_URL", url)
        .output()
        .context("kontor import")?;
    let took = started.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("kontor import: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    for line in said.lines() {
        say(format!("  {line}"));
    }
    // The first line names the columns.
    let lines = u32::try_from(lines)?.saturating_sub(1);
    Ok(Measure {
        what: "import of the whole online-retail file",
        figure: f64::from(lines) / took,
        unit: "/s",
        target: Target::Reported,
        detail: format!("{lines} lines in {took:.0} s"),
    })
}
