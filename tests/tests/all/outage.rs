//! Postgres cuts the writer off, in the middle of whatever it is doing.

use std::collections::HashSet;

use futures::StreamExt;
use kontor_domain::{Product, ProductCommand};
use kontor_eventstore::{ExecuteError, IdempotencyKey, Outcome};
use kontor_tests::examples::pieces;
use kontor_tests::proxy::Proxy;
use kontor_tests::{Opening, Shop, eventually};
use sqlx::{Connection, Executor, PgConnection};

use crate::hold::{HOLD, WRITER_LOCK, head, waiting, waiting_for_lock};

/// Kills the writer's connections again and again while commands are under way: before, in and behind their commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_doubled_when_postgres_cuts_the_writer_off() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let mut products = Vec::new();
    for n in 0..4 {
        products.push(shop.product(&format!("P{n}")).await);
    }
    let before = head(&shop).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let killer = tokio::spawn({
        let (pool, stop, mut head) = (shop.pool.clone(), stop.clone(), shop.store.head());
        async move {
            let mut kills = 0;
            while !stop.is_cancelled() {
                kills += sqlx::query_scalar::<_, i64>(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'kontor writer'",
                )
                .fetch_one(&pool)
                .await
                .unwrap();
                // Something must get through between two of them.
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = head.changed() => {}
                }
            }
            kills
        }
    });
    let commands = futures::stream::iter(0..400).map(|n: usize| {
        let (product, store) = (
            &products[n % 4],
            if n.is_multiple_of(3) {
                &elsewhere.store
            } else {
                &shop.store
            },
        );
        let context = shop.context().once(IdempotencyKey::derived("tests", "cut", n));
        async move {
            loop {
                let receive = ProductCommand::ReceiveStock {
                    quantity: pieces(1),
                    reference: None,
                };
                match store
                    .execute::<Product>(product.id, receive, context.clone())
                    .await
                {
                    Ok(outcome) => return outcome,
                    // What was not acknowledged is sent again, with its key.
                    Err(ExecuteError::Unavailable(_) | ExecuteError::Contended { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    let outcomes: Vec<Outcome<Product>> = commands.buffer_unordered(32).collect().await;
    stop.cancel();
    let kills = killer.await.unwrap();
    assert!(kills >= 10, "only {kills} connections were killed");

    let positions: HashSet<u64> = outcomes.iter().map(|outcome| outcome.position).collect();
    assert_eq!(
        positions,
        (before + 1..=before + 400).collect(),
        "each command has an event of its own"
    );
    assert_eq!(head(&shop).await, before + 400);
    for product in &products {
        assert_eq!(shop.stock(product.id).await, (100, 0));
    }
    elsewhere.close().await;
    shop.finish().await;
}

/// A connection breaks while Postgres is still busy with the statement, which then goes through although nobody hears of
/// it. Whoever asks too early what became of it must not do it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_answer_is_lost_on_the_way_is_done_once() {
    let shop = Shop::quiet().await;
    let proxy = Proxy::before(shop.database_url()).await;
    let behind = Opening::default()
        .quiet()
        .at(&proxy.url(shop.database_url()))
        .await;
    let lamp = shop.product("LAMP").await;
    let receive = async || {
        let receive = ProductCommand::ReceiveStock {
            quantity: pieces(1),
            reference: None,
        };
        behind.send::<Product>(lamp.id, receive).await
    };
    // So that the writer has no reason to ask first.
    for _ in 0..4 {
        receive().await;
    }
    // Its statement has to wait for somebody who has taken the next position.
    let mut position = PgConnection::connect(shop.database_url()).await.unwrap();
    position.execute("BEGIN").await.unwrap();
    position.execute(HOLD).await.unwrap();
    let mut locks = [
        PgConnection::connect(shop.database_url()).await.unwrap(),
        PgConnection::connect(shop.database_url()).await.unwrap(),
    ];
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})");
    let meanwhile = async {
        waiting(&shop, "transactionid").await;
        let [first, second] = &mut locks;
        first.execute(lock.as_str()).await.unwrap();
        proxy.cut().await;
        proxy.mend();
        // The writer comes back to find out, and has to queue; so does the second, behind it.
        waiting(&shop, "advisory").await;
        let (_, ()) = tokio::join!(second.execute(lock.as_str()), async {
            waiting_for_lock(&shop, 2).await;
            first.execute("COMMIT").await.unwrap();
        });
        // It has found nothing, and is about to try again. Only now does the statement go through.
        position.execute("ROLLBACK").await.unwrap();
        eventually(
            "the statement of the broken connection goes through",
            async || (shop.stock(lamp.id).await.0 == 5).then_some(()),
        )
        .await;
        second.execute("COMMIT").await.unwrap();
    };
    let (outcome, ()) = tokio::join!(receive(), meanwhile);
    assert_eq!((outcome.version, outcome.position), (6, 6));
    assert_eq!(receive().await.version, 7);
    assert_eq!(shop.stock(lamp.id).await, (6, 0));
    behind.close().await;
    shop.finish().await;
}
