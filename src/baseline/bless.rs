//! The making of a baseline to commit: from enough runs, and only if they agree.

use std::fs;
use std::path::Path;

use super::file::Baseline;
use super::measure::MeasureKind;
use super::side::{Series, Side};
use super::statistics::{median, p_outlier};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::measure::machine::UNKNOWN;
use crate::summary::Summary;

/// The fewest runs that show how much runs differ.
pub const FEWEST_RUNS: usize = 5;
/// A run is an outlier in a timed measure if it differs from the median of all by a quarter ...
const STRAYS_FROM: f64 = 1.25;
/// ... and if runs that scatter as these do would have one so far out in any of their timed measures with a probability
/// of at most this: if all are far apart, the machine is noisy, and the values show it.
const STRAYS_BY_CHANCE: f64 = 0.01;

/// Makes a baseline of `runs`.
///
/// # Errors
/// If there are too few, one is unfit, or they do not agree; the message names the run.
pub fn bless(runs: &[(String, Summary)]) -> Result<Baseline> {
    if runs.len() < FEWEST_RUNS {
        return Err(Error::usage(format!(
            "a baseline needs at least {FEWEST_RUNS} runs to estimate how much runs differ; given: {}",
            runs.len()
        ))
        .with_hint("run the same bench target again, with a separate --output for each run"));
    }
    let side = Side::of(runs)?;
    if side.environment.suite_commit == UNKNOWN {
        return Err(Error::invalid(
            "the runs do not record the commit of the suite: git could not read the repository",
        )
        .with_hint("let git read the repository (git config --global --add safe.directory FOLDER), and run again"));
    }
    for (index, (name, _)) in runs.iter().enumerate() {
        if let Some(twin) = side.runs[..index].iter().position(|run| run.is(&side.runs[index])) {
            return Err(same(name, &runs[twin].0));
        }
        // A copy with another id or time still has the same measurements, to the nanosecond.
        let measured = |at: usize| {
            let results: Vec<_> = runs[at].1.measured().map(|(_, results)| results).collect();
            serde_json::to_string(&results).ok()
        };
        if let Some(twin) = (0..index).find(|twin| measured(*twin) == measured(index)) {
            return Err(same(name, &runs[twin].0));
        }
    }
    let missing = |what: String| {
        Error::invalid(format!("the runs lack evidence: {what}"))
            .with_hint("see `evidence` in their summary.json, and repeat them once its problems are solved")
    };
    if let Some(doubt) = side.doubts.first() {
        return Err(missing(format!("counts are doubtful: {doubt}")));
    }
    let timed = side.measures.values().filter(|series| series.kind == MeasureKind::Timed).count();
    for (measure, series) in &side.measures {
        if series.kind == MeasureKind::Exact && series.lost > 0 {
            return Err(missing(format!("{} of {} do not report {measure}", series.lost, runs.len())));
        }
        if let Some((index, why)) = stray(series, timed) {
            return Err(Error::invalid(format!(
                "the runs do not agree: {} is an outlier in {measure}: {why}",
                runs[index].0
            ))
            .with_hint("find out what was different in that run, and repeat it on a quiet machine"));
        }
    }
    Ok(Baseline::of(side))
}

fn same(one: &str, other: &str) -> Error {
    Error::usage(format!("{one} and {other} are the same run")).with_hint("give each run once")
}

/// Writes `baseline` to the file `path`, and makes the folder that it is in.
///
/// # Errors
/// If it cannot be written, or could not be read again.
pub fn write(baseline: &Baseline, path: &Path) -> Result<()> {
    let text = baseline.to_text()?;
    Baseline::parse("the new baseline", &text)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context(|| format!("making the folder {}", folder.display()))?;
    }
    files::write(path, &text)
}

/// Returns the run that does not agree with the others, and the reason. `timed` is the number of timed measures.
fn stray(series: &Series, timed: usize) -> Option<(usize, String)> {
    let known: Vec<(usize, f64)> =
        series.values.iter().enumerate().filter_map(|(index, value)| value.map(|value| (index, value))).collect();
    let middle = median(&series.known());
    let distance = |value: f64| match series.kind {
        MeasureKind::Timed => (value / middle).ln().abs(),
        MeasureKind::Share | MeasureKind::Exact | MeasureKind::Shown => (value - middle).abs(),
    };
    let bound = match series.kind {
        MeasureKind::Timed => STRAYS_FROM.ln(),
        MeasureKind::Share => series.tolerance,
        MeasureKind::Exact => series.tolerance * middle.abs(),
        MeasureKind::Shown => return None,
    };
    let (index, value) = known.into_iter().max_by(|a, b| distance(a.1).total_cmp(&distance(b.1)))?;
    let by_chance = || {
        let logarithms: Vec<f64> = series.known().iter().map(|value| value.ln()).collect();
        series.kind == MeasureKind::Timed && p_outlier(&logarithms) * timed as f64 > STRAYS_BY_CHANCE
    };
    (distance(value) > bound && !by_chance()).then(|| (index, format!("{value:.6} against a median of {middle:.6}")))
}
