//! `certctl-bench bless`: makes a baseline to commit, from runs that agree.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::common_flags::duration;
use super::signals::Signals;
use super::turn::{Contender, Ran};
use crate::baseline::{bless, source};
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::summary::{Summary, Verdict};
use crate::terminal::{err, errln, outln};

/// The most repetitions of a run that is invalid for reasons of the generator or its machine.
const MOST_REPEATS: u32 = 2;

/// Flags of `certctl-bench bless`.
#[derive(Args, Clone, Debug)]
#[command(override_usage = "certctl-bench bless [OPTIONS] SUMMARY...\n       \
                            certctl-bench bless [OPTIONS] --command COMMAND")]
pub struct BlessFlags {
    /// The summary.json of at least five runs of the same workload, or the folders that hold them.
    #[arg(value_name = "SUMMARY", required_unless_present = "command")]
    runs: Vec<PathBuf>,
    /// Make the runs first: 'cargo bench --bench agent_storm -- --mode sustained'. It is split into words as a shell
    /// does it, and run without a shell.
    #[arg(long, value_name = "COMMAND", conflicts_with = "runs")]
    command: Option<String>,
    /// With --command: number of runs.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..=50))]
    times: u32,
    /// With --command: folder of their results, with a folder for each.
    #[arg(long, value_name = "FOLDER", default_value = "target/certctl-bench/bless")]
    results: PathBuf,
    /// With --command: longest time for a run; a longer one is stopped and fails.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    longest_run: Duration,
    #[command(flatten)]
    place: BaselinePlace,
}

/// The file to which a baseline is written.
#[derive(Args, Clone, Debug)]
pub struct BaselinePlace {
    /// The folder of baselines; the file is ENVIRONMENT/SCENARIO.json in it.
    #[arg(long, value_name = "FOLDER", default_value = "baselines", conflicts_with = "output")]
    folder: PathBuf,
    /// Write this file instead.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Blesses the runs, and prints where the baseline is and how much runs differ.
///
/// # Errors
/// If there are too few, one is unfit, they do not agree, or the file cannot be written.
pub fn run(flags: BlessFlags) -> Result<()> {
    let runs = match &flags.command {
        Some(command) => make(&flags, command)?,
        None => flags.runs.clone(),
    };
    if let Some(path) = &flags.place.output {
        files::refuse_input(path, &runs)?;
    }
    flags.place.bless(&source::summaries(&runs)?)
}

impl BaselinePlace {
    /// Blesses runs, each with its name, and prints where the baseline is and how much runs differ.
    ///
    /// # Errors
    /// If there are too few, one is unfit, they do not agree, or the file cannot be written.
    pub(super) fn bless(&self, runs: &[(String, Summary)]) -> Result<()> {
        let baseline = bless::bless(runs)?;
        let place = || self.folder.join(baseline.environment.folder()).join(format!("{}.json", baseline.scenario));
        let path = self.output.clone().unwrap_or_else(place);
        bless::write(&baseline, &path)?;
        outln!("{:<12} {} runs of {}", "blessed", baseline.runs.len(), baseline.scenario);
        let breached = baseline.runs.iter().filter(|run| run.verdict == Verdict::Breached).count();
        if breached > 0 {
            // Blessed all the same: a run that breaches a threshold can still regress, which is what a baseline is for.
            outln!("{:<12} {breached} of them breach a threshold; the baseline is valid nevertheless", "note");
        }
        for (name, line) in &baseline.measures {
            let is_shown = name.ends_with("/response_p50_us") || name.ends_with("/response_p99_us");
            if let (true, Some(spread)) = (is_shown, line.spread()) {
                outln!("{:<12} by {:.1}% in {name}", "runs differ", spread * 100.0);
            }
        }
        outln!("{:<12} {}", "written", path.display());
        Ok(())
    }
}

/// Makes the runs, and returns their folders. Results of earlier runs are replaced.
fn make(flags: &BlessFlags, command: &str) -> Result<Vec<PathBuf>> {
    let contender = Contender::parse("command", command)?;
    // Made absolute: a command may have another working folder than this process, as `cargo bench` has.
    let results =
        std::path::absolute(&flags.results).context(|| format!("finding the folder {}", flags.results.display()))?;
    let _claim = files::claim(&results)?;
    let stop = Signals::flag()?;
    let (mut folders, mut repeated) = (Vec::new(), Vec::new());
    for number in 1..=flags.times {
        let folder = results.join(format!("run-{number:02}"));
        for repeat in 0..=MOST_REPEATS {
            empty(&folder)?;
            err!("run {number} of {} … ", flags.times);
            match contender.run(&folder, flags.longest_run, &stop).inspect_err(|_| errln!("ended"))? {
                Ran::Fit { verdict, took } => {
                    errln!("{verdict}, {:.0} s", took.as_secs_f64());
                    break;
                }
                Ran::Ours(why) => {
                    errln!("invalid");
                    repeated.push(format!("run {number}: {why}"));
                }
            }
            if repeat == MOST_REPEATS {
                let why = repeated.last().map_or("", String::as_str);
                return Err(Error::invalid(format!(
                    "{} attempts were all invalid, the last of {why}",
                    MOST_REPEATS + 1
                ))
                .with_hint("use a less busy machine"));
            }
        }
        folders.push(folder);
    }
    outln!(
        "{:<12} {} of {} runs, each for a reason of the generator or this machine",
        "repeated",
        repeated.len(),
        flags.times
    );
    for why in repeated {
        outln!("{:<12} {why}", "");
    }
    Ok(folders)
}

/// Removes the results of an earlier run.
fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}
