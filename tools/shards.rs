//! A simulation of runs of up to 1,000 shards: lag, clocks, time of the merge, and size of the results.
//!
//!     cargo run --release --locked --example shards
//!
//! Each shard has the part of the schedule that a real one has, and its arrivals go through the real recorder, part and
//! merge. What is made up is the machine: how late its timer wakes, how long it takes for a request, and by how much
//! its clock is off. One machine in 200 is busy with something else, and wakes late. Everything but the times of the
//! merge follows from a seed, and is the same on each machine.

use std::time::{Duration, Instant};

use certctl_bench::clock::Moment;
use certctl_bench::load::dispatcher::Affinity;
use certctl_bench::load::plan::{Model, Opening, Plan};
use certctl_bench::load::rate::Rate;
use certctl_bench::load::schedule::Pattern;
use certctl_bench::load::shard::{Shard, Share};
use certctl_bench::measure::generator::ThreadUse;
use certctl_bench::measure::machine::Machine;
use certctl_bench::measure::{Outcome, Quantile, Recorder, Sample, validity};
use certctl_bench::shard::clocks::{MeasuredOffset, ShardClock};
use certctl_bench::shard::merge::{MergedShards, Merger};
use certctl_bench::shard::part::{PART_VERSION, PartEnd, PartWorkload, ShardPart};
use certctl_bench::summary::About;
use certctl_bench::system::{Behaviour, Store, SystemDescription, SystemKind};
use certctl_bench::wire::Phases;

/// The requests per second and the agents of each shard: those of the fleet that docs/SCALE.md is about.
const PER_SHARD: u64 = 167;
const AGENTS_EACH: u64 = 5_000;
const WARM_UP: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);
const MAX_LAG: Duration = Duration::from_millis(10);
/// The time that a generator's thread takes for a request.
const COST_NS: u64 = 60_000;
/// The median of the delay with which a timer wakes a thread, and that on a busy machine.
const WAKE_NS: f64 = 60_000.0;
const BUSY_WAKE_NS: f64 = 6_000_000.0;
/// One machine in so many is busy.
const BUSY_ONE_IN: u64 = 200;
/// The standard deviation of a clock, and the least way to shard 0 and back.
const CLOCK_NS: f64 = 2_000_000.0;
const WAY_NS: f64 = 200_000.0;

/// The numbers of shards.
pub const COUNTS: [u64; 4] = [1, 10, 100, 1_000];

/// The results of a simulated run.
pub struct Simulated {
    /// The number of shards.
    pub shards: u64,
    /// Arrivals in the window.
    pub arrivals: u64,
    /// The p99 of the lag of all of them, in microseconds.
    pub lag_p99_us: u64,
    /// The largest p99 of a shard.
    pub worst_lag_p99_us: u64,
    /// Shards whose own part is invalid.
    pub faulty: usize,
    /// The largest measured offset of a clock, in microseconds.
    pub offset_us: u64,
    /// The largest time by which two clocks may differ, in microseconds.
    pub apart_us: u64,
    /// The bytes of a part, on the average.
    pub part_bytes: usize,
    /// The bytes of the merged measurement.
    pub merged_bytes: usize,
    /// The time to read the parts.
    pub reading: Duration,
    /// The time to merge them.
    pub merging: Duration,
}

/// Random numbers of a seed (splitmix64: Steele, Lea and Flood, OOPSLA 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws from the normal distribution, as a sum of twelve uniform draws.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn plan(shards: u64) -> Plan {
    let rate = Rate::per_second(PER_SHARD * shards);
    let clients = AGENTS_EACH * shards;
    Plan {
        model: Model::Open { pattern: Pattern::Constant(rate), clients, affinity: Affinity::Own },
        steps: 1,
        starts_after: Duration::ZERO,
        warm_up: WARM_UP,
        window: WINDOW,
        goes_on: Duration::ZERO,
        connections: clients as usize,
        further: 0,
        opening: Opening::Before(Rate::per_second(1_000)),
        timeout: Duration::from_secs(10),
        max_lag: MAX_LAG,
        rng_seed: 1,
        part: None,
    }
}

/// Plays a shard of a simulated run.
fn part(plan: &Plan, index: u64, count: u64) -> ShardPart {
    let shard = Shard::new(index, count).unwrap();
    let share = Share::of(plan, shard);
    let mut draws = Draws(index);
    let is_busy = index % BUSY_ONE_IN == BUSY_ONE_IN - 1;
    let wake_ns = if is_busy { BUSY_WAKE_NS } else { WAKE_NS };
    let mut recorder =
        Recorder::new(WINDOW, MAX_LAG, &["heartbeat"]).with_connections(share.connections()).with_warm_up(WARM_UP);
    let start = Moment::from_ns(1_000_000_000);
    recorder.begin(start + WARM_UP);
    let mut free = start;
    for (offset_ns, planned) in plan.schedule(share) {
        let intended = start + Duration::from_nanos(offset_ns);
        recorder.scheduled(planned.step, intended);
        // A median, and a tail: three times as long for one in 20, ten times for one in 1,000.
        let late_ns = wake_ns * (0.7 * draws.normal()).exp();
        let actual = free.max(intended + Duration::from_nanos(late_ns as u64));
        free = actual + Duration::from_nanos(COST_NS);
        let service_ns = (2_000_000.0 * (0.4 * draws.normal()).exp()) as u64;
        let phases = Phases { first_byte_ns: service_ns, ..Phases::default() };
        recorder.record(&Sample {
            step: planned.step,
            connection: share.connection_of(planned.client),
            intended,
            handed: actual,
            waited: false,
            actual,
            end: actual + Duration::from_nanos(service_ns),
            own_ns: 0,
            phases,
            outcome: Outcome::Ok,
            handshake: None,
            unconnected: false,
            answer_bytes: 150,
        });
    }
    let measurement = recorder.finish(ThreadUse { scheduling: "SCHED_OTHER", ..ThreadUse::default() }.into());
    let own = validity::judge(&measurement, &[], plan.punctuality(), None);
    let offset_ns = (draws.normal() * CLOCK_NS) as i64;
    let uncertainty_ns = (WAY_NS * (1.0 + draws.uniform())) as u64 / 2;
    let measured = (index > 0).then_some(MeasuredOffset { offset_ns, uncertainty_ns });
    ShardPart {
        part_version: PART_VERSION,
        suite_version: "simulated".to_owned(),
        run_id: "simulated".to_owned(),
        shard,
        fingerprint: String::new(),
        threads: 1,
        flags: Vec::new(),
        about: about(),
        acme: None,
        start_ns: 0,
        clock: ShardClock { boot: index.to_string(), kernel: None, measured },
        workloads: vec![PartWorkload { name: "agent_storm".to_owned(), measurement, notes: serde_json::Value::Null }],
        machine_use: None,
        own_faults: own.iter().filter(|reason| reason.is_ours()).map(ToString::to_string).collect(),
        ended: PartEnd::Complete,
    }
}

fn about() -> About {
    let machine = Machine {
        cpu_model: "simulated".to_owned(),
        cpu_part: None,
        microcode: None,
        cores: 2,
        memory_bytes: 4 << 30,
        cpu_quota: None,
        memory_is_limited: false,
        kernel: "simulated".to_owned(),
        virtualisation: "none".to_owned(),
        rustc: "simulated".to_owned(),
        commit: "simulated".to_owned(),
    };
    let system = SystemDescription {
        kind: SystemKind::Certctl,
        base_url: "https://certctl:8443".to_owned(),
        address: None,
        version: "simulated".to_owned(),
        binary_sha256: None,
        migrations_sha256: None,
        behaviour: Behaviour::AsBuilt,
        store: Store::ItsOwn,
        trust: "simulated".to_owned(),
        settings: serde_json::Map::new(),
    };
    About { scenario: "agent_storm".into(), title: "a simulated fleet".to_owned(), system, machine }
}

/// Simulates a run of so many shards.
pub fn simulate(shards: u64) -> Simulated {
    let plan = plan(shards);
    let mut merger = Merger::default();
    let (mut bytes, mut reading, mut merging) = (0, Duration::ZERO, Duration::ZERO);
    for index in 0..shards {
        let json = serde_json::to_string(&part(&plan, index, shards)).unwrap();
        bytes += json.len();
        let began = Instant::now();
        let part: ShardPart = serde_json::from_str(&json).unwrap();
        reading += began.elapsed();
        let began = Instant::now();
        merger.add(&format!("part {index}"), part);
        merging += began.elapsed();
    }
    let MergedShards { workloads, facts, reasons, .. } = merger.finish().unwrap().merged;
    let measurement = &workloads[0].measurement;
    let us = |ms: Option<f64>| (ms.unwrap_or_default() * 1e3).round() as u64;
    let worst = facts.shards.iter().filter_map(|one| one.lag_p99_us).fold(0.0, f64::max);
    Simulated {
        shards,
        arrivals: measurement.scheduled,
        lag_p99_us: measurement.lag.quantile_ns(Quantile::P99).unwrap_or_default() / 1_000,
        worst_lag_p99_us: worst as u64,
        faulty: reasons.len(),
        offset_us: us(facts.clocks.offset_ms),
        apart_us: us(facts.clocks.apart_ms),
        part_bytes: bytes / shards as usize,
        merged_bytes: serde_json::to_string(measurement).unwrap().len() + serde_json::to_string(&facts).unwrap().len(),
        reading,
        merging,
    }
}

/// Returns what of a run follows from the seed, as a row of a table.
pub fn row(of: &Simulated) -> String {
    let ms = |us: u64| us as f64 / 1e3;
    let kib = |bytes: usize| (bytes as f64 / 1024.0).round();
    format!(
        "| {} | {} | {:.2} | {:.2} | {} | {:.2} | {:.2} | {} | {} |",
        of.shards,
        of.arrivals,
        ms(of.lag_p99_us),
        ms(of.worst_lag_p99_us),
        of.faulty,
        ms(of.offset_us),
        ms(of.apart_us),
        kib(of.part_bytes),
        kib(of.merged_bytes)
    )
}

/// The head of the table of [`row`].
pub const HEAD: &str = "| shards | arrivals | lag p99, all, ms | of the worst shard | faulty | clocks differ, ms | \
                        starts apart | part, KiB | merged, KiB |\n|---|---|---|---|---|---|---|---|---|";

fn main() {
    println!("{HEAD}");
    let runs: Vec<Simulated> = COUNTS.into_iter().map(simulate).collect();
    runs.iter().for_each(|run| println!("{}", row(run)));
    println!("\n| shards | read, s | merge, s | parts, MiB |\n|---|---|---|---|");
    for run in &runs {
        let mib = (run.part_bytes as u64 * run.shards) as f64 / f64::from(1 << 20);
        println!("| {} | {:.2} | {:.2} | {mib:.1} |", run.shards, run.reading.as_secs_f64(), run.merging.as_secs_f64());
    }
}
