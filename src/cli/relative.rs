//! `certctl-bench relative`: runs two bench commands in turn on this machine, and compares the second with the first.
//!
//! Pairs are run in the order of the Thue-Morse sequence, ABBA BAAB: a drift of the machine, be it steady or curved,
//! falls on both sides alike.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::common_flags::duration;
use super::compare::share;
use super::signals::Signals;
use super::turn::{Contender, Ran};
use crate::baseline::compare::{self, CompareOptions};
use crate::baseline::source;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::report::comparison_markdown;
use crate::terminal::{err, errln, out, outln};

/// The most repetitions of a pair in which a run is unfit.
const MOST_REPEATS: u32 = 2;

/// Flags of `certctl-bench relative`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Both commands are bench targets that run a workload; a command is split into words as a shell does \
                  it, and run without a shell. Each run writes its results and output to OUTPUT/pair-NN/base or head, \
                  which it gets in CERTCTL_BENCH_OUTPUT. To compare two certctls, give the same bench target twice, \
                  each with its own --target.\n\
                  Exit codes: 0 nothing regressed, 1 could not run, 2 usage, 4 regressed, 5 invalid or incomparable."
)]
pub struct RelativeFlags {
    /// The command to compare with: 'cargo bench --bench agent_storm -- --mode sustained'
    #[arg(long, value_name = "COMMAND")]
    base: String,
    /// The command to compare.
    #[arg(long, value_name = "COMMAND")]
    head: String,
    /// Number of runs of each.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pairs: u32,
    /// Folder of the results. Those of an earlier comparison are removed from it.
    #[arg(long, value_name = "FOLDER", default_value = "target/certctl-bench/relative")]
    output: PathBuf,
    /// Smallest change of a latency that counts as one: 5%, 0.5%.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = share, env = "CERTCTL_BENCH_THRESHOLD")]
    threshold: f64,
    /// File for the comparison as JSON [default: comparison.json in OUTPUT].
    #[arg(long, value_name = "FILE")]
    comparison: Option<PathBuf>,
    /// Write it as Markdown too, for a pull request's comment.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Longest time for a run; a longer one is stopped and fails.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    longest_run: Duration,
}

/// Runs both in turn, compares, and prints a table and a verdict.
///
/// # Errors
/// If a command cannot be parsed, a run was unfit however often it was repeated, or this process was stopped.
pub fn run(flags: RelativeFlags) -> Result<u8> {
    let sides = [Contender::parse("base", &flags.base)?, Contender::parse("head", &flags.head)?];
    // Made absolute: a command may have another working folder than this process, as `cargo bench` has.
    let output =
        std::path::absolute(&flags.output).context(|| format!("finding the folder {}", files::shown(&flags.output)))?;
    let _claim = files::claim(&output)?;
    let file = flags.comparison.unwrap_or_else(|| output.join("comparison.json"));
    let written = || [Some(&file), flags.markdown.as_ref()].into_iter().flatten();
    // Checked before anything of an earlier comparison is removed.
    written().try_for_each(|file| files::check(file))?;
    remove_earlier(&output)?;
    // A file of an earlier comparison must not be taken for one of this comparison.
    written().try_for_each(|file| files::forget(file))?;
    let contest = Contest { sides, output, pairs: flags.pairs, limit: flags.longest_run, stop: Signals::flag()? };
    let mut earlier = HashSet::new();
    for pair in 0..flags.pairs {
        contest.run_pair(pair, &mut earlier)?;
    }
    let [base, head] = contest.folders();
    let options = CompareOptions { threshold: flags.threshold, counts_only: false };
    let comparison = compare::run(&source::side(&base)?, &source::side(&head)?, options);
    comparison.save(&file)?;
    if let Some(path) = &flags.markdown {
        files::write(path, comparison_markdown::section(&comparison))?;
    }
    out!("{comparison}");
    outln!("{:<12} {}", "written", file.display());
    Ok(comparison.exit_code)
}

/// Two commands, and the folder of their runs.
struct Contest {
    sides: [Contender; 2],
    output: PathBuf,
    pairs: u32,
    limit: Duration,
    stop: Arc<AtomicBool>,
}

impl Contest {
    /// Runs a pair until both of its runs are fit to be compared. Both are repeated together, since machine and system
    /// change over time. `earlier` identifies all runs so far.
    fn run_pair(&self, pair: u32, earlier: &mut HashSet<String>) -> Result<()> {
        let folder = self.folder(pair);
        for repeat in 0..=MOST_REPEATS {
            let Some(trouble) = self.try_pair(pair, &folder, earlier)? else { return Ok(()) };
            if repeat == MOST_REPEATS {
                return Err(trouble);
            }
            errln!("{}\n  pair {} again, repeat {} of {MOST_REPEATS}", trouble.what(), pair + 1, repeat + 1);
            let aside = PathBuf::from(format!("{}-unfit-{}", folder.display(), repeat + 1));
            fs::rename(&folder, &aside).context(|| format!("renaming {} to {}", folder.display(), aside.display()))?;
        }
        Ok(())
    }

    /// Runs a pair once; returns the reason if one of its runs is unfit.
    fn try_pair(&self, pair: u32, folder: &Path, earlier: &mut HashSet<String>) -> Result<Option<Error>> {
        for (place, side) in order(pair).into_iter().enumerate() {
            let contender = &self.sides[side];
            err!("run {} of {}: {} … ", 2 * pair + place as u32 + 1, 2 * self.pairs, contender.label);
            let mut ran = contender.run(&folder.join(contender.label), self.limit, &self.stop);
            if let Ok(Ran::Fit { identity, .. }) = &ran
                && !earlier.insert(identity.clone())
            {
                ran = Ok(Ran::Unfit(copied(contender.label)));
            }
            match &ran {
                Ok(Ran::Fit { verdict, took, .. }) => errln!("{verdict}, {:.0} s", took.as_secs_f64()),
                Ok(Ran::Unfit(_)) => errln!("unfit"),
                Err(_) => errln!("ended"),
            }
            if let Ran::Unfit(trouble) = ran? {
                return Ok(Some(trouble));
            }
        }
        Ok(None)
    }

    fn folder(&self, pair: u32) -> PathBuf {
        self.output.join(format!("pair-{:02}", pair + 1))
    }

    /// Returns the folders of the runs that count, of base and head.
    fn folders(&self) -> [Vec<PathBuf>; 2] {
        self.sides.each_ref().map(|side| (0..self.pairs).map(|pair| self.folder(pair).join(side.label)).collect())
    }
}

/// Returns the error for a run that is an earlier one: a command that measured nothing left its summary again.
fn copied(label: &str) -> Error {
    Error::invalid(format!("the run of {label} is the same as an earlier one: the command left the same summary again"))
        .with_hint("give a command that measures on each run")
}

/// Returns the order of a pair's sides: 0 is the base, 1 the head.
fn order(pair: u32) -> [usize; 2] {
    if pair.count_ones().is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

/// Removes the pairs of an earlier comparison, and nothing else.
fn remove_earlier(output: &Path) -> Result<()> {
    let reading = || format!("reading the folder {}", output.display());
    for entry in fs::read_dir(output).context(reading)? {
        let path = entry.context(reading)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let number = name.strip_prefix("pair-").map(|rest| rest.split_once("-unfit-").map_or(rest, |(pair, _)| pair));
        if number.is_some_and(|number| number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit())) {
            fs::remove_dir_all(&path).context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternating_pairs_cancel_a_drift() {
        let sequence: Vec<usize> = (0..8).flat_map(order).collect();
        let letters: String = sequence.iter().map(|side| ["A", "B"][*side]).collect();
        assert_eq!(letters, "ABBABAABBAABABBA");
        // Up to a third power of the time, a drift adds the same to both sides.
        for power in 0..4 {
            let drift = |wanted| -> i64 {
                let places = sequence.iter().enumerate().filter(|(_, side)| **side == wanted);
                places.map(|(place, _)| (place as i64).pow(power)).sum()
            };
            assert_eq!(drift(0), drift(1), "power {power}");
        }
    }
}
