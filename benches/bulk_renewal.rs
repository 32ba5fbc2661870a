//! `cargo bench --bench bulk_renewal`: certificates are put into renewal, many by one request.

use std::process::ExitCode;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::bulk_renewal::BulkRenewal>(env!(
        "CARGO_BIN_EXE_certctl-reference"
    ))
}
