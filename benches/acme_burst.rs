//! `cargo bench --bench acme_burst`: the same, as fast as they can.

use std::process::ExitCode;

fn main() -> ExitCode {
    certctl_bench::cli::bench::main::<certctl_bench::cli::acme::AcmeBurst>(env!("CARGO_BIN_EXE_certctl-reference"))
}
