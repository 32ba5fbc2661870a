//! `cargo bench --bench agent_storm`: a fleet of agents heartbeats.

use std::process::ExitCode;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::agent_storm::AgentStorm>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
