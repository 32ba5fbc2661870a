//! `cargo bench --bench connector_tier`: what a TLS handshake with the daemons behind certctl's connectors takes.

use std::process::ExitCode;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::connector_tier::ConnectorTier>(env!("CARGO_BIN_EXE_f5-mock"))
}
