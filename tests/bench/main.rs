//! `make bench`: Kontor's speed, each figure a ratio of two things measured in turn in the same run.
//!
//! Started by `scripts/with-servers`, which names a Postgres to make databases in and a Redis. Arguments: the parts to
//! measure, all by default, and the unpacked online-retail file (or `ONLINE_RETAIL_CSV`) if its import is to be
//! measured. A target that is missed is said, and is no failure; what cannot be measured is one.

mod append;
mod guards;
mod history;
mod http;
mod import;
mod orders;
mod paid;
mod postgres;
mod product;
mod replay;
mod report;
mod server;
mod shop;
mod socket;
mod sockets;
mod subscribers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kontor::terminal::{failed, say};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::report::Measure;

/// As the server it is compared with.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PARTS: [&str; 10] = [
    "append",
    "accepted",
    "hot",
    "paid",
    "replay",
    "sealed",
    "product",
    "subscribers",
    "guards",
    "sockets",
];
/// Files open at once: ten thousand sockets, and what else there is.
const FILES: u64 = 16_384;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("plain-axum") => serving(product::plain()),
        Some("unguarded") => serving(guards::unguarded()),
        _ => bench(&arguments),
    };
    done.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

/// A server to be measured, until it is killed.
fn serving(server: impl Future<Output = Result<()>>) -> Result<()> {
    Builder::new_multi_thread().enable_all().build()?.block_on(server)
}

fn bench(arguments: &[String]) -> Result<()> {
    let (parts, files): (Vec<&str>, Vec<&str>) = arguments
        .iter()
        .map(String::as_str)
        .partition(|it| PARTS.contains(it));
    let parts = if parts.is_empty() { PARTS.to_vec() } else { parts };
    let file = files
        .first()
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("ONLINE_RETAIL_CSV").map(PathBuf::from));
    let admin =
        std::env::var("DATABASE_URL").context("DATABASE_URL; start the bench with scripts/with-servers")?;
    std::env::var("REDIS_URL").context("REDIS_URL; start the bench with scripts/with-servers")?;
    allow_files()?;

    let started = Instant::now();
    let (mut measures, mut failures) = (Vec::new(), Vec::new());
    let names = parts
        .into_iter()
        .map(|part| (part, None))
        .chain(file.map(|file| ("import", Some(file))));
    for (part, file) in names {
        say(format!("{part} ({} s)", started.elapsed().as_secs()));
        match measure(part, &admin, file) {
            Ok(more) => measures.extend(more),
            Err(error) => {
                say(format!("  not measured: {error:#}"));
                failures.push(part);
            }
        }
    }
    say("");
    for measure in &measures {
        say(measure.line());
    }
    let judged: Vec<bool> = measures.iter().filter_map(Measure::met).collect();
    let met = judged.iter().filter(|met| **met).count();
    say(format!(
        "\n{met} of {} targets met, in {} s",
        judged.len(),
        started.elapsed().as_secs()
    ));
    if !failures.is_empty() {
        bail!("could not be measured: {}", failures.join(", "));
    }
    Ok(())
}

fn measure(part: &str, admin: &str, file: Option<PathBuf>) -> Result<Vec<Measure>> {
    if ["append", "paid"].contains(&part) {
        // In this process, so on a runtime as Kontor's own.
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(async {
            match part {
                "append" => append::append(admin).await,
                _ => paid::paid(admin).await,
            }
        });
    }
    // Everywhere else this process is the load, on one thread, and Kontor is another process.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        Ok(match (part, file) {
            ("accepted", _) => vec![orders::accepted(admin).await?],
            ("hot", _) => vec![orders::hot(admin).await?],
            ("replay", _) => vec![replay::replay(admin).await?],
            ("sealed", _) => vec![replay::sealed(admin).await?],
            ("product", _) => vec![product::product(admin).await?],
            ("guards", _) => guards::guards(admin).await?,
            ("sockets", _) => sockets::sockets(admin).await?,
            ("import", Some(file)) => vec![import::import(admin, &file).await?],
            _ => subscribers::subscribers(admin).await?,
        })
    })
}

/// Raises the soft limit on open files, for this process and those it starts.
fn allow_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|files| files < FILES) {
        let current = limit.maximum.map_or(FILES, |most| most.min(FILES));
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(current),
                maximum: limit.maximum,
            },
        )
        .context("the limit on open files")?;
    }
    Ok(())
}
