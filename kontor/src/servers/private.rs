//! What the private Postgres and the private Redis have in common: being started, found, watched and stopped.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::folder::{Access, Folder, new_password};
use super::process;

/// Ports to choose from: below the range from which the kernel serves outgoing connections. There, a client
/// that keeps knocking at the port of a dead server can be given that very port, connect to itself and keep
/// the server out.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// A start that fails for a reason that passes by itself is tried this often.
const ATTEMPTS: u32 = 5;
/// Generous: after a crash Postgres replays up to `max_wal_size` first, Redis its append-only file.
const READY_WAIT: Duration = Duration::from_secs(300);
const READY_POLL: Duration = Duration::from_millis(25);
/// How soon a death is noticed.
const DEATH_POLL: Duration = Duration::from_millis(250);

/// One kind of server. There are two: Postgres and Redis.
pub(super) trait Server: 'static {
    /// As people call it.
    const NAME: &'static str;
    /// As files are called after it.
    const STEM: &'static str;
    /// The signals that end it, in the order to try them, and how long each may take.
    const STOP: &'static [(Signal, Duration)];
    /// In the log of a start that failed: what passes by itself.
    const PASSING: &'static str;

    /// Where the server writes its process id, in the first line.
    fn pid_file(folder: &Folder) -> PathBuf;

    /// An argument in the server's command line that no other process has.
    fn mark(folder: &Folder) -> PathBuf;

    /// Whether there is data that the password protects.
    fn has_data(folder: &Folder) -> bool;

    /// What starts the server in the foreground, after preparing its files.
    fn command(folder: &Folder, access: &Access) -> impl Future<Output = Result<Command>> + Send;

    /// Whether the server answers. `Ok(false)` means not yet, an error means never.
    fn answers(access: &Access) -> impl Future<Output = Result<bool>> + Send;

    /// Where clients find it.
    fn url(access: &Access) -> String;
}

/// Whether a server that does not run may be started on another port than last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moving {
    /// At the start: nobody has been told the port yet.
    Allowed,
    /// At a restart: clients hold the URL.
    Forbidden,
}

/// Finds the server running or starts it; returns its URL once it answers. Only in one's turn.
pub(super) async fn ensure<S: Server>(
    folder: &Folder,
    moving: Moving,
    cancel: &CancellationToken,
) -> Result<String> {
    if let Some(pid) = running::<S>(folder) {
        let access = folder
            .access(S::STEM)?
            .with_context(|| lost_access::<S>(folder))?;
        ready::<S>(
            folder,
            &access,
            || !process::is_alive(pid, &S::mark(folder)),
            cancel,
        )
        .await?;
        return Ok(S::url(&access));
    }
    let mut attempt = 1;
    loop {
        let access = settle::<S>(folder, moving)?;
        let log = folder.log(S::STEM);
        let start = process::log_size(&log);
        let child = process::launch(S::command(folder, &access).await?, &log)?;
        let Err(error) = ready::<S>(folder, &access, || child.is_dead(), cancel).await else {
            return Ok(S::url(&access));
        };
        if running::<S>(folder).is_none() {
            // Alive, maybe, but nobody could find it to stop it.
            child.kill()?;
        }
        let passing = !port_is_free(access.port) || process::log_since(&log, start).contains(S::PASSING);
        if attempt == ATTEMPTS || !passing || !child.is_dead() || cancel.is_cancelled() {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(100) * attempt).await;
        attempt += 1;
    }
}

/// Stops the server and waits for its exit. Only in one's turn, and when nobody uses it.
pub(super) async fn end<S: Server>(folder: &Folder) -> Result<()> {
    let Some(pid) = running::<S>(folder) else {
        return Ok(());
    };
    for &(signal, wait) in S::STOP {
        process::send(pid, signal)?;
        let gone = async {
            while process::is_alive(pid, &S::mark(folder)) {
                tokio::time::sleep(READY_POLL).await;
            }
        };
        if tokio::time::timeout(wait, gone).await.is_ok() {
            return Ok(());
        }
        tracing::warn!(
            server = S::NAME,
            ?signal,
            waited_s = wait.as_secs(),
            "server.does_not_stop"
        );
    }
    bail!(
        "{} (process {}) does not exit; its log is {}",
        S::NAME,
        pid.as_raw_nonzero(),
        folder.log(S::STEM).display()
    )
}

/// Sends the first of the signals that end the server, and does not wait.
pub(super) fn tell_to_stop<S: Server>(folder: &Folder) {
    if let (Some(pid), Some(&(signal, _))) = (running::<S>(folder), S::STOP.first()) {
        // Best effort, on the way out of an error: who still finds the server running uses it or stops it.
        let _ = process::send(pid, signal);
    }
}

/// Returns when the server does not run.
pub(super) async fn death<S: Server>(folder: &Folder) {
    let mark = S::mark(folder);
    if let Some(pid) = running::<S>(folder) {
        while process::is_alive(pid, &mark) {
            tokio::time::sleep(DEATH_POLL).await;
        }
    }
}

/// The server's process, if it runs. A process id left behind by a crash and given to another program since
/// is not it.
fn running<S: Server>(folder: &Folder) -> Option<Pid> {
    process::read_pid(&S::pid_file(folder)).filter(|&pid| process::is_alive(pid, &S::mark(folder)))
}

/// Decides on port and password, once: later starts find them, and move only from a port that somebody else
/// took.
fn settle<S: Server>(folder: &Folder, moving: Moving) -> Result<Access> {
    let known = folder.access(S::STEM)?;
    let access = match known {
        Some(access) if port_is_free(access.port) => return Ok(access),
        Some(access) if moving == Moving::Forbidden => {
            bail!(
                "{}'s port {} on 127.0.0.1 is taken by another program",
                S::NAME,
                access.port
            )
        }
        Some(access) => Access {
            port: free_port()?,
            ..access
        },
        None if S::has_data(folder) => bail!(lost_access::<S>(folder)),
        None => Access {
            port: free_port()?,
            password: new_password()?,
        },
    };
    folder.remember(S::STEM, &access)?;
    Ok(access)
}

/// Waits until the server answers.
async fn ready<S: Server>(
    folder: &Folder,
    access: &Access,
    is_dead: impl Fn() -> bool,
    cancel: &CancellationToken,
) -> Result<()> {
    let log = folder.log(S::STEM);
    let deadline = Instant::now() + READY_WAIT;
    let mut poll = READY_POLL;
    loop {
        if is_dead() {
            bail!(
                "{} did not start. The end of {}:\n{}",
                S::NAME,
                log.display(),
                process::log_tail(&log)
            );
        }
        // What is not on record yet could not be stopped by anybody, so even the impatient wait for that.
        let on_record = running::<S>(folder).is_some();
        if on_record
            && S::answers(access)
                .await
                .with_context(|| format!("{} runs but does not let us in", S::NAME))?
        {
            return Ok(());
        }
        if on_record && cancel.is_cancelled() {
            bail!("stopped while {} was starting", S::NAME);
        }
        if Instant::now() > deadline {
            bail!(
                "{} runs but has not answered for {} s. The end of {}:\n{}",
                S::NAME,
                READY_WAIT.as_secs(),
                log.display(),
                process::log_tail(&log)
            );
        }
        tokio::time::sleep(poll).await;
        poll = (poll * 2).min(DEATH_POLL);
    }
}

fn lost_access<S: Server>(folder: &Folder) -> String {
    format!(
        "{}'s data in {} is there but its password file {}.json is not: bring that file back, or move the \
         folder away to begin afresh",
        S::NAME,
        folder.root().display(),
        S::STEM,
    )
}

fn port_is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port, from a random place in the range so that two folders started at once rarely choose the same.
fn free_port() -> Result<u16> {
    let random = u16::from_str_radix(&new_password()?[..4], 16)?;
    let length = PORTS.end - PORTS.start;
    (0..length)
        .map(|step| PORTS.start + (random % length + step) % length)
        .find(|&port| port_is_free(port))
        .context("no free port between 20000 and 30000 on 127.0.0.1")
}
