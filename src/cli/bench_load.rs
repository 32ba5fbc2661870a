//! The flags of a bench target after `--`, for verbs that play its workloads themselves.

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use super::bench::Bench;
use super::common_flags::LoadFlags;
use crate::error::{Error, Result};

/// The flags after `--`.
#[derive(Clone, Debug, Parser)]
#[command(args_override_self = true)]
pub(super) struct BenchLoad<B: Bench> {
    #[command(flatten, next_help_heading = "Workload")]
    pub(super) bench: B,
    #[command(flatten)]
    pub(super) load: LoadFlags,
}

/// A bench target of a verb that plays its workloads itself: its name, and the verb for it.
pub(super) type Played<F> = (&'static str, fn(F) -> Result<u8>);

/// Runs a verb for the bench target of this name; `what` is a thing that each of `targets` has.
///
/// # Errors
/// If none has that name, or the verb fails.
pub(super) fn play<F>(targets: &[Played<F>], name: &str, what: &str, flags: F) -> Result<u8> {
    match targets.iter().find(|(known, _)| *known == name) {
        Some((_, verb)) => verb(flags),
        None => {
            let names: Vec<&str> = targets.iter().map(|(known, _)| *known).collect();
            Err(Error::usage(format!("--bench {name}: no bench target of that name has {what}"))
                .with_hint(format!("give one of {}", names.join(", "))))
        }
    }
}

impl<B: Bench> BenchLoad<B> {
    /// Parses the flags after the `--` of a verb. `refused` are those that have no effect there: clap's ids, and what a
    /// user may do instead.
    ///
    /// # Errors
    /// If a flag is wrong, or has no effect.
    pub(super) fn parse(verb: &str, flags: &[String], refused: &[(&str, &str)]) -> Result<Self> {
        let words = std::iter::once(format!("certctl-bench {verb} --")).chain(flags.iter().cloned());
        let command = Self::command().no_binary_name(false).about(B::ABOUT);
        let wrong = |error: clap::Error| wrong(&error, B::NAME);
        let matches = command.try_get_matches_from(words).map_err(wrong)?;
        let parsed = Self::from_arg_matches(&matches).map_err(wrong)?;
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        if let Some((id, why)) = refused.iter().find(|(id, _)| given(id)) {
            return Err(Error::usage(format!("--{} {why}", id.replace('_', "-"))).with_hint("leave it out"));
        }
        if let Some((id, what_for)) = parsed.bench.ignored().into_iter().find(|(id, _)| given(id)) {
            return Err(Error::usage(format!("--{} {what_for}: leave it out", id.replace('_', "-"))));
        }
        Ok(parsed)
    }

    /// Parses words that [`bench::load_words`](super::bench::load_words) has made. The environment does not count.
    ///
    /// # Errors
    /// If they are others.
    pub(super) fn restore(words: &[String]) -> Result<Self> {
        let command = Self::command().no_binary_name(true).mut_args(|arg| arg.env(None::<&str>));
        let parsed = command.try_get_matches_from(words).and_then(|matches| Self::from_arg_matches(&matches));
        parsed.map_err(|error| wrong(&error, B::NAME))
    }
}

/// Returns clap's error about the flags after `--` as one of the suite.
pub(super) fn wrong(error: &clap::Error, bench: &str) -> Error {
    match error.use_stderr() {
        true => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            Error::usage(format!("the flags after `--`: {}", text.lines().next().unwrap_or_default()))
                .with_hint(format!("see cargo bench --bench {bench} -- --help"))
        }
        false => Error::usage(error.to_string()),
    }
}
