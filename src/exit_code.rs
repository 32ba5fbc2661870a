//! The exit codes of every program of the suite.

/// Everything is as it has to be.
pub const PASS: u8 = 0;
/// The suite could not run.
pub const COULD_NOT_RUN: u8 = 1;
/// A flag, an environment variable or a file given by the user is wrong.
pub const USAGE: u8 = 2;
/// A run breached a threshold.
pub const BREACHED: u8 = 3;
/// A measure regressed against its baseline.
pub const REGRESSED: u8 = 4;
/// A measurement is invalid, two cannot be compared, or one lacks evidence. The first two outrank [`REGRESSED`], and
/// [`BREACHED`] unless the breach is clear all the same.
pub const INVALID: u8 = 5;
/// The list of them, for `--help`.
pub const HELP: &str = "Exit codes: 0 pass, 1 could not run, 2 usage, 3 threshold breached, 4 regressed against the \
                        baseline, 5 invalid measurement.";
