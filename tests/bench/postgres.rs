//! The yardsticks: pgbench and psql on the same server.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sqlx::{Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::process::Command;

use crate::report::median;

/// pgbench's own default: each statement is sent as text.
pub(crate) const SIMPLE: &str = "simple";
/// Each statement is parsed and planned once.
pub(crate) const PREPARED: &str = "prepared";

/// The programs of the server under test.
fn program(name: &str) -> String {
    std::env::var("KONTOR_TEST_POSTGRES_BIN")
        .map_or_else(|_| name.to_owned(), |folder| format!("{folder}/{name}"))
}

/// A new, empty database on the server of `admin`; its URL.
pub(crate) async fn database(admin: &str, name: &str) -> Result<String> {
    let mut connection = PgConnection::connect(admin)
        .await
        .context("the bench's Postgres")?;
    connection
        .execute(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)").as_str())
        .await?;
    connection
        .execute(format!("CREATE DATABASE {name}").as_str())
        .await?;
    let (server, query) = admin
        .split_once('?')
        .map_or((admin, None), |(server, query)| (server, Some(query)));
    let (server, _) = server.rsplit_once('/').context("a database URL has a path")?;
    Ok(query.map_or_else(
        || format!("{server}/{name}"),
        |query| format!("{server}/{name}?{query}"),
    ))
}

/// A pool of so many connections.
pub(crate) async fn pool(url: &str, connections: u32) -> Result<PgPool> {
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .connect(url)
        .await?)
}

/// One-row insert transactions a second by pgbench, 64 clients, in its own default mode or another (`-M`). The row is an
/// event's, in a table with the columns, the key and the positions of `events`, but none of the indexes that the audit needs.
pub(crate) async fn pgbench(url: &str, duration: Duration, mode: &str) -> Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(
            "CREATE TABLE IF NOT EXISTS pgbench_rows (
                 aggregate_type text NOT NULL, aggregate_id text NOT NULL, sequence bigint NOT NULL,
                 event_type text NOT NULL, event_version text NOT NULL, payload json NOT NULL, metadata json NOT NULL,
                 timestamp timestamptz NOT NULL DEFAULT current_timestamp, position bigserial UNIQUE,
                 PRIMARY KEY (aggregate_type, aggregate_id, sequence))",
        )
        .await?;
    let script = std::env::temp_dir().join(format!("kontor-bench-{}.sql", std::process::id()));
    std::fs::write(
        &script,
        "\\set a random(1, 1000000000000)\n\\set b random(1, 1000000000000)\n\
         INSERT INTO pgbench_rows (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
         metadata) VALUES ('product', 'prd_' || :a || '_' || :b, 1, 'StockReceived', '1', \
         '{\"StockReceived\":{\"quantity\": 1,\"on_hand\": 12345}}', \
         '{\"command_id\":\"01J00000000000000000000000\",\"correlation_id\":\"01J00000000000000000000000\",\
         \"actor\":\"system-bench\",\"time\":\"2026-01-01T00.00.00.000000Z\"}');\n",
    )?;
    let output = Command::new(program("pgbench"))
        .args([
            "-n",
            "-M",
            mode,
            "-c",
            "64",
            "-j",
            "2",
            "-T",
            &duration.as_secs().to_string(),
            "-f",
        ])
        .arg(&script)
        .arg(url)
        .stderr(Stdio::piped())
        .output()
        .await
        .context("pgbench")?;
    std::fs::remove_file(&script)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(rate) = text
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
    else {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "pgbench said: {}",
            said.lines().find(|line| line.contains("error:")).unwrap_or(&text)
        );
    };
    Ok(rate)
}

/// pgbench before and behind each round of something else: the machine's speed changes by more than what is looked for, and
/// within the minute, so a round is compared with its neighbours.
pub(crate) struct Yardstick {
    url: String,
    duration: Duration,
    rates: Vec<f64>,
}

impl Yardstick {
    /// Measures for the first time.
    pub(crate) async fn new(admin: &str, duration: Duration) -> Result<Self> {
        let url = database(admin, "bench_yardstick").await?;
        let rates = vec![pgbench(&url, duration, SIMPLE).await?];
        Ok(Self { url, duration, rates })
    }

    /// Measures again behind a round; what is to be compared with it.
    pub(crate) async fn round(&mut self) -> Result<f64> {
        let before = self.rates.last().copied().unwrap_or(f64::NAN);
        let behind = pgbench(&self.url, self.duration, SIMPLE).await?;
        self.rates.push(behind);
        Ok(f64::midpoint(before, behind))
    }

    /// Of all it measured.
    pub(crate) fn median(&self) -> f64 {
        median(&self.rates)
    }
}

/// How long psql takes to COPY the events to /dev/null.
pub(crate) async fn copy_out(url: &str) -> Result<Duration> {
    let started = Instant::now();
    let status = Command::new(program("psql"))
        .args(["-q", "-d", url, "-c", "\\copy events TO '/dev/null'"])
        .status()
        .await
        .context("psql")?;
    if !status.success() {
        bail!("psql failed");
    }
    Ok(started.elapsed())
}
