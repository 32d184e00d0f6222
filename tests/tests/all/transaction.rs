//! Transactions that nobody waits for.

use std::time::Duration;

use kontor_eventstore::transaction::begin;
use kontor_tests::Database;
use sqlx::postgres::PgPoolOptions;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_nobody_waits_for_is_over() {
    let database = Database::fresh().await;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect(database.url())
        .await
        .unwrap();
    let mut given_up = 0;
    for microseconds in (0..400).step_by(2) {
        let patience = Duration::from_micros(microseconds);
        given_up += i32::from(tokio::time::timeout(patience, begin(&pool)).await.is_err());
        // In a transaction, now() is when it began.
        let alone: bool = sqlx::query_scalar("SELECT now() = statement_timestamp()")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert!(alone, "given up after {microseconds} µs, it is still open");
    }
    assert!(given_up > 10, "of 200 only {given_up} were given up");
    pool.close().await;
    database.remove().await;
}
