//! The other process of a test: `work` runs the workers until its standard input ends, `write` fills the log, and `kontor` is
//! the program itself.
//!
//! `KONTOR_CRASH_AT` makes it die at a point, as by `kill -9`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use kontor::runtime::{Privacy, Runtime};
use kontor_domain::{Product, ProductCommand, ProductId, Quantity};
use kontor_eventstore::{Actor, CommandContext, ExecuteError, IdempotencyKey, SystemClock};
use kontor_fulfilment::erasure::Journal;
use kontor_fulfilment::notifications::NotificationsConfig;
use kontor_fulfilment::payments::PaymentsConfig;
use kontor_tests::examples::gbp;
use kontor_tests::keys;

/// Commands a writer has under way.
const CONCURRENCY: usize = 16;
/// Products of a writer's own.
const OWN: u64 = 5;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "kontor") {
        return Ok(kontor::cli::main(
            std::iter::once("kontor".into()).chain(arguments),
        ));
    }
    play()?;
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn play() -> Result<()> {
    kontor::terminal::log_to_stderr("info,sqlx=warn");
    let variable = |name: &'static str| std::env::var(name).context(name);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = open(&variable).await?;
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["work"] => work(&runtime, variable("KONTOR_OUTBOX")?.into()).await?,
        ["write", seed, count, shared] => {
            write(&runtime, seed.parse()?, count.parse()?, shared.parse()?).await?;
        }
        other => bail!("work, or write SEED COUNT PRODUCT; not {other:?}"),
    }
    runtime.close().await;
    Ok(())
}

fn privacy(variable: &impl Fn(&'static str) -> Result<String>) -> Result<Privacy> {
    Ok(Privacy {
        keys: keys(),
        journal: Journal::at(variable("KONTOR_ERASURE_JOURNAL")?.into()),
        outbox: Some(variable("KONTOR_OUTBOX")?.into()),
    })
}

/// With the time to pay of `KONTOR_TEST_PAY_WITHIN` (milliseconds), where it is given.
async fn open(variable: &impl Fn(&'static str) -> Result<String>) -> Result<Runtime> {
    let mut payments = PaymentsConfig::default();
    if let Ok(limit) = std::env::var("KONTOR_TEST_PAY_WITHIN") {
        payments.terms.pay_within = Duration::from_millis(limit.parse()?);
    }
    let (database_url, redis_url) = (variable("DATABASE_URL")?, variable("REDIS_URL")?);
    let (privacy, clock) = (privacy(variable)?, Arc::new(SystemClock));
    Runtime::with(&database_url, &redis_url, &payments, &privacy, clock).await
}

async fn work(runtime: &Runtime, outbox: PathBuf) -> Result<()> {
    runtime.spawn_workers();
    runtime.spawn_senders(NotificationsConfig::to_outbox(outbox).open(&runtime.clock)?);
    say("ready")?;
    // The test holds the other end, so this ends with it.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}

/// One event a command, over products of its own and one that others write to as well. Says how many were acknowledged.
async fn write(runtime: &Runtime, seed: u64, count: u64, shared: ProductId) -> Result<()> {
    let mut products = vec![shared];
    for n in 0..OWN {
        let id = ProductId::from_ulid(runtime.store.ids().next());
        let create = ProductCommand::Create {
            sku: format!("W{seed}-{n}").parse()?,
            name: "Ballast".parse()?,
            description: "".parse()?,
            category: "Things".parse()?,
            price: gbp(1),
        };
        runtime
            .store
            .create::<Product>(id, create, context(runtime, &format!("{seed}/create/{n}")))
            .await?;
        products.push(id);
    }
    let products: Arc<[ProductId]> = products.into();
    let written = futures::stream::iter(0..count)
        .map(|n| {
            let product = products[usize::try_from(n).unwrap_or(0) % products.len()];
            receive(runtime, product, format!("{seed}/{n}"))
        })
        .buffer_unordered(CONCURRENCY)
        .try_fold(OWN, |written, one| async move { Ok(written + one) })
        .await?;
    say(&format!("written {written}"))
}

/// Books a piece in, however long others are faster.
async fn receive(runtime: &Runtime, product: ProductId, key: String) -> Result<u64> {
    loop {
        let command = ProductCommand::ReceiveStock {
            quantity: Quantity::new(1)?,
            reference: None,
        };
        match runtime
            .store
            .execute::<Product>(product, command, context(runtime, &key))
            .await
        {
            Ok(_) => return Ok(1),
            Err(ExecuteError::Contended { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn context(runtime: &Runtime, key: &str) -> CommandContext {
    CommandContext::new(key.to_owned(), Actor::System("tests"), runtime.clock.now())
        .once(IdempotencyKey::derived("writer", key, "once"))
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
