//! `certctl-bench runs`: the runs that are kept: their list, and what is made of them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::bless::BaselinePlace;
use super::compare::ComparisonFlags;
use super::history_flags::HistoryFlags;
use crate::baseline::{Side, source};
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::history::History;
use crate::history::change_points::MOST_VALUES;
use crate::history::store::short;
use crate::history::trend::{ReadRun, Trend, TrendChoice};
use crate::report::{history as list, trend as report};
use crate::summary::{Summary, Verdict};
use crate::terminal::{errln, out, outln};

/// The deepest folder in which an import looks for results, and the most results that it takes.
const DEEPEST: usize = 8;
const MOST_FILES: usize = 10_000;

/// Flags of `certctl-bench runs`.
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Without a command it lists the runs. A run is named by the beginning of its id.\n\
                  Exit codes: 0 done, 1 could not run, 2 usage, 4 regressed, 5 a run is invalid, runs are incomparable, \
                  or a schema is newer."
)]
pub struct RunsFlags {
    #[command(subcommand)]
    verb: Option<RunsVerb>,
    #[command(flatten)]
    list: RunListFlags,
    #[command(flatten)]
    history: HistoryFlags,
}

#[derive(Clone, Debug, Subcommand)]
enum RunsVerb {
    /// List runs, the newest first.
    List(RunListFlags),
    /// Keep the results of earlier runs.
    Import(ImportFlags),
    /// Print the summary.json of a run, for `report` and others: certctl-bench report <(certctl-bench runs print ID).
    Print(PrintFlags),
    /// Compare two runs, or two groups of runs.
    Compare(CompareRunsFlags),
    /// Follow a measure over the runs of a scenario, with the changes in it.
    Trend(TrendFlags),
    /// Make a baseline to commit, from at least five runs that agree.
    Bless(BlessRunsFlags),
    /// Remove runs from the history.
    Remove(RemoveFlags),
}

#[derive(Args, Clone, Debug)]
struct RunListFlags {
    /// Only runs of this scenario.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Most runs to list.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Form of the list.
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// A table.
    Text,
    /// An array of objects.
    Json,
}

#[derive(Args, Clone, Debug)]
struct ImportFlags {
    /// The summary.json of runs, or folders: each summary.json in them, at any depth.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct PrintFlags {
    /// The run.
    #[arg(value_name = "ID")]
    id: String,
    /// Write it to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct CompareRunsFlags {
    /// The run to compare with, or several, with commas between them.
    #[arg(value_name = "ID[,ID...]")]
    base: String,
    /// The run to compare, or several.
    #[arg(value_name = "ID[,ID...]")]
    head: String,
    #[command(flatten)]
    comparison: ComparisonFlags,
}

#[derive(Args, Clone, Debug)]
struct TrendFlags {
    /// The scenario.
    #[arg(value_name = "SCENARIO")]
    scenario: String,
    /// The measure: p50, p95 or p99 of the response time, or a name that `compare` shows.
    #[arg(long, value_name = "NAME", default_value = "p99")]
    measure: String,
    /// The workload whose measure it is [default: the first].
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// The series, where runs are of several machines, systems or workloads: 1 is that of the newest run.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    series: usize,
    /// Most runs to read, the newest of the scenario.
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = limit())]
    limit: u32,
    /// Write it to this file as HTML, with a figure, too.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn limit() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=MOST_VALUES as i64)
}

#[derive(Args, Clone, Debug)]
struct BlessRunsFlags {
    /// At least five runs of the same workload.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    place: BaselinePlace,
}

#[derive(Args, Clone, Debug)]
struct RemoveFlags {
    /// The runs.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Does what the flags say with the history, and returns the exit code.
///
/// # Errors
/// If the history cannot be read or written, no run or several have an id, or runs do not fit together.
pub fn run(flags: RunsFlags) -> Result<u8> {
    let file = flags.history.wanted()?;
    match flags.verb.unwrap_or(RunsVerb::List(flags.list)) {
        RunsVerb::List(flags) => show(&file, &flags)?,
        RunsVerb::Import(flags) => import(&file, &flags.paths)?,
        RunsVerb::Print(flags) => print(&file, &flags)?,
        RunsVerb::Compare(flags) => {
            let history = History::open(&file)?;
            let side = |ids: &str| Side::of(&summaries(&history, ids.split(','))?);
            return flags.comparison.compare(&side(&flags.base)?, &side(&flags.head)?);
        }
        RunsVerb::Trend(flags) => trend(&file, flags)?,
        RunsVerb::Bless(flags) => {
            flags.place.bless(&summaries(&History::open(&file)?, flags.ids.iter().map(String::as_str))?)?
        }
        RunsVerb::Remove(flags) => remove(&file, &flags.ids)?,
    }
    Ok(0)
}

fn show(file: &Path, flags: &RunListFlags) -> Result<()> {
    let history = History::open(file)?;
    let scenario = flags.scenario.as_deref();
    let runs = history.list(scenario, flags.limit as usize)?;
    if let (Some(scenario), true) = (scenario, runs.is_empty()) {
        return Err(none_of(scenario, file));
    }
    match flags.format {
        ListFormat::Text => out!("{}", list::text(&runs, history.count(scenario)?)),
        ListFormat::Json => out!("{}", list::json(&runs)?),
    }
    Ok(())
}

fn none_of(scenario: &str, file: &Path) -> Error {
    Error::usage(format!("no run of {scenario} is kept in {}", files::shown(file)))
        .with_hint("`certctl-bench runs` lists those that are")
}

/// Keeps each result that is found; what cannot be kept is named, and does not keep out the rest.
fn import(file: &Path, paths: &[PathBuf]) -> Result<()> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        match path.is_dir() {
            true => look(path, DEEPEST, &mut found)?,
            false => found.push(path.clone()),
        }
        if found.len() == before {
            return Err(Error::usage(format!("there is no summary.json in {}", files::shown(path)))
                .with_hint("name the summary.json of a run, or a folder of results, such as target/certctl-bench"));
        }
    }
    let mut history = History::create(file)?;
    let (mut new, mut known, mut smoke) = (0, 0, 0);
    let mut failed: Vec<Error> = Vec::new();
    for path in &found {
        match source::summary(path) {
            Ok(summary) if summary.verdict == Verdict::Smoke => smoke += 1,
            Ok(summary) => match history.add(&summary)? {
                (_, true) => new += 1,
                (_, false) => known += 1,
            },
            Err(error) => {
                errln!("{:<12} {}", "left out", error.what());
                failed.push(error);
            }
        }
    }
    let runs = if new == 1 { "run" } else { "runs" };
    outln!("{:<12} {new} {runs} in {}", "imported", files::shown(file));
    for (count, why) in [(known, "kept already"), (smoke, "of smoke runs, which measure nothing")] {
        if count > 0 {
            outln!("{:<12} {count} {why}", "left out");
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let (count, all) = (failed.len(), found.len());
    let first = failed.remove(0);
    let what = format!("{count} of {all} results could not be imported, the first: {}", first.what());
    Err(first.with_what(what))
}

/// Adds the results in a folder, in the order of their names. Links are not followed.
fn look(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let reading = || format!("reading the folder {}", files::shown(folder));
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).context(reading)? {
        let entry = entry.context(reading)?;
        entries.push((entry.path(), entry.file_type().context(reading)?));
    }
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    for (path, kind) in entries {
        if kind.is_dir() && depth > 0 {
            look(&path, depth - 1, found)?;
        } else if kind.is_file() && path.file_name().is_some_and(|name| name == "summary.json") {
            if found.len() == MOST_FILES {
                return Err(Error::usage(format!("there are more than {MOST_FILES} results"))
                    .with_hint("import a part of them at a time"));
            }
            found.push(path);
        }
    }
    Ok(())
}

fn print(file: &Path, flags: &PrintFlags) -> Result<()> {
    let history = History::open(file)?;
    let json = history.json(&history.find(&flags.id)?)?;
    match &flags.output {
        Some(path) => files::write(path, json),
        None => {
            out!("{json}");
            Ok(())
        }
    }
}

fn trend(file: &Path, flags: TrendFlags) -> Result<()> {
    let history = History::open(file)?;
    let kept = history.list(Some(&flags.scenario), flags.limit as usize)?;
    if kept.is_empty() {
        return Err(none_of(&flags.scenario, file));
    }
    let older = history.count(Some(&flags.scenario))?.saturating_sub(kept.len());
    let (mut runs, mut left_out) = (Vec::new(), Vec::new());
    if older > 0 {
        left_out.push(format!("{older} older runs, beyond --limit {}", flags.limit));
    }
    for run in kept {
        match history.summary(&run.id) {
            Ok(summary) => runs.push(ReadRun::of(run, &summary)),
            Err(error) => left_out.push(error.what().to_owned()),
        }
    }
    let choice = TrendChoice { measure: flags.measure, workload: flags.workload, series: flags.series };
    let trend = Trend::of(runs, left_out, &choice)?;
    out!("{}", report::text(&trend));
    if let Some(path) = &flags.output {
        files::write(path, report::html(&trend))?;
        outln!("{:<12} {}", "written", files::shown(path));
    }
    Ok(())
}

/// Returns runs by their ids, each with its name.
fn summaries<'i>(history: &History, ids: impl Iterator<Item = &'i str>) -> Result<Vec<(String, Summary)>> {
    let read = |prefix: &str| {
        let id = history.find(prefix.trim())?;
        Ok((format!("the run {}", short(&id)), history.summary(&id)?))
    };
    ids.map(read).collect()
}

fn remove(file: &Path, ids: &[String]) -> Result<()> {
    let mut history = History::open(file)?;
    // All are found before any is removed.
    let ids: Vec<String> = ids.iter().map(|prefix| history.find(prefix)).collect::<Result<_>>()?;
    for id in ids {
        history.remove(&id)?;
        outln!("{:<12} {id}", "removed");
    }
    Ok(())
}
