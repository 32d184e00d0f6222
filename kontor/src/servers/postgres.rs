//! The private Postgres.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::process::Command;

use super::folder::{Access, Folder};
use super::private::Server;
use super::process::{self, Identity, Program};

/// The oldest that Kontor's SQL is written for.
const OLDEST: u32 = 15;
/// Name of the database and of its user.
const NAME: &str = "kontor";
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// What differs from the defaults of `initdb`.
const SETTINGS: &[&str] = &[
    // 127.0.0.1 only. No socket file: its path must be shorter than a data folder's may be.
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    // A committed order survives a power cut. These are the defaults; they are here so that nobody has to
    // wonder.
    "fsync=on",
    "synchronous_commit=on",
    // The hot parts of log and views stay in memory; the rest is the page cache's.
    "shared_buffers=256MB",
    // Checkpoints by time, not by every burst of orders; full pages in the log compressed, because after each
    // checkpoint they are most of it.
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "wal_compression=on",
    // Short queries only: compiling them takes longer than running them.
    "jit=off",
    // For solid-state disks, as everything is now.
    "random_page_cost=1.1",
    "timezone=UTC",
    "log_timezone=UTC",
    // Each mark in the log file's lines: when, and which connection.
    "log_line_prefix=%m [%p] ",
    "log_checkpoints=off",
];

/// See [`Server`].
#[derive(Debug)]
pub(super) struct Postgres;

impl Server for Postgres {
    const NAME: &'static str = "Postgres";
    const STEM: &'static str = "postgres";
    /// "Fast" shutdown: open transactions are rolled back, a checkpoint is written. Then "immediate":
    /// recovery at the next start, nothing lost.
    const STOP: &'static [(Signal, Duration)] = &[
        (Signal::INT, Duration::from_secs(90)),
        (Signal::QUIT, Duration::from_secs(10)),
    ];
    /// The children of a server killed with `kill -9` need a moment to notice.
    const PASSING: &'static str = "shared memory block";

    fn pid_file(folder: &Folder) -> PathBuf {
        Self::mark(folder).join("postmaster.pid")
    }

    fn mark(folder: &Folder) -> PathBuf {
        folder.path("postgres")
    }

    fn has_data(folder: &Folder) -> bool {
        Self::mark(folder).exists()
    }

    async fn command(folder: &Folder, access: &Access) -> Result<Command> {
        let data = Self::mark(folder);
        let program = find(folder, &data).await?;
        let identity = Identity::find(folder).await?;
        if !data.exists() {
            initialise(folder, &program, identity, access).await?;
        }
        identity.give(&data)?;
        forget_stranger(&Self::pid_file(folder))?;
        let mut command = identity.command(&program.path);
        command
            .arg("-D")
            .arg(&data)
            .arg("-p")
            .arg(access.port.to_string());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        Ok(command)
    }

    async fn answers(access: &Access) -> Result<bool> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(access.port)
            .username(NAME)
            .password(&access.password)
            .ssl_mode(PgSslMode::Disable)
            .database("postgres");
        match connect(&options).await {
            Ok(mut connection) => {
                create_database(&mut connection)
                    .await
                    .context("cannot create the database")?;
                connection.close().await?;
                Ok(true)
            }
            // Class 28: the password. Anything else (no socket yet, starting up, recovering) is "not yet".
            Err(Refusal::Server(code, error)) if code.starts_with("28") => {
                Err(error).context("the password in postgres.json is not the one its data was made with")
            }
            Err(_) => Ok(false),
        }
    }

    fn url(access: &Access) -> String {
        format!(
            "postgres://{NAME}:{}@127.0.0.1:{}/{NAME}?sslmode=disable",
            access.password, access.port
        )
    }
}

const NOT_A_URL: &str =
    "DATABASE_URL is not a Postgres URL: it should look like postgres://user:password@host:5432/database";

/// Checks a database that somebody else runs.
pub(super) async fn check_given(url: &str) -> Result<()> {
    // sqlx takes any scheme for Postgres'.
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        bail!(NOT_A_URL);
    }
    let options = PgConnectOptions::from_str(url).context(NOT_A_URL)?;
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let database = options
        .get_database()
        .unwrap_or(options.get_username())
        .to_owned();
    let mut connection = match connect(&options).await {
        Ok(connection) => connection,
        Err(Refusal::Server(code, _)) if code == "3D000" => bail!(
            "the Postgres server at {place} (DATABASE_URL) has no database \"{database}\": create it with \
             `createdb {database}`, or name another"
        ),
        Err(Refusal::Server(_, error)) => {
            return Err(error).with_context(|| {
                format!(
                    "the Postgres server at {place} (DATABASE_URL) does not let us into database \
                     \"{database}\": check user and password"
                )
            });
        }
        Err(Refusal::Unreachable(error)) => {
            return Err(error).with_context(|| {
                format!(
                    "no Postgres server answers at {place} (DATABASE_URL): start it or correct the address; \
                     without DATABASE_URL Kontor runs a Postgres of its own"
                )
            });
        }
    };
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    let major = version.unsigned_abs() / 10_000;
    if major < OLDEST {
        bail!(
            "the Postgres server at {place} (DATABASE_URL) is version {major}; Kontor needs {OLDEST} or newer"
        );
    }
    Ok(())
}

enum Refusal {
    /// The server answered no, with this SQLSTATE.
    Server(String, anyhow::Error),
    Unreachable(anyhow::Error),
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Refusal> {
    match tokio::time::timeout(CONNECT_WAIT, options.connect()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(sqlx::Error::Database(error))) => Err(Refusal::Server(
            error.code().unwrap_or_default().into_owned(),
            sqlx::Error::Database(error).into(),
        )),
        Ok(Err(error)) => Err(Refusal::Unreachable(error.into())),
        Err(late) => Err(Refusal::Unreachable(late.into())),
    }
}

async fn create_database(connection: &mut PgConnection) -> Result<()> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(NAME)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        sqlx::query("CREATE DATABASE kontor").execute(connection).await?;
    }
    Ok(())
}

/// The Postgres to run: of the version that wrote the data, if there is any.
async fn find(folder: &Folder, data: &Path) -> Result<Program> {
    let mut debian: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| {
            versions
                .flatten()
                .map(|version| version.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    debian.sort();
    debian.reverse();
    debian.push(process::tools(folder));
    let found = process::programs("postgres", &debian).await;
    match std::fs::read_to_string(data.join("PG_VERSION")) {
        Ok(version) => {
            let version = version.trim();
            found.into_iter().find(|program| program.version.0.to_string() == version).with_context(|| {
                format!(
                    "the data in {} was written by Postgres {version}, which is not installed (any more): \
                     install Debian's postgresql-{version}, or move the folder away to begin afresh",
                    data.display()
                )
            })
        }
        Err(_) => found
            .into_iter()
            .find(|program| program.version.0 >= OLDEST && program.beside("initdb").exists())
            .with_context(|| {
                format!(
                    "no Postgres {OLDEST} or newer found on the PATH or in /usr/lib/postgresql: run `make \
                     setup`, or install Debian's package postgresql, or set DATABASE_URL to a server that \
                     runs elsewhere"
                )
            }),
    }
}

/// Makes an empty cluster beside the place and moves it there when it is whole: what is interrupted leaves
/// nothing.
async fn initialise(folder: &Folder, program: &Program, identity: Identity, access: &Access) -> Result<()> {
    let next = folder.path("postgres.next");
    if next.exists() {
        std::fs::remove_dir_all(&next).with_context(|| format!("cannot remove {}", next.display()))?;
    }
    let secret = next.join("password");
    let prepare = || -> std::io::Result<()> {
        std::fs::create_dir(&next)?;
        std::fs::write(&secret, &access.password)
    };
    prepare().with_context(|| format!("cannot write {}", next.display()))?;
    identity.give(&next)?;
    let data = next.join("data");
    let output = identity
        .command(&program.beside("initdb"))
        .arg("-D")
        .arg(&data)
        .arg("--pwfile")
        .arg(&secret)
        .args([
            "--username",
            NAME,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
        ])
        // Names sort by code point on every machine, and an upgrade of its C library cannot break an index.
        .args([
            "--lc-collate",
            "C",
            "--lc-ctype",
            "C.UTF-8",
            "--lc-messages",
            "C",
            "--no-instructions",
        ])
        .output()
        .await
        .context("cannot run initdb")?;
    if !output.status.success() {
        bail!(
            "initdb could not make a Postgres cluster in {}:\n{}{}",
            next.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    std::fs::rename(&data, folder.path("postgres")).context("cannot move the new cluster into place")?;
    std::fs::remove_dir_all(&next).with_context(|| format!("cannot remove {}", next.display()))
}

/// After a reboot the process id in `postmaster.pid` may be another program's, and Postgres would not start.
/// Its own check of the shared memory still keeps two servers off one folder.
fn forget_stranger(pid_file: &Path) -> Result<()> {
    match process::read_pid(pid_file).and_then(process::program_of) {
        Some(program) if program != "postgres" => {
            std::fs::remove_file(pid_file).with_context(|| format!("cannot remove {}", pid_file.display()))
        }
        _ => Ok(()),
    }
}
