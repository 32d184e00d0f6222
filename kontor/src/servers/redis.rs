//! The private Redis.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use redis::{ErrorKind as RedisErrorKind, ServerErrorKind};
use rustix::process::Signal;
use tokio::process::Command;

use super::folder::{Access, Folder};
use super::private::Server;
use super::process::{self, Identity};

/// The oldest that Kontor's scripts are written for.
const OLDEST: (u32, u32) = (6, 2);
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// See [`Server`].
#[derive(Debug)]
pub(super) struct Redis;

impl Server for Redis {
    const NAME: &'static str = "Redis";
    const STEM: &'static str = "redis";
    /// On SIGTERM it writes what is left to its append-only file.
    const STOP: &'static [(Signal, Duration)] = &[
        (Signal::TERM, Duration::from_secs(20)),
        (Signal::KILL, Duration::from_secs(5)),
    ];
    const PASSING: &'static str = "Address already in use";

    fn pid_file(folder: &Folder) -> PathBuf {
        folder.path("redis/redis.pid")
    }

    fn mark(folder: &Folder) -> PathBuf {
        folder.path("redis/redis.conf")
    }

    /// Its password is in a file that is written anew at every start, so there is nothing to be locked out
    /// of.
    fn has_data(_folder: &Folder) -> bool {
        false
    }

    async fn command(folder: &Folder, access: &Access) -> Result<Command> {
        let elsewhere = [process::tools(folder)];
        let program = process::programs("redis-server", &elsewhere)
            .await
            .into_iter()
            .find(|program| program.version >= OLDEST)
            .context(
                "no Redis 6.2 or newer found on the PATH: run `make setup`, or install Debian's package \
                 redis-server, or set REDIS_URL to a server that runs elsewhere",
            )?;
        let identity = Identity::find(folder).await?;
        let data = folder.path("redis");
        let write = || -> std::io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&data)?;
            // What a crash left may belong to another user, and Redis would go on without saying its process
            // id.
            match std::fs::remove_file(Self::pid_file(folder)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Made anew, not overwritten: the old one may belong to somebody else, and must not keep its
            // mode.
            let next = data.join("redis.conf.next");
            let _ = std::fs::remove_file(&next);
            let mut file = OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(configuration(folder, access).as_bytes())?;
            std::fs::rename(&next, Self::mark(folder))
        };
        write().with_context(|| format!("cannot write {}", data.display()))?;
        identity.give(&Self::mark(folder))?;
        identity.give(&data)?;
        let mut command = identity.command(&program.path);
        command.arg(Self::mark(folder)).current_dir(&data);
        Ok(command)
    }

    async fn answers(access: &Access) -> Result<bool> {
        match ping(&Self::url(access)).await {
            Ok(_version) => Ok(true),
            Err(error) if error.kind() == RedisErrorKind::Server(ServerErrorKind::BusyLoading) => Ok(false),
            Err(error)
                if matches!(
                    error.kind(),
                    RedisErrorKind::AuthenticationFailed | RedisErrorKind::Server(_)
                ) =>
            {
                Err(error).context("the password in redis.json is not the one it was started with")
            }
            Err(_) => Ok(false),
        }
    }

    fn url(access: &Access) -> String {
        format!("redis://default:{}@127.0.0.1:{}/0", access.password, access.port)
    }
}

/// The password is in the file, not in the command line, which every user of the machine can read.
fn configuration(folder: &Folder, access: &Access) -> String {
    format!(
        "# Written by Kontor at every start.\n\
         bind 127.0.0.1\n\
         port {port}\n\
         protected-mode yes\n\
         requirepass {password}\n\
         dir \"{data}\"\n\
         pidfile \"{pid_file}\"\n\
         # Kontor knows its Redis by the command line.\n\
         set-proc-title no\n\
         # What is in here can be rebuilt; the append-only file saves the time that takes.\n\
         appendonly yes\n\
         appendfsync everysec\n\
         save \"\"\n",
        port = access.port,
        password = access.password,
        data = folder.path("redis").display(),
        pid_file = Redis::pid_file(folder).display(),
    )
}

/// Checks a Redis that somebody else runs.
pub(super) async fn check_given(url: &str) -> Result<()> {
    let client = redis::Client::open(url)
        .context("REDIS_URL is not a Redis URL: it should look like redis://:password@host:6379/0")?;
    let place = client.get_connection_info().addr().to_string();
    let version = match ping(url).await {
        Ok(version) => version,
        Err(error)
            if matches!(
                error.kind(),
                RedisErrorKind::AuthenticationFailed | RedisErrorKind::Server(_)
            ) =>
        {
            return Err(error).with_context(|| {
                format!("the Redis server at {place} (REDIS_URL) does not let us in: check the password")
            });
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "no Redis server answers at {place} (REDIS_URL): start it or correct the address; without \
                     REDIS_URL Kontor runs a Redis of its own"
                )
            });
        }
    };
    if version < OLDEST {
        bail!(
            "the Redis server at {place} (REDIS_URL) is version {}.{}; Kontor needs 6.2 or newer",
            version.0,
            version.1
        );
    }
    Ok(())
}

/// Its version, when it answers.
async fn ping(url: &str) -> redis::RedisResult<(u32, u32)> {
    let ask = async {
        let mut connection = redis::Client::open(url)?
            .get_multiplexed_async_connection()
            .await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        redis::cmd("INFO")
            .arg("server")
            .query_async::<String>(&mut connection)
            .await
    };
    let info = tokio::time::timeout(CONNECT_WAIT, ask)
        .await
        .map_err(|late| redis::RedisError::from(std::io::Error::new(std::io::ErrorKind::TimedOut, late)))??;
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}
