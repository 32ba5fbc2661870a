//! `cargo bench --bench job_drain`: many certificates are renewed at once, while a fleet of agents lives on.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::job_drain_flags::JobDrainFlags>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
