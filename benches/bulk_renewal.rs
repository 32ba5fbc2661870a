//! `cargo bench --bench bulk_renewal`: certificates are put into renewal, many by one request.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::bulk_renewal_flags::BulkRenewalFlags>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
