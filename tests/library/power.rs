//! The power of comparisons: simulated runs that drift as real ones do, of equal systems and of systems that differ.
//! The whole table of docs/BASELINES.md is printed by
//!
//! ```text
//! cargo test --release --test power -- --ignored --nocapture
//! ```

use std::collections::BTreeMap;

use certctl_bench::baseline::bootstrap::Seconds;
use certctl_bench::baseline::compare::{self, CompareOptions};
use certctl_bench::baseline::environment::Environment;
use certctl_bench::baseline::histogram::{Bucket, Histogram};
use certctl_bench::baseline::measure::{Better, MeasureKind};
use certctl_bench::baseline::side::{RunIdentity, Series};
use certctl_bench::baseline::workload::WorkloadIdentity;
use certctl_bench::baseline::{Comparison, Judgement, Side};
use certctl_bench::summary::Verdict;
use certctl_bench::system::{Behaviour, SystemKind};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];
const NAMES: [&str; 3] = ["p50", "p95", "p99"];
/// Response and service time, each with three quantiles.
const DISTRIBUTIONS: [&str; 2] = ["response", "service"];
/// The correlation of each second with the one before it.
const SECONDS_CORRELATION: f64 = 0.8;
/// The spread of seconds, as a standard deviation of the logarithm.
const SECONDS_SPREAD: f64 = 0.2;
/// The correlation of each run with the one before it: slow drift of the machine.
const RUNS_CORRELATION: f64 = 0.5;
/// The width of buckets, in logarithms, as in the timeline's histograms.
const BUCKET: f64 = 0.01;

/// A machine, and the length of runs on it.
#[derive(Clone, Copy)]
struct Site {
    /// The spread of runs, as a standard deviation of the logarithm of their median; their tails spread twice as far.
    spread: f64,
    seconds: usize,
    per_s: usize,
    stalls: Stalls,
}

/// Moments at which the system stands still.
#[derive(Clone, Copy)]
struct Stalls {
    /// One second in so many has one ...
    every: u64,
    /// ... which so large a share of its arrivals meet ...
    share: f64,
    /// ... that take so many times as long.
    factor: f64,
}

/// As in the runs that docs/BASELINES.md describes: p99.9 is twice p99, and no whole second is lost.
const SHORT: Stalls = Stalls { every: 100, share: 0.1, factor: 10.0 };
/// Whole seconds, three times as slow.
const LONG: Stalls = Stalls { every: 200, share: 1.0, factor: 3.0 };

/// The slowdown of a side, in logarithms: of the median, of p95, of p99.
type Shift = [f64; 3];

const NOTHING: Shift = [0.0; 3];

/// The order in which the runs of two sides are made.
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

/// Returns a sample's distance from its second's level: log-normal, with one in twenty in a longer tail.
fn shape() -> Vec<f64> {
    let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(1));
    let one = |random: &mut Random| {
        let body = 0.35 * random.normal();
        if random.uniform() < 0.05 { body - 0.5 * (1.0 - random.uniform()).ln() } else { body }
    };
    (0..1 << 14).map(|_| one(&mut random)).collect()
}

/// The measures of one run: logarithms of the quantiles, and their errors.
#[derive(Clone, Copy)]
struct Reading {
    ln_values: [f64; 3],
    errors: [f64; 3],
}

impl Site {
    /// Returns a run of a machine that is so much slower today, in its middle and in its tail.
    fn run(self, shape: &[f64], drift: f64, tail_drift: f64, random: &mut Random) -> Reading {
        let mut level = SECONDS_SPREAD * random.normal();
        let innovation = SECONDS_SPREAD * (1.0 - SECONDS_CORRELATION.powi(2)).sqrt();
        let mut totals = BTreeMap::new();
        let mut seconds = Vec::new();
        for _ in 0..self.seconds {
            level = SECONDS_CORRELATION * level + innovation * random.normal();
            let stalled = if random.0.next_u64().is_multiple_of(self.stalls.every) { self.stalls.share } else { 0.0 };
            // A millisecond, in microseconds.
            let base = 1_000_f64.ln() + drift + level;
            let mut one = |_| {
                let stall = if random.uniform() < stalled { self.stalls.factor.ln() } else { 0.0 };
                ((base + stall + shape[(random.0.next_u64() >> 50) as usize]) / BUCKET).max(0.0) as u32
            };
            let mut indices: Vec<u32> = (0..self.per_s).map(&mut one).collect();
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

    /// Returns runs in a row, on a machine that drifts.
    fn runs(self, shape: &[f64], count: usize, random: &mut Random) -> Vec<Reading> {
        // The tail spreads twice as far: once with the middle, and by so much on its own.
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
            compare::run(&base, &head, CompareOptions::default())
        })
    }

    /// Counts, in so many comparisons, those in which something is flagged where nothing differs, a slower middle is
    /// found, and a longer tail is found.
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
                kind: MeasureKind::Timed,
                better: Better::Lower,
                tolerance: 0.0,
                values: runs.iter().map(|(_, reading)| Some(value(random, reading))).collect(),
                errors: runs.iter().map(|(_, reading)| Some(reading.errors[index])).collect(),
            };
            measures.insert(format!("storm/{distribution}_{name}_us"), series);
        }
    }
    let run = |number: usize| RunIdentity {
        finished_at: format!("2026-01-01T00:{number:02}:00Z"),
        run_id: None,
        verdict: Verdict::Pass,
    };
    Side {
        scenario: "storm".to_owned(),
        workload: WorkloadIdentity { properties: BTreeMap::new(), fingerprint: String::new() },
        environment: environment(),
        runs: runs.iter().map(|(number, _)| run(*number)).collect(),
        measures,
    }
}

fn environment() -> Environment {
    let text = || "same".to_owned();
    Environment {
        counting_settings: serde_json::Map::new(),
        cores: 2,
        cpu_quota: None,
        cpu_model: text(),
        cpu_part: None,
        microcode: None,
        generator_scheduling: text(),
        kernel: text(),
        memory_gib: 8,
        postgresql: text(),
        suite_commit: text(),
        suite_version: text(),
        system_binary_sha256: None,
        system_behaviour: Behaviour::AsBuilt,
        system_kind: SystemKind::Reference,
        system_settings: serde_json::Map::new(),
        system_store: text(),
        system_trust: text(),
        system_version: text(),
        toolchain: text(),
        virtualisation: text(),
    }
}

/// Returns true if anything at all was flagged.
fn alarms(comparison: &Comparison) -> bool {
    comparison.measures.iter().any(|one| matches!(one.verdict, Judgement::Regressed | Judgement::Improved))
}

fn finds(comparison: &Comparison, name: &str) -> bool {
    let regressed = |one: &compare::Compared| one.name == name && one.verdict == Judgement::Regressed;
    comparison.exit_code == 4 && comparison.measures.iter().any(regressed)
}

/// Returns a shift by which everything is 10% slower.
fn slower() -> Shift {
    [1.1_f64.ln(); 3]
}

/// Returns a shift by which the tail is 20% slower, and the middle is not.
fn longer_tail() -> Shift {
    [0.0, 1.1_f64.ln(), 1.2_f64.ln()]
}

#[test]
fn equal_runs_are_flagged_once_in_a_hundred_at_most() {
    // Short runs on a noisy machine.
    let site = Site { spread: 0.03, seconds: 30, per_s: 36, stalls: LONG };
    let [flagged, ..] = site.judge([3, 3], Order::Apart, 400);
    assert!(flagged <= 4, "{flagged} of 400");
}

#[test]
fn noise_does_not_raise_the_rate_of_false_alarms() {
    let site = Site { spread: 0.2, seconds: 30, per_s: 36, stalls: SHORT };
    for runs in [2, 3, 5] {
        let [flagged, ..] = site.judge([runs, runs], Order::InTurn, 300);
        assert!(flagged <= 3, "{flagged} of 300 comparisons of {runs} runs a side");
    }
}

#[test]
fn a_slower_median_and_a_longer_tail_are_detected() {
    let site = Site { spread: 0.01, seconds: 300, per_s: 30, stalls: SHORT };
    let [flagged, slower, longer] = site.judge([10, 10], Order::InTurn, 40);
    assert!(flagged <= 1 && slower >= 38 && longer >= 38, "{flagged}, {slower} and {longer} of 40");
}

#[test]
#[ignore = "takes minutes: prints the power table of docs/BASELINES.md"]
fn the_power_table_is_printed() {
    println!("| runs differ by | stalls | window | runs | order | false alarms | p50 +10% found | p99 +20% found |");
    println!("|---|---|---|---|---|---:|---:|---:|");
    let site = |percent: f64, seconds, stalls| Site { spread: percent / 100.0, seconds, per_s: 60, stalls };
    let row = |site: Site, runs: [usize; 2], order: Order| {
        let shares = site.judge(runs, order, 1_000).map(|count| format!("{:.1}%", count as f64 / 10.0));
        println!(
            "| {:.0}%, p99 {:.0}% | {} | {} s | {} : {} | {} | {} |",
            site.spread * 100.0,
            site.spread * 200.0,
            if site.stalls.share < 1.0 { "short" } else { "long" },
            site.seconds,
            runs[0],
            runs[1],
            if order == Order::InTurn { "in turn" } else { "apart" },
            shares.join(" | "),
        );
    };
    for percent in [1.0, 3.0, 5.0] {
        for (runs, order) in [([1, 1], Order::Apart), ([5, 1], Order::Apart), ([5, 5], Order::InTurn)] {
            row(site(percent, 30, SHORT), runs, order);
        }
        for runs in [[5, 5], [10, 10], [16, 16]] {
            row(site(percent, 300, SHORT), runs, Order::InTurn);
        }
    }
    for runs in [[2, 2], [3, 3], [5, 5], [10, 10]] {
        row(site(20.0, 30, SHORT), runs, Order::InTurn);
    }
    row(site(1.0, 300, LONG), [10, 10], Order::InTurn);
    row(site(1.0, 300, LONG), [24, 24], Order::InTurn);
}
