//! `cargo bench --bench deploy_loop`: certificates are renewed, signed, fetched, installed and seen at the daemon.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::deploy_loop_flags::DeployLoopFlags>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
