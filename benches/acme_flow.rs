//! `cargo bench --bench acme_flow`: ACME clients read directory, nonce and renewal information.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::acme_flags::AcmeFlowFlags>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
