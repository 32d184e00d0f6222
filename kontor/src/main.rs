//! `kontor`: the shop, and the tools of its operator.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kontor::cli::main(std::env::args_os())
}
