//! `cargo bench --bench agent_storm`: a fleet of agents heartbeats at certctl.

use std::process::ExitCode;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main(env!("CARGO_BIN_EXE_certctl-reference"))
}
