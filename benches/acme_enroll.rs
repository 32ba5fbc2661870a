//! `cargo bench --bench acme_enroll`: ACME clients enrol by signed requests.

use std::process::ExitCode;

use certctl_bench::measure::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::acme_enroll_flags::AcmeEnrollFlags>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
