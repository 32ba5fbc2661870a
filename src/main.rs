//! `certctl-bench`: the bench targets, and the verbs beside them.

#![warn(clippy::unwrap_used)]

use std::process::ExitCode;

use certctl_bench::cli::{
    bless, capacity, compare, completions, doctor, duet, exit, export, init_ci, man, merge, registry, report, run,
    runs, seed, shard, signals, splice,
};
use certctl_bench::load::limits::allow_threads;
use certctl_bench::measure::allocations::Counting;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Benchmark and load-test suite for certctl.
///
/// Scenarios are bench targets: `certctl-bench run agent_storm`, or in a checkout `cargo bench --bench agent_storm`.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 could not run, 2 usage, 3 threshold breached, 4 regressed, 5 invalid or incomparable."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Play a bench target: load a system by a scenario, measure, and judge.
    Run(run::RunFlags),
    /// Apply the seeds to a load-test database, put them back, or clean up after runs.
    Seed(seed::SeedFlags),
    /// Check a certctl, running or to be started, for conditions that disturb a run or make one impossible.
    Doctor(doctor::DoctorFlags),
    /// Compare two sides: summaries of runs, or a baseline.
    Compare(compare::CompareFlags),
    /// Make a baseline to commit, from at least five runs that agree.
    Bless(bless::BlessFlags),
    /// Load two systems at once, with paired requests, and compare them: two builds, or two settings.
    Duet(Box<duet::DuetFlags>),
    /// Search for the highest rate at which a system keeps a scenario's thresholds.
    Capacity(Box<capacity::CapacityFlags>),
    /// Play one shard of a load that several machines send.
    Shard(Box<shard::ShardFlags>),
    /// Merge the parts of all shards of a run: one result, one verdict.
    Merge(merge::MergeFlags),
    /// Report the results of runs: as text, as Markdown for a pull request, or as an HTML file with figures.
    Report(report::ReportFlags),
    /// Export a run to a format of another tool.
    Export(export::ExportFlags),
    /// List the runs that were made here; follow a measure over them; compare, bless, import and remove them.
    Runs(runs::RunsFlags),
    /// Renew the tables of documents from committed baselines.
    Splice(splice::SpliceFlags),
    /// Write into another repository the workflows that compare its builds and load certctl each week.
    InitCi(init_ci::InitCiFlags),
    /// Print the script with which a shell completes a command line.
    Completions(completions::CompletionFlags),
    /// Write the manual pages.
    Man(man::ManFlags),
}

fn main() -> ExitCode {
    if let Some(code) = registry::play_part() {
        return code;
    }
    signals::reset();
    let parsed = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return exit::usage(&error),
    };
    let checked = match (&cli.verb, matches.subcommand()) {
        (Verb::Duet(flags), Some((_, given))) => flags.check(given),
        (Verb::Capacity(flags), Some((_, given))) => flags.check(given),
        _ => Ok(()),
    };
    if let Err(error) = checked {
        return exit::fail(&error);
    }
    // Who looks at the run is in this network, whatever network the run enters.
    let listeners = match &cli.verb {
        Verb::Duet(flags) => flags.live.bind(),
        _ => Ok(Vec::new()),
    };
    // Before any thread is started: it would stay in the old network.
    let network = match &cli.verb {
        Verb::Doctor(flags) => flags.enter_network(),
        Verb::Capacity(flags) => flags.enter_network(),
        Verb::Duet(flags) => flags.enter_network(),
        _ => Ok(()),
    };
    let ready = match &cli.verb {
        // A bench target does both itself.
        Verb::Run(_) => Ok(()),
        _ => network.and_then(|()| allow_threads()),
    };
    let listeners = match ready.and(listeners) {
        Ok(listeners) => listeners,
        Err(error) => return exit::fail(&error),
    };
    let whole = || run::in_full(Cli::command());
    let done = match cli.verb {
        Verb::Run(flags) => return flags.play(),
        Verb::Seed(flags) => seed::run(flags).map(|()| 0),
        Verb::Doctor(flags) => doctor::run(flags),
        Verb::Compare(flags) => compare::run(flags),
        Verb::Bless(flags) => bless::run(flags).map(|()| 0),
        Verb::Duet(flags) => duet::run(*flags, listeners),
        Verb::Capacity(flags) => capacity::run(*flags),
        Verb::Shard(flags) => shard::run(*flags),
        Verb::Merge(flags) => merge::run(&flags),
        Verb::Report(flags) => report::run(flags).map(|()| 0),
        Verb::Export(flags) => export::run(&flags).map(|()| 0),
        Verb::Runs(flags) => runs::run(flags),
        Verb::Splice(flags) => splice::run(flags).map(|()| 0),
        Verb::InitCi(flags) => init_ci::run(&flags).map(|()| 0),
        Verb::Completions(flags) => {
            completions::run(&flags, whole());
            Ok(0)
        }
        Verb::Man(flags) => man::run(&flags, whole()).map(|()| 0),
    };
    match done {
        Ok(code) => exit::done(code),
        Err(error) => exit::fail(&error),
    }
}
