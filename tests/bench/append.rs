//! Appending: Kontor's store, and the stock framework, under the same commands.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{CqrsFramework, Query};
use kontor::terminal::say;
use kontor_domain::{Money, Product, ProductCommand, ProductId, Quantity};
use kontor_eventstore::{
    Actor, Clock, CommandContext, Ids, KeyEncryption, Keyring, Store, SystemClock, schema,
};
use postgres_es::PostgresEventRepository;
use sqlx::{Executor, PgPool};
use tokio_util::sync::CancellationToken;

use crate::postgres;
use crate::report::{Measure, Target, median};

const CLIENTS: usize = 64;
const ROUNDS: usize = 3;
const DURATION: Duration = Duration::from_secs(4);
/// As a Kontor process has them.
const CONNECTIONS: u32 = 24;

/// pgbench, Kontor's store, and the stock framework, in turn, each on a database of its own.
pub(crate) async fn append(admin: &str) -> Result<Vec<Measure>> {
    let yardstick = postgres::database(admin, "bench_yardstick").await?;
    let (mut bench, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let inserts = postgres::pgbench(&yardstick, DURATION, postgres::SIMPLE).await?;
        let pool = postgres::pool(&postgres::database(admin, "bench_append").await?, CONNECTIONS).await?;
        let appended = kontor(pool, DURATION).await?;
        // A connection for each client, as pgbench has: with fewer it is slower.
        let pool = postgres::pool(&postgres::database(admin, "bench_stock").await?, 64).await?;
        let executed = stock(pool, DURATION).await?;
        say(format!(
            "  kontor {appended:.0}/s, stock framework {executed:.0}/s, pgbench {inserts:.0}/s"
        ));
        bench.push(inserts);
        ours.push(appended);
        theirs.push(executed);
    }
    let prepared = postgres::pgbench(&yardstick, DURATION, postgres::PREPARED).await?;
    let (bench, ours, theirs) = (median(&bench), median(&ours), median(&theirs));
    Ok(vec![
        Measure {
            what: "appended one-event commands/s, 64 at once ÷ pgbench",
            figure: ours / bench,
            unit: "",
            target: Target::AtLeast(2.0),
            detail: format!("{ours:.0}/s and {bench:.0}/s; pgbench -M prepared: {prepared:.0}/s"),
        },
        Measure {
            what: "the same ÷ stock CqrsFramework on postgres-es",
            figure: ours / theirs,
            unit: "",
            target: Target::AtLeast(6.0),
            detail: format!("{ours:.0}/s and {theirs:.0}/s"),
        },
    ])
}

fn create(number: usize) -> Result<ProductCommand> {
    Ok(ProductCommand::Create {
        sku: format!("SKU-{number}").parse()?,
        name: format!("Product {number}").parse()?,
        description: "For the bench.".parse()?,
        category: "bench".parse()?,
        price: Money::new(100, "GBP".parse()?)?,
    })
}

/// One-event commands a second, 64 at once, each on an aggregate of its own.
async fn kontor(pool: PgPool, duration: Duration) -> Result<f64> {
    schema::migrate(&pool).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stop = CancellationToken::new();
    let keks = KeyEncryption::new(&KeyEncryption::generate()?, [])?;
    let keyring = Keyring::open(pool.clone(), keks).await?;
    let store = Store::open(pool, Ids::new(Arc::clone(&clock)), keyring, stop.clone()).await?;
    let context = move |store: &Store| {
        CommandContext::new(
            store.ids().next().to_string(),
            Actor::System("bench"),
            clock.now(),
        )
    };
    let mut products = Vec::new();
    for number in 0..CLIENTS {
        let id = ProductId::from_ulid(store.ids().next());
        store
            .create::<Product>(id, create(number)?, context(&store))
            .await?;
        products.push(id);
    }
    let rate = rate(duration, products, move |id| {
        let (store, context) = (store.clone(), context(&store));
        async move {
            let command = ProductCommand::ReceiveStock {
                quantity: Quantity::new(1)?,
                reference: None,
            };
            store.execute::<Product>(id, command, context).await?;
            Ok(())
        }
    })
    .await?;
    stop.cancel();
    Ok(rate)
}

/// The same through cqrs-es's own framework over postgres-es, in tables of its own.
async fn stock(pool: PgPool, duration: Duration) -> Result<f64> {
    pool.execute(
        "CREATE TABLE events (aggregate_type text NOT NULL, aggregate_id text NOT NULL,
             sequence bigint CHECK (sequence >= 0) NOT NULL, event_type text NOT NULL, event_version text NOT NULL,
             payload json NOT NULL, metadata json NOT NULL, PRIMARY KEY (aggregate_type, aggregate_id, sequence));
         CREATE TABLE snapshots (aggregate_type text NOT NULL, aggregate_id text NOT NULL,
             last_sequence bigint CHECK (last_sequence >= 0) NOT NULL,
             current_snapshot bigint CHECK (current_snapshot >= 0) NOT NULL, payload json NOT NULL,
             PRIMARY KEY (aggregate_type, aggregate_id, last_sequence))",
    )
    .await?;
    let queries: Vec<Box<dyn Query<Product>>> = Vec::new();
    // Snapshots every 20 events, as its guide has it: without them its cost grows with the stream.
    let store = PersistedEventStore::new_snapshot_store(PostgresEventRepository::new(pool), 20);
    let framework = Arc::new(CqrsFramework::new(store, queries, ()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids = Ids::new(Arc::clone(&clock));
    let mut products = Vec::new();
    for number in 0..CLIENTS {
        let id = ProductId::from_ulid(ids.next());
        framework.execute(&id.to_string(), create(number)?).await?;
        products.push(id);
    }
    rate(duration, products, move |id| {
        let (framework, ids, clock) = (Arc::clone(&framework), ids.clone(), Arc::clone(&clock));
        async move {
            let command = ProductCommand::ReceiveStock {
                quantity: Quantity::new(1)?,
                reference: None,
            };
            let metadata = HashMap::from([
                ("command_id".to_owned(), ids.next().to_string()),
                ("actor".to_owned(), "system:bench".to_owned()),
                ("time".to_owned(), clock.now().to_rfc3339()),
            ]);
            framework
                .execute_with_metadata(&id.to_string(), command, metadata)
                .await?;
            Ok(())
        }
    })
    .await
}

async fn rate<F: Future<Output = Result<()>> + Send>(
    duration: Duration,
    products: Vec<ProductId>,
    command: impl Fn(ProductId) -> F + Send + Sync + Clone + 'static,
) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for id in products {
        let (command, done) = (command.clone(), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            while started.elapsed() < duration {
                command(id).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    Ok(done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}
