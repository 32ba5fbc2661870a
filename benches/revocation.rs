//! `cargo bench --bench revocation`: certificates are revoked in bulk while relying parties ask for their status.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::revocation_flags::RevocationFlags>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
