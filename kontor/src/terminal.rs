//! The one place that writes to the terminal.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::EnvFilter;

/// A line on standard output. If nobody reads it any more (`kontor status | head -1`), that is no reason to fail, and none to
/// stop serving.
pub fn say(line: impl std::fmt::Display) {
    let _ = heard(line);
}

/// A line on standard output; false if nobody reads it any more.
#[must_use]
pub fn heard(line: impl std::fmt::Display) -> bool {
    writeln!(std::io::stdout(), "{line}").is_ok()
}

/// What went wrong, with its causes, on standard error; the exit code that goes with it.
#[expect(clippy::print_stderr, reason = "errors of a command go to standard error")]
#[must_use]
pub fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("kontor: {error:#}");
    ExitCode::FAILURE
}

/// Sends the log to standard error. `filter` as in `RUST_LOG`; what cannot be read is ignored.
pub fn log_to_stderr(filter: &str) {
    let filter = EnvFilter::builder().parse_lossy(filter);
    let ansi = std::io::stderr().is_terminal();
    // Fails only if a log is set up already, and then that one is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .try_init();
}

/// A bar for reading the log: events, events per second, time left. On standard error, and only if that is a terminal.
#[must_use]
pub fn event_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:32} {human_pos}/{human_len} events · {per_sec} · {eta} left")
    {
        bar.set_style(style);
    }
    bar
}
