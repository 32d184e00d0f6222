//! A connection that writes to the log, and to nothing else.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, PgConnection, PgPool};

use super::WRITER_LOCK;

/// See the module. Connects when it is first used, and again behind a connection that broke.
#[derive(Debug)]
pub(super) struct Pen {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Pen {
    pub(super) fn new(pool: &PgPool) -> Self {
        let options = (*pool.connect_options())
            .clone()
            .application_name("kontor writer");
        Self {
            options,
            connection: None,
        }
    }

    pub(super) async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let mut connection = self.options.connect().await?;
            // A transaction that a broken network left behind must not hold the log's lock for long.
            connection
                .execute("SET idle_in_transaction_session_timeout = '5s'")
                .await?;
            connection
        };
        Ok(self.connection.insert(connection))
    }

    pub(super) async fn begin(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = self.connection().await?;
        connection.execute("BEGIN").await?;
        Ok(connection)
    }

    /// Begins a transaction that holds the log's lock. That is a statement of its own: the next statement's snapshot is taken
    /// when it is held (L3).
    pub(super) async fn begin_alone(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = self.connection().await?;
        connection
            .execute(format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})").as_str())
            .await?;
        Ok(connection)
    }

    /// Ends the transaction that was begun on this connection, and on no other: an empty one would be committed with ease.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        connection.execute("COMMIT").await.map(drop)
    }

    /// Ends a transaction that must not stand, one way or the other.
    pub(super) async fn roll_back(&mut self) {
        if let Some(connection) = &mut self.connection
            && connection.execute("ROLLBACK").await.is_err()
        {
            self.disconnect();
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }
}
