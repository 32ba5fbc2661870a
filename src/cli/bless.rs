//! `certctl-bench bless`: makes a baseline to commit, from runs that agree.

use std::path::PathBuf;

use clap::Args;

use crate::baseline::{bless, source};
use crate::error::Result;
use crate::report::Verdict;

/// Flags of `certctl-bench bless`.
#[derive(Args, Clone, Debug)]
pub struct BlessFlags {
    /// The summary.json of at least five runs of the same thing, or the folders that hold them.
    #[arg(value_name = "SUMMARY", required = true)]
    runs: Vec<PathBuf>,
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
    let baseline = bless::bless(&source::summaries(&flags.runs)?)?;
    let place = || flags.folder.join(baseline.environment.folder()).join(format!("{}.json", baseline.scenario));
    let path = flags.output.clone().unwrap_or_else(place);
    bless::write(&baseline, &path)?;
    println!("{:<12} {} runs of {}", "blessed", baseline.runs.len(), baseline.scenario);
    let breached = baseline.runs.iter().filter(|run| run.verdict == Verdict::Breached).count();
    if breached > 0 {
        // What is slow can become slower: a threshold is one question, a regression another.
        println!("{:<12} {breached} of them breach a threshold; the baseline holds all the same", "note");
    }
    let floors = baseline
        .measures
        .iter()
        .filter(|(name, _)| name.ends_with("/response_p50_us") || name.ends_with("/response_p99_us"));
    for (name, line) in floors {
        println!("{:<12} {name}: {:.1}%", "noise floor", line.noise_floor * 100.0);
    }
    println!("{:<12} {}", "written", path.display());
    Ok(())
}
