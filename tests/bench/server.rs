//! Processes of the bench's own, measured from outside: `kontor run`, and whatever else listens.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kontor::runtime::Privacy;
use kontor::seed::PASSWORD;
use kontor_fulfilment::erasure::Journal;
use kontor_tests::{KEK, keys};
use serde_json::json;

use crate::http::{Client, get};

/// How long a process may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// `USER_HZ`, in which `/proc/PID/stat` counts: 100 on every Linux there is, whatever the kernel's own tick.
const TICKS_PER_SECOND: u64 = 100;

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    /// Held open: a process that cannot write its last words fails.
    _stdout: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// `kontor run` on a database, with its sample data, ready. Nobody counts what it is asked: a bench asks more than anybody.
    pub(crate) async fn kontor(database_url: &str) -> Result<Self> {
        Self::run(
            database_url,
            &["run", "--sample-data", "--unpaid-orders"],
            &[
                ("KONTOR_RATE_LIMIT", "off"),
                ("KONTOR_MAX_SOCKETS_PER_ADDRESS", "20000"),
            ],
        )
        .await
    }

    /// A process of the same shop that only answers, with these variables in its environment.
    pub(crate) async fn answering(database_url: &str, variables: &[(&str, &str)]) -> Result<Self> {
        Self::run(database_url, &["run", "--api", "--unpaid-orders"], variables).await
    }

    async fn run(database_url: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let mut command = kontor()?;
        command
            .args(arguments)
            .envs(variables.iter().copied())
            .env("DATABASE_URL", database_url)
            .env("KONTOR_LISTEN", "127.0.0.1:0")
            .env("KONTOR_LOG", "warn");
        let server = Self::start(command, "")?;
        let (request, started) = (get("/readyz"), Instant::now());
        while let Err(error) = Client::connect(server.address).await?.send(&request).await {
            if started.elapsed() > PATIENCE {
                return Err(error.context("kontor does not get ready"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// Starts a process that says `http://` and its address when it listens. `input` is what it reads before.
    pub(crate) fn start(mut command: Command, input: &str) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a server to measure")?;
        child
            .stdin
            .take()
            .context("its input")?
            .write_all(input.as_bytes())?;
        let mut stdout = BufReader::new(child.stdout.take().context("its output")?);
        let mut line = String::new();
        let address = loop {
            line.clear();
            if stdout.read_line(&mut line)? == 0 {
                bail!("the server ended before it listened: {}", child.wait()?);
            }
            if let Some((_, address)) = line.split_once("http://") {
                break address.trim().parse().context("the server's address")?;
            }
        };
        Ok(Self {
            child,
            _stdout: stdout,
            address,
        })
    }

    /// An access token of one of the sample accounts.
    pub(crate) async fn log_in(&self, email: &str) -> Result<String> {
        let answer = Client::connect(self.address)
            .await?
            .graphql(
                None,
                "mutation($input: LogInInput!) { logIn(input: $input) { token userErrors { __typename } } }",
                json!({ "input": { "email": email, "password": PASSWORD } }),
            )
            .await?;
        answer["logIn"]["token"]
            .as_str()
            .map(ToOwned::to_owned)
            .context("a token")
    }

    /// Processor time it has used, in user and kernel mode, all threads.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of(&self.proc())
    }

    /// Bytes it has in memory.
    pub(crate) fn resident(&self) -> Result<u64> {
        resident_of(&self.proc())
    }

    /// [`Self::resident`] once it has stayed the same for two seconds, give or take half a percent.
    pub(crate) async fn settled(&self) -> Result<u64> {
        let (mut last, mut since, started) = (self.resident()?, Instant::now(), Instant::now());
        while since.elapsed() < Duration::from_secs(2) && started.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.resident()?;
            if now.abs_diff(last) > last / 200 {
                (last, since) = (now, Instant::now());
            }
        }
        self.resident()
    }

    /// Stands still while something else is measured: what it has still to do is not to slow that down. Not for longer than a
    /// lease lasts.
    pub(crate) async fn standing_still<T>(&self, other: impl Future<Output = Result<T>>) -> Result<T> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP)?;
        let measured = other.await;
        rustix::process::kill_process(pid, rustix::process::Signal::CONT)?;
        measured
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the server does not end");
    }

    fn proc(&self) -> PathBuf {
        format!("/proc/{}", self.child.id()).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only a bench that failed leaves one running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time a process has used, in user and kernel mode, all threads. It is named by its folder in `/proc`.
pub(crate) fn cpu_of(process: &Path) -> Result<Duration> {
    let stat = std::fs::read_to_string(process.join("stat"))?;
    // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|it| it.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Bytes a process has in memory.
pub(crate) fn resident_of(process: &Path) -> Result<u64> {
    let status = std::fs::read_to_string(process.join("status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Processor time that everything on this machine has used.
pub(crate) fn machine_cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    // "cpu", then user, nice, system, idle, iowait, irq, softirq.
    let of_all = stat.lines().next().context("/proc/stat")?;
    let busy = [1, 2, 3, 6, 7];
    let ticks: u64 = of_all
        .split_whitespace()
        .enumerate()
        .filter(|(index, _)| busy.contains(index))
        .filter_map(|(_, it)| it.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The `kontor` that was built with this bench.
pub(crate) fn kontor() -> Result<Command> {
    let program = std::env::current_exe()?.with_file_name("kontor");
    if !program.is_file() {
        bail!(
            "{} is not there; build it with the bench, as `make bench` does",
            program.display()
        );
    }
    let mut command = Command::new(program);
    command.env("KONTOR_KEK", KEK);
    Ok(command)
}

/// How a process of the bench's own keeps people's data. Nobody is erased in a bench.
pub(crate) fn privacy() -> Privacy {
    Privacy {
        keys: keys(),
        journal: Journal::at(std::env::temp_dir().join("kontor-bench-erasures.jsonl")),
        outbox: None,
    }
}
