//! The verdict of a duet: each measure over all blocks, judged against what would count as a difference.

mod errors;

use std::fmt;

use serde::Serialize;

use super::Sides;
use super::block::{Answers, Block, COSTS, WorkloadBlock};
use super::estimate::{Estimate, holm};
use crate::exit_code;
use crate::load::plan::DuetSide;
use errors::Errors;

/// A figure of one side's answers in a block; `None` where they are too few.
type Figure = fn(&Answers) -> Option<f64>;

/// The measures of response time: without the first there is no duet.
const JUDGED: [(&str, Figure); 3] = [
    ("response_p50_us", |answers| answers.p50_us),
    ("response_p95_us", |answers| answers.p95_us),
    ("response_p99_us", |answers| answers.p99_us),
];
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
    /// The probability with which a duet of equal systems may end as `regressed` for a response time, and likewise as
    /// `improved`. A condition for errors; and for counts, unless they are beyond their tolerance again and again.
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
    /// The geometric mean of the values of the blocks that have it; of errors, the share of all arrivals.
    pub values: Sides<Option<f64>>,
    /// The change: 0.1 is 10% more at the head. Absent where it cannot be estimated.
    pub change: Option<f64>,
    /// Its interval of 95%.
    pub interval: Option<[f64; 2]>,
    /// The least change that counts, either way, as a share of the base; of errors the least difference of the shares.
    /// Absent of a measure that is only shown.
    pub limit: Option<f64>,
    /// The slowdown that this duet would have found 19 times in 20; only of judged response times.
    pub detectable: Option<f64>,
    /// The probability of such blocks if the head were worse by no more than would count, adjusted for the number of
    /// measures; only of what is judged.
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

/// A measure over all blocks, before it is judged.
struct Measured {
    of: String,
    measure: &'static str,
    values: Sides<Option<f64>>,
    /// ln(head / base) of the blocks.
    logarithms: Vec<f64>,
}

/// Judges every measure; returns with them the evidence that is missing, without which nothing is green.
pub fn judge(blocks: &[Block], settings: &Settings) -> (Vec<Judged>, Vec<String>) {
    let (mut missing, mut tails) = (Vec::new(), Vec::new());
    let (mut times, mut shown, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    let workloads = blocks.first().map_or(0, |block| block.workloads.len());
    for index in 0..workloads {
        let of_workload: Vec<_> = blocks.iter().filter_map(|block| block.workloads.get(index)).collect();
        for (measure, take) in JUDGED {
            let measured = Measured::of_answers(&of_workload, measure, take);
            let has = |one: &Answers| take(one).is_some();
            let at_base = of_workload.iter().filter(|one| has(&one.answers.base)).count();
            // A pair at the edge of a window may be whole at one side alone, without any error.
            let lost_here = |one: &&&WorkloadBlock| {
                let answers = &one.answers;
                has(&answers.base) && !has(&answers.head) && answers.head.right < answers.head.scheduled
            };
            let lost_in = of_workload.iter().filter(lost_here).count();
            if lost_in > 0 && at_base >= needed(measure, of_workload.len()) {
                let why = format!(
                    "{} {measure}: in {lost_in} of {} blocks the head has too few right answers for it, and the base enough",
                    measured.of,
                    of_workload.len()
                );
                tails.push((index, why));
            }
            // Without enough answers for it a tail is shown and not judged; without a median there is no duet.
            let is_judged = measured.logarithms.len() >= needed(measure, of_workload.len());
            if is_judged { times.push(measured) } else { shown.push(measured) }
        }
        shown.push(Measured::of_answers(&of_workload, "answer_bytes", |answers| answers.bytes));
        errors.push(Errors::of(&of_workload));
    }
    let mut counts = Vec::new();
    for cost in COSTS {
        let measured = Measured::of_work(blocks, cost);
        match (measured.values.base.is_some(), measured.values.head.is_some()) {
            (true, true) => counts.push(measured),
            (false, false) => {}
            (base, _) => {
                let (with, without) = if base { ("base", "head") } else { ("head", "base") };
                missing.push(format!("{cost}: counted at the {with}, but not in every block at the {without}"));
            }
        }
    }
    shown.extend(["cpu_system_us", "cpu_postgresql_us"].map(|cost| Measured::of_work(blocks, cost)));
    // The first of a family to be found has to be as improbable as this.
    let alpha = settings.alpha / times.len() as f64;
    let detectable = |one: &Measured| Some(Estimate::of(&one.logarithms)?.detectable(settings.threshold, alpha));
    let detectable: Vec<_> = times.iter().map(detectable).collect();
    let mut all = judge_family(times, settings, |_| settings.threshold, |_, _| None);
    for (one, detectable) in all.iter_mut().zip(detectable) {
        one.detectable = detectable;
    }
    all.extend(judge_family(counts, settings, tolerance, recurring));
    let errors = errors::judge(errors, settings);
    let concluded = |verdict| move |one: &Judged| one.verdict == Some(verdict);
    if errors.iter().any(concluded(DuetVerdict::Regressed)) {
        // Where the head fails, its errors say so already.
        missing.clear();
    } else {
        // A tail of those blocks that have it is a fair one if the head has no more errors than the base.
        let is_fair = |index: usize| concluded(DuetVerdict::Unchanged)(&errors[index]);
        missing.extend(tails.into_iter().filter(|(index, _)| !is_fair(*index)).map(|(_, why)| why));
        let without_median = shown.iter().filter(|one| one.measure == JUDGED[0].0);
        missing
            .extend(without_median.map(|one| format!("{}: too few right answers for a median in every block", one.of)));
        let bursts = errors.iter().filter(|one| concluded(DuetVerdict::Invalid)(one));
        missing.extend(bursts.map(|one| format!("{}: errors of the head, most of them in one block", one.of)));
    }
    all.extend(errors);
    let is_there = |one: &Measured| one.values.base.is_some() || one.values.head.is_some();
    all.extend(shown.into_iter().filter(is_there).map(|one| one.concluded(None, None, None)));
    (all, missing)
}

/// Returns the number of blocks, of so many, that must have a measure of response time for it to be judged: a window of
/// random arrivals may have too few for a tail.
fn needed(measure: &str, blocks: usize) -> usize {
    let needed = if measure == JUDGED[0].0 { blocks } else { (blocks * 3).div_ceil(4) };
    needed.max(1)
}

impl Measured {
    /// Gathers a measure of the answers to a workload.
    fn of_answers(blocks: &[&WorkloadBlock], measure: &'static str, take: Figure) -> Self {
        let values = |side| geometric_mean(blocks.iter().filter_map(|one| take(one.answers.of(side))));
        Self {
            of: blocks.first().map(|one| one.name.clone()).unwrap_or_default(),
            measure,
            values: Sides { base: values(DuetSide::Base), head: values(DuetSide::Head) },
            logarithms: blocks.iter().filter_map(|one| one.logarithms.get(measure).copied()).collect(),
        }
    }

    /// Gathers a cost per right answer; a side that lacks it in any block has no value. Bytes of WAL are those of the
    /// blocks in which neither side wrote whole pages, and none where there is no such block.
    fn of_work(blocks: &[Block], cost: &'static str) -> Self {
        let whole_pages = |block: &Block| DuetSide::BOTH.into_iter().any(|side| block.work.of(side).has_whole_pages());
        let blocks: Vec<_> = blocks.iter().filter(|block| cost != "wal_bytes" || !whole_pages(block)).collect();
        let of = |side| -> Option<Vec<f64>> {
            blocks.iter().map(|block| block.work.of(side).per_answer.get(cost).copied()).collect()
        };
        let sides = Sides { base: of(DuetSide::Base), head: of(DuetSide::Head) };
        let pairs = sides.base.iter().flatten().zip(sides.head.iter().flatten());
        Self {
            of: "system".to_owned(),
            measure: cost,
            logarithms: pairs.map(|(base, head)| log_ratio(*base, *head, least(cost))).collect(),
            values: sides.map(|values| geometric_mean(values?.into_iter())),
        }
    }

    /// Returns it with what follows from it.
    fn concluded(self, limit: Option<f64>, p: Option<f64>, verdict: Option<DuetVerdict>) -> Judged {
        let estimate = Estimate::of(&self.logarithms);
        let (change, interval) = estimate.map(|one| one.change(CONFIDENCE)).unzip();
        let Self { of, measure, values, .. } = self;
        Judged { of, measure, values, change, interval, limit, detectable: None, p, verdict }
    }
}

/// Returns the verdict that follows from all measures. `invalid` is true if nothing may be concluded from any of them,
/// and `missing` if evidence is: what remains may still show that the head is worse.
pub fn overall(measures: &[Judged], invalid: bool, missing: bool) -> DuetVerdict {
    let any = |verdict| measures.iter().any(|one| one.verdict == Some(verdict));
    match () {
        () if invalid => DuetVerdict::Invalid,
        () if any(DuetVerdict::Regressed) => DuetVerdict::Regressed,
        () if missing => DuetVerdict::Invalid,
        () if any(DuetVerdict::Improved) => DuetVerdict::Improved,
        () if any(DuetVerdict::Indistinct) => DuetVerdict::Indistinct,
        () => DuetVerdict::Unchanged,
    }
}

/// Judges the measures of a family, adjusted for their number in each direction. `bound` is the least change that
/// counts; `rule` decides before the test does.
fn judge_family(
    family: Vec<Measured>,
    settings: &Settings,
    bound: impl Fn(&str) -> f64,
    rule: fn(&[f64], f64) -> Option<DuetVerdict>,
) -> Vec<Judged> {
    let estimate = |one: &Measured| (Estimate::of(&one.logarithms), bound(one.measure).ln_1p());
    let estimates: Vec<_> = family.iter().map(estimate).collect();
    let adjusted = |p: fn(&Estimate, f64) -> f64| {
        let each = estimates.iter().map(|(estimate, limit)| estimate.as_ref().map_or(1.0, |one| p(one, *limit)));
        holm(&each.collect::<Vec<_>>())
    };
    let (worse, better) = (adjusted(Estimate::above), adjusted(|one, limit| one.below(-limit)));
    let judged = family.into_iter().zip(&estimates).enumerate().map(|(index, (measured, (estimate, limit)))| {
        let bounded = estimate.map_or(1.0, |one| one.below(*limit).max(one.above(-limit)));
        let tested = match () {
            () if worse[index] <= settings.alpha => DuetVerdict::Regressed,
            () if better[index] <= settings.alpha => DuetVerdict::Improved,
            () if bounded <= EQUIVALENCE => DuetVerdict::Unchanged,
            () => DuetVerdict::Indistinct,
        };
        let verdict = rule(&measured.logarithms, *limit).unwrap_or(tested);
        let bound = bound(measured.measure);
        measured.concluded(Some(bound), Some(worse[index]), Some(verdict))
    });
    judged.collect()
}

/// Returns what follows from a count that is beyond its tolerance in two blocks or more: in three of four, or in an
/// eighth of them and in none the other way by a quarter as much. A count hardly scatters, so that blocks that differ are
/// no reason to forgive it.
fn recurring(logarithms: &[f64], limit: f64) -> Option<DuetVerdict> {
    let speaks = |sign: f64| {
        let most = |sign: f64| logarithms.iter().map(|one| sign * one).fold(0.0, f64::max);
        let beyond = logarithms.iter().filter(|one| sign * **one > limit).count();
        let (most, against) = (most(sign), most(-sign));
        let is_rule = beyond * 4 >= logarithms.len() * 3;
        let is_frequent = beyond * 8 >= logarithms.len() && (against <= limit || against * 4.0 < most);
        beyond >= 2 && (is_rule || is_frequent)
    };
    match (speaks(1.0), speaks(-1.0)) {
        (true, false) => Some(DuetVerdict::Regressed),
        (false, true) => Some(DuetVerdict::Improved),
        _ => None,
    }
}

/// Returns the least cost per right answer that is taken for one: below it is what a background loop does.
fn least(cost: &str) -> f64 {
    match cost {
        "wal_bytes" | "cpu_system_us" | "cpu_postgresql_us" => 1.0,
        _ => 0.01,
    }
}

/// Returns ln(head / base), of costs of `least` or more.
fn log_ratio(base: f64, head: f64, least: f64) -> f64 {
    (head.max(least) / base.max(least)).ln()
}

/// Returns the geometric mean; `None` of nothing.
fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, number) = values.fold((0.0, 0_u32), |(sum, number), value| (sum + value.ln(), number + 1));
    (number > 0).then(|| (sum / f64::from(number)).exp())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::block::SideWork;
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
                others: None,
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
        for (measure, _) in JUDGED {
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
        assert_eq!(verdict_of(&with_cost("sql_calls", once), "sql_calls"), Some(DuetVerdict::Indistinct));
    }

    #[test]
    fn a_count_is_not_forgiven_by_its_own_scatter() {
        let twice = |index| if index % 3 == 0 { 8.0 } else { 4.0 };
        assert_eq!(verdict_of(&with_cost("sql_calls", twice), "sql_calls"), Some(DuetVerdict::Regressed));
        let half = |index| if index % 3 == 0 { 2.0 } else { 4.0 };
        assert_eq!(verdict_of(&with_cost("sql_calls", half), "sql_calls"), Some(DuetVerdict::Improved));
        let either = |index| if index % 2 == 0 { 2.0 } else { 8.0 };
        assert_eq!(verdict_of(&with_cost("sql_calls", either), "sql_calls"), Some(DuetVerdict::Indistinct));
        let all_but_one = |index| if index == 1 { 2.0 } else { 5.0 };
        assert_eq!(verdict_of(&with_cost("sql_calls", all_but_one), "sql_calls"), Some(DuetVerdict::Regressed));
        // A statement of the background at the base, in one block, does not speak against it.
        let but_one = |index| if index == 1 { 3.96 } else { twice(index) };
        assert_eq!(verdict_of(&with_cost("sql_calls", but_one), "sql_calls"), Some(DuetVerdict::Regressed));
    }

    #[test]
    fn a_cost_next_to_nothing_is_no_ratio() {
        let mut blocks = with_cost("wal_records", |_| 1.0 / 1_300.0);
        for block in &mut blocks {
            block.work.base.per_answer.insert("wal_records", 0.0);
        }
        assert_eq!(verdict_of(&blocks, "wal_records"), Some(DuetVerdict::Unchanged));
        for block in &mut blocks {
            block.work.head.per_answer.insert("wal_records", 1.0);
        }
        assert_eq!(verdict_of(&blocks, "wal_records"), Some(DuetVerdict::Regressed));
    }

    #[test]
    fn cpu_time_of_one_side_alone_is_shown() {
        let mut blocks = blocks(0.0);
        for block in &mut blocks {
            block.work.base.per_answer.insert("cpu_system_us", 700.0);
        }
        let (measures, invalid) = judge(&blocks, &SETTINGS);
        assert_eq!(invalid, [] as [&str; 0]);
        let shown = measures.iter().find(|one| one.measure == "cpu_system_us").unwrap();
        assert!(shown.values.head.is_none() && shown.change.is_none() && shown.verdict.is_none(), "{shown:?}");
        assert!((shown.values.base.unwrap() - 700.0).abs() < 1e-6, "{shown:?}");
        assert!(!measures.iter().any(|one| one.measure == "cpu_postgresql_us"));
    }

    #[test]
    fn a_tail_that_the_head_lacks_is_never_green() {
        let mut blocks = blocks(0.0);
        let head_lacks = |block: &mut Block| {
            block.workloads[0].answers.head.p99_us = None;
            block.workloads[0].logarithms.remove("response_p99_us");
        };
        head_lacks(&mut blocks[2]);
        // By an arrival less, at the edge of the window: the others decide.
        assert_eq!(verdict_of(&blocks, "response_p99_us"), Some(DuetVerdict::Unchanged));
        // By errors that are not known to be of either side: the blocks that are left may be the fast ones.
        blocks[2].workloads[0].answers.head.right -= 60;
        let (measures, missing) = judge(&blocks, &SETTINGS);
        let why = "w response_p99_us: in 1 of 6 blocks the head has too few right answers for it, and the base enough";
        assert_eq!((&missing[..], overall(&measures, false, true)), (&[why.to_owned()][..], DuetVerdict::Invalid));
        // Of as many errors of both, none is the reason.
        blocks[3].workloads[0].answers.base.right -= 60;
        assert_eq!(verdict_of(&blocks, "response_p99_us"), Some(DuetVerdict::Unchanged));
        // Of both, by chance in one block: the others decide.
        blocks[2].workloads[0].answers.base.p99_us = None;
        assert_eq!(verdict_of(&blocks, "response_p99_us"), Some(DuetVerdict::Unchanged));
        // In most of them: it is shown, and not judged.
        for block in &mut blocks[..4] {
            head_lacks(block);
            block.workloads[0].answers.base.p99_us = None;
        }
        assert_eq!(verdict_of(&blocks, "response_p99_us"), None);
    }

    #[test]
    fn what_is_called_detectable_counts_the_family() {
        let (measures, _) = judge(&blocks(0.0), &SETTINGS);
        let [alone, of_three] = [1.0, 3.0].map(|tests| {
            let logarithms: Vec<f64> =
                blocks(0.0).iter().map(|block| block.workloads[0].logarithms[JUDGED[0].0]).collect();
            Estimate::of(&logarithms).unwrap().detectable(SETTINGS.threshold, SETTINGS.alpha / tests)
        });
        assert!(of_three > alone, "{of_three} and {alone}");
        assert_eq!(measures[0].detectable, Some(of_three));
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
            assert_eq!(overall(&measures, false, true).exit_code(), exit_code::INVALID);
            // What is left may still be worse.
            for block in &mut blocks {
                block.work.head.per_answer.insert("sql_calls", 5.0);
            }
            assert_eq!(overall(&judge(&blocks, &SETTINGS).0, false, true).exit_code(), exit_code::REGRESSED);
        }
        let mut neither = blocks(0.0);
        for block in &mut neither {
            block.work = Sides::default();
        }
        let (measures, invalid) = judge(&neither, &SETTINGS);
        assert_eq!((invalid.len(), overall(&measures, false, false)), (0, DuetVerdict::Unchanged));
    }

    #[test]
    fn bytes_of_wal_after_a_checkpoint_are_left_out() {
        let mut blocks = with_cost("wal_bytes", |index| if index < 2 { 9_000.0 } else { 2_000.0 });
        assert_eq!(verdict_of(&blocks, "wal_bytes"), Some(DuetVerdict::Regressed));
        for block in &mut blocks[..2] {
            block.work.head.whole_pages = 0.9;
        }
        assert_eq!(verdict_of(&blocks, "wal_bytes"), Some(DuetVerdict::Unchanged));
        // In all blocks: there is nothing to compare.
        for block in &mut blocks {
            block.work.base.whole_pages = 0.9;
        }
        assert!(!judge(&blocks, &SETTINGS).0.iter().any(|one| one.measure == "wal_bytes"));
    }

    #[test]
    fn errors_of_the_head_are_a_regression_without_any_latency() {
        let mut blocks = blocks(0.0);
        for block in &mut blocks {
            block.workloads[0].answers.head = Answers { scheduled: 5_000, ..Answers::default() };
            block.workloads[0].logarithms = BTreeMap::new();
            // Without a right answer there is no cost of one.
            block.work.head.per_answer.clear();
        }
        let (measures, missing) = judge(&blocks, &SETTINGS);
        assert_eq!((missing.len(), overall(&measures, false, false)), (0, DuetVerdict::Regressed));
        // Of both: no verdict.
        for block in &mut blocks {
            block.workloads[0].answers.base = block.workloads[0].answers.head;
            block.work.base.per_answer.clear();
        }
        let (_, invalid) = judge(&blocks, &SETTINGS);
        assert_eq!(invalid, ["w: too few right answers for a median in every block"]);
    }
}
