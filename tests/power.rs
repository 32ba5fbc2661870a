//! Whether comparisons judge rightly: simulated runs that drift as real ones do, of equal things and of things that
//! differ. The whole table of docs/BASELINES.md is printed by
//!
//! ```text
//! cargo test --release --test power -- --ignored --nocapture
//! ```

use std::collections::BTreeMap;

use certctl_bench::baseline::compare::{self, Options};
use certctl_bench::baseline::environment::Environment;
use certctl_bench::baseline::histogram::{Bucket, Histogram};
use certctl_bench::baseline::measure::{Better, Kind};
use certctl_bench::baseline::seconds::Seconds;
use certctl_bench::baseline::side::{Run, Series};
use certctl_bench::baseline::workload::Asked;
use certctl_bench::baseline::{Comparison, Judgement, Side};
use certctl_bench::report::Verdict;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];
const NAMES: [&str; 3] = ["p50", "p95", "p99"];
/// Response and service time, each with three quantiles.
const DISTRIBUTIONS: [&str; 2] = ["response", "service"];
/// How much each second resembles the last one.
const SECONDS_CORRELATION: f64 = 0.7;
/// How far seconds stray, as a standard deviation of the logarithm.
const SECONDS_SPREAD: f64 = 0.15;
/// One second in so many is a stall, in which everything takes three times as long.
const STALL_EVERY: u64 = 200;
/// How much each run resembles the last one: slow drift of the machine.
const RUNS_CORRELATION: f64 = 0.5;
/// Buckets are so wide, in logarithms, as in the timeline's histograms.
const BUCKET: f64 = 0.01;

/// A machine, and how long runs are on it.
#[derive(Clone, Copy)]
struct Site {
    /// How far runs stray, as a standard deviation of the logarithm of their median; their tails stray twice as far.
    spread: f64,
    seconds: usize,
    per_s: usize,
}

/// What became slower, in logarithms: of the median, of p95, of p99.
type Shift = [f64; 3];

const NOTHING: Shift = [0.0; 3];

/// In which order the runs of two sides are made.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// First all of the base, then all of the head.
    Apart,
    /// ABBA.
    InTurn,
}

struct Random(Xoshiro256PlusPlus);

impl Random {
    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

/// A sample's distance from its second's level: log-normal, with one in twenty in a longer tail.
fn shape() -> Vec<f64> {
    let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(1));
    let one = |random: &mut Random| {
        let body = 0.35 * random.normal();
        if random.uniform() < 0.05 { body - 0.5 * (1.0 - random.uniform()).ln() } else { body }
    };
    (0..1 << 14).map(|_| one(&mut random)).collect()
}

/// What one run says: logarithms of the quantiles, and their errors.
#[derive(Clone, Copy)]
struct Reading {
    ln_values: [f64; 3],
    errors: [f64; 3],
}

impl Site {
    /// A run of a machine that is so much slower today, in its middle and in its tail.
    fn run(self, shape: &[f64], drift: f64, tail_drift: f64, random: &mut Random) -> Reading {
        let mut level = SECONDS_SPREAD * random.normal();
        let innovation = SECONDS_SPREAD * (1.0 - SECONDS_CORRELATION.powi(2)).sqrt();
        let mut totals = BTreeMap::new();
        let mut seconds = Vec::new();
        for _ in 0..self.seconds {
            level = SECONDS_CORRELATION * level + innovation * random.normal();
            let stall = if random.0.next_u64().is_multiple_of(STALL_EVERY) { 3_f64.ln() } else { 0.0 };
            // A millisecond, in microseconds.
            let base = 1_000_f64.ln() + drift + level + stall;
            let mut indices: Vec<u32> = (0..self.per_s)
                .map(|_| ((base + shape[(random.0.next_u64() >> 50) as usize]) / BUCKET).max(0.0) as u32)
                .collect();
            indices.sort_unstable();
            let mut histogram = Histogram::default();
            for row in indices.chunk_by(|a, b| a == b) {
                let edge = |index: u32| ((f64::from(index) * BUCKET).exp() * 1_000.0) as u64;
                histogram.buckets.push((Bucket { low: edge(row[0]), high: edge(row[0] + 1) }, row.len() as u64));
                *totals.entry(row[0]).or_insert(0_u64) += row.len() as u64;
            }
            seconds.push(histogram);
        }
        let samples = (self.seconds * self.per_s) as f64;
        let ln_value = |share: f64| {
            let mut before = 0.0;
            for (index, count) in &totals {
                let count = *count as f64;
                if before + count >= share * samples {
                    return (f64::from(*index) + (share * samples - before) / count) * BUCKET;
                }
                before += count;
            }
            unreachable!("a quantile is below one")
        };
        let tail = [0.0, 0.7 * tail_drift, tail_drift];
        Reading {
            ln_values: std::array::from_fn(|index| ln_value(QUANTILES[index]) + tail[index]),
            errors: Seconds::of(&seconds).ln_errors(QUANTILES).unwrap_or([0.0; 3]),
        }
    }

    /// Runs in a row, on a machine that drifts.
    fn runs(self, shape: &[f64], count: usize, random: &mut Random) -> Vec<Reading> {
        // The tail strays twice as far: once with the middle, and by so much on its own.
        let mut drifts = [self.spread, self.spread * 3_f64.sqrt()].map(|spread| (spread * random.normal(), spread));
        let innovation = (1.0 - RUNS_CORRELATION.powi(2)).sqrt();
        let mut next = |random: &mut Random| {
            for (drift, spread) in &mut drifts {
                *drift = RUNS_CORRELATION * *drift + innovation * *spread * random.normal();
            }
            self.run(shape, drifts[0].0, drifts[1].0, random)
        };
        (0..count).map(|_| next(random)).collect()
    }

    /// Compares so many runs a side; the head is as the base, then slower, then has a longer tail.
    fn compare(self, shape: &[f64], [base, head]: [usize; 2], order: Order, seed: u64) -> [Comparison; 3] {
        let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(seed));
        let mut sides = [Vec::new(), Vec::new()];
        for (index, reading) in self.runs(shape, base + head, &mut random).into_iter().enumerate() {
            let is_head = match order {
                Order::Apart => index >= base,
                Order::InTurn => matches!(index % 4, 1 | 2),
            };
            sides[usize::from(is_head)].push((index, reading));
        }
        [NOTHING, slower(), longer_tail()].map(|shift| {
            let [base, head] = [side(&sides[0], NOTHING, &mut random), side(&sides[1], shift, &mut random)];
            compare::run(&base, &head, Options::default())
        })
    }

    /// In how many of so many comparisons something is flagged where nothing differs, a slower middle is found, and a
    /// longer tail is.
    fn judge(self, runs: [usize; 2], order: Order, comparisons: u64) -> [u64; 3] {
        let shape = shape();
        let one = |seed: u64| {
            let [equal, slower, longer] = self.compare(&shape, runs, order, 1_000 + seed);
            [alarms(&equal), finds(&slower, "storm/response_p50_us"), finds(&longer, "storm/response_p99_us")]
                .map(u64::from)
        };
        let add = |a: [u64; 3], b: [u64; 3]| std::array::from_fn(|index| a[index] + b[index]);
        (0..comparisons).into_par_iter().map(one).reduce(|| [0; 3], add)
    }
}

fn side(runs: &[(usize, Reading)], shift: Shift, random: &mut Random) -> Side {
    let mut measures = BTreeMap::new();
    for distribution in DISTRIBUTIONS {
        for (index, name) in NAMES.iter().enumerate() {
            let value = |random: &mut Random, reading: &Reading| {
                (reading.ln_values[index] + shift[index] + 0.003 * random.normal()).exp()
            };
            let series = Series {
                kind: Kind::Timed,
                better: Better::Lower,
                tolerance: 0.0,
                values: runs.iter().map(|(_, reading)| Some(value(random, reading))).collect(),
                errors: runs.iter().map(|(_, reading)| Some(reading.errors[index])).collect(),
            };
            measures.insert(format!("storm/{distribution}_{name}_us"), series);
        }
    }
    let run = |number: usize| Run { finished_at: format!("2026-01-01T00:{number:02}:00Z"), verdict: Verdict::Pass };
    Side {
        scenario: "storm".to_owned(),
        workload: Asked { asked: BTreeMap::new(), fingerprint: String::new() },
        environment: environment(),
        runs: runs.iter().map(|(number, _)| run(*number)).collect(),
        measures,
    }
}

fn environment() -> Environment {
    let text = || "same".to_owned();
    Environment {
        cores: 2,
        cpu_model: text(),
        kernel: text(),
        memory_gib: 8,
        postgresql: text(),
        suite_commit: text(),
        suite_version: text(),
        target_behaviour: text(),
        target_kind: text(),
        target_settings: serde_json::Map::new(),
        target_store: text(),
        target_version: text(),
        toolchain: text(),
        virtualisation: text(),
    }
}

/// Whether anything at all was flagged.
fn alarms(comparison: &Comparison) -> bool {
    comparison.measures.iter().any(|one| matches!(one.verdict, Judgement::Regressed | Judgement::Improved))
}

fn finds(comparison: &Comparison, name: &str) -> bool {
    let regressed = |one: &compare::Compared| one.name == name && one.verdict == Judgement::Regressed;
    comparison.exit_code == 4 && comparison.measures.iter().any(regressed)
}

/// Everything is 10% slower.
fn slower() -> Shift {
    [1.1_f64.ln(); 3]
}

/// The tail is 20% slower, and the middle is not.
fn longer_tail() -> Shift {
    [0.0, 1.1_f64.ln(), 1.2_f64.ln()]
}

#[test]
fn a_thousand_comparisons_of_equal_things_flag_ten_at_most() {
    // Short runs on a noisy machine.
    let site = Site { spread: 0.03, seconds: 30, per_s: 36 };
    let [flagged, ..] = site.judge([3, 3], Order::Apart, 1_000);
    assert!(flagged <= 10, "{flagged} of 1,000");
}

#[test]
fn a_slower_middle_is_found_and_a_longer_tail_mostly() {
    let site = Site { spread: 0.01, seconds: 300, per_s: 20 };
    let [flagged, slower, longer] = site.judge([8, 8], Order::InTurn, 60);
    // With 60 samples beyond p99, and as many in a stalled second or two, a tail needs more than this to be sure of.
    assert!(flagged <= 1 && slower >= 57 && longer >= 40, "{flagged}, {slower} and {longer} of 60");
}

#[test]
#[ignore = "takes minutes: prints the power table of docs/BASELINES.md"]
fn the_power_table() {
    println!("| runs differ by | window | runs | order | false alarms | p50 +10% found | p99 +20% found |");
    println!("|---|---|---|---|---|---|---|");
    for spread in [0.01, 0.02, 0.03, 0.05] {
        for seconds in [60, 300] {
            for (runs, order) in [
                ([1, 1], Order::Apart),
                ([5, 1], Order::Apart),
                ([5, 5], Order::Apart),
                ([10, 10], Order::Apart),
                ([4, 4], Order::InTurn),
                ([6, 6], Order::InTurn),
                ([10, 10], Order::InTurn),
                ([16, 16], Order::InTurn),
            ] {
                let site = Site { spread, seconds, per_s: 30 };
                let shares = site.judge(runs, order, 1_000).map(|count| format!("{:.1}%", count as f64 / 10.0));
                println!(
                    "| {:.0}%, p99 {:.0}% | {seconds} s | {} : {} | {} | {} |",
                    spread * 100.0,
                    spread * 200.0,
                    runs[0],
                    runs[1],
                    if order == Order::InTurn { "in turn" } else { "apart" },
                    shares.join(" | "),
                );
            }
        }
    }
}
