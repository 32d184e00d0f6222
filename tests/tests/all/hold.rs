//! Holding up the writers of the log, so that what happens at the same moment does so every time.

use kontor_tests::{Shop, eventually};
use sqlx::{Connection, Executor, PgConnection};

/// What every writer of the log locks that asks before it writes, whatever its version: so this number is for ever.
pub(crate) const WRITER_LOCK: i64 = 0x4b6f_6e74_6f72;

/// Takes the position behind the head until the transaction ends.
pub(crate) const HOLD: &str = "
    INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position)
    SELECT 'hold', 'hold', 1, 'Held', '1', '{}', '{}', coalesce(max(position), 0) + 1 FROM events";

/// Makes everything that is sent meanwhile arrive together: nobody writes while `send` runs.
pub(crate) async fn together<T>(shop: &Shop, send: impl AsyncFnOnce(Hold) -> T) -> T {
    let mut connection = PgConnection::connect(shop.database_url()).await.unwrap();
    // A transaction on the position behind the head holds up those who ask first and those who do not.
    connection
        .execute(format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})").as_str())
        .await
        .unwrap();
    connection.execute(HOLD).await.unwrap();
    send(Hold(connection)).await
}

/// See [`together`].
pub(crate) struct Hold(PgConnection);

impl Hold {
    /// Waits until `senders` (futures polled alongside) have had time to queue, by asking Postgres: a writer waits.
    pub(crate) async fn release_when_a_writer_waits(mut self, shop: &Shop) {
        eventually("a writer waits", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                             AND application_name = 'kontor writer' AND wait_event_type = 'Lock'";
            (count(shop, waiting).await > 0).then_some(())
        })
        .await;
        self.0.execute("ROLLBACK").await.unwrap();
    }
}

/// Waits until a writer waits for a lock of this kind.
pub(crate) async fn waiting(shop: &Shop, kind: &str) {
    eventually(&format!("a writer waits for a lock: {kind}"), async || {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                            WHERE NOT l.granted AND l.locktype = $1 AND a.application_name = 'kontor writer'
                              AND a.datname = current_database())",
        )
        .bind(kind)
        .fetch_one(&shop.pool)
        .await
        .unwrap();
        waits.then_some(())
    })
    .await;
}

/// Waits until so many wait for the writers' lock.
pub(crate) async fn waiting_for_lock(shop: &Shop, number: i64) {
    eventually("everybody waits for the lock", async || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'
                         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        (count(shop, waiting).await == number).then_some(())
    })
    .await;
}

pub(crate) async fn head(shop: &Shop) -> u64 {
    kontor_eventstore::read::head(&shop.pool).await.unwrap()
}

pub(crate) async fn count(shop: &Shop, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&shop.pool).await.unwrap()
}
