//! A block of a duet: the measurements of both sides between two restarts, reduced to what is compared.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Sides;
use crate::baseline::measure::WHOLE_PAGES;
use crate::evidence::Evidence;
use crate::evidence::Statement;
use crate::load::plan::DuetSide;
use crate::measure::distribution::Quantile;
use crate::measure::machine_use::MachineUse;
use crate::measure::recorder::RightAnswer;
use crate::measure::{Measurement, Outcome};

/// The least arrivals of a side in a slice of a window: its p95 then has some arrivals beyond it.
const SLICE_ARRIVALS: f64 = 100.0;

/// The workloads of a block, and the work that they caused on each side.
#[derive(Clone, Debug, Serialize)]
pub struct Block {
    /// Its number, from 1.
    pub number: usize,
    /// The side that was started first.
    pub first: &'static str,
    /// The port of each side; 0 if it ran already.
    pub ports: Sides<u16>,
    /// The workloads.
    pub workloads: Vec<WorkloadBlock>,
    /// The work of each side, for all workloads together.
    pub work: Sides<SideWork>,
    /// The processors that others and the host took, the most of all workloads; absent where they are not known.
    pub others: Option<f64>,
}

/// One workload in one block.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadBlock {
    /// Its name.
    pub name: String,
    /// The answers of each side.
    pub answers: Sides<Answers>,
    /// ln(head / base) by measure, where both sides have enough right answers.
    pub logarithms: BTreeMap<&'static str, f64>,
    /// The length of the slices of the window that p50 and p95 are the means over, in seconds.
    pub slice_s: f64,
}

/// The answers of one side to one workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Answers {
    /// Arrivals scheduled in the window.
    pub scheduled: u64,
    /// Right answers.
    pub right: u64,
    /// Response time of right answers, in microseconds.
    pub p50_us: Option<f64>,
    /// The same, p95.
    pub p95_us: Option<f64>,
    /// The same, p99.
    pub p99_us: Option<f64>,
    /// Bytes per right answer, head and body.
    pub bytes: Option<f64>,
}

/// The work of one side. Costs are per right answer, of warm-up and window together. CPU times are of the time in which
/// any workload was measured, per right answer of all windows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SideWork {
    /// The costs, by name; without a database that is known, those of the CPU alone.
    pub per_answer: BTreeMap<&'static str, f64>,
    /// Whole pages in the WAL, which follow a checkpoint, per right answer.
    pub whole_pages: f64,
    /// The statements; those of all blocks are paired in the result.
    #[serde(skip)]
    pub statements: Vec<Statement>,
    /// The right answers that the statements are for.
    pub answers: u64,
    /// Reasons to doubt the counts.
    pub problems: Vec<String>,
}

/// One statement on both sides; per right answer, over all blocks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatementPair {
    /// Verb and tables.
    pub outline: String,
    /// Calls.
    pub calls: Sides<f64>,
    /// Rows returned or changed.
    pub rows: Sides<f64>,
    /// Blocks of shared buffers, hit or read.
    pub shared_blocks: Sides<f64>,
}

/// The names of the database's costs per right answer.
pub const COSTS: [&str; 5] = ["sql_calls", "sql_rows", "wal_records", "wal_bytes", "shared_blocks"];

impl WorkloadBlock {
    /// Reduces the measurements of both sides of a workload.
    pub fn of(name: &str, measurements: Sides<&Measurement>) -> Self {
        let answers = measurements.map(Answers::of);
        let window_ns = measurements.base.window.min(measurements.head.window).as_nanos() as u64;
        let slice_ns = slice_ns(window_ns, measurements.base.scheduled.min(measurements.head.scheduled));
        let mut logarithms = BTreeMap::new();
        let slices = measurements.map(|one| slices(&one.answers, window_ns, slice_ns));
        let ratio = |base: f64, head: f64| (base > 0.0 && head > 0.0).then(|| (head / base).ln());
        for (measure, quantile) in [("response_p50_us", Quantile::P50), ("response_p95_us", Quantile::P95)] {
            if measurements.base.response.quantile_ns(quantile).is_none()
                || measurements.head.response.quantile_ns(quantile).is_none()
            {
                // A quantile with fewer than ten right answers beyond it is none of the block either.
                continue;
            }
            let both = slices.base.iter().zip(&slices.head);
            let of_slices: Vec<f64> = both
                .filter_map(|(base, head)| ratio(exact_quantile(base, quantile)?, exact_quantile(head, quantile)?))
                .collect();
            if !of_slices.is_empty() {
                logarithms.insert(measure, of_slices.iter().sum::<f64>() / of_slices.len() as f64);
            }
        }
        let of_block =
            [("response_p99_us", answers.map(|one| one.p99_us)), ("answer_bytes", answers.map(|one| one.bytes))];
        for (measure, Sides { base, head }) in of_block {
            if let Some(logarithm) = base.zip(head).and_then(|(base, head)| ratio(base, head)) {
                logarithms.insert(measure, logarithm);
            }
        }
        Self { name: name.to_owned(), answers, logarithms, slice_s: slice_ns as f64 / 1e9 }
    }
}

impl Answers {
    fn of(measurement: &Measurement) -> Self {
        let quantile = |quantile| measurement.response.quantile_ns(quantile).map(|ns| ns as f64 / 1e3);
        let right = measurement.outcomes.count(Outcome::Ok);
        Self {
            scheduled: measurement.scheduled,
            right,
            p50_us: quantile(Quantile::P50),
            p95_us: quantile(Quantile::P95),
            p99_us: quantile(Quantile::P99),
            bytes: (right > 0).then(|| measurement.answer_bytes as f64 / right as f64),
        }
    }
}

/// Returns the length of a slice: whole seconds with enough arrivals each, or the whole window where it has too few.
fn slice_ns(window_ns: u64, scheduled: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let per_ns = scheduled as f64 / window_ns.max(1) as f64;
    let seconds = (SLICE_ARRIVALS / per_ns / SECOND as f64).ceil().max(1.0);
    let needed = seconds * SECOND as f64;
    if needed * 2.0 > window_ns as f64 { window_ns } else { needed as u64 }
}

/// Returns the response times of right answers in each whole slice of the window, sorted.
fn slices(answers: &[RightAnswer], window_ns: u64, slice_ns: u64) -> Vec<Vec<u64>> {
    let whole = window_ns.checked_div(slice_ns).unwrap_or(0) as usize;
    let mut slices = vec![Vec::new(); whole];
    for answer in answers {
        if let Some(slice) = slices.get_mut((answer.at_ns / slice_ns.max(1)) as usize) {
            slice.push(answer.response_ns);
        }
    }
    slices.iter_mut().for_each(|slice| slice.sort_unstable());
    slices
}

/// Returns a quantile of sorted values, between the two nearest; `None` if fewer than a handful lie beyond it.
fn exact_quantile(sorted: &[u64], quantile: Quantile) -> Option<f64> {
    const BEYOND: f64 = 3.0;
    let share = quantile.fraction();
    if (sorted.len() as f64) * (1.0 - share) < BEYOND {
        return None;
    }
    let place = share * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let next = sorted[(low + 1).min(sorted.len() - 1)];
    Some(sorted[low] as f64 * (1.0 - part) + next as f64 * part)
}

impl SideWork {
    /// Reduces what was observed of one side beside its measurements.
    pub fn of(measurements: &[&Measurement], evidence: &[Evidence], machine_use: &[Option<MachineUse>]) -> Self {
        let mut work = Self::default();
        let right_in_window: u64 = measurements.iter().map(|one| one.outcomes.count(Outcome::Ok)).sum();
        // Arrivals after a window, while other workloads are measured, are not judged, and taken to be right.
        let outside = measurements
            .iter()
            .map(|one| one.timeline.warm_up().map(|second| second.ok).sum::<u64>() + one.later_arrivals);
        work.answers = right_in_window + outside.sum::<u64>();
        let mut costs = BTreeMap::new();
        let mut whole_pages = 0;
        for one in evidence {
            work.problems.extend(one.problems.iter().cloned());
            let Some(statements) = one.statements.as_ref().and_then(|known| known.yes()) else {
                work.problems.push("the database's statements are not counted".to_owned());
                continue;
            };
            let total = &statements.total;
            let counted = [
                total.calls,
                total.rows,
                total.wal_records,
                total.wal_bytes,
                total.shared_blocks_hit + total.shared_blocks_read,
            ];
            for (name, count) in COSTS.into_iter().zip(counted) {
                *costs.entry(name).or_insert(0.0) += count as f64;
            }
            whole_pages += total.wal_full_page_images;
            work.statements.extend(statements.all.iter().cloned());
        }
        if work.answers > 0 {
            work.per_answer.extend(costs.into_iter().map(|(name, count)| (name, count / work.answers as f64)));
            work.whole_pages = whole_pages as f64 / work.answers as f64;
        }
        for (name, of) in [("cpu_system_us", Occupant::System), ("cpu_postgresql_us", Occupant::Postgresql)] {
            let seconds = machine_use.iter().map(|one| one.as_ref().and_then(|one| of.seconds(one)));
            let seconds: Option<f64> = seconds.sum();
            if let Some(seconds) = seconds.filter(|_| right_in_window > 0) {
                work.per_answer.insert(name, seconds * 1e6 / right_in_window as f64);
            }
        }
        work
    }

    /// Reports whether bytes of WAL say more about a checkpoint, which comes when it comes, than about answers.
    pub fn has_whole_pages(&self) -> bool {
        self.whole_pages > WHOLE_PAGES
    }
}

/// A user of CPU time.
#[derive(Clone, Copy)]
enum Occupant {
    System,
    Postgresql,
}

impl Occupant {
    /// Returns its CPU time in the window, in seconds.
    fn seconds(self, machine_use: &MachineUse) -> Option<f64> {
        let processors = match self {
            Self::System => machine_use.mean.system,
            Self::Postgresql => machine_use.mean.postgresql,
        };
        processors.map(|processors| processors * machine_use.measured_s)
    }
}

/// Pairs the statements of both sides over all blocks, the largest difference of blocks or calls first.
pub fn pair_statements(blocks: &[Block]) -> Vec<StatementPair> {
    #[derive(Clone, Copy, Default)]
    struct Sum {
        calls: f64,
        rows: f64,
        shared_blocks: f64,
    }
    let mut sums: BTreeMap<&str, Sides<Sum>> = BTreeMap::new();
    let mut answers = Sides::<f64>::default();
    for block in blocks {
        for side in DuetSide::BOTH {
            let work = block.work.of(side);
            *answers.of_mut(side) += work.answers as f64;
            for statement in &work.statements {
                let sum = sums.entry(&statement.outline).or_default().of_mut(side);
                let cost = &statement.cost;
                sum.calls += cost.calls as f64;
                sum.rows += cost.rows as f64;
                sum.shared_blocks += (cost.shared_blocks_hit + cost.shared_blocks_read) as f64;
            }
        }
    }
    let per_answer = |of: &Sides<Sum>, take: fn(&Sum) -> f64| Sides {
        base: take(&of.base) / answers.base.max(1.0),
        head: take(&of.head) / answers.head.max(1.0),
    };
    let mut pairs: Vec<StatementPair> = sums
        .iter()
        .map(|(outline, sum)| StatementPair {
            outline: (*outline).to_owned(),
            calls: per_answer(sum, |sum| sum.calls),
            rows: per_answer(sum, |sum| sum.rows),
            shared_blocks: per_answer(sum, |sum| sum.shared_blocks),
        })
        .collect();
    let difference = |pair: &StatementPair| {
        (pair.calls.head - pair.calls.base).abs() + (pair.shared_blocks.head - pair.shared_blocks.base).abs()
    };
    pairs.sort_by(|a, b| difference(b).total_cmp(&difference(a)).then_with(|| a.outline.cmp(&b.outline)));
    pairs
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::timeline::Timeline;

    fn measurement(answers: impl IntoIterator<Item = (u64, u64)>) -> Measurement {
        let mut measurement = Measurement { window: Duration::from_secs(4), ..Measurement::default() };
        for (at_ms, response_us) in answers {
            measurement.answers.push(RightAnswer { at_ns: at_ms * 1_000_000, response_ns: response_us * 1_000 });
            measurement.response.record(response_us * 1_000);
            measurement.outcomes.add(Outcome::Ok);
            measurement.answer_bytes += 500;
            measurement.scheduled += 1;
            measurement.started += 1;
        }
        measurement
    }

    #[test]
    fn a_slow_second_of_both_sides_cancels_out() {
        // Each second at its own pace, the third much slower; the head takes a tenth longer at every moment.
        let pace = [1_000, 1_100, 9_000, 1_050];
        let side = |factor: u64| measurement((0..800).map(|n| (n * 5, pace[(n / 200) as usize] * factor / 10)));
        let (base, head) = (side(10), side(11));
        let block = WorkloadBlock::of("w", Sides { base: &base, head: &head });
        assert_eq!(block.slice_s, 1.0);
        for measure in ["response_p50_us", "response_p95_us"] {
            assert!((block.logarithms[measure] - 1.1_f64.ln()).abs() < 1e-3, "{block:?}");
        }
        assert_eq!(block.logarithms["answer_bytes"], 0.0);
        // 800 right answers are too few for a p99.
        assert!(!block.logarithms.contains_key("response_p99_us"));
    }

    #[test]
    fn broken_arrivals_of_the_warm_up_are_no_divisor() {
        let mut measurement = measurement((0..400).map(|n| (n * 10, 1_000)));
        measurement.timeline = Timeline::new(Duration::from_secs(4)).with_warm_up(Duration::from_secs(1));
        for n in 1..=100 {
            let outcome = if n % 4 == 0 { Outcome::Ok } else { Outcome::Failed(500) };
            measurement.timeline.record_warm_up(n * 10_000_000, outcome, 1_000_000);
        }
        (measurement.warm_up_arrivals, measurement.later_arrivals) = (100, 50);
        assert_eq!(SideWork::of(&[&measurement], &[], &[]).answers, 400 + 25 + 50);
    }

    #[test]
    fn slices_hold_a_hundred_arrivals_or_the_window() {
        let second = 1_000_000_000;
        assert_eq!(slice_ns(30 * second, 30 * 167), second);
        assert_eq!(slice_ns(30 * second, 30 * 50), 2 * second);
        // Too few for two slices.
        assert_eq!(slice_ns(30 * second, 150), 30 * second);
        assert_eq!(slice_ns(30 * second, 0), 30 * second);
    }

    #[test]
    fn quantiles_of_few_values_are_not_stated() {
        let values: Vec<u64> = (1..=101).collect();
        assert_eq!(exact_quantile(&values, Quantile::P50), Some(51.0));
        assert_eq!(exact_quantile(&values, Quantile::P95), Some(96.0));
        assert_eq!(exact_quantile(&values[..50], Quantile::P95), None);
        assert_eq!(exact_quantile(&[], Quantile::P50), None);
    }
}
