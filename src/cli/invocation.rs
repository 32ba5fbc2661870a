//! The start of a bench target: by `cargo bench`, which builds a program for each, or by `certctl-bench run`. Parts of
//! a run are played by processes of the same program, so that each has to know which bench target it is to be.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::error::{Context, Error, Result};

/// Names the bench target that a process of `certctl-bench` is to play a part of. What its part is, another variable or
/// standard input says.
const VARIABLE: &str = "CERTCTL_BENCH_PART_OF";

/// The start of a bench target.
#[derive(Clone, Debug)]
pub struct Invocation {
    name: &'static str,
    /// The words that a user writes before the flags.
    bin_name: String,
    /// The bench target's command line. It begins with a name.
    arguments: Vec<OsString>,
}

impl Invocation {
    /// Returns the start of the bench target `name` by the program that Cargo has built for it.
    pub fn of_cargo(name: &'static str) -> Self {
        let arguments = std::env::args_os().collect();
        Self { name, bin_name: format!("cargo bench --bench {name} --"), arguments }
    }

    /// Returns its start by `certctl-bench run`, with these flags. It measures, unless they say otherwise.
    pub(super) fn of_verb(name: &'static str, flags: Vec<OsString>) -> Self {
        let arguments = [name, "--bench"].into_iter().map(Into::into).chain(flags).collect();
        Self { name, bin_name: format!("certctl-bench run {name}"), arguments }
    }

    /// Returns the words that a user writes before the flags, for help and messages.
    pub(super) fn bin_name(&self) -> &str {
        &self.bin_name
    }

    /// Returns the command line, a name first.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        self.arguments.clone()
    }

    /// Returns the command line as text: it is handed over as JSON.
    ///
    /// # Errors
    /// If a part of it is not UTF-8.
    pub(super) fn texts(&self) -> Result<Vec<String>> {
        let texts = self.arguments.iter().map(|argument| {
            argument.to_str().map(str::to_owned).ok_or_else(|| {
                Error::usage(format!("the argument {argument:?} is not UTF-8")).with_hint("give a path whose name is")
            })
        });
        texts.collect()
    }

    /// Returns the command of another process of this program, which is to play a part of the same bench target.
    ///
    /// # Errors
    /// If this program cannot be found.
    pub(super) fn again(&self) -> Result<Command> {
        let mut command = Command::new(this_program()?);
        command.env(VARIABLE, self.name);
        Ok(command)
    }
}

/// Returns the name of the bench target that this process is to play a part of, if it was started for that.
pub(super) fn part_of() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// Returns the path of another program of this suite: all of them are in one folder.
///
/// # Errors
/// If this program cannot be found.
pub(super) fn beside(name: &str) -> Result<PathBuf> {
    Ok(this_program()?.with_file_name(name))
}

fn this_program() -> Result<PathBuf> {
    std::env::current_exe().context(|| "finding this program".to_owned())
}
