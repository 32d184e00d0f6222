//! Other processes: workers and writers that can be killed.

use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::shop::{KEK, Shop};
use crate::wait::PATIENCE;

/// A helper process of the tests (`tests/src/bin/`), told what to do by its arguments. It ends with the test.
pub struct Helper {
    child: Child,
    /// What it says, as long as anybody listens.
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Helper {
    /// A worker that runs everything behind the log of `shop`; `crash_at` is a point of `kontor_eventstore::crash`.
    pub async fn worker(program: &str, shop: &Shop, crash_at: Option<&str>) -> Self {
        Self::worker_with(program, shop, crash_at, &[]).await
    }

    /// [`Self::worker`] with `variables` in its environment.
    pub async fn worker_with(
        program: &str,
        shop: &Shop,
        crash_at: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = command(program, shop);
        command.arg("work").envs(variables.iter().copied());
        if let Some(point) = crash_at {
            command.env("KONTOR_CRASH_AT", point);
        }
        let mut helper = Self::start(command);
        helper.says("ready").await;
        helper
    }

    /// Writes `count` events to the log of `shop`, some of them to the product `shared`.
    #[must_use]
    pub fn writer(program: &str, shop: &Shop, seed: u64, count: u64, shared: &str) -> Self {
        let mut command = command(program, shop);
        command.args(["write", &seed.to_string(), &count.to_string(), shared]);
        Self::start(command)
    }

    /// `kontor` itself, on the servers of `shop`, for as long as it runs.
    #[must_use]
    pub fn kontor(program: &str, shop: &Shop, arguments: &[&str]) -> Self {
        let mut command = command(program, shop);
        command.arg("kontor").args(arguments);
        Self::start(command)
    }

    /// The same, with `variables` in the environment, and what it logs in a file.
    #[must_use]
    pub fn kontor_logging(
        program: &str,
        shop: &Shop,
        arguments: &[&str],
        variables: &[(&str, &str)],
        log: std::fs::File,
    ) -> Self {
        let mut command = command(program, shop);
        command
            .arg("kontor")
            .args(arguments)
            .envs(variables.iter().copied())
            .stderr(log);
        Self::start(command)
    }

    /// [`Helper::kontor`], with `variables` in the environment.
    #[must_use]
    pub fn kontor_with(program: &str, shop: &Shop, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(program, shop);
        command.arg("kontor").args(arguments);
        command.envs(variables.iter().copied());
        Self::start(command)
    }

    /// Waits until it has ended by itself; how.
    pub async fn ends(mut self) -> ExitStatus {
        // Waiting would close it, and that asks it to end.
        let _open = self.child.stdin.take();
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("a process that is to end does")
            .unwrap()
    }

    /// Asks it to end (`SIGTERM`), and waits until it has; how it ended.
    pub async fn end(mut self) -> ExitStatus {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("a process that was asked to end does")
            .unwrap()
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the helper program starts");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines: Some(lines),
        }
    }

    /// Waits until it says `word`; returns the rest of that line.
    pub async fn says(&mut self, word: &str) -> String {
        let lines = self.lines.as_mut().expect("somebody listens");
        let heard = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix(word) {
                    return Some(rest.trim().to_owned());
                }
            }
            None
        };
        let Ok(heard) = tokio::time::timeout(PATIENCE, heard).await else {
            panic!("the helper never said {word:?}");
        };
        heard.unwrap_or_else(|| panic!("the helper ended without saying {word:?}"))
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Closes the other end of its standard output.
    pub fn stop_listening(&mut self) {
        self.lines.take();
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

/// What somebody who types `kontor ARGUMENTS` gets.
#[derive(Debug)]
pub struct Typed {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub said: String,
    /// Standard error.
    pub complained: String,
}

/// Types `kontor ARGUMENTS` on the servers of `shop`, with `variables` in the environment, and waits for the end.
pub async fn kontor(program: &str, shop: &Shop, arguments: &[&str], variables: &[(&str, &str)]) -> Typed {
    let mut command = command(program, shop);
    command
        .arg("kontor")
        .args(arguments)
        .envs(variables.iter().copied())
        .stderr(Stdio::piped());
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap_or_else(|_| panic!("kontor {arguments:?} does not end"))
        .unwrap();
    Typed {
        code: output.status.code(),
        said: String::from_utf8(output.stdout).unwrap(),
        complained: String::from_utf8(output.stderr).unwrap(),
    }
}

fn command(program: &str, shop: &Shop) -> Command {
    let mut command = Command::new(program);
    command
        .env("DATABASE_URL", shop.database_url())
        .env("KONTOR_KEK", KEK)
        .env("KONTOR_ERASURE_JOURNAL", shop.journal())
        .env("REDIS_URL", shop.redis_url())
        .env("KONTOR_OUTBOX", shop.outbox())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}
