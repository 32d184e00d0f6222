//! How a shop is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kontor::runtime::{Privacy, Runtime};
use kontor_eventstore::{Clock, KeyEncryption, SystemClock};
use kontor_fulfilment::erasure::Journal;
use kontor_fulfilment::notifications::NotificationsConfig;
use kontor_fulfilment::payments::PaymentsConfig;

use super::{Place, Shop, keys, log_to_the_test};
use crate::database::{Database, given};

/// How a shop is to be opened.
#[derive(Clone)]
pub struct Opening {
    clock: Arc<dyn Clock>,
    workers: bool,
    redis_url: Option<String>,
    post: Option<NotificationsConfig>,
    payments: PaymentsConfig,
    keys: KeyEncryption,
    journal: Option<PathBuf>,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            workers: true,
            redis_url: None,
            post: None,
            payments: PaymentsConfig::default(),
            keys: keys(),
            journal: None,
        }
    }
}

impl Opening {
    /// With this clock instead of the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// With nobody who follows the log.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.workers = false;
        self
    }

    /// With this Redis instead of `REDIS_URL`.
    #[must_use]
    pub fn redis(mut self, url: &str) -> Self {
        self.redis_url = Some(url.to_owned());
        self
    }

    /// With this way to send notifications, instead of into the shop's outbox.
    #[must_use]
    pub fn post(mut self, post: NotificationsConfig) -> Self {
        self.post = Some(post);
        self
    }

    /// With this way to be paid, instead of by a bank that only pretends.
    #[must_use]
    pub fn payments(mut self, payments: PaymentsConfig) -> Self {
        self.payments = payments;
        self
    }

    /// With these key-encryption keys instead of [`KEK`](super::KEK).
    #[must_use]
    pub fn keys(mut self, keys: KeyEncryption) -> Self {
        self.keys = keys;
        self
    }

    /// With this journal of erasures instead of one of its own.
    #[must_use]
    pub fn journal(mut self, journal: &Path) -> Self {
        self.journal = Some(journal.to_owned());
        self
    }

    /// Opens it on a fresh database.
    pub async fn open(self) -> Shop {
        let database = Database::fresh().await;
        let database_url = database.url().to_owned();
        self.on(&database_url, Some(database)).await
    }

    /// Opens it on a database that is there, which outlives it.
    pub async fn at(self, database_url: &str) -> Shop {
        self.on(database_url, None).await
    }

    async fn on(self, database_url: &str, database: Option<Database>) -> Shop {
        log_to_the_test();
        let redis_url = (self.redis_url.clone())
            .unwrap_or_else(|| given("REDIS_URL", "a Redis, whose other keys are left alone"));
        let kept = tempfile::tempdir().unwrap();
        let place = Arc::new(Place {
            database_url: database_url.to_owned(),
            redis_url,
            outbox: tempfile::tempdir().unwrap(),
            journal: self
                .journal
                .clone()
                .unwrap_or_else(|| kept.path().join("erasures.jsonl")),
            _kept: kept,
            parking: AtomicBool::new(false),
        });
        self.in_place(place, database).await
    }

    pub(super) async fn in_place(self, place: Arc<Place>, database: Option<Database>) -> Shop {
        let redis_url = self.redis_url.as_ref().unwrap_or(&place.redis_url);
        let privacy = Privacy {
            keys: self.keys,
            journal: Journal::at(place.journal.clone()),
            outbox: Some(place.outbox.path().to_owned()),
        };
        let database_url = &place.database_url;
        let runtime = Runtime::with(database_url, redis_url, &self.payments, &privacy, self.clock)
            .await
            .unwrap();
        if self.workers {
            let outbox = || NotificationsConfig::to_outbox(place.outbox.path().to_owned());
            runtime.spawn_workers();
            runtime.spawn_senders(self.post.unwrap_or_else(outbox).open(&runtime.clock).unwrap());
        }
        Shop::of(runtime, place, self.workers, database)
    }
}
