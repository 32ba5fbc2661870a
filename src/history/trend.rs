//! The trend of a measure: its values in the runs of a scenario that can be compared, and the changes among them.

use std::collections::BTreeSet;

use super::change_points::{self, MOST_VALUES};
use super::store::KeptRun;
use crate::baseline::Judgement;
use crate::baseline::environment::{Consequence, Environment};
use crate::baseline::measure::{self, Better, MeasureKind, Readings};
use crate::baseline::side;
use crate::baseline::statistics::{FALSE_ALARMS, MeanChange, mean, median};
use crate::baseline::workload::WorkloadIdentity;
use crate::error::{Error, Result};
use crate::summary::Summary;

/// The most reasons that are given for two series being two.
const REASONS: usize = 3;

/// A run with what a trend needs of its summary.
#[derive(Debug)]
pub struct ReadRun {
    kept: KeptRun,
    workload: WorkloadIdentity,
    environment: Environment,
    /// The names of its workloads, in their order.
    workloads: Vec<String>,
    readings: Readings,
    /// The reason for which its figures mean nothing, if they do.
    unusable: Option<String>,
}

/// The choice of what a trend follows.
#[derive(Clone, Debug)]
pub struct TrendChoice {
    /// A measure's whole name, as `compare` has it, or its end, such as `p99` of the response time.
    pub measure: String,
    /// The workload of a measure that is given by its end; the first one where none is named.
    pub workload: Option<String>,
    /// The number of the series, 1 for that of the newest run.
    pub series: usize,
}

/// The values of a measure over the runs of a series, and the changes among them.
#[derive(Debug)]
pub struct Trend {
    /// The scenario.
    pub scenario: String,
    /// The measure's name, which ends in its unit.
    pub measure: String,
    /// Its kind.
    pub kind: MeasureKind,
    /// The direction that is better.
    pub better: Better,
    /// The runs of the series, the oldest first; at least one.
    pub runs: Vec<TrendRun>,
    /// The changes, in the order of their runs.
    pub changes: Vec<TrendChange>,
    /// The number of the series, 1 for that of the newest run.
    pub series: usize,
    /// The other series of the scenario.
    pub others: Vec<OtherSeries>,
    /// The reasons for which runs could not be read, such as an older schema.
    pub unread: Vec<String>,
}

/// A run of a series.
#[derive(Debug)]
pub struct TrendRun {
    /// The run.
    pub kept: KeptRun,
    /// Its value, if it has one.
    pub value: Option<f64>,
    /// The reason for which it has no part in the search for changes: it is invalid, or has too few samples.
    pub left_out: Option<String>,
}

/// A change of the measure, between two runs that follow one another among those that count.
#[derive(Clone, Debug, PartialEq)]
pub struct TrendChange {
    /// The place of the last run before it among the runs of the series, and of the first run after it.
    pub between: (usize, usize),
    /// The median of the runs since the change before it.
    pub median_before: f64,
    /// The median of the runs until the change after it.
    pub median_after: f64,
    /// The change of the mean; of a timed measure, of the geometric mean. A share of what was before, of a share of
    /// arrivals a difference; `None` after a mean of zero.
    pub change: Option<f64>,
    /// Its interval of 95%, which takes the place of the change as given.
    pub interval: Option<(f64, f64)>,
    /// The probability of a change so clear without any.
    pub p: f64,
    /// Its direction: improved or regressed; not judged of a measure that is only shown.
    pub verdict: Judgement,
}

/// Runs of the scenario that cannot be compared with those of the series.
#[derive(Debug)]
pub struct OtherSeries {
    /// Its number.
    pub number: usize,
    /// The number of its runs.
    pub runs: usize,
    /// The differences of its newest run from that of the series, a line each.
    pub differences: Vec<String>,
}

impl ReadRun {
    /// Reads what a trend needs of a summary.
    pub fn of(kept: KeptRun, summary: &Summary) -> Self {
        Self {
            workload: WorkloadIdentity::of(summary),
            environment: Environment::of(summary),
            workloads: summary.plans().map(|plan| plan.name.to_string()).collect(),
            readings: measure::read(summary),
            unusable: side::unusable(summary),
            kept,
        }
    }

    /// Describes the differences that keep a measure from being compared between this run and another.
    fn differences(&self, other: &Self, name: &str, kind: MeasureKind) -> Vec<String> {
        let mut differences = self.workload.differences(&other.workload);
        let grave = Consequence::GRAVE.into_iter().filter(|grave| grave.bars(name, kind));
        differences.extend(grave.flat_map(|grave| self.environment.differences(&other.environment, grave)));
        // Versions of PostgreSQL differ in more than one way.
        let mut seen = BTreeSet::new();
        differences.retain(|one| seen.insert(one.clone()));
        differences
    }
}

impl Trend {
    /// Follows a measure over `runs` of one scenario, the newest first; `unread` are reasons for which others could not
    /// be read.
    ///
    /// # Errors
    /// If there is no run, or none has the measure, or there is no such series. The error names those that there are.
    pub fn of(runs: Vec<ReadRun>, unread: Vec<String>, choice: &TrendChoice) -> Result<Self> {
        let Some(newest) = runs.first() else {
            return Err(Error::usage("no run of the scenario can be read").with_hint(
                unread.first().cloned().unwrap_or_else(|| "`certctl-bench runs` lists those that are kept".to_owned()),
            ));
        };
        let (scenario, name) = (newest.kept.scenario.clone(), measure_name(newest, choice)?);
        let Some(reading) = runs.iter().find_map(|run| run.readings.get(&name)) else {
            let names: Vec<_> = newest.readings.keys().map(String::as_str).collect();
            return Err(Error::usage(format!("no run of {scenario} has the measure {name}"))
                .with_hint(format!("its measures are: {}", names.join(", "))));
        };
        let (kind, better) = (reading.kind, reading.better);
        let mut all = series(runs, |one, other| one.differences(other, &name, kind).is_empty());
        if !(1..=all.len()).contains(&choice.series) {
            return Err(Error::usage(format!("there is no series {} of {scenario}", choice.series))
                .with_hint(format!("there are {}: --series 1 is that of the newest run", all.len())));
        }
        let mut chosen = all.remove(choice.series - 1);
        let others = all.iter().enumerate().map(|(place, other)| {
            let mut differences = other[0].differences(&chosen[0], &name, kind);
            let further = differences.len().saturating_sub(REASONS);
            if further > 0 {
                differences.truncate(REASONS);
                differences.push(format!("and {further} more"));
            }
            let number = place + 1 + usize::from(place + 1 >= choice.series);
            OtherSeries { number, runs: other.len(), differences }
        });
        let others = others.collect();
        chosen.reverse();
        let runs: Vec<TrendRun> = chosen.into_iter().map(|run| TrendRun::of(run, &name)).collect();
        let changes = changes(&runs, kind, better);
        Ok(Self { scenario, measure: name, kind, better, runs, changes, series: choice.series, others, unread })
    }

    /// Returns the runs that count, each with its place and value.
    pub fn counted(&self) -> Vec<(usize, f64)> {
        counted(&self.runs)
    }

    /// Returns the places of the runs between changes, from the first to the last of each, with their median.
    pub fn stretches(&self) -> Vec<(usize, usize, f64)> {
        let counted = self.counted();
        let (Some(first), Some(last)) = (counted.first(), counted.last()) else { return Vec::new() };
        let starts = std::iter::once(first.0).chain(self.changes.iter().map(|change| change.between.1));
        let ends = self.changes.iter().map(|change| change.between.0).chain([last.0]);
        let of = |(start, end): (usize, usize)| {
            let within = counted.iter().filter(|(place, _)| (start..=end).contains(place));
            (start, end, median(&within.map(|(_, value)| *value).collect::<Vec<_>>()))
        };
        starts.zip(ends).map(of).collect()
    }
}

impl TrendRun {
    fn of(run: ReadRun, name: &str) -> Self {
        let value = run.readings.get(name).and_then(|reading| reading.value);
        let lacking = || if run.readings.contains_key(name) { "too few samples" } else { "it lacks the measure" };
        let left_out = run.unusable.clone().or_else(|| value.is_none().then(|| lacking().to_owned()));
        Self { kept: run.kept, value, left_out }
    }
}

/// Returns the whole name of the chosen measure.
fn measure_name(newest: &ReadRun, choice: &TrendChoice) -> Result<String> {
    let measure = choice.measure.trim();
    if measure.contains('/') {
        return match choice.workload {
            None => Ok(measure.to_owned()),
            Some(_) => Err(Error::usage(format!("{measure} names its workload already"))
                .with_hint("leave --workload out, or give the end of the measure's name, such as p99")),
        };
    }
    let known = || newest.workloads.join(", ");
    let workload = match &choice.workload {
        Some(workload) if newest.workloads.contains(workload) => workload.as_str(),
        Some(workload) => {
            return Err(Error::usage(format!("{} has no workload {workload}", newest.kept.scenario))
                .with_hint(format!("its workloads are: {}", known())));
        }
        None => newest.workloads.first().map_or("", String::as_str),
    };
    Ok(match measure {
        "p50" | "p95" | "p99" => format!("{workload}/response_{measure}_us"),
        _ => format!("{workload}/{measure}"),
    })
}

/// Divides runs into series: each joins the first with whose newest run it can be compared.
fn series(runs: Vec<ReadRun>, is_comparable: impl Fn(&ReadRun, &ReadRun) -> bool) -> Vec<Vec<ReadRun>> {
    let mut all: Vec<Vec<ReadRun>> = Vec::new();
    for run in runs {
        match all.iter_mut().find(|series| is_comparable(&run, &series[0])) {
            Some(series) => series.push(run),
            None => all.push(vec![run]),
        }
    }
    all
}

/// Returns the runs that count, each with its place and value: the newest, as many as the search can take.
fn counted(runs: &[TrendRun]) -> Vec<(usize, f64)> {
    let known = runs.iter().enumerate().filter(|(_, run)| run.left_out.is_none());
    let mut known: Vec<_> = known.filter_map(|(place, run)| Some((place, run.value?))).collect();
    known.drain(..known.len().saturating_sub(MOST_VALUES));
    known
}

/// Returns the changes among runs.
fn changes(runs: &[TrendRun], kind: MeasureKind, better: Better) -> Vec<TrendChange> {
    let known = counted(runs);
    let values: Vec<f64> = known.iter().map(|(_, value)| *value).collect();
    // A cause of slowness multiplies durations.
    let scaled: Vec<f64> = match kind {
        MeasureKind::Timed => values.iter().map(|value| value.ln()).collect(),
        MeasureKind::Share | MeasureKind::Exact | MeasureKind::Shown => values.clone(),
    };
    let found = change_points::find(&scaled);
    let ends: Vec<usize> = found.iter().map(|one| one.at).chain([values.len()]).collect();
    let mut start = 0;
    let mut changes = Vec::new();
    for (change, end) in found.iter().zip(&ends[1..]) {
        let (before, after) = (start..change.at, change.at..*end);
        start = change.at;
        let Some(shift) = MeanChange::between(&scaled[before.clone()], &scaled[after.clone()]) else { continue };
        let base = mean(&scaled[before.clone()]);
        let shown = |shift: f64| match kind {
            MeasureKind::Timed => Some(shift.exp_m1()),
            MeasureKind::Share => Some(shift),
            MeasureKind::Exact | MeasureKind::Shown => (base != 0.0).then(|| shift / base),
        };
        let (low, high) = shift.interval(FALSE_ALARMS);
        changes.push(TrendChange {
            between: (known[change.at - 1].0, known[change.at].0),
            median_before: median(&values[before]),
            median_after: median(&values[after]),
            change: shown(shift.estimate),
            interval: shown(low).zip(shown(high)),
            p: change.p,
            verdict: match (kind, (shift.estimate < 0.0) == (better == Better::Lower)) {
                (MeasureKind::Shown, _) => Judgement::NotJudged,
                // Another spread, or another form, around about the same mean.
                _ if low <= 0.0 && high >= 0.0 => Judgement::Indistinct,
                (_, true) => Judgement::Improved,
                (_, false) => Judgement::Regressed,
            },
        });
    }
    changes
}
