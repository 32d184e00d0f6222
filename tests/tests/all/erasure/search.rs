//! Looking for somebody wherever a shop leaves anything.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kontor_tests::Shop;
use tokio::process::Command;
use tracing_subscriber::fmt::MakeWriter;

/// The log of this process, whose only test this is (nextest gives each its own).
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Keeps all that is logged from now on.
    pub(crate) fn kept() -> Self {
        let log = Self::default();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(log.clone())
            .try_init()
            .expect("nobody else keeps this process's log: run the tests with nextest");
        log
    }

    /// What was logged so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// All that a shop has written, by place.
pub(crate) struct Places {
    pub(crate) folder: String,
    dump: String,
    redis: String,
    log: String,
    /// The files of Postgres themselves: the database's, and the journal of the whole server.
    files: String,
}

impl Places {
    /// `folder` is where whatever it wrote beside its servers is, `log` what it said.
    pub(crate) async fn of(shop: &Shop, folder: &Path, log: String) -> Self {
        let places = Self {
            folder: in_folder(folder),
            dump: dump(shop).await,
            redis: everything_in_redis(shop).await,
            log,
            files: files_of_postgres(shop).await,
        };
        // A search of nothing finds nothing.
        assert!(places.dump.contains("COPY public.events") && places.dump.contains("sealed:v1:"));
        assert!(places.redis.contains("order_status"), "{}", places.redis);
        assert!(places.log.len() > 1_000 && places.files.contains("sealed:v1:"));
        places
    }

    /// Which of the traces are where, in whatever case.
    pub(crate) fn found(&self, traces: &[&str]) -> BTreeSet<(&'static str, String)> {
        let places = [
            ("the folder", &self.folder),
            ("the dump", &self.dump),
            ("Redis", &self.redis),
            ("the log", &self.log),
            ("the files of Postgres", &self.files),
        ];
        let mut found = BTreeSet::new();
        for (place, text) in places {
            let text = text.to_lowercase();
            let hits = traces.iter().filter(|trace| text.contains(&trace.to_lowercase()));
            found.extend(hits.map(|trace| (place, (*trace).to_owned())));
        }
        found
    }
}

/// Every file below, one behind the other, with its name.
fn in_folder(folder: &Path) -> String {
    let mut text = String::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What is gone when it is its turn is gone.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            text += &path.display().to_string();
            text.push('\n');
            text += &String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default());
        }
    }
    text
}

/// A full dump, as a backup is made.
async fn dump(shop: &Shop) -> String {
    let program = std::env::var("KONTOR_TEST_POSTGRES_BIN").expect("run the tests with scripts/with-servers");
    let output = Command::new(Path::new(&program).join("pg_dump"))
        .arg(kontor_tests::plain(shop.database_url()))
        .output()
        .await
        .expect("pg_dump runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every key of this shop's, with its value.
async fn everything_in_redis(shop: &Shop) -> String {
    let client = redis::Client::open(shop.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let pattern = format!("kontor:{}:*", shop.store.incarnation());
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(pattern)
        .query_async(&mut connection)
        .await
        .unwrap();
    let mut text = String::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .unwrap();
        let all = match kind.as_str() {
            "string" => vec!["GET"],
            "hash" => vec!["HGETALL"],
            "set" => vec!["SMEMBERS"],
            "zset" => vec!["ZRANGE", "0", "-1"],
            "list" => vec!["LRANGE", "0", "-1"],
            other => panic!("{key} is a {other}"),
        };
        let value: redis::Value = redis::cmd(all[0])
            .arg(&key)
            .arg(&all[1..])
            .query_async(&mut connection)
            .await
            .unwrap();
        for part in [key.as_str(), " ", &readable(&value), "\n"] {
            text.push_str(part);
        }
    }
    text
}

fn readable(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::Array(values) | redis::Value::Set(values) => {
            values.iter().map(readable).collect::<Vec<_>>().join(" ")
        }
        redis::Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| format!("{} {}", readable(key), readable(value)))
            .collect::<Vec<_>>()
            .join(" "),
        other => format!("{other:?}"),
    }
}

/// What is on the disk, dead rows and the write-ahead log included.
async fn files_of_postgres(shop: &Shop) -> String {
    sqlx::query("CHECKPOINT").execute(&shop.pool).await.unwrap();
    let (data, database): (String, i64) = sqlx::query_as(
        "SELECT current_setting('data_directory'), oid::bigint FROM pg_database WHERE datname = current_database()",
    )
    .fetch_one(&shop.pool)
    .await
    .unwrap();
    let data = Path::new(&data);
    in_folder(&data.join("base").join(database.to_string())) + &in_folder(&data.join("pg_wal"))
}
