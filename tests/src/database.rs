//! A database for every test, copied from one that was migrated once.

use std::sync::Arc;

use kontor_eventstore::{Ids, SystemClock, schema};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

/// An address without what only sqlx understands, for Postgres' own programs.
#[must_use]
pub fn plain(url: &str) -> &str {
    url.split_once('?').map_or(url, |(address, _)| address)
}

/// Session lock of whoever makes the template.
const TEMPLATE_LOCK: i64 = 0x7465_7374;

/// A database of one test's own.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
}

impl Database {
    /// A new one with the schema of this code, and a log that no other database has.
    pub async fn fresh() -> Self {
        let server = server();
        let mut admin = server
            .connect()
            .await
            .expect("DATABASE_URL names a Postgres that answers");
        let template = template(&mut admin, &server).await;
        let name = format!("t_{}", Ids::new(Arc::new(SystemClock)).next()).to_lowercase();
        run(&mut admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        admin.close().await.unwrap();

        let options = server.database(&name);
        let url = options.to_url_lossy().to_string();
        // Keys in Redis carry the incarnation, and a copied database has its template's.
        let mut connection = options.connect().await.unwrap();
        run(
            &mut connection,
            "UPDATE log SET incarnation = gen_random_uuid()::text",
        )
        .await;
        connection.close().await.unwrap();
        Self { url, name }
    }

    /// What is in another one at this moment, dumped and restored as a backup is. Keys in Redis are not
    /// shared: a restored log is another one.
    pub(crate) async fn copy_of(url: &str) -> Self {
        let (server, original) = (server(), url.parse::<PgConnectOptions>().unwrap());
        let original = original.get_database().unwrap_or_default();
        let mut admin = server.connect().await.unwrap();
        let name = format!("t_{}", Ids::new(Arc::new(SystemClock)).next()).to_lowercase();
        run(&mut admin, &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        admin.close().await.unwrap();
        let copy = server.clone().database(&name).to_url_lossy().to_string();
        // What sqlx says behind the `?` is for sqlx.
        let (from, to) = (plain(url), plain(&copy));
        let folder = given("KONTOR_TEST_POSTGRES_BIN", "the folder of Postgres' programs");
        let pipe =
            format!("'{folder}/pg_dump' --no-owner '{from}' | '{folder}/psql' -qX -v ON_ERROR_STOP=1 '{to}'");
        let restored = tokio::process::Command::new("sh")
            .args(["-c", &pipe])
            .output()
            .await
            .unwrap();
        assert!(
            restored.status.success(),
            "{original}: {}",
            String::from_utf8_lossy(&restored.stderr)
        );
        let mut connection = server.database(&name).connect().await.unwrap();
        let another =
            "WITH another AS (UPDATE log SET incarnation = gen_random_uuid()::text RETURNING incarnation)
                       UPDATE checkpoints SET incarnation = another.incarnation FROM another";
        run(&mut connection, another).await;
        connection.close().await.unwrap();
        Self { url: copy, name }
    }

    /// Where it is, for `DATABASE_URL`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Removes it, whoever still uses it.
    pub async fn remove(&self) {
        let mut admin = server().connect().await.unwrap();
        run(&mut admin, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
        admin.close().await.unwrap();
    }
}

/// The server the tests are given.
fn server() -> PgConnectOptions {
    let url = given("DATABASE_URL", "a Postgres in which databases may be made");
    let options: PgConnectOptions = url.parse().expect("DATABASE_URL is a Postgres URL");
    options.disable_statement_logging()
}

/// What the tests are given by the environment.
pub(crate) fn given(variable: &str, what: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: it names {what}. Run the tests with `make test`, or with `scripts/with-servers cargo nextest run`")
    })
}

/// The name of a migrated database to copy. Made once per server and schema; whoever comes second waits.
async fn template(admin: &mut PgConnection, server: &PgConnectOptions) -> String {
    let schema = schema::MIGRATOR
        .iter()
        .flat_map(|migration| migration.checksum.iter());
    let hash = schema.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let name = format!("kontor_template_{hash:016x}");
    run(admin, &format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&name)
        .fetch_one(&mut *admin)
        .await
        .unwrap();
    if !exists {
        // Under another name until it is whole.
        run(admin, &format!("DROP DATABASE IF EXISTS {name}_new WITH (FORCE)")).await;
        run(admin, &format!("CREATE DATABASE {name}_new")).await;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(server.clone().database(&format!("{name}_new")))
            .await
            .unwrap();
        schema::migrate(&pool).await.unwrap();
        pool.close().await;
        // The server may take its time to notice that the connection is gone, and to rename waits five seconds at most.
        let left = format!(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = '{name}_new'"
        );
        run(admin, &left).await;
        run(admin, &format!("ALTER DATABASE {name}_new RENAME TO {name}")).await;
        run(admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    }
    run(admin, &format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).await;
    name
}

async fn run(connection: &mut PgConnection, sql: &str) {
    if let Err(error) = connection.execute(sql).await {
        panic!("{sql}: {error}");
    }
}
