//! The comparison of two sides, measure by measure.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::environment::Consequence;
use super::judgement::Judgement;
use super::measure::{Better, MeasureKind, SHARE_ERRORS, SHARE_FLOOR, WAL_BYTES};
use super::side::{Series, Side};
use super::statistics::{EQUIVALENCE, MeanChange, NORMAL_95, levels, mean, median};
use crate::error::{Context as _, Result};
use crate::files;
use crate::summary::Summary;

/// The schema's version: raised whenever a reader of the last version could misread this one.
pub const SCHEMA_VERSION: u32 = 2;

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
    /// The share by which a timed measure has to change at least; a smaller change is none.
    pub threshold: f64,
    /// The reasons for which all measures, or all latencies, are incomparable.
    pub incomparable: Vec<String>,
    /// The evidence that a side lost, or counts in another way than the other.
    pub missing: Vec<String>,
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
    /// The base's value: the geometric mean of its runs where it is timed, else their median.
    pub base: Option<f64>,
    /// The head's value, likewise; of a count that regressed, that of its worst run.
    pub head: Option<f64>,
    /// The change from base to head.
    pub change: Option<f64>,
    /// The lower end of the change's interval: 95% for all timed measures together, and 90% for this one where it is
    /// unchanged.
    pub change_low: Option<f64>,
    /// The upper end of the change's interval.
    pub change_high: Option<f64>,
    /// The change up to which there is none, of a count or a share of arrivals.
    pub tolerance: Option<f64>,
    /// Its verdict.
    pub verdict: Judgement,
    /// The reason for a verdict that the figures do not show.
    pub reason: Option<String>,
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

/// Compares two runs, each alone on its side.
///
/// # Errors
/// If one of them is invalid, partial or a smoke run.
pub fn of_runs(base: &Summary, head: &Summary) -> Result<Comparison> {
    let side = |name: &str, summary| Side::of(&[(name.to_owned(), summary)]);
    Ok(run(&side("the base", base)?, &side("the head", head)?, CompareOptions::default()))
}

/// Compares the runs of two sides.
pub fn run(base: &Side, head: &Side, options: CompareOptions) -> Comparison {
    let differences = |consequence| base.environment.differences(&head.environment, consequence);
    let mut everywhere = differences(Consequence::Nothing);
    everywhere.extend(given_twice(base, head));
    everywhere.extend(base.workload.differences(&head.workload).into_iter().map(|one| format!("workload: {one}")));
    let timed = differences(Consequence::CountsAlone);
    let mut notes = differences(Consequence::Noted);
    let (wal, sql) = (differences(Consequence::NoWal), differences(Consequence::NoStatements));
    if !wal.is_empty() {
        notes.push(format!("WAL cannot be compared: {}", wal.join("; ")));
    }
    // True for a measure of the database that is counted differently on the two sides.
    let counts_otherwise = |name: &str, kind: MeasureKind| {
        let counted = [(Consequence::NoWal, &wal), (Consequence::NoStatements, &sql)];
        counted.into_iter().any(|(consequence, found)| !found.is_empty() && consequence.bars(name, kind))
    };
    let mut open = Vec::new();
    let names: BTreeSet<&String> = base.measures.keys().chain(head.measures.keys()).collect();
    for name in names {
        let pair = [base.measures.get(name), head.measures.get(name)];
        let Some(one) = pair[0].or(pair[1]) else { continue };
        if options.counts_only && one.kind != MeasureKind::Exact {
            continue;
        }
        if pair[0].is_none() {
            notes.push(format!("{name}: only the head reports it"));
        }
        let mut measure = Open::new(name, one, pair);
        let is_timed = Consequence::CountsAlone.bars(name, one.kind);
        if !everywhere.is_empty() || (is_timed && !timed.is_empty()) || counts_otherwise(name, one.kind) {
            measure.compared.verdict = Judgement::Incomparable;
        } else {
            measure.compare(pair);
        }
        open.push(measure);
    }
    // One budget of false alarms for all measures that depend on time; counts need none.
    let limit = options.threshold.ln_1p();
    let p: Vec<f64> = open.iter().filter_map(|one| Some(one.change?.p_beyond(limit))).collect();
    let mut levels = levels(&p).into_iter();
    for one in &mut open {
        if let Some(change) = one.change {
            one.judge(change, levels.next().unwrap_or_default(), limit);
        }
    }
    let measures: Vec<Compared> = open.into_iter().map(|one| one.compared).collect();
    let mut missing = Vec::new();
    // They are what most regressions show in: without them, nothing is green.
    if !sql.is_empty() && base.measures.keys().any(|name| name.contains("/sql_")) {
        missing.push(format!("statements cannot be compared: {}", sql.join("; ")));
    }
    for (label, side) in [("base", base), ("head", head)] {
        missing.extend(side.doubts.iter().map(|why| format!("counts of the {label} are doubtful: {why}")));
    }
    let lost = measures.iter().filter(|measure| measure.verdict == Judgement::Missing);
    missing.extend(lost.map(|one| format!("{}: {}", one.name, one.reason.as_deref().unwrap_or_default())));
    let mut incomparable = everywhere;
    if !options.counts_only {
        incomparable.extend(timed);
    }
    let on_both = |one: &Compared| one.base.is_some() && one.head.is_some();
    if incomparable.is_empty() && missing.is_empty() && !measures.iter().any(on_both) {
        incomparable.push("no measure is present on both sides".to_owned());
    }
    // A measure that is counted differently says nothing of the rest.
    let judged = measures.iter().filter(|one| !counts_otherwise(&one.name, one.kind)).map(|one| one.verdict);
    let reasons = [(&missing, Judgement::Missing), (&incomparable, Judgement::Incomparable)];
    let in_all = reasons.into_iter().filter(|(reasons, _)| !reasons.is_empty()).map(|(_, verdict)| verdict);
    let verdict = Judgement::of_all(judged.chain(in_all));
    Comparison {
        schema_version: SCHEMA_VERSION,
        scenario: base.scenario.clone(),
        verdict,
        exit_code: verdict.exit_code(),
        base_runs: base.runs.len(),
        head_runs: head.runs.len(),
        threshold: options.threshold,
        incomparable,
        missing,
        notes,
        measures,
    }
}

/// Returns the runs that were given more than once: a repeated run does not show how much runs differ.
fn given_twice(base: &Side, head: &Side) -> Vec<String> {
    let runs = [(base, "base"), (head, "head")];
    let runs: Vec<_> = runs.iter().flat_map(|(side, label)| side.runs.iter().map(move |run| (run, *label))).collect();
    let twice = runs.iter().enumerate().filter_map(|(index, (run, label))| {
        let (_, earlier) = runs[..index].iter().find(|(other, _)| other.is(run))?;
        let name = run.run_id.as_ref().unwrap_or(&run.finished_at);
        Some(format!("the same run, {name}, is in the {earlier} and in the {label}"))
    });
    twice.collect()
}

/// A measure whose comparison is not finished.
struct Open {
    compared: Compared,
    /// The change of its logarithm, where it is timed and some side shows how much runs differ.
    change: Option<MeanChange>,
}

impl Open {
    /// Returns a measure with its figures, and without a verdict.
    fn new(name: &str, series: &Series, pair: [Option<&Series>; 2]) -> Self {
        let [base, head] = pair.map(|side| side.and_then(|side| center(series.kind, &side.known())));
        let change = base.zip(head).and_then(|(base, head)| change(series.kind, base, head));
        let compared = Compared {
            name: name.to_owned(),
            kind: series.kind,
            better: series.better,
            base,
            head,
            change,
            change_low: None,
            change_high: None,
            tolerance: None,
            verdict: Judgement::Indistinct,
            reason: None,
        };
        Self { compared, change: None }
    }

    fn conclude(&mut self, verdict: Judgement, reason: impl Into<String>) {
        (self.compared.verdict, self.compared.reason) = (verdict, Some(reason.into()));
    }

    /// Judges what needs no other measure, and prepares what does.
    fn compare(&mut self, pair: [Option<&Series>; 2]) {
        let kind = self.compared.kind;
        let [Some(base), Some(head)] = pair else {
            return match (pair[0], kind) {
                (None, _) => self.conclude(Judgement::NotJudged, "only the head reports it"),
                (_, MeasureKind::Shown) => self.conclude(Judgement::NotJudged, "only the base reports it"),
                _ => self.conclude(Judgement::Missing, "only the base reports it"),
            };
        };
        if base.kind != head.kind || base.better != head.better {
            return self.conclude(Judgement::Incomparable, "the sides count it differently");
        }
        let [from, to] = [base, head].map(Series::known);
        let pages = self.compared.name.ends_with(WAL_BYTES);
        let lost = if pages { head.lost } else { head.values.len() - to.len() };
        match (from.is_empty(), to.is_empty(), kind) {
            (_, _, MeasureKind::Shown) => self.compared.verdict = Judgement::NotJudged,
            (false, _, MeasureKind::Exact) if lost > 0 => {
                let of = head.values.len();
                self.conclude(Judgement::Missing, format!("{lost} of {of} runs of the head do not report it"));
            }
            // Whole pages follow a checkpoint, which comes when it comes.
            (false, true, MeasureKind::Exact) => self.conclude(Judgement::Indistinct, "the head wrote whole pages"),
            (false, true, _) => self.conclude(Judgement::Missing, "the head has too few samples"),
            (true, ..) => self.conclude(Judgement::Indistinct, "the base has too few samples"),
            // Those that are left are no fair sample: the slowest run may be the one with too few right answers.
            (.., MeasureKind::Timed | MeasureKind::Share)
                if from.len() == base.values.len() && to.len() < head.values.len() =>
            {
                let (of, few) = (head.values.len(), head.values.len() - to.len());
                self.conclude(Judgement::Missing, format!("{few} of {of} runs of the head have too few samples"));
            }
            (.., MeasureKind::Timed) => {
                let logarithms = [&from, &to].map(|side| side.iter().map(|value| value.ln()).collect::<Vec<_>>());
                self.change = MeanChange::between(&logarithms[0], &logarithms[1]);
                if self.change.is_none() {
                    self.conclude(Judgement::Indistinct, "one run a side");
                }
            }
            // That of a closed workload grows as its answers get fewer: a slower head would be allowed more.
            (.., MeasureKind::Exact) => self.count(&from, &to, base.tolerance),
            (.., MeasureKind::Share) => self.share(&from, &to, [base.tolerance, head.tolerance]),
        }
    }

    /// Compares counts: each run of the head with the base's median, within the tolerance and nothing else. Runs of a
    /// side that disagree by more make no room for the other side's.
    fn count(&mut self, from: &[f64], to: &[f64], tolerance: f64) {
        let kind = self.compared.kind;
        let middle = median(from);
        let room = if kind == MeasureKind::Exact { tolerance * middle.abs() } else { tolerance };
        let worse = |value: f64| if self.compared.better == Better::Lower { value - middle } else { middle - value };
        let worst = to.iter().copied().max_by(|a, b| worse(*a).total_cmp(&worse(*b))).unwrap_or(middle);
        let differ = |side: &str, values: &[f64]| {
            let (least, most) = range(values);
            let far = values.iter().any(|value| (value - median(values)).abs() > room);
            far.then(|| format!("runs of the {side} differ: {} to {}", figure(kind, least), figure(kind, most)))
        };
        let disagree: Vec<String> = [differ("base", from), differ("head", to)].into_iter().flatten().collect();
        let is_worse = worse(worst) > room;
        let is_better = to.iter().all(|value| worse(*value) < -room);
        self.compared.verdict = match (is_worse, disagree.is_empty()) {
            (true, _) => Judgement::Regressed,
            (false, false) => Judgement::Indistinct,
            (false, true) if is_better => Judgement::Improved,
            (false, true) => Judgement::Unchanged,
        };
        if is_worse {
            self.compared.head = Some(worst);
            self.compared.change = change(kind, middle, worst);
        }
        self.compared.tolerance = Some(tolerance);
        self.compared.reason = (!disagree.is_empty()).then(|| disagree.join("; "));
    }

    /// Compares shares of errors: each run of the head as a count is, and the means of all runs, which show what no run
    /// shows alone. A growth is none where its upper bound, with a confidence of 95%, is within the bound on errors.
    fn share(&mut self, from: &[f64], to: &[f64], tolerances: [f64; 2]) {
        // Chance is in both shares.
        self.count(from, to, tolerances[0].max(tolerances[1]));
        let of_mean = |(tolerance, runs): (f64, &[f64])| (tolerance / SHARE_ERRORS).powi(2) / runs.len() as f64;
        let error = tolerances.into_iter().zip([from, to]).map(of_mean).sum::<f64>().sqrt();
        let (base, head) = (mean(from), mean(to));
        let (growth, room) = (head - base, SHARE_FLOOR.max(SHARE_ERRORS * error));
        let compared = &mut self.compared;
        if compared.verdict != Judgement::Regressed && growth > room {
            (compared.base, compared.head, compared.change) = (Some(base), Some(head), Some(growth));
            compared.tolerance = Some(room);
            self.conclude(Judgement::Regressed, "means of all runs");
        } else if compared.verdict == Judgement::Unchanged && growth > 0.0 && growth + NORMAL_95 * error > SHARE_FLOOR {
            self.conclude(Judgement::Indistinct, "too few arrivals to tell");
        }
    }

    /// Judges a change of logarithms at the level that [`levels`] leaves for it. It counts beyond `limit`, a logarithm
    /// too, and there is none where it is within that (Schuirmann's two one-sided tests).
    fn judge(&mut self, change: MeanChange, level: f64, limit: f64) {
        let (mut low, mut high) = change.interval(level);
        self.compared.verdict = if low > limit || high < -limit {
            direction(self.compared.better, change.estimate)
        } else {
            let (least, most) = change.interval(EQUIVALENCE);
            if least >= -limit && most <= limit {
                (low, high) = (least, most);
                Judgement::Unchanged
            } else {
                Judgement::Indistinct
            }
        };
        self.compared.change_low = Some(low.exp_m1());
        self.compared.change_high = Some(high.exp_m1());
    }
}

fn direction(better: Better, change: f64) -> Judgement {
    if (change < 0.0) == (better == Better::Lower) { Judgement::Improved } else { Judgement::Regressed }
}

/// Returns the value that represents several runs. A cause of slowness multiplies durations, hence the geometric mean.
fn center(kind: MeasureKind, values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| match kind {
        MeasureKind::Timed => mean(&values.iter().map(|value| value.ln()).collect::<Vec<_>>()).exp(),
        MeasureKind::Share | MeasureKind::Exact | MeasureKind::Shown => median(values),
    })
}

/// Returns a change as it is shown: a difference of shares of arrivals, else a share of the base; `None` of a base of
/// zero.
fn change(kind: MeasureKind, base: f64, head: f64) -> Option<f64> {
    match kind {
        MeasureKind::Share => Some(head - base),
        _ if base == head => Some(0.0),
        _ => (base != 0.0).then(|| head / base - 1.0),
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(*value), most.max(*value)))
}

fn figure(kind: MeasureKind, value: f64) -> String {
    if kind == MeasureKind::Share { format!("{:.3}%", value * 100.0) } else { format!("{value:.3}") }
}
