//! Programs and processes: finding one, starting it as the right user, knowing it again, ending it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::folder::Folder;

/// A log longer than this is put aside at the next start. Bytes.
const LOG_LIMIT: u64 = 16 << 20;
/// What is shown of a log when a start fails. Lines, and at most so many bytes.
const TAIL_LINES: usize = 15;
const TAIL_BYTES: u64 = 16 << 10;
/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;

/// An installed program.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Absolute. Maybe a symbolic link, and to be run as that: Debian's `redis-server` is another program by
    /// its real name.
    pub(super) path: PathBuf,
    pub(super) version: (u32, u32),
}

impl Program {
    /// The program of that name that was installed with this one.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.path
            .canonicalize()
            .unwrap_or_else(|_| self.path.clone())
            .with_file_name(name)
    }
}

/// The installed programs of this name, those on the `PATH` first, then those in the folders given.
pub(super) async fn programs(name: &str, elsewhere: &[PathBuf]) -> Vec<Program> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<Program> = Vec::new();
    for folder in std::env::split_paths(&path).chain(elsewhere.iter().cloned()) {
        let Ok(path) = std::path::absolute(folder.join(name)) else {
            continue;
        };
        if !path.is_file() || found.iter().any(|known| known.path == path) {
            continue;
        }
        let Ok(output) = Command::new(&path).arg("--version").output().await else {
            continue;
        };
        if let Some(version) = parse_version(&String::from_utf8_lossy(&output.stdout)) {
            found.push(Program { path, version });
        }
    }
    found
}

/// The first `major.minor` in what the program prints; a `18rc1` is 18.0.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let mut numbers = text[start..].split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = if text[start..]
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .starts_with('.')
    {
        numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)
    } else {
        0
    };
    Some((major, minor))
}

/// Who the servers run as. Postgres refuses to run as root, so root has to become somebody else for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// An ordinary user's servers are that user's.
    Myself,
    /// Root's run in a user namespace, where root is `nobody`: no file changes hands.
    Namespace,
    /// Where the kernel or a container forbids namespaces: as `nobody`, who is given the servers' files.
    Nobody,
}

impl Identity {
    /// Who can run the servers of this folder here.
    pub(super) async fn find(folder: &Folder) -> Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self::Myself);
        }
        for identity in [Self::Namespace, Self::Nobody] {
            if !identity.succeeds("true", &[]).await {
                continue;
            }
            if identity.succeeds("test", &[Path::new("-x"), folder.root()]).await {
                return Ok(identity);
            }
            bail!(
                "Postgres refuses to run as root, and the user nobody, as whom it can run here, cannot reach \
                 {}: set KONTOR_DATA to a folder that everybody can reach, such as /var/lib/kontor, or run \
                 Kontor as an ordinary user",
                folder.root().display()
            );
        }
        bail!(
            "Postgres refuses to run as root, and neither `unshare --user` nor `setpriv --reuid` works here: \
             run Kontor as an ordinary user, or set DATABASE_URL and REDIS_URL"
        )
    }

    async fn succeeds(self, program: &str, arguments: &[&Path]) -> bool {
        let attempt = self
            .command(Path::new(program))
            .args(arguments)
            .stderr(Stdio::null())
            .status()
            .await;
        attempt.is_ok_and(|status| status.success())
    }

    /// A command that runs the program as this identity, under its own process id.
    pub(super) fn command(self, program: &Path) -> Command {
        let wrapper: &[&str] = match self {
            Self::Myself => &[],
            Self::Namespace => &["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"],
            Self::Nobody => &[
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--",
            ],
        };
        let mut words = wrapper.iter().map(Path::new).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words).stdin(Stdio::null()).env("LC_ALL", "C");
        command
    }

    /// Gives a file, or a folder and all in it, to this identity.
    pub(super) fn give(self, path: &Path) -> Result<()> {
        let owner = match self {
            Self::Myself => return Ok(()),
            Self::Namespace => 0,
            Self::Nobody => NOBODY,
        };
        if path.symlink_metadata().is_ok_and(|file| file.uid() == owner) {
            return Ok(());
        }
        give_all(path, owner).with_context(|| format!("cannot give {} to user {owner}", path.display()))
    }
}

/// The folder itself last: one that has changed hands has changed hands completely, also after an
/// interruption.
fn give_all(path: &Path, owner: u32) -> std::io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in path.read_dir()? {
            give_all(&entry?.path(), owner)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(owner), Some(owner))
}

/// Where `scripts/setup` puts programs that it could not install system-wide.
pub(super) fn tools(folder: &Folder) -> PathBuf {
    folder.path("tools/bin")
}

/// A server that this process started.
///
/// It is watched by waiting for it, not by its command line: while a program replaces itself by the next
/// (`unshare`, then Postgres) that is empty for a moment, as a dead one's is.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    wait: JoinHandle<()>,
}

impl Child {
    pub(super) fn is_dead(&self) -> bool {
        self.wait.is_finished()
    }

    pub(super) fn kill(&self) -> Result<()> {
        if self.is_dead() {
            Ok(())
        } else {
            send(self.pid, Signal::KILL)
        }
    }
}

/// Starts a server that outlives this process, with its output in `log`.
pub(super) fn launch(mut command: Command, log: &Path) -> Result<Child> {
    if log_size(log) > LOG_LIMIT {
        std::fs::rename(log, log.with_extension("log.old")).context("cannot put the old log aside")?;
    }
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let output = open().and_then(|file| Ok((file.try_clone()?, file)));
    let (stdout, stderr) = output.with_context(|| format!("cannot write {}", log.display()))?;
    // A process group of its own: Ctrl-C in the terminal is for Kontor, which stops its servers after itself.
    command.process_group(0).stdout(stdout).stderr(stderr);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", command.as_std().get_program().display()))?;
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(id.cast_signed()))
        .context("a child without a process id")?;
    let wait = tokio::spawn(async move {
        if let Ok(status) = child.wait().await {
            tracing::debug!(pid = pid.as_raw_nonzero(), %status, "server.exited");
        }
    });
    Ok(Child { pid, wait })
}

/// The process id in the first line of a file.
pub(super) fn read_pid(file: &Path) -> Option<Pid> {
    Pid::from_raw(
        std::fs::read_to_string(file)
            .ok()?
            .lines()
            .next()?
            .trim()
            .parse()
            .ok()?,
    )
}

/// Whether the process runs and has `mark` among its arguments. A zombie has no arguments, a stranger has
/// others.
pub(super) fn is_alive(pid: Pid, mark: &Path) -> bool {
    std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).is_ok_and(|arguments| {
        arguments
            .split(|&byte| byte == 0)
            .any(|one| one == mark.as_os_str().as_bytes())
    })
}

/// The name of the program that the process runs.
pub(super) fn program_of(pid: Pid) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).ok()?;
    Some(name.trim_end().to_owned())
}

/// Sends a signal; to a process that is gone already that is no error.
pub(super) fn send(pid: Pid, signal: Signal) -> Result<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot send a signal to process {}", pid.as_raw_nonzero()))
        }
    }
}

/// Bytes in the log so far.
pub(super) fn log_size(log: &Path) -> u64 {
    log.metadata().map_or(0, |file| file.len())
}

/// What the log says from `start` on.
pub(super) fn log_since(log: &Path, start: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.take(TAIL_BYTES).read_to_end(&mut text)
    });
    match read {
        Err(error) if error.kind() != ErrorKind::NotFound => format!("({error})"),
        _ => String::from_utf8_lossy(&text).into_owned(),
    }
}

/// The log's last lines, indented.
pub(super) fn log_tail(log: &Path) -> String {
    let text = log_since(log, log_size(log).saturating_sub(TAIL_BYTES));
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    last.iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        for (text, version) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some((15, 18)),
            ),
            ("postgres (PostgreSQL) 18rc1\n", Some((18, 0))),
            (
                "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64\n",
                Some((7, 0)),
            ),
            ("Redis server v=6.2.5\n", Some((6, 2))),
            ("", None),
        ] {
            assert_eq!(parse_version(text), version, "{text:?}");
        }
    }
}
