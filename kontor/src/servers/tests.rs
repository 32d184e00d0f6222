//! Against real servers, in a folder of their own.

use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::folder::Folder;
use super::postgres::Postgres;
use super::private::Server;
use super::redis::Redis;
use super::{ServerOptions, Servers, process};

/// As open as a home folder: where root cannot have namespaces, the servers run as another user.
fn folder() -> TempDir {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
        .unwrap()
}

fn options(data: &Path) -> ServerOptions {
    ServerOptions {
        data: data.to_owned(),
        database_url: None,
        redis_url: None,
    }
}

async fn start(data: &Path) -> Servers {
    Servers::start(&options(data)).await.unwrap()
}

/// The processes of Postgres and Redis that run in the folder.
fn running(data: &Path) -> (Option<Pid>, Option<Pid>) {
    fn of<S: Server>(folder: &Folder) -> Option<Pid> {
        process::read_pid(&S::pid_file(folder)).filter(|&pid| process::is_alive(pid, &S::mark(folder)))
    }
    let folder = Folder::open(data).unwrap();
    (of::<Postgres>(&folder), of::<Redis>(&folder))
}

async fn query(servers: &Servers, sql: &str) -> sqlx::Result<Option<i64>> {
    let mut connection = PgConnection::connect(servers.database_url()).await?;
    sqlx::query_scalar(sql).fetch_optional(&mut connection).await
}

async fn redis(servers: &Servers, command: &[&str]) -> redis::RedisResult<Option<String>> {
    let mut connection = redis::Client::open(servers.redis_url())?
        .get_multiplexed_async_connection()
        .await?;
    redis::cmd(command[0])
        .arg(&command[1..])
        .query_async(&mut connection)
        .await
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let wait = async {
        while !holds().await {
            tick.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_first_start_serves_a_stop_ends_it_and_a_second_start_finds_the_data() {
    let data = folder();
    let servers = start(data.path()).await;
    query(&servers, "CREATE TABLE kept AS SELECT 42::bigint AS answer")
        .await
        .unwrap();
    assert_eq!(redis(&servers, &["PING"]).await.unwrap().as_deref(), Some("PONG"));
    redis(&servers, &["SET", "kept", "42"]).await.unwrap();
    let url = servers.database_url().to_owned();
    let (Some(_), Some(_)) = running(data.path()) else {
        panic!("two servers run")
    };
    servers.stop().await.unwrap();
    assert_eq!(running(data.path()), (None, None));

    let servers = start(data.path()).await;
    assert_eq!(servers.database_url(), url, "port and password stay");
    assert_eq!(
        query(&servers, "SELECT answer FROM kept").await.unwrap(),
        Some(42)
    );
    assert_eq!(
        redis(&servers, &["GET", "kept"]).await.unwrap().as_deref(),
        Some("42")
    );
    servers.stop().await.unwrap();
}

#[tokio::test]
async fn both_want_a_password_and_neither_listens_elsewhere() {
    let data = folder();
    let servers = start(data.path()).await;
    let without_password = |url: &str| {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (user, rest) = rest.split_once(':').unwrap();
        let (_password, place) = rest.split_once('@').unwrap();
        let user = if scheme == "redis" {
            String::new()
        } else {
            format!("{user}@")
        };
        format!("{scheme}://{user}{place}")
    };
    let refused = PgConnection::connect(&without_password(servers.database_url()))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("password"), "{refused}");
    let client = redis::Client::open(without_password(servers.redis_url())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let refused = redis::cmd("PING")
        .query_async::<()>(&mut connection)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("Authentication required"),
        "{refused}"
    );
    let settings = "SELECT count(*) FROM pg_settings WHERE (name, setting) IN
        (('listen_addresses', '127.0.0.1'), ('fsync', 'on'), ('synchronous_commit', 'on'), ('max_connections', '200'))";
    assert_eq!(query(&servers, settings).await.unwrap(), Some(4));
    servers.stop().await.unwrap();
}

#[tokio::test]
async fn what_dies_is_brought_back_where_it_was() {
    let data = folder();
    let servers = start(data.path()).await;
    query(&servers, "CREATE TABLE kept AS SELECT 42::bigint AS answer")
        .await
        .unwrap();
    let (Some(postgres), Some(redis_server)) = running(data.path()) else {
        panic!("two servers run")
    };
    process::send(postgres, Signal::KILL).unwrap();
    process::send(redis_server, Signal::KILL).unwrap();
    eventually("Postgres is back with its data", async || {
        matches!(query(&servers, "SELECT answer FROM kept").await, Ok(Some(42)))
    })
    .await;
    eventually("Redis is back", async || redis(&servers, &["PING"]).await.is_ok()).await;
    let (now_postgres, now_redis) = running(data.path());
    assert_ne!(now_postgres, Some(postgres));
    assert_ne!(now_redis, Some(redis_server));
    servers.stop().await.unwrap();
    assert_eq!(running(data.path()), (None, None));
}

#[tokio::test]
async fn the_last_to_leave_stops_the_servers() {
    let data = folder();
    let first = start(data.path()).await;
    let before = running(data.path());
    let second = start(data.path()).await;
    assert_eq!(second.database_url(), first.database_url());
    assert_eq!(second.redis_url(), first.redis_url());
    second.stop().await.unwrap();
    assert_eq!(running(data.path()), before);

    // Also when the one who started them goes first.
    let third = start(data.path()).await;
    first.stop().await.unwrap();
    assert_eq!(running(data.path()), before);
    assert_eq!(query(&third, "SELECT 42::bigint").await.unwrap(), Some(42));
    third.stop().await.unwrap();
    assert_eq!(running(data.path()), (None, None));
}

#[tokio::test]
async fn two_that_start_at_once_share_what_one_of_them_started() {
    let data = folder();
    let (first, second) = tokio::join!(start(data.path()), start(data.path()));
    assert_eq!(first.database_url(), second.database_url());
    assert_eq!(first.redis_url(), second.redis_url());
    let (first, second) = tokio::join!(first.stop(), second.stop());
    first.unwrap();
    second.unwrap();
    assert_eq!(running(data.path()), (None, None));
}

#[tokio::test]
async fn servers_left_behind_are_adopted_and_then_stopped() {
    let data = folder();
    let abandoned = start(data.path()).await;
    let before = running(data.path());
    // As `kill -9` does: the lock goes, the servers stay. (The supervisors of a dead process do nothing
    // either.)
    let mut private = { abandoned }.private.take().unwrap();
    private.cancel.cancel();
    drop(private.membership.take());
    drop(private);
    assert_eq!(running(data.path()), before);

    let servers = start(data.path()).await;
    assert_eq!(running(data.path()), before);
    servers.stop().await.unwrap();
    assert_eq!(running(data.path()), (None, None));
}

#[tokio::test]
async fn servers_dropped_are_told_to_stop() {
    let data = folder();
    drop(start(data.path()).await);
    eventually("both have stopped", async || running(data.path()) == (None, None)).await;
}

#[tokio::test]
async fn a_port_that_somebody_took_is_left_to_them() {
    let data = folder();
    start(data.path()).await.stop().await.unwrap();
    let folder = Folder::open(data.path()).unwrap();
    let access = folder.access(Postgres::STEM).unwrap().unwrap();
    let _somebody = TcpListener::bind((Ipv4Addr::LOCALHOST, access.port)).unwrap();
    let servers = start(data.path()).await;
    assert_ne!(folder.access(Postgres::STEM).unwrap().unwrap().port, access.port);
    assert_eq!(query(&servers, "SELECT 42::bigint").await.unwrap(), Some(42));
    servers.stop().await.unwrap();
}

#[tokio::test]
async fn a_process_id_left_behind_that_is_a_strangers_now_is_no_obstacle() {
    let data = folder();
    start(data.path()).await.stop().await.unwrap();
    let folder = Folder::open(data.path()).unwrap();
    let stranger = std::process::id();
    std::fs::write(
        Postgres::pid_file(&folder),
        format!("{stranger}\n{}\n", data.path().display()),
    )
    .unwrap();
    std::fs::write(Redis::pid_file(&folder), format!("{stranger}\n")).unwrap();
    start(data.path()).await.stop().await.unwrap();
    assert_eq!(running(data.path()), (None, None));
}

#[tokio::test]
async fn a_start_that_fails_shows_the_end_of_the_log() {
    let data = folder();
    start(data.path()).await.stop().await.unwrap();
    std::fs::write(data.path().join("postgres/postgresql.conf"), "nonsense").unwrap();
    let error = format!("{:#}", Servers::start(&options(data.path())).await.unwrap_err());
    assert!(
        error.contains("Postgres did not start") && error.contains("syntax error"),
        "{error}"
    );
    assert_eq!(running(data.path()), (None, None));
}

#[tokio::test]
async fn a_lost_password_file_is_said_so() {
    let data = folder();
    start(data.path()).await.stop().await.unwrap();
    std::fs::remove_file(data.path().join("postgres.json")).unwrap();
    let error = Servers::start(&options(data.path()))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("bring that file back"), "{error}");
}

#[tokio::test]
async fn servers_given_are_used_and_left_alone() {
    let data = folder();
    let elsewhere = folder();
    let given = start(elsewhere.path()).await;
    let untouched = data.path().join("untouched");
    let mut options = options(&untouched);
    options.database_url = Some(given.database_url().to_owned());
    options.redis_url = Some(given.redis_url().to_owned());
    let servers = Servers::start(&options).await.unwrap();
    assert_eq!(servers.database_url(), given.database_url());
    servers.stop().await.unwrap();
    assert!(!untouched.exists());
    assert_eq!(redis(&given, &["PING"]).await.unwrap().as_deref(), Some("PONG"));
    assert_eq!(query(&given, "SELECT 42::bigint").await.unwrap(), Some(42));

    let refusal = async |change: &dyn Fn(&mut ServerOptions)| {
        let mut changed = options.clone();
        change(&mut changed);
        Servers::start(&changed).await.unwrap_err().to_string()
    };
    let url = given.database_url().to_owned();
    let error = refusal(&|options| options.database_url = Some(url.replace("/kontor?", "/missing?"))).await;
    assert!(error.contains("createdb missing"), "{error}");
    let error = refusal(&|options| options.database_url = Some(url.replace("kontor:", "kontor:x"))).await;
    assert!(error.contains("check user and password"), "{error}");
    let url = given.redis_url().to_owned();
    let error = refusal(&|options| options.redis_url = Some(url.replace("default:", "default:x"))).await;
    assert!(error.contains("check the password"), "{error}");
    given.stop().await.unwrap();
    let error = refusal(&|_| {}).await;
    assert!(error.contains("no Postgres server answers"), "{error}");
    let error = refusal(&|options| options.database_url = None).await;
    assert!(error.contains("no Redis server answers"), "{error}");
}
