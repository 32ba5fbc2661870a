//! The power of comparisons: simulated runs of equal sides and of sides that differ, with fixed seeds. The table is that
//! of docs/BASELINES.md.

use std::collections::{BTreeMap, BTreeSet};

use certctl_bench::baseline::compare::{self, CompareOptions};
use certctl_bench::baseline::environment::Environment;
use certctl_bench::baseline::measure::{Better, MeasureKind};
use certctl_bench::baseline::side::{RunIdentity, Series};
use certctl_bench::baseline::workload::WorkloadIdentity;
use certctl_bench::baseline::{Comparison, Judgement, Side};
use certctl_bench::summary::Verdict;
use certctl_bench::system::{Behaviour, SystemKind};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// The compared quantiles, each with its spread in multiples of the median's.
const QUANTILES: [(&str, f64); 3] = [("p50", 1.0), ("p95", 1.5), ("p99", 2.0)];
/// Comparisons behind each row.
const COMPARISONS: u64 = 400;

/// The conditions of a comparison.
#[derive(Clone, Copy)]
struct Site {
    /// The spread of the runs of a side, as a standard deviation of the logarithm of their median.
    runs_differ: f64,
    /// The spread of what all runs of a side share, and those of the other side do not.
    sittings_differ: f64,
    /// The number of runs of base and head.
    runs: [usize; 2],
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

impl Site {
    /// Compares two sides, of which the head takes so many times as long.
    fn compare(self, slowness: f64, seed: u64) -> Comparison {
        let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(seed));
        let base = self.side(0, 1.0, &mut random);
        let head = self.side(1, slowness, &mut random);
        compare::run(&base, &head, CompareOptions::default())
    }

    fn side(self, which: usize, slowness: f64, random: &mut Random) -> Side {
        let runs = self.runs[which];
        let sitting = self.sittings_differ * random.normal();
        let mut measures: BTreeMap<String, Series> = BTreeMap::new();
        for _ in 0..runs {
            // A slow moment slows the tail as well, which has moments of its own.
            let shared = random.normal();
            for (name, times) in QUANTILES {
                let own = (times * times - 1.0_f64).sqrt() * random.normal();
                let response = (slowness.ln() + sitting + self.runs_differ * (shared + own)).exp();
                for distribution in ["response", "service"] {
                    let series = measures.entry(format!("storm/{distribution}_{name}_us")).or_insert_with(timed);
                    series.values.push(Some(1_000.0 * response * (0.003 * random.normal()).exp()));
                }
            }
        }
        let run = |number: usize| RunIdentity {
            finished_at: format!("2026-01-01T00:{number:02}:00Z"),
            run_id: Some(format!("{which}-{number}")),
            verdict: Verdict::Pass,
        };
        Side {
            scenario: "storm".to_owned(),
            workload: WorkloadIdentity { properties: BTreeMap::new(), fingerprint: String::new() },
            environment: environment(),
            runs: (0..runs).map(run).collect(),
            measures,
            doubts: BTreeSet::new(),
        }
    }

    /// Counts the comparisons of which `holds` is true.
    fn count(self, slowness: f64, holds: impl Fn(&Comparison) -> bool + Sync) -> usize {
        (0..COMPARISONS).into_par_iter().filter(|seed| holds(&self.compare(slowness, 1_000 + seed))).count()
    }

    /// Returns its row of the table.
    fn row(self) -> String {
        let percent = |count: usize| format!("{:.1}%", count as f64 * 100.0 / COMPARISONS as f64);
        format!(
            "| {:.0}% | {:.0}% | {} : {} | {} | {} | {} |",
            self.runs_differ * 100.0,
            self.sittings_differ * 100.0,
            self.runs[0],
            self.runs[1],
            percent(self.count(1.0, alarms)),
            percent(self.count(1.2, finds)),
            percent(self.count(2.0, finds)),
        )
    }
}

fn timed() -> Series {
    Series { kind: MeasureKind::Timed, better: Better::Lower, tolerance: 0.0, values: Vec::new(), lost: 0 }
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
        generator_threads: 1,
        kernel: text(),
        memory_gib: 8,
        postgresql: text(),
        suite_commit: text(),
        suite_version: text(),
        system_binary_sha256: None,
        system_behaviour: Behaviour::AsBuilt,
        system_kind: SystemKind::Reference,
        system_migrations_sha256: None,
        system_settings: serde_json::Map::new(),
        system_store: text(),
        system_trust: text(),
        system_version: text(),
        toolchain: text(),
        virtualisation: text(),
    }
}

/// Reports whether anything at all was flagged.
fn alarms(comparison: &Comparison) -> bool {
    comparison.measures.iter().any(|one| matches!(one.verdict, Judgement::Regressed | Judgement::Improved))
}

fn finds(comparison: &Comparison) -> bool {
    let is_p50 = |one: &compare::Compared| one.name == "storm/response_p50_us" && one.verdict == Judgement::Regressed;
    comparison.exit_code == 4 && comparison.measures.iter().any(is_p50)
}

#[test]
fn equal_sides_are_flagged_in_one_of_twenty_at_most() {
    for runs_differ in [0.2, 0.5] {
        for runs in [[2, 2], [3, 1], [5, 5], [10, 2], [4, 7]] {
            let flagged = Site { runs_differ, sittings_differ: 0.0, runs }.count(1.0, alarms);
            // Three standard errors above 5%.
            assert!(flagged <= 33, "{flagged} of {COMPARISONS} at {runs_differ}, {runs:?}");
        }
    }
}

#[test]
fn the_documents_power_table_is_that_of_the_simulation() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/BASELINES.md")).unwrap();
    let mut rows = Vec::new();
    for (runs_differ, sittings_differ) in [(0.02, 0.0), (0.05, 0.0), (0.2, 0.0), (0.05, 0.05)] {
        rows.extend([[5, 1], [5, 5], [10, 10]].map(|runs| Site { runs_differ, sittings_differ, runs }.row()));
    }
    assert!(document.contains(&rows.join("\n")), "docs/BASELINES.md should have\n{}", rows.join("\n"));
}
