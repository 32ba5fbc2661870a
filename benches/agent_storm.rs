//! `cargo bench --bench agent_storm`: a fleet of agents heartbeats.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::agent_storm_flags::AgentStormFlags>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
