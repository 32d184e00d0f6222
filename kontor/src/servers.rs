//! The Postgres and Redis that Kontor runs for itself when it is given none.
//!
//! They live under the data folder (`.kontor/`), listen on 127.0.0.1 only, each behind a password of its own,
//! and are shared by every `kontor` process that uses the same folder: `kontor run` in one terminal, `kontor
//! status` in another. Nobody owns them. Each process holds a shared lock on the folder while it uses them,
//! starts what does not run, brings back what died, and the last one to leave stops them. A `kontor` killed
//! with `kill -9` loses its lock with its life and leaves the servers running; the next one finds them, uses
//! them, and stops them when it leaves.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod folder;
mod postgres;
mod private;
mod process;
mod redis;

#[cfg(test)]
mod tests;

use folder::{Folder, Lock};
use postgres::Postgres;
use private::{Moving, Server};
use redis::Redis;

/// Between the death of a server and the first attempt to bring it back.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The pause doubles with every failure, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that lived this long was healthy: its next death starts again with the first pause.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Which servers to use.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The data folder (`KONTOR_DATA`). Created, with everything in it, when private servers are needed.
    pub data: PathBuf,
    /// A Postgres to use instead of a private one (`DATABASE_URL`).
    pub database_url: Option<String>,
    /// A Redis to use instead of a private one (`REDIS_URL`).
    pub redis_url: Option<String>,
}

/// The servers this process uses. Call [`Servers::stop`] when done.
///
/// Dropped without it (an error on the way out), the last user's servers are told to stop but not waited for.
#[derive(Debug)]
pub struct Servers {
    database_url: String,
    redis_url: String,
    /// Nothing when both servers were given.
    private: Option<Private>,
}

/// This process's share of the folder's private servers.
#[derive(Debug)]
struct Private {
    folder: Folder,
    /// Held while this process uses the servers; given up to leave.
    membership: Option<Lock>,
    cancel: CancellationToken,
    supervisors: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Uses the servers given, else those already running under the data folder, else starts private ones
    /// there.
    ///
    /// Returns when both answer and the database exists. After a crash that includes Postgres' recovery.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do: a server given cannot be reached or is too old, a program is not
    /// installed, the folder cannot be written, or a server does not start (with the last lines of its log).
    pub async fn start(options: &ServerOptions) -> Result<Self> {
        if let Some(url) = &options.database_url {
            postgres::check_given(url).await?;
        }
        if let Some(url) = &options.redis_url {
            redis::check_given(url).await?;
        }
        if let (Some(database_url), Some(redis_url)) = (&options.database_url, &options.redis_url) {
            return Ok(Self {
                database_url: database_url.clone(),
                redis_url: redis_url.clone(),
                private: None,
            });
        }

        let folder = Folder::open(&options.data)?;
        // Nobody else starts or stops the folder's servers until this is dropped.
        let turn = folder.turn().await?;
        let mut private = Private {
            membership: Some(folder.join()?),
            folder,
            cancel: CancellationToken::new(),
            supervisors: Vec::new(),
        };
        let database_url = match &options.database_url {
            Some(url) => url.clone(),
            None => private.run::<Postgres>().await?,
        };
        let redis_url = match &options.redis_url {
            Some(url) => url.clone(),
            None => private.run::<Redis>().await?,
        };
        drop(turn);
        Ok(Self {
            database_url,
            redis_url,
            private: Some(private),
        })
    }

    /// Where Postgres is, with its password: not for logs.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Where Redis is, with its password: not for logs.
    #[must_use]
    pub fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// Leaves the servers. When no other process uses them they are stopped, and this returns after they have
    /// exited.
    ///
    /// # Errors
    ///
    /// A server that does not exit, whatever it is sent.
    pub async fn stop(mut self) -> Result<()> {
        match self.private.take() {
            Some(private) => private.leave().await,
            None => Ok(()),
        }
    }
}

impl Private {
    async fn run<S: Server>(&mut self) -> Result<String> {
        let url = private::ensure::<S>(&self.folder, Moving::Allowed, &self.cancel).await?;
        self.supervisors.push(tokio::spawn(supervise::<S>(
            self.folder.clone(),
            self.cancel.clone(),
        )));
        Ok(url)
    }

    async fn leave(mut self) -> Result<()> {
        self.cancel.cancel();
        for supervisor in self.supervisors.drain(..) {
            supervisor.await.context("the supervisor of a server panicked")?;
        }
        let _turn = self.folder.turn().await?;
        drop(self.membership.take());
        if self.folder.is_deserted()? {
            private::end::<Redis>(&self.folder).await?;
            private::end::<Postgres>(&self.folder).await?;
        }
        Ok(())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.cancel.cancel();
        let Some(membership) = self.membership.take() else {
            return;
        };
        drop(membership);
        if matches!(self.folder.is_deserted(), Ok(true)) {
            private::tell_to_stop::<Redis>(&self.folder);
            private::tell_to_stop::<Postgres>(&self.folder);
        }
    }
}

/// Brings a server back whenever it dies, until cancelled. Several processes may do this for one server at
/// once: the first to get its turn starts it, the others find it running.
async fn supervise<S: Server>(folder: Folder, cancel: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let since = Instant::now();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = private::death::<S>(&folder) => {}
        }
        if since.elapsed() > HEALTHY_AFTER {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(
            server = S::NAME,
            pause_ms = pause.as_millis(),
            "server.died: starting it again"
        );
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        let turn = tokio::select! {
            () = cancel.cancelled() => return,
            turn = folder.turn() => turn,
        };
        // Not raced against `cancel`: a server launched but not yet on record could not be stopped by
        // anybody.
        let restarted = match turn {
            Ok(_turn) => private::ensure::<S>(&folder, Moving::Forbidden, &cancel).await,
            Err(error) => Err(error),
        };
        match restarted {
            Ok(_url) => tracing::info!(server = S::NAME, "server.restarted"),
            Err(_) if cancel.is_cancelled() => return,
            Err(error) => tracing::error!(
                server = S::NAME,
                error = format!("{error:#}"),
                "server.restart_failed"
            ),
        }
    }
}
