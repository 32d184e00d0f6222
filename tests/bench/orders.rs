//! Orders over HTTP: how many are accepted, and how many are confirmed, all of one product or of a thousand.

use std::time::{Duration, Instant};

use anyhow::Result;
use kontor::terminal::say;

use crate::http::{Until, load};
use crate::postgres;
use crate::report::{Measure, Target, median, megabytes};
use crate::server::machine_cpu;
use crate::shop::{Shop, now};

const CLIENTS: usize = 64;
const PRODUCTS: usize = 1_000;
/// Ample, whatever a round sells.
const PIECES: u32 = 1_000_000;
const ROUNDS: usize = 3;
const ACCEPTING_ROUNDS: usize = 7;
const DURATION: Duration = Duration::from_secs(4);
/// With the second since a lease was last renewed, less than it lasts: 4 s.
const STANDING_STILL: Duration = Duration::from_secs(2);
/// Orders of a round of which the end is waited for.
const ORDERS: u64 = 8_000;

/// `placeOrder` accepted, beside pgbench on the same server, in turn.
pub(crate) async fn accepted(admin: &str) -> Result<Measure> {
    let shop = Shop::open(&postgres::database(admin, "bench_accepted").await?).await?;
    let products = shop.stock("spread", PRODUCTS, PIECES).await?;
    let mut yardstick = postgres::Yardstick::new(admin, STANDING_STILL).await?;
    let (mut rates, mut ratios, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ACCEPTING_ROUNDS {
        let (since, cpu, machine) = (now(), shop.server.cpu()?, machine_cpu()?);
        let placed = load(
            shop.server.address,
            CLIENTS,
            Until::Elapsed(DURATION),
            shop.order(&format!("r{round}"), products.clone()),
        )
        .await?;
        let each = |busy: Duration| busy.as_secs_f64() * 1e6 / placed.rate() / placed.took.as_secs_f64();
        let (busy, machine) = (
            shop.server.cpu()?.saturating_sub(cpu),
            machine_cpu()?.saturating_sub(machine),
        );
        let (confirmed, waited) = (shop.count(since, "CONFIRMED").await?, Instant::now());
        shop.confirmed(since, placed.answered).await?;
        let waited = waited.elapsed().as_secs_f64();
        let inserts = shop.server.standing_still(yardstick.round()).await?;
        say(format!(
            "  {:.0} accepted/s ({confirmed} of {} confirmed by then, the rest {waited:.1} s later; {:.0} µs an order in kontor, {:.0} in all), pgbench {inserts:.0}/s",
            placed.rate(),
            placed.answered,
            each(busy),
            each(machine),
        ));
        ends.push(waited);
        rates.push(placed.rate());
        ratios.push(placed.rate() / inserts);
    }
    shop.never_oversold().await?;
    let resident = shop.server.resident()?;
    shop.server.stop()?;
    Ok(Measure {
        what: "placeOrder accepted/s over HTTP ÷ pgbench",
        figure: median(&ratios),
        unit: "",
        target: Target::AtLeast(0.6),
        detail: format!(
            "median of {ACCEPTING_ROUNDS}, {:.2} to {:.2}; {:.0}/s, the last confirmed {:.1} s after; pgbench {:.0}/s; kontor has {:.0} MB then",
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
            median(&rates),
            median(&ends),
            yardstick.median(),
            megabytes(resident)
        ),
    })
}

/// Orders confirmed, end to end: all of one product, and spread over a thousand, in turn, each on fresh stock.
pub(crate) async fn hot(admin: &str) -> Result<Measure> {
    let shop = Shop::open(&postgres::database(admin, "bench_hot").await?).await?;
    let (mut one, mut spread) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for (name, products, rates) in [("spread", PRODUCTS, &mut spread), ("one", 1, &mut one)] {
            let name = format!("{name}-{round}");
            let products = shop.stock(&name, products, PIECES).await?;
            let (since, started) = (now(), Instant::now());
            load(
                shop.server.address,
                CLIENTS,
                Until::Sent(ORDERS),
                shop.order(&name, products),
            )
            .await?;
            let accepted = started.elapsed();
            shop.confirmed(since, ORDERS).await?;
            #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
            let rate = ORDERS as f64 / started.elapsed().as_secs_f64();
            rates.push(rate);
            say(format!(
                "  {name}: {ORDERS} orders accepted in {:.1} s, confirmed in {:.1} s: {rate:.0}/s",
                accepted.as_secs_f64(),
                started.elapsed().as_secs_f64()
            ));
        }
    }
    shop.never_oversold().await?;
    shop.server.stop()?;
    let (one, spread) = (median(&one), median(&spread));
    Ok(Measure {
        what: "orders/s on ONE product ÷ spread over 1,000",
        figure: one / spread,
        unit: "",
        target: Target::AtLeast(0.8),
        detail: format!("{one:.0}/s and {spread:.0}/s, placed to confirmed"),
    })
}
