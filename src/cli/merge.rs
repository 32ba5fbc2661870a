//! `certctl-bench merge`: makes the one result of a run, and its verdict, from the parts of its shards.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::bench::{self, Bench, ChoiceOf};
use super::bench_load::BenchLoad;
use super::common_flags::duration;
use super::exit;
use super::github_job;
use super::prepare::SystemChoice as _;
use super::registry;
use super::session::Session;
use crate::baseline::workload::WorkloadIdentity;
use crate::clock::{Moment, WallTime};
use crate::error::{Error, Result};
use crate::files;
use crate::foreign;
use crate::load::cut::Cut;
use crate::load::shard::Shard;
use crate::report::{result_files, text};
use crate::shard::merge::{MergedRun, Merger};
use crate::shard::part::{self, ShardPart};
use crate::summary::Summary;
use crate::summary::plan::PlanFacts;
use crate::system::CheckedCertctl;
use crate::terminal::{errln, out, outln};

/// The interval at which a wait looks for parts.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Flags of `certctl-bench merge`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Every shard of the run has to be there, once.\n\
                  Exit codes: 0 pass, 1 could not run, 2 usage, 3 threshold breached, 5 a part is missing, twice, cut \
                  off or of another run, or the measurement is invalid.")]
pub struct MergeFlags {
    /// The parts: files, or the folder to which the shards wrote them.
    #[arg(value_name = "PART", required = true)]
    parts: Vec<PathBuf>,
    /// Wait for the parts of all shards: so long, from the start on where that is given.
    #[arg(long, value_name = "SPAN", value_parser = duration, requires = "count")]
    wait: Option<Duration>,
    /// The common start of the run: a part of a run with another is refused.
    #[arg(long, value_name = "TIME", env = "CERTCTL_BENCH_START")]
    start: Option<WallTime>,
    /// With --wait: the number of shards.
    #[arg(long, env = "CERTCTL_BENCH_SHARD_COUNT")]
    count: Option<u64>,
    /// Folder of the results [default: target/certctl-bench, and the bench target's name].
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_OUTPUT")]
    output: Option<PathBuf>,
}

/// Merges the parts, prints and writes the result, and returns the exit code of its verdict.
///
/// # Errors
/// If a part is missing, twice, damaged or of another run (kind `Invalid`), or the result cannot be written.
pub fn run(flags: &MergeFlags) -> Result<u8> {
    if let Some((patience, count)) = flags.wait.zip(flags.count) {
        // Every shard removes its part of an earlier run before the start.
        let start = flags.start.map_or_else(Moment::now, WallTime::moment);
        wait(&flags.parts, count, start, patience);
    }
    let mut merger = Merger::default();
    for path in part::files_of(&flags.parts)? {
        // A shown path is one line.
        let name = files::shown(&path);
        match ShardPart::read(&path) {
            Ok(part) if flags.start.is_none_or(|start| start == part.start()) => merger.add(&name, part),
            Ok(part) => {
                let start = part.start();
                merger.refuse(&name, &Error::invalid(format!("it is of another run, which started at {start}")));
            }
            Err(error) => merger.refuse(&name, &error),
        }
    }
    let run = merger.finish()?;
    let target = registry::named(&run.about.scenario)?;
    let (folder, _claim) = bench::output_folder(flags.output.clone(), target.name, false)?;
    let summary = target.sum_up(run)?;
    result_files::set_aside(&folder)?;
    out!("{}\n{}", text::heading(&summary.about, summary.plans()), text::results(&summary));
    result_files::save(&summary, &folder)?;
    outln!("{:<12} {}", "written", files::shown(&folder.join("summary.{json,txt}")));
    github_job::of_run(&summary, &folder, false);
    let exit_code = summary.exit_code;
    let report = result_files::save_report(summary, &folder).map(|(file, _)| file);
    exit::last_line(report, &folder.join("summary.json"));
    Ok(exit_code)
}

/// Waits until the start has passed and there are as many parts, or patience ends: the merge then names those that are
/// missing.
fn wait(paths: &[PathBuf], count: u64, start: Moment, patience: Duration) {
    let mut last = None;
    loop {
        let now = Moment::now();
        // A folder may not be there yet.
        let found = part::files_of(paths).unwrap_or_default().len() as u64;
        if now >= start && found >= count {
            return;
        }
        if last.replace(found) != Some(found) {
            errln!("waiting for parts: {found} of {count} are there");
        }
        if now >= start + patience {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Makes the summary of a run of the bench target `B`. Its workloads are planned again, from the flags in its parts,
/// and its scenarios add up the answers; nothing is sent.
pub(super) fn sum_up<B: Bench>(run: MergedRun) -> Result<Summary> {
    let other = |what: String| {
        Error::invalid(format!("merging parts: {what}")).with_hint("merge with the version that played the shards")
    };
    let load = BenchLoad::<B>::restore(&run.flags)?;
    let certctl = CheckedCertctl::offline(run.about.system.clone(), run.acme)?;
    let system = ChoiceOf::<B>::handed_over(certctl);
    let system = system.ok_or_else(|| other(format!("{} is not played by shards", B::NAME)))?;
    let groups = bench::bind(load.bench.groups(&load.load)?, &system)?;
    let [group] = &groups[..] else { return Err(other(format!("{} has no common start", B::NAME))) };
    let plans: Vec<PlanFacts> = group.iter().map(PlanFacts::of_workload).collect();
    let fingerprint = WorkloadIdentity::of_plans(B::NAME, plans.iter()).fingerprint;
    if fingerprint != run.fingerprint {
        let shown = foreign::line(&run.fingerprint);
        return Err(other(format!("their flags plan a workload of fingerprint {fingerprint}, not {shown}")));
    }
    let session = Session {
        system: &system,
        groups: &groups,
        shards: vec![Shard::WHOLE],
        floor: load.bench.is_judged().then(|| load.bench.error_floor()),
        smoke: false,
        max_other_cpu: load.load.max_other_cpu,
        rotates_every: None,
        stop: std::sync::Arc::default(),
        cut: Cut::new(load.load.limits()),
        crew: None,
        keep: &|_| {},
        live: None,
    };
    session.of_shards(run.about, group, run.merged)
}
