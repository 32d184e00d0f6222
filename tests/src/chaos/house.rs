//! The processes of the house, and who starts them again when they die.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between a death and the next life.
const PAUSE: Duration = Duration::from_millis(100);

/// What every process of the house is told.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) program: String,
    pub(super) database_url: String,
    pub(super) redis_url: String,
    pub(super) outbox: PathBuf,
    pub(super) gateway: String,
    pub(super) pay_within: Duration,
    /// For what the processes complain about.
    pub(super) logs: PathBuf,
}

/// One process, started again whenever it dies.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) name: &'static str,
    arguments: Vec<String>,
    /// Of the process that lives now; 0 when there is none.
    pid: AtomicI32,
    /// How often it has said that it is ready.
    lives: AtomicU32,
    /// Where the next one is to die by itself.
    crash_at: Mutex<Option<String>>,
    /// How those that died did.
    pub(super) deaths: Mutex<BTreeMap<String, u32>>,
}

impl Post {
    pub(super) fn new(name: &'static str, arguments: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            name,
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            pid: AtomicI32::new(0),
            lives: AtomicU32::new(0),
            crash_at: Mutex::new(None),
            deaths: Mutex::new(BTreeMap::new()),
        })
    }

    /// Keeps it alive until `stop`.
    pub(super) fn keep(
        self: &Arc<Self>,
        place: Place,
        pool: Option<PgPool>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) {
        let post = Arc::clone(self);
        tasks.spawn(async move {
            while !stop.is_cancelled() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = post.live(&place) => {}
                }
                // Whose leases would run out in seconds.
                if let Some(pool) = &pool {
                    let owner = format!("{}-%", post.pid.load(Ordering::Relaxed));
                    let ended = sqlx::query("UPDATE leases SET expires_at = '-infinity' WHERE owner LIKE $1")
                        .bind(owner)
                        .execute(pool)
                        .await;
                    // Postgres may be dead, too.
                    drop(ended);
                }
                post.pid.store(0, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// From its start to its death.
    async fn live(&self, place: &Place) {
        let crash_at = self.crash_at.lock().unwrap().take();
        let log = File::options()
            .append(true)
            .create(true)
            .open(place.logs.join(format!("{}.log", self.name)))
            .unwrap();
        let mut command = Command::new(&place.program);
        command
            .args(&self.arguments)
            .env("DATABASE_URL", &place.database_url)
            .env("REDIS_URL", &place.redis_url)
            .env("KONTOR_OUTBOX", &place.outbox)
            .env("KONTOR_TEST_GATEWAY", &place.gateway)
            .env("KONTOR_TEST_PAY_WITHIN", place.pay_within.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(point) = &crash_at {
            command.env("KONTOR_CRASH_AT", point);
        }
        let mut child = command.spawn().expect("the helper program starts");
        let id = child.id().and_then(|id| i32::try_from(id).ok()).unwrap();
        self.pid.store(id, Ordering::Relaxed);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line == "ready" {
                self.lives.fetch_add(1, Ordering::Relaxed);
            }
        }
        let status = child.wait().await.unwrap();
        let how = match (status.signal(), status.code(), crash_at) {
            (Some(9), ..) => "kill -9".to_owned(),
            (Some(6), _, Some(point)) => point.split(':').next().unwrap_or_default().to_owned(),
            (Some(signal), ..) => format!("signal {signal}"),
            (None, code, _) => format!("ended with {}", code.unwrap_or(-1)),
        };
        *self.deaths.lock().unwrap().entry(how).or_default() += 1;
    }

    /// How often it has come up.
    pub(super) fn lives(&self) -> u32 {
        self.lives.load(Ordering::Relaxed)
    }

    /// `kill -9`; false if nobody lives there just now.
    pub(super) fn kill(&self, next_dies_at: Option<String>) -> bool {
        *self.crash_at.lock().unwrap() = next_dies_at;
        self.signal(Signal::KILL)
    }

    /// Stops it in the middle of whatever it does, or lets it go on.
    pub(super) fn freeze(&self, frozen: bool) -> bool {
        self.signal(if frozen { Signal::STOP } else { Signal::CONT })
    }

    fn signal(&self, signal: Signal) -> bool {
        let pid = self.pid.load(Ordering::Relaxed);
        Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
    }
}
