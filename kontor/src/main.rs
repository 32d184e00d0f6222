//! `kontor`: the shop, and the tools of its operator.

use std::process::ExitCode;

use clap::Parser;
use kontor::cli::Cli;
use kontor::terminal;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    terminal::log_to_stderr(cli.log());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return terminal::failed(&error.into()),
    };
    match runtime.block_on(cli.carry_out()) {
        Ok(code) => code,
        Err(error) => terminal::failed(&error),
    }
}
