//! Exit codes: 0 pass · 1 could not run · 2 usage · 3 threshold breached · 4 regressed · 5 invalid measurement.

use std::process::ExitCode;

use crate::error::{Error, ErrorKind};

/// The suite could not run.
pub const COULD_NOT_RUN: u8 = 1;
/// A flag, an environment variable or a file given by the user is wrong.
pub const USAGE: u8 = 2;
/// A measure regressed against its baseline.
pub const REGRESSED: u8 = 4;
/// A measurement is invalid, or two cannot be compared. Outranks 3 and 4.
pub const INVALID: u8 = 5;

/// Prints an error and gives the exit code that it leads to.
pub fn fail(error: &Error) -> ExitCode {
    eprintln!("certctl-bench: {error}");
    ExitCode::from(match error.kind() {
        ErrorKind::Usage => USAGE,
        ErrorKind::CouldNotRun => COULD_NOT_RUN,
        ErrorKind::Invalid => INVALID,
    })
}
