//! `cargo bench --bench acme_burst`: ACME clients read directory, nonce and renewal information as fast as they can.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::acme_flags::AcmeBurstFlags>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
