//! The verdict of a duet: each measure over all blocks, judged against what would count as a difference.

use std::fmt;

use serde::Serialize;

use super::Sides;
use super::block::{Block, COSTS};
use super::estimate::{Estimate, holm};
use crate::exit_code;
use crate::measure::binomial;

/// The measures of response time: the first is primary, the others are secondary.
const JUDGED: [&str; 3] = ["response_p50_us", "response_p95_us", "response_p99_us"];
/// The share of arrivals by which errors must grow to count, beside being no accident.
const LEAST_ERRORS: f64 = 0.001;
/// The confidence of the intervals that are shown.
const CONFIDENCE: f64 = 0.95;
/// The probability up to which a difference beyond the bounds may go unnoticed where `unchanged` is stated, as usual in
/// tests of equivalence (Schuirmann 1987).
const EQUIVALENCE: f64 = 0.05;

/// The bounds of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// The least change of a response time that counts: 0.02 is 2%.
    pub threshold: f64,
    /// The probability with which a duet of equal systems may end as `regressed`, for response times and for counts
    /// each.
    pub alpha: f64,
    /// The number of blocks.
    pub blocks: usize,
}

/// The conclusion from a measure, or from all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DuetVerdict {
    /// The head is worse.
    Regressed,
    /// The head is better.
    Improved,
    /// Any difference is smaller than what would count.
    Unchanged,
    /// The blocks cannot decide.
    Indistinct,
    /// Nothing may be concluded.
    Invalid,
}

impl DuetVerdict {
    /// Returns the exit code of a duet that ends with it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Regressed => exit_code::REGRESSED,
            Self::Invalid => exit_code::INVALID,
            Self::Improved | Self::Unchanged | Self::Indistinct => 0,
        }
    }
}

impl fmt::Display for DuetVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Regressed => "regressed",
            Self::Improved => "improved",
            Self::Unchanged => "unchanged",
            Self::Indistinct => "indistinct",
            Self::Invalid => "invalid",
        })
    }
}

/// A measure over all blocks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// The workload, or `system` for what all workloads caused together.
    pub of: String,
    /// Its name, which ends in its unit.
    pub measure: &'static str,
    /// The geometric mean of the blocks' values; of errors, the share of all arrivals.
    pub values: Sides<Option<f64>>,
    /// The change: 0.1 is 10% more at the head. Absent where it cannot be estimated.
    pub change: Option<f64>,
    /// Its interval of 95%.
    pub interval: Option<[f64; 2]>,
    /// The slowdown that this duet would have found 19 times in 20; only of judged response times.
    pub detectable: Option<f64>,
    /// The probability of such blocks if the head were not worse, adjusted for the number of measures; only of what is
    /// judged.
    pub p: Option<f64>,
    /// The conclusion; absent of a measure that is only shown.
    pub verdict: Option<DuetVerdict>,
}

/// Returns the least growth of a cost per right answer that counts: background work touches the same tables, pages
/// split, and tuples are pruned at other times.
pub fn tolerance(cost: &str) -> f64 {
    match cost {
        "sql_calls" | "sql_rows" => 0.005,
        "shared_blocks" => 0.05,
        _ => 0.02,
    }
}

/// A measure with its estimate, before it is judged.
struct Measured {
    of: String,
    measure: &'static str,
    values: Sides<Option<f64>>,
    estimate: Option<Estimate>,
}

/// Judges every measure; returns with them the reasons for which nothing may be concluded.
pub fn judge(blocks: &[Block], settings: &Settings) -> (Vec<Judged>, Vec<String>) {
    let mut invalid = Vec::new();
    let mut times = Vec::new();
    let mut shown = Vec::new();
    let mut errors = Vec::new();
    let workloads = blocks.first().map(|block| block.workloads.len()).unwrap_or(0);
    for index in 0..workloads {
        let of_workload: Vec<_> = blocks.iter().filter_map(|block| block.workloads.get(index)).collect();
        let name = of_workload.first().map(|workload| workload.name.clone()).unwrap_or_default();
        let values = |take: fn(&super::block::Answers) -> Option<f64>| {
            let of = |answers: Vec<Option<f64>>| geometric_mean(&answers);
            Sides {
                base: of(of_workload.iter().map(|one| take(&one.answers.base)).collect()),
                head: of(of_workload.iter().map(|one| take(&one.answers.head)).collect()),
            }
        };
        let logarithms = |measure: &str| {
            let all: Option<Vec<f64>> = of_workload.iter().map(|one| one.logarithms.get(measure).copied()).collect();
            all.and_then(|all| Estimate::of(&all))
        };
        for (measure, values) in JUDGED.into_iter().zip([
            values(|answers| answers.p50_us),
            values(|answers| answers.p95_us),
            values(|answers| answers.p99_us),
        ]) {
            let estimate = logarithms(measure);
            let measured = Measured { of: name.clone(), measure, values, estimate };
            // Without enough answers for it a tail is shown and not judged; without a median there is no duet.
            if measured.estimate.is_some() { times.push(measured) } else { shown.push(measured) }
        }
        let bytes = values(|answers| answers.bytes);
        shown.push(Measured {
            of: name.clone(),
            measure: "answer_bytes",
            values: bytes,
            estimate: logarithms("answer_bytes"),
        });
        errors.push(errors_of(&name, of_workload.iter().map(|one| &one.answers)));
    }
    let mut counts = Vec::new();
    let has = |cost: &str, take: fn(&Block) -> &super::block::SideWork| {
        blocks.iter().all(|block| take(block).per_answer.contains_key(cost))
    };
    for cost in COSTS.into_iter().chain(["cpu_system_us", "cpu_postgresql_us"]) {
        let sides = Sides { base: has(cost, |block| &block.work.base), head: has(cost, |block| &block.work.head) };
        if sides.base != sides.head {
            let (with, without) = if sides.base { ("base", "head") } else { ("head", "base") };
            invalid.push(format!("{cost}: counted at the {with}, but not in every block at the {without}"));
        }
        if !(sides.base && sides.head) {
            continue;
        }
        let of = |take: fn(&Block) -> &super::block::SideWork| -> Vec<f64> {
            blocks.iter().filter_map(|block| take(block).per_answer.get(cost).copied()).collect()
        };
        let (base, head) = (of(|block| &block.work.base), of(|block| &block.work.head));
        let logarithms: Vec<f64> = base.iter().zip(&head).map(|(base, head)| log_ratio(*base, *head)).collect();
        let some = |values: &[f64]| geometric_mean(&values.iter().copied().map(Some).collect::<Vec<_>>());
        let values = Sides { base: some(&base), head: some(&head) };
        let measured = Measured { of: "system".to_owned(), measure: cost, values, estimate: Estimate::of(&logarithms) };
        if COSTS.contains(&cost) { counts.push(measured) } else { shown.push(measured) }
    }
    let mut all = judge_times(times, settings);
    let regress = errors.iter().map(|one| one.p.unwrap_or(1.0));
    let counted: Vec<f64> = counts.iter().map(|one| worse(one, tolerance(one.measure))).chain(regress).collect();
    let adjusted = holm(&counted);
    let (of_counts, of_errors) = adjusted.split_at(counts.len());
    for (measured, p) in counts.into_iter().zip(of_counts) {
        let bound = tolerance(measured.measure);
        all.push(finish(measured, Some(*p), settings, bound));
    }
    for (error, p) in errors.into_iter().zip(of_errors) {
        let grew = error.values.head.unwrap_or(0.0) - error.values.base.unwrap_or(0.0);
        let regressed = *p <= settings.alpha && grew > LEAST_ERRORS;
        let verdict = if regressed { DuetVerdict::Regressed } else { DuetVerdict::Unchanged };
        all.push(Judged { p: Some(*p), verdict: Some(verdict), ..error });
    }
    let broken = all.iter().any(|one| one.measure == "errors_share" && one.verdict == Some(DuetVerdict::Regressed));
    for measured in shown {
        // Where the head fails, its errors say so already.
        if measured.measure == JUDGED[0] && !broken {
            invalid.push(format!("{}: too few right answers for a median in every block", measured.of));
        }
        all.push(finish(measured, None, settings, 0.0));
    }
    (all, invalid)
}

/// Returns the verdict that follows from all measures.
pub fn overall(measures: &[Judged], invalid: bool) -> DuetVerdict {
    let any = |verdict| measures.iter().any(|one| one.verdict == Some(verdict));
    match () {
        () if invalid => DuetVerdict::Invalid,
        () if any(DuetVerdict::Regressed) => DuetVerdict::Regressed,
        () if any(DuetVerdict::Improved) => DuetVerdict::Improved,
        () if any(DuetVerdict::Indistinct) => DuetVerdict::Indistinct,
        () => DuetVerdict::Unchanged,
    }
}

/// Judges response times, each together with the slowdown that these blocks would have shown.
fn judge_times(times: Vec<Measured>, settings: &Settings) -> Vec<Judged> {
    let bound = settings.threshold;
    let adjusted = holm(&times.iter().map(|one| worse(one, bound)).collect::<Vec<_>>());
    let judged = times.into_iter().zip(adjusted).map(|(measured, p)| {
        let detectable = measured.estimate.map(|one| one.detectable(bound, settings.alpha));
        Judged { detectable, ..finish(measured, Some(p), settings, bound) }
    });
    judged.collect()
}

/// Returns the probability of such blocks if the head were worse by no more than `bound`.
fn worse(measured: &Measured, bound: f64) -> f64 {
    measured.estimate.map_or(1.0, |estimate| estimate.above(bound.ln_1p()))
}

fn finish(measured: Measured, p: Option<f64>, settings: &Settings, bound: f64) -> Judged {
    let Measured { of, measure, values, estimate } = measured;
    let (change, interval) = estimate.map(|one| one.change(CONFIDENCE)).unzip();
    let verdict = p.zip(estimate).map(|(p, estimate)| {
        let limit = bound.ln_1p();
        let better = estimate.below(-limit);
        let bounded = estimate.below(limit).max(estimate.above(-limit));
        match () {
            () if p <= settings.alpha => DuetVerdict::Regressed,
            () if better <= settings.alpha => DuetVerdict::Improved,
            () if bounded <= EQUIVALENCE => DuetVerdict::Unchanged,
            () => DuetVerdict::Indistinct,
        }
    });
    Judged { of, measure, values, change, interval, detectable: None, p, verdict }
}

/// Returns the share of errors with the probability that the head has so many of all by chance: given their sum, each
/// falls on a side in proportion to its arrivals (Przyborowski and Wilenski, Biometrika 1940).
fn errors_of<'a>(name: &str, answers: impl Iterator<Item = &'a Sides<super::block::Answers>>) -> Judged {
    let (mut scheduled, mut wrong) = (Sides::<u64>::default(), Sides::<u64>::default());
    for one in answers {
        scheduled.base += one.base.scheduled;
        scheduled.head += one.head.scheduled;
        wrong.base += one.base.scheduled - one.base.right;
        wrong.head += one.head.scheduled - one.head.right;
    }
    let all = scheduled.base + scheduled.head;
    let share = |wrong: u64, of: u64| (of > 0).then(|| wrong as f64 / of as f64);
    let p = binomial::at_least(wrong.head, wrong.base + wrong.head, scheduled.head as f64 / all.max(1) as f64);
    Judged {
        of: name.to_owned(),
        measure: "errors_share",
        values: Sides { base: share(wrong.base, scheduled.base), head: share(wrong.head, scheduled.head) },
        change: None,
        interval: None,
        detectable: None,
        p: Some(p),
        verdict: None,
    }
}

/// Returns ln(head / base); of a cost that one side does not have at all, that of one in a million instead of none.
fn log_ratio(base: f64, head: f64) -> f64 {
    const NEXT_TO_NOTHING: f64 = 1e-6;
    if base == head { 0.0 } else { (head.max(NEXT_TO_NOTHING) / base.max(NEXT_TO_NOTHING)).ln() }
}

/// Returns the geometric mean, if every value is there.
fn geometric_mean(values: &[Option<f64>]) -> Option<f64> {
    let sum: Option<f64> = values.iter().map(|value| value.map(f64::ln)).sum();
    sum.filter(|_| !values.is_empty()).map(|sum| (sum / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::block::{Answers, SideWork, WorkloadBlock};
    use super::*;

    const SETTINGS: Settings = Settings { threshold: 0.02, alpha: 0.01, blocks: 6 };

    /// Makes blocks in which the head's response times differ by `change`, give or take half a percent.
    fn blocks(change: f64) -> Vec<Block> {
        let scatter = [-0.004, 0.001, 0.005, -0.002, 0.003, -0.003];
        let block = |(index, scatter): (usize, f64)| {
            let logarithm = f64::ln_1p(change) + scatter;
            let answers = |factor: f64| Answers {
                scheduled: 5_000,
                right: 5_000,
                p50_us: Some(1_000.0 * factor),
                p95_us: Some(2_000.0 * factor),
                p99_us: Some(3_000.0 * factor),
                bytes: Some(400.0),
            };
            let names = ["response_p50_us", "response_p95_us", "response_p99_us"];
            let work = SideWork {
                per_answer: COSTS.into_iter().zip([4.0, 85.0, 20.0, 2_000.0, 30.0]).collect(),
                answers: 5_000,
                ..SideWork::default()
            };
            Block {
                number: index + 1,
                first: "base",
                ports: Sides::default(),
                workloads: vec![WorkloadBlock {
                    name: "w".to_owned(),
                    answers: Sides { base: answers(1.0), head: answers(logarithm.exp()) },
                    logarithms: names.into_iter().map(|name| (name, logarithm)).collect(),
                    slice_s: 1.0,
                }],
                work: Sides { base: work.clone(), head: work },
            }
        };
        scatter.into_iter().enumerate().map(block).collect()
    }

    fn verdict_of(blocks: &[Block], measure: &str) -> Option<DuetVerdict> {
        let (measures, invalid) = judge(blocks, &SETTINGS);
        assert_eq!(invalid, [] as [&str; 0]);
        measures.iter().find(|one| one.measure == measure).unwrap().verdict
    }

    #[test]
    fn five_percent_are_found_and_nothing_is_not() {
        for measure in JUDGED {
            assert_eq!(verdict_of(&blocks(0.05), measure), Some(DuetVerdict::Regressed));
            assert_eq!(verdict_of(&blocks(-0.05), measure), Some(DuetVerdict::Improved));
            assert_eq!(verdict_of(&blocks(0.0), measure), Some(DuetVerdict::Unchanged));
            // Close to the threshold, the blocks cannot decide.
            assert_eq!(verdict_of(&blocks(0.02), measure), Some(DuetVerdict::Indistinct));
        }
    }

    fn with_cost(cost: &'static str, value: impl Fn(usize) -> f64) -> Vec<Block> {
        let mut blocks = blocks(0.0);
        for (index, block) in blocks.iter_mut().enumerate() {
            block.work.head.per_answer.insert(cost, value(index));
        }
        blocks
    }

    #[test]
    fn a_cost_that_grows_is_found_however_fast_the_answers_are() {
        assert_eq!(verdict_of(&with_cost("sql_calls", |_| 5.0), "sql_calls"), Some(DuetVerdict::Regressed));
        assert_eq!(verdict_of(&with_cost("shared_blocks", |_| 200.0), "shared_blocks"), Some(DuetVerdict::Regressed));
        assert_eq!(verdict_of(&with_cost("sql_calls", |_| 4.01), "sql_calls"), Some(DuetVerdict::Unchanged));
        assert_eq!(verdict_of(&with_cost("sql_calls", |_| 3.0), "sql_calls"), Some(DuetVerdict::Improved));
        // One block alone, such as the one that a background loop ran in.
        let once = |index| if index == 2 { 4.3 } else { 4.0 };
        assert_ne!(verdict_of(&with_cost("sql_calls", once), "sql_calls"), Some(DuetVerdict::Regressed));
    }

    #[test]
    fn a_cost_of_one_side_alone_is_never_green() {
        for lost in [0, 1] {
            let mut blocks = blocks(0.0);
            let work = &mut blocks[3].work;
            let side = if lost == 0 { &mut work.base } else { &mut work.head };
            side.per_answer.remove("wal_bytes");
            let (measures, invalid) = judge(&blocks, &SETTINGS);
            assert!(invalid[0].starts_with("wal_bytes: counted at the"), "{invalid:?}");
            assert_eq!(overall(&measures, !invalid.is_empty()).exit_code(), exit_code::INVALID);
        }
        let mut neither = blocks(0.0);
        for block in &mut neither {
            block.work = Sides::default();
        }
        let (measures, invalid) = judge(&neither, &SETTINGS);
        assert_eq!((invalid.len(), overall(&measures, false)), (0, DuetVerdict::Unchanged));
    }

    #[test]
    fn errors_of_the_head_are_a_regression_without_any_latency() {
        let mut blocks = blocks(0.0);
        for block in &mut blocks {
            block.workloads[0].answers.head = Answers { scheduled: 5_000, ..Answers::default() };
            block.workloads[0].logarithms = BTreeMap::new();
        }
        let (measures, invalid) = judge(&blocks, &SETTINGS);
        assert_eq!((invalid.len(), overall(&measures, false)), (0, DuetVerdict::Regressed));
        // Of both: no verdict.
        for block in &mut blocks {
            block.workloads[0].answers.base = block.workloads[0].answers.head;
        }
        let (_, invalid) = judge(&blocks, &SETTINGS);
        assert_eq!(invalid, ["w: too few right answers for a median in every block"]);
    }

    #[test]
    fn a_few_more_errors_are_no_accident_only_if_they_are_many() {
        let with_errors = |base: u64, head: u64| {
            let mut blocks = blocks(0.0);
            blocks[0].workloads[0].answers.base.right -= base;
            blocks[0].workloads[0].answers.head.right -= head;
            verdict_of(&blocks, "errors_share")
        };
        assert_eq!(with_errors(10, 12), Some(DuetVerdict::Unchanged));
        // Significant, but one in 1,200.
        assert_eq!(with_errors(0, 25), Some(DuetVerdict::Unchanged));
        assert_eq!(with_errors(10, 100), Some(DuetVerdict::Regressed));
        assert_eq!(with_errors(100, 10), Some(DuetVerdict::Unchanged));
    }
}
