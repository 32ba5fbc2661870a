//! `cargo bench --bench api_tier`: certificates are posted while certificates are listed.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::api_tier_flags::ApiTierFlags>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
