//! Where a shop is, and how what is kept there is protected.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use kontor_eventstore::SystemClock;
use kontor_fulfilment::erasure::Journal;
use kontor_fulfilment::payments::PaymentsConfig;

use crate::keys::KekOptions;
use crate::runtime::{Privacy, Runtime};
use crate::servers::{ServerOptions, Servers};

/// Where the data is.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Folder of the private Postgres and Redis, used where no address is given.
    #[arg(long, env = "KONTOR_DATA", default_value = ".kontor", global = true)]
    pub data: PathBuf,
    /// Postgres to use instead of a private one.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,
    /// Redis to use instead of a private one.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, global = true)]
    pub redis_url: Option<String>,
    /// What people's keys are encrypted with.
    #[command(flatten)]
    pub keys: KekOptions,
    /// File that says who was erased, by id; by default in the data folder. Keep it apart from the database's backups: when one
    /// is restored, its people are erased again.
    #[arg(long, env = "KONTOR_ERASURE_JOURNAL", global = true)]
    pub erasure_journal: Option<PathBuf>,
}

impl Place {
    /// The servers meant by it; starts private ones if need be.
    ///
    /// # Errors
    /// See [`Servers::start`].
    pub async fn servers(&self) -> Result<Servers> {
        Servers::start(&ServerOptions {
            data: self.data.clone(),
            database_url: self.database_url.clone(),
            redis_url: self.redis_url.clone(),
        })
        .await
    }

    /// Where it is kept who was erased.
    fn journal(&self) -> PathBuf {
        self.erasure_journal
            .clone()
            .unwrap_or_else(|| self.data.join("erasures.jsonl"))
    }

    /// How people's data is kept there. Once the servers are started: what is not given is made in the data folder.
    ///
    /// # Errors
    /// See [`KekOptions::keys`].
    pub fn privacy(&self, outbox: Option<PathBuf>) -> Result<Privacy> {
        let keys = self.keys.keys(&self.data, self.database_url.is_some())?;
        Ok(Privacy {
            keys,
            journal: Journal::at(self.journal()),
            outbox,
        })
    }

    /// A process on these servers.
    ///
    /// # Errors
    /// See [`Runtime::with`].
    pub async fn open(
        &self,
        servers: &Servers,
        payments: &PaymentsConfig,
        outbox: Option<PathBuf>,
    ) -> Result<Runtime> {
        let (database_url, redis_url) = (servers.database_url(), servers.redis_url());
        let (privacy, clock) = (self.privacy(outbox)?, Arc::new(SystemClock));
        Runtime::with(database_url, redis_url, payments, &privacy, clock).await
    }
}
