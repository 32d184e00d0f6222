//! Transactions and reads that nobody waits for.

use std::pin::pin;
use std::task::Poll;

use futures::poll;
use kontor_eventstore::read::read;
use kontor_eventstore::transaction::begin;
use kontor_tests::{Database, Shop};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_behind_a_transaction_that_nobody_waited_for_is_committed() {
    let database = Database::fresh().await;
    let pool = one_connection(&database).await;
    let elsewhere = one_connection(&database).await;
    sqlx::query("CREATE TABLE notes (number bigint)")
        .execute(&pool)
        .await
        .unwrap();
    let mut given_up = 0;
    for number in 0..200_i64 {
        let turns = 1 + number % 20;
        given_up += i32::from(impatiently(begin(&pool), turns).await.is_none());
        sqlx::query("INSERT INTO notes VALUES ($1)")
            .bind(number)
            .execute(&pool)
            .await
            .unwrap();
        let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM notes")
            .fetch_one(&elsewhere)
            .await
            .unwrap();
        assert_eq!(
            seen,
            number + 1,
            "given up after {turns} turns, it was still open"
        );
    }
    assert!(given_up >= 10, "of 200 only {given_up} were given up");
    pool.close().await;
    elsewhere.close().await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_the_log_that_nobody_waited_for_disturbs_nobody() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").stock(10_000).await;
    let customer = shop.customer().await;
    for _ in 0..100 {
        shop.order(customer, &[(&lamp, 1)]).await;
    }
    let options = PgPoolOptions::new().max_connections(1);
    let pool = options.connect(shop.database_url()).await.unwrap();
    let mut given_up = 0;
    for number in 0..300_i64 {
        let turns = 1 + number % 30 * (1 + number / 30);
        given_up += i32::from(impatiently(read(&pool, 0, 1_000), turns).await.is_none());
        // Not prepared before, so that it goes through every kind of answer.
        let asked: i32 = sqlx::query_scalar(&format!("SELECT 1 AS n{number}"))
            .fetch_one(&pool)
            .await
            .unwrap_or_else(|error| panic!("given up after {turns} turns: {error}"));
        assert_eq!(asked, 1);
    }
    assert!(given_up >= 10, "of 300 only {given_up} were given up");
    assert_eq!(read(&pool, 0, 1_000).await.unwrap().len(), 103);
    pool.close().await;
    shop.finish().await;
}

/// Waits for so many turns and no longer. Nobody is answered by a server within the first.
async fn impatiently<T>(future: impl Future<Output = T>, turns: i64) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..turns {
        if let Poll::Ready(done) = poll!(future.as_mut()) {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn one_connection(database: &Database) -> PgPool {
    let options = PgPoolOptions::new().max_connections(1);
    options.connect(database.url()).await.unwrap()
}
