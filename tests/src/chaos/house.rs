//! The processes of the house, and who starts them again when they die.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kontor::servers::{ServerOptions, Servers};
use kontor::terminal::say;
use kontor_api::webhooks::PATH as WEBHOOKS;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::insist;
use crate::shop::{KEK, Shop};

/// Between a death and the next life.
const PAUSE: Duration = Duration::from_millis(100);

/// The key of the gateway's interface.
const KEY: &str = "sk_test_kontor";
/// What the gateway signs its webhooks with.
const WEBHOOK_SECRET: &str = "whsec_kontor";
/// Who answers requests.
const API: &str = "API";
/// The last line of a program that has begun its work.
const AT_WORK: &str = "Ctrl-C stops it.";

/// How a house is kept.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    /// The helper program of the tests.
    pub(super) program: &'a str,
    /// Names of its workers.
    pub(super) workers: &'a [&'static str],
    /// How long customers have to pay.
    pub(super) pay_within: Duration,
    /// Whether the leases of whoever dies run out by themselves. Otherwise they are ended, to save time.
    pub(super) leases_run_out: bool,
    /// For what the processes complain about.
    pub(super) logs: &'a Path,
}

/// The processes of a shop: `kontor run --worker`, `kontor run --api` and `kontor gateway`, which tells the API what changes.
pub(super) struct House {
    pub(super) workers: Vec<Arc<Post>>,
    pub(super) api: Arc<Post>,
    pub(super) gateway: Arc<Post>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl House {
    /// Opens it on the servers of `shop`, and waits until everybody is at work.
    pub(super) async fn open(shop: &Shop, terms: Terms<'_>) -> Self {
        let mut ports = free_ports();
        let mut post =
            |name, arguments: &[&str]| Post::new(name, arguments, ports.next().expect("a free port"));
        let house = Self {
            api: post(API, &["run", "--api"]),
            gateway: post("gateway", &["gateway"]),
            workers: terms
                .workers
                .iter()
                .map(|name| post(name, &["run", "--worker"]))
                .collect(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let told = Arc::new(Told {
            program: terms.program.to_owned(),
            logs: terms.logs.to_owned(),
            variables: house.variables(shop, terms.pay_within),
        });
        for post in house.posts() {
            let pool = (!terms.leases_run_out).then(|| shop.pool.clone());
            post.keep(Arc::clone(&told), pool, &house.tasks, house.stop.clone());
        }
        for post in house.posts() {
            insist(post.name, async || (post.lives() > 0).then_some(())).await;
        }
        house
    }

    /// The environment of every process. The gateway may be slow, but is silent for longer than anybody's patience; letters go out
    /// faster than any provider would take them, for nobody waits for the last one here.
    fn variables(&self, shop: &Shop, pay_within: Duration) -> Vec<(&'static str, String)> {
        let of = |text: &str| text.to_owned();
        vec![
            ("DATABASE_URL", of(shop.database_url())),
            ("REDIS_URL", of(shop.redis_url())),
            ("KONTOR_OUTBOX", shop.outbox().display().to_string()),
            ("KONTOR_KEK", of(KEK)),
            ("KONTOR_ERASURE_JOURNAL", shop.journal().display().to_string()),
            ("KONTOR_LOG", of("warn")),
            ("KONTOR_RATE_LIMIT", of("off")),
            ("KONTOR_UNPAID_ORDERS", of("true")),
            ("KONTOR_NOTIFICATION_RATE", of("5000")),
            ("KONTOR_PAY_WITHIN", pay_within.as_secs_f64().to_string()),
            ("KONTOR_PAYMENT_TIME_LIMIT", of("3")),
            ("KONTOR_PAYMENT_OPEN_FOR", of("1")),
            ("KONTOR_STRIPE_KEY", of(KEY)),
            ("KONTOR_STRIPE_URL", self.gateway.url()),
            ("KONTOR_WEBHOOK_SECRETS", of(WEBHOOK_SECRET)),
            ("KONTOR_GATEWAY_KEY", of(KEY)),
            (
                "KONTOR_GATEWAY_WEBHOOK_URL",
                format!("{}{WEBHOOKS}", self.api.url()),
            ),
            ("KONTOR_GATEWAY_WEBHOOK_SECRET", of(WEBHOOK_SECRET)),
        ]
    }

    pub(super) fn posts(&self) -> impl Iterator<Item = &Arc<Post>> {
        self.workers.iter().chain([&self.api, &self.gateway])
    }

    /// Ends every process.
    pub(super) async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What every process of a house is told.
#[derive(Debug)]
struct Told {
    program: String,
    logs: PathBuf,
    variables: Vec<(&'static str, String)>,
}

/// One process, started again whenever it dies.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) name: &'static str,
    arguments: Vec<String>,
    /// Where it listens on this machine.
    port: u16,
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
    fn new(name: &'static str, arguments: &[&str], port: u16) -> Arc<Self> {
        Arc::new(Self {
            name,
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            port,
            pid: AtomicI32::new(0),
            lives: AtomicU32::new(0),
            crash_at: Mutex::new(None),
            deaths: Mutex::new(BTreeMap::new()),
        })
    }

    /// Keeps it alive until `stop`.
    fn keep(
        self: &Arc<Self>,
        told: Arc<Told>,
        pool: Option<PgPool>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) {
        let post = Arc::clone(self);
        tasks.spawn(async move {
            while !stop.is_cancelled() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = post.live(&told) => {}
                }
                // Whose leases would run out in seconds.
                if let Some(pool) = &pool {
                    let owner = format!("{}-%", post.pid());
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
    async fn live(&self, told: &Told) {
        let crash_at = self.crash_at.lock().unwrap().take();
        let log = File::options()
            .append(true)
            .create(true)
            .open(told.logs.join(format!("{}.log", self.name)))
            .unwrap();
        let mut command = Command::new(&told.program);
        command
            .arg("kontor")
            .args(&self.arguments)
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .envs(told.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
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
            if line == AT_WORK {
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

    /// Where it is reached.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The process that lives there now; 0 if none does.
    pub(super) fn pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
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
        Pid::from_raw(self.pid()).is_some_and(|pid| kill_process(pid, signal).is_ok())
    }
}

/// Ports that nobody listens on, below the range the kernel serves outgoing connections from: they must be free again each time
/// their process comes back.
fn free_ports() -> impl Iterator<Item = u16> {
    let from = 20_000 + u16::try_from(std::process::id() % 9_000).unwrap();
    (from..30_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

/// Servers' data and the processes' logs. Left for whoever wants to know, if something fails.
pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("kontor-chaos.")
            .permissions(Permissions::from_mode(0o711))
            .tempdir();
        Self(folder.unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Why requests failed of which clients were told nothing but `INTERNAL`, as the API logged it, and how often.
    pub(super) fn incidents(&self) -> BTreeMap<String, i64> {
        let log = std::fs::read_to_string(self.path().join(format!("{API}.log"))).unwrap();
        let mut incidents = BTreeMap::new();
        for line in log.lines().filter(|line| line.contains("a request failed")) {
            let (_, cause) = line.rsplit_once("error=").unwrap_or(("", line));
            *incidents.entry(cause.chars().take(100).collect()).or_default() += 1;
        }
        incidents
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            say(format!(
                "the processes' own words are in {}",
                self.path().display()
            ));
        }
    }
}

/// A Postgres and a Redis that can be killed.
pub(super) async fn servers() -> (Folder, Servers) {
    let folder = Folder::new();
    let options = ServerOptions {
        data: folder.path().to_owned(),
        database_url: None,
        redis_url: None,
    };
    let servers = Servers::start(&options).await.unwrap();
    (folder, servers)
}
