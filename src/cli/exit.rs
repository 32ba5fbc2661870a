//! The end of a program: its last line, its last message, and its exit code.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::shield;
use crate::database;
use crate::error::{Error, ErrorKind, Result};
use crate::exit_code;
use crate::files;
use crate::foreign;
use crate::terminal::{self, errln, github, outln};

/// Prints the last line of a run's output: the path of its report, or that of its `results` where it has none.
pub(super) fn last_line(report: Result<PathBuf>, results: &Path) {
    match report {
        Ok(report) => outln!("{:<12} {}", "report", files::shown(&report)),
        // The results are saved: a report that cannot be is a warning, and changes no exit code.
        Err(error) => {
            errln!("warning: there is no report: {error}");
            outln!("{:<12} {}", "results", files::shown(results));
        }
    }
}

/// Prints an error and returns the exit code that it leads to.
pub fn fail(error: &Error) -> ExitCode {
    ExitCode::from(failed(error))
}

/// Prints an error and ends the process with the exit code that it leads to: for where Criterion takes no error.
pub fn fail_now(error: &Error) -> ! {
    let code = failed(error);
    shield::lower();
    std::process::exit(i32::from(code))
}

fn failed(error: &Error) -> u8 {
    errln!("error: {}", foreign::visible_lines(&foreign::redact(&error.to_string())));
    match error.kind() {
        ErrorKind::Usage => exit_code::USAGE,
        ErrorKind::CouldNotRun => exit_code::COULD_NOT_RUN,
        ErrorKind::Invalid => exit_code::INVALID,
    }
}

/// Returns the exit code of a run that ended with `code`: it is no success if standard output did not take everything.
/// A pipe that its reader has closed changes nothing.
pub fn done(code: u8) -> ExitCode {
    ExitCode::from(match terminal::failure() {
        Some(error) => {
            errln!("error: writing to standard output: {error}");
            if code == 0 { exit_code::COULD_NOT_RUN } else { code }
        }
        None => code,
    })
}

/// Prints clap's message about a command line, and returns its exit code. A misplaced word may be the URL of a
/// database, whose password is then hidden.
pub fn usage(error: &clap::Error) -> ExitCode {
    let code = if error.use_stderr() { exit_code::USAGE } else { 0 };
    for word in std::env::args_os() {
        database::keep_passwords(&word.to_string_lossy());
    }
    if error.use_stderr() {
        let text = error.render().to_string();
        let shown = foreign::redact(&text);
        if github::is_job() || matches!(shown, Cow::Owned(_)) {
            errln!("{}", shown.trim_end());
            return ExitCode::from(code);
        }
    }
    match error.print() {
        Err(unprinted) if unprinted.kind() != std::io::ErrorKind::BrokenPipe && code == 0 => {
            fail(&Error::new(format!("writing to standard output: {unprinted}")))
        }
        _ => ExitCode::from(code),
    }
}
