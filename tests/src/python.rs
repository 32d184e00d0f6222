//! Servers of others, written in Python, that a test talks to: `tests/python/`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::database::given;
use crate::wait::PATIENCE;

/// A server in a process of its own, which ends with the test.
pub struct PythonServer {
    child: Child,
    address: SocketAddr,
}

impl PythonServer {
    /// Starts a script of `tests/python/` and waits for the line `port N`, which it prints once it listens on 127.0.0.1.
    pub async fn start(script: &str) -> Self {
        let python = given(
            "KONTOR_TEST_PYTHON",
            "the Python that `scripts/setup --test` installs",
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
        let mut child = Command::new(&python)
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{python} does not start ({error}): run `scripts/setup --test`"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.expect("a server says in time where it listens").unwrap();
        let port = line
            .as_deref()
            .and_then(|line| line.strip_prefix("port ")?.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("{script} ended, or said {line:?}"));
        Self {
            child,
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
