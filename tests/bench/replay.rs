//! Replay: every view from a million events, beside psql reading the same events, and beside the same events in the clear.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kontor::terminal::say;
use kontor_eventstore::{Keyring, schema};
use sqlx::{Executor, PgPool};

use crate::report::{Measure, Target, median};
use crate::{history, postgres, server};

const EVENTS: u64 = 1_000_000;
const ROUNDS: usize = 3;

/// `kontor replay --view all` and psql's COPY to /dev/null, in turn, whole processes both.
pub(crate) async fn replay(admin: &str) -> Result<Measure> {
    let past = Past::write(admin, "bench_replay", false).await?;
    postgres::copy_out(&past.url).await?;
    let (mut replayed, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let copy = past.rate(postgres::copy_out(&past.url).await?);
        let replay = past.replay()?;
        say(format!("  replay {replay:.0} events/s, COPY {copy:.0} events/s"));
        replayed.push(replay);
        copied.push(copy);
    }
    past.check().await?;
    let (replay, copy) = (median(&replayed), median(&copied));
    Ok(Measure {
        what: "replay of all views from 1,000,000 events ÷ psql COPY",
        figure: replay / copy,
        unit: "",
        target: Target::AtLeast(0.3),
        detail: format!("{replay:.0} and {copy:.0} events/s, whole processes"),
    })
}

/// `kontor replay --view all` of the same past with what is personal sealed and in the clear, in turn, whole processes both.
pub(crate) async fn sealed(admin: &str) -> Result<Measure> {
    let sealed = Past::write(admin, "bench_sealed", true).await?;
    let clear = Past::write(admin, "bench_clear", false).await?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (one, other) = (clear.replay()?, sealed.replay()?);
        say(format!(
            "  in the clear {one:.0} events/s, sealed {other:.0} events/s"
        ));
        without.push(one);
        with.push(other);
    }
    sealed.check().await?;
    let (with, without) = (median(&with), median(&without));
    Ok(Measure {
        what: "replay of 1,000,000 events with encrypted personal data ÷ without",
        figure: with / without,
        unit: "",
        target: Target::AtLeast(0.7),
        detail: format!("{with:.0} and {without:.0} events/s, whole processes"),
    })
}

/// A database with a shop's past in it, and nothing made of it yet.
struct Past {
    url: String,
    pool: PgPool,
    events: u64,
    orders: u64,
}

impl Past {
    async fn write(admin: &str, name: &str, sealed: bool) -> Result<Self> {
        let url = postgres::database(admin, name).await?;
        let pool = postgres::pool(&url, 4).await?;
        schema::migrate(&pool).await?;
        let keyring = if sealed {
            Some(Keyring::open(pool.clone(), kontor_tests::keys()).await?)
        } else {
            None
        };
        let started = Instant::now();
        let mut connection = pool.acquire().await?;
        let (events, orders) = history::write(&mut connection, keyring.as_ref(), EVENTS).await?;
        // So that neither pays for what the first reader of fresh rows has to tidy up.
        connection.execute("VACUUM (ANALYZE) events").await?;
        connection.execute("CHECKPOINT").await?;
        drop(connection);
        say(format!(
            "  {events} events of {orders} orders written in {:.0} s",
            started.elapsed().as_secs_f64()
        ));
        Ok(Self {
            url,
            pool,
            events,
            orders,
        })
    }

    /// Events a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    fn rate(&self, took: Duration) -> f64 {
        self.events as f64 / took.as_secs_f64()
    }

    /// Replays it; events a second.
    fn replay(&self) -> Result<f64> {
        let started = Instant::now();
        let output = server::kontor()?
            .args(["replay", "--view", "all"])
            .env("DATABASE_URL", &self.url)
            .stderr(Stdio::inherit())
            .output()
            .context("kontor replay")?;
        if !output.status.success() {
            bail!("kontor replay: {}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(self.rate(started.elapsed()))
    }

    /// That every order is in the view.
    async fn check(&self) -> Result<()> {
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
            .fetch_one(&self.pool)
            .await?;
        if rows.unsigned_abs() != self.orders {
            bail!("{} orders were placed, and the view has {rows}", self.orders);
        }
        Ok(())
    }
}
