//! Other processes: workers and writers that can be killed.

use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::shop::Shop;
use crate::wait::PATIENCE;

/// A helper process of the tests (`tests/src/bin/`), told what to do by its arguments. It ends with the test.
pub struct Helper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    /// A worker that runs everything behind the log of `shop`; `crash_at` is a point of `kontor_eventstore::crash`.
    pub async fn worker(program: &str, shop: &Shop, crash_at: Option<&str>) -> Self {
        let mut command = command(program, shop);
        command.arg("work");
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

    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the helper program starts");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it says `word`; returns the rest of that line.
    pub async fn says(&mut self, word: &str) -> String {
        let heard = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
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

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

fn command(program: &str, shop: &Shop) -> Command {
    let mut command = Command::new(program);
    command
        .env("DATABASE_URL", shop.database_url())
        .env("REDIS_URL", shop.redis_url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}
