//! The comparison of two sides, measure by measure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::judgement::Judgement;
use super::measure::{Better, MeasureKind, assumed_spread};
use super::side::{Series, Side};
use super::statistics::{Difference, RunValues, common_noise_floor, levels, mean, median, noise};
use crate::error::{Context as _, Result};
use crate::files;

/// The schema's version: raised whenever a reader of the last version could misread this one.
pub const SCHEMA_VERSION: u32 = 1;
/// Shares of errors that differ by less are the same: the bound that scenarios set on errors.
const SHARE_FLOOR: f64 = 0.001;

/// The user's settings of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompareOptions {
    /// The share by which a timed measure has to change at least; a smaller change is none.
    pub threshold: f64,
    /// True to compare counts alone, which can be compared across machines.
    pub counts_only: bool,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { threshold: 0.05, counts_only: false }
    }
}

/// The comparison of two sides.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Comparison {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The scenario.
    pub scenario: String,
    /// The verdict.
    pub verdict: Judgement,
    /// The exit code of the verdict.
    pub exit_code: u8,
    /// The number of the base's runs.
    pub base_runs: usize,
    /// The number of the head's runs.
    pub head_runs: usize,
    /// True if the runs of both sides alternated, so that conditions were the same for both.
    pub in_turn: bool,
    /// The share by which a timed measure has to change at least; a smaller change is none.
    pub threshold: f64,
    /// The reasons for which all measures, or all latencies, are incomparable.
    pub incomparable: Vec<String>,
    /// Other differences between the sides.
    pub notes: Vec<String>,
    /// The measures.
    pub measures: Vec<Compared>,
}

/// The comparison of one measure. Changes are shares of the base, except those of a share of arrivals: these are
/// differences.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Compared {
    /// Its name, which ends in its unit.
    pub name: String,
    /// Its kind, which decides how it is compared.
    pub kind: MeasureKind,
    /// The direction that is better.
    pub better: Better,
    /// The base's value: the mean of its runs (of logarithms, where it is timed; the median of counts).
    pub base: Option<f64>,
    /// The head's value.
    pub head: Option<f64>,
    /// The change from base to head.
    pub change: Option<f64>,
    /// The lower end of the change's interval.
    pub change_low: Option<f64>,
    /// The upper end of the change's interval.
    pub change_high: Option<f64>,
    /// The difference that is typical between runs of the same thing; of a count, the difference that is allowed.
    pub noise_floor: Option<f64>,
    /// Its verdict.
    pub verdict: Judgement,
}

impl Comparison {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context(|| "writing the comparison as JSON".to_owned())?;
        files::write(path, json + "\n")
    }
}

/// Compares the runs of two sides.
pub fn run(base: &Side, head: &Side, options: CompareOptions) -> Comparison {
    let (everywhere, timed) = strangeness(base, head);
    let names: BTreeSet<&String> = base.measures.keys().chain(head.measures.keys()).collect();
    let in_turn = in_turn(base, head);
    let mut open = Vec::new();
    let mut notes = base.environment.notes(&head.environment);
    let mut lost = Vec::new();
    let (wal, sql) = (base.environment.other_wal(&head.environment), base.environment.other_sql(&head.environment));
    for (what, why) in [("WAL", &wal), ("statements", &sql)] {
        if !why.is_empty() {
            notes.push(format!("{what} cannot be compared: {}", why.join("; ")));
        }
    }
    // True for a measure of the database that is counted differently on the two sides.
    let counts_otherwise =
        |name: &str| (name.contains("/wal_") && !wal.is_empty()) || (name.contains("/sql_") && !sql.is_empty());
    for name in names {
        let pair = [base.measures.get(name), head.measures.get(name)];
        let Some(one) = pair[0].or(pair[1]) else { continue };
        if options.counts_only && one.kind != MeasureKind::Exact {
            continue;
        }
        match pair {
            [Some(_), None] if options.counts_only => lost.push(format!("{name}: the head does not report it")),
            [Some(_), None] => notes.push(format!("{name}: only the base reports it")),
            [None, Some(_)] => notes.push(format!("{name}: only the head reports it")),
            _ => {}
        }
        open.push(
            if !everywhere.is_empty() || (one.kind != MeasureKind::Exact && !timed.is_empty()) || counts_otherwise(name)
            {
                Open::closed(name, one, pair, Judgement::Incomparable)
            } else {
                Open::of(name, one, pair)
            },
        );
    }
    let timed_samples = open.iter().filter_map(|one| Some((one.samples.as_ref()?.each_ref(), one.assumed()?)));
    let noise = noise(timed_samples);
    let differences: Vec<_> = open.iter().map(|one| one.difference(noise, in_turn)).collect();
    // One error budget for all measures that depend on time; counts need none.
    let p: Vec<f64> = differences.iter().flatten().map(Difference::p).collect();
    let mut levels = levels(&p).into_iter();
    let measures: Vec<Compared> = open
        .into_iter()
        .zip(differences)
        .map(|(one, difference)| {
            one.close(difference.and_then(|difference| Some((difference, levels.next()?))), options)
        })
        .collect();
    let mut incomparable = everywhere;
    incomparable.extend(lost);
    if !options.counts_only {
        incomparable.extend(timed);
    }
    if incomparable.is_empty() && !measures.iter().any(|measure| measure.base.is_some() && measure.head.is_some()) {
        incomparable.push("no measure is present on both sides".to_owned());
    }
    let verdict = match incomparable.is_empty() {
        // A measure that is counted differently says nothing of the rest.
        true => Judgement::of_all(
            measures.iter().filter(|measure| !counts_otherwise(&measure.name)).map(|measure| measure.verdict),
        ),
        false => Judgement::Incomparable,
    };
    Comparison {
        schema_version: SCHEMA_VERSION,
        scenario: base.scenario.clone(),
        verdict,
        exit_code: verdict.exit_code(),
        base_runs: base.runs.len(),
        head_runs: head.runs.len(),
        in_turn,
        threshold: options.threshold,
        incomparable,
        notes,
        measures,
    }
}

/// Returns the reasons for which nothing can be compared, and those for which nothing that depends on time can.
fn strangeness(base: &Side, head: &Side) -> (Vec<String>, Vec<String>) {
    let mut everywhere: Vec<String> = base.environment.other_target(&head.environment);
    everywhere.extend(given_twice(base, head));
    if base.workload.fingerprint != head.workload.fingerprint {
        everywhere.extend(base.workload.differences(&head.workload).into_iter().map(|one| format!("workload: {one}")));
    }
    (everywhere, base.environment.other_place(&head.environment))
}

/// Returns the runs that were given more than once, by their ids: a repeated run does not show how much runs differ.
fn given_twice(base: &Side, head: &Side) -> Vec<String> {
    let sides = [(base, "base"), (head, "head")];
    let mut seen = BTreeMap::new();
    let runs = sides.iter().flat_map(|(side, label)| side.runs.iter().map(move |run| (run.run_id.as_ref(), *label)));
    let twice = runs.filter_map(|(id, label)| Some((id?, label, seen.insert(id?, label)?)));
    twice.map(|(id, label, earlier)| format!("the same run, {id}, is in the {earlier} and in the {label}")).collect()
}

/// Reports whether the runs of both sides alternated: in rows of at most two, and at least three rows, as in ABBA. In
/// AABB, each side is a sitting of its own. RFC 3339 in UTC sorts as text.
fn in_turn(base: &Side, head: &Side) -> bool {
    let sides = [(base, 0), (head, 1)];
    let mut runs: Vec<_> =
        sides.iter().flat_map(|(side, label)| side.runs.iter().map(move |run| (&run.finished_at, *label))).collect();
    runs.sort();
    let rows: Vec<usize> = runs.chunk_by(|a, b| a.1 == b.1).map(<[_]>::len).collect();
    rows.len() >= 3 && rows.iter().all(|row| *row <= 2) && base.runs.len() > 1 && head.runs.len() > 1
}

/// A measure whose comparison is not finished.
struct Open {
    compared: Compared,
    /// The samples of base and head, where they depend on time: in logarithms where the measure is timed.
    samples: Option<[RunValues; 2]>,
}

impl Open {
    /// Returns a measure with a verdict that needs no further comparison.
    fn closed(name: &str, series: &Series, pair: [Option<&Series>; 2], verdict: Judgement) -> Self {
        let [base, head] = pair.map(|side| side.and_then(|side| center(series.kind, &side.known())));
        let compared = Compared {
            name: name.to_owned(),
            kind: series.kind,
            better: series.better,
            base,
            head,
            change: None,
            change_low: None,
            change_high: None,
            noise_floor: None,
            verdict,
        };
        Self { compared, samples: None }
    }

    fn of(name: &str, series: &Series, pair: [Option<&Series>; 2]) -> Self {
        let mut open = Self::closed(name, series, pair, Judgement::Indistinct);
        let ([Some(base), Some(head)], Some(_), Some(_)) = (pair, open.compared.base, open.compared.head) else {
            return open;
        };
        if base.kind != head.kind {
            open.compared.verdict = Judgement::Incomparable;
        } else if series.kind == MeasureKind::Exact {
            open.compare_counts(base, head);
        } else {
            let samples = [base, head].map(|side| sample(series.kind, side));
            open.compared.noise_floor = Some(as_change(series.kind, common_noise_floor(samples.each_ref())));
            open.samples = Some(samples);
        }
        open
    }

    /// Returns the standard deviation between runs that is assumed of a timed measure.
    fn assumed(&self) -> Option<f64> {
        (self.compared.kind == MeasureKind::Timed).then(|| assumed_spread(&self.compared.name))
    }

    fn difference(&self, noise: f64, in_turn: bool) -> Option<Difference> {
        let [base, head] = self.samples.as_ref()?;
        Some(match self.assumed() {
            Some(assumed) => Difference::between(base, head, assumed, noise, in_turn),
            None => Difference::between(base, head, 0.0, 1.0, in_turn),
        })
    }

    /// Compares counts. A difference between the runs of one side is not one between the sides.
    fn compare_counts(&mut self, base: &Series, head: &Series) {
        let (Some(from), Some(to)) = (self.compared.base, self.compared.head) else { return };
        let scatter = [base, head].map(|side| half_range(&side.known()));
        let tolerance = base.tolerance.max(head.tolerance);
        let change = if from == to { 0.0 } else { (to - from) / from.abs().max(f64::MIN_POSITIVE) };
        let room = tolerance * from.abs() + scatter[0] + scatter[1];
        self.compared.noise_floor = (from != 0.0).then(|| room / from.abs());
        self.compared.change = (from != 0.0 || from == to).then_some(change);
        self.compared.verdict = match (to - from).abs() > room {
            false => Judgement::Unchanged,
            true => direction(self.compared.better, to - from),
        };
    }

    /// Judges a difference at the level that [`levels`] leaves for it.
    fn close(self, difference: Option<(Difference, f64)>, options: CompareOptions) -> Compared {
        let mut compared = self.compared;
        let Some((difference, level)) = difference else { return compared };
        let kind = compared.kind;
        let (low, high) = difference.interval(level);
        let (change, low, high) = (as_change(kind, difference.estimate), as_change(kind, low), as_change(kind, high));
        let least = if kind == MeasureKind::Share { SHARE_FLOOR } else { options.threshold };
        let counts_from = least.max(compared.noise_floor.unwrap_or(0.0));
        (compared.change, compared.change_low, compared.change_high) = (Some(change), Some(low), Some(high));
        compared.verdict = if (low > 0.0 || high < 0.0) && change.abs() > counts_from {
            direction(compared.better, change)
        } else if low >= -counts_from && high <= counts_from {
            Judgement::Unchanged
        } else {
            Judgement::Indistinct
        };
        compared
    }
}

fn direction(better: Better, change: f64) -> Judgement {
    if (change < 0.0) == (better == Better::Lower) { Judgement::Improved } else { Judgement::Regressed }
}

/// Returns the value that represents several runs.
fn center(kind: MeasureKind, values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| match kind {
        MeasureKind::Timed => mean(&values.iter().map(|value| value.ln()).collect::<Vec<_>>()).exp(),
        MeasureKind::Share => mean(values),
        MeasureKind::Exact => median(values),
    })
}

/// Returns the sample of a side's runs, in logarithms where the measure is timed: a cause of slowness multiplies
/// durations.
fn sample(kind: MeasureKind, series: &Series) -> RunValues {
    let pairs = series.values.iter().zip(&series.errors);
    let (values, errors) = pairs
        .filter_map(|(value, error)| value.map(|value| (value, error.unwrap_or(0.0))))
        .map(|(value, error)| if kind == MeasureKind::Timed { (value.ln(), error) } else { (value, error) })
        .unzip();
    RunValues { values, errors }
}

/// Converts a difference of logarithms into a share of the base.
fn as_change(kind: MeasureKind, difference: f64) -> f64 {
    if kind == MeasureKind::Timed { difference.exp_m1() } else { difference }
}

fn half_range(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    if values.is_empty() { 0.0 } else { (most - least) / 2.0 }
}
