//! `cargo bench --bench connector_tier`: the time of a TLS handshake with the daemons behind certctl's connectors.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::connector_tier_flags::ConnectorTierFlags>(env!(
        "CARGO_BIN_EXE_f5-mock"
    ))
}
