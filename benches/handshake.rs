//! `cargo bench --bench handshake`: raw TLS handshakes, case by case.

use std::process::ExitCode;

fn main() -> ExitCode {
    certctl_bench::cli::handshake_bench::main()
}
