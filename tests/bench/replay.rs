//! Replay: every view from a million events, beside psql reading the same events.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kontor::terminal::say;
use kontor_eventstore::schema;
use sqlx::Executor;

use crate::report::{Measure, Target, median};
use crate::{history, postgres, server};

const EVENTS: u64 = 1_000_000;
const ROUNDS: usize = 3;

/// `kontor replay --view all` and psql's COPY to /dev/null, in turn, whole processes both.
pub(crate) async fn replay(admin: &str) -> Result<Measure> {
    let url = postgres::database(admin, "bench_replay").await?;
    let pool = postgres::pool(&url, 2).await?;
    schema::migrate(&pool).await?;
    let started = Instant::now();
    let mut connection = pool.acquire().await?;
    let (events, orders) = history::write(&mut connection, EVENTS).await?;
    // So that neither pays for what the first reader of fresh rows has to tidy up.
    connection.execute("VACUUM (ANALYZE) events").await?;
    connection.execute("CHECKPOINT").await?;
    say(format!(
        "  {events} events of {orders} orders written in {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    postgres::copy_out(&url).await?;
    let (mut replayed, mut copied) = (Vec::new(), Vec::new());
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let count = events as f64;
    for _ in 0..ROUNDS {
        let copy = count / postgres::copy_out(&url).await?.as_secs_f64();
        let started = Instant::now();
        let output = server::kontor()?
            .args(["replay", "--view", "all"])
            .env("DATABASE_URL", &url)
            .stderr(Stdio::inherit())
            .output()
            .context("kontor replay")?;
        let replay = count / started.elapsed().as_secs_f64();
        if !output.status.success() {
            bail!("kontor replay: {}", String::from_utf8_lossy(&output.stdout));
        }
        say(format!("  replay {replay:.0} events/s, COPY {copy:.0} events/s"));
        replayed.push(replay);
        copied.push(copy);
    }
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(&pool)
        .await?;
    if rows.unsigned_abs() != orders {
        bail!("{orders} orders were placed, and the view has {rows}");
    }
    let (replay, copy) = (median(&replayed), median(&copied));
    Ok(Measure {
        what: "replay of all views from 1,000,000 events ÷ psql COPY",
        figure: replay / copy,
        unit: "",
        target: Target::AtLeast(0.3),
        detail: format!("{replay:.0} and {copy:.0} events/s, whole processes"),
    })
}
