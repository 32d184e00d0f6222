//! `kontor`: the shop, and the tools of its operator.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    kontor::cli::main(std::env::args_os())
}
