//! Runs as if they had been measured, made by the recorder and the summary that real ones go through.

use std::path::Path;
use std::time::Duration;

use certctl_bench::clock::Moment;
use certctl_bench::evidence::{Cost, Evidence, Known, PerArrival, Statements};
use certctl_bench::load::dispatcher::Affinity;
use certctl_bench::load::plan::{Model, Opening, Plan};
use certctl_bench::load::rate::Rate;
use certctl_bench::load::schedule::Pattern;
use certctl_bench::measure::generator::ThreadUse;
use certctl_bench::measure::machine::Machine;
use certctl_bench::measure::threshold::Threshold;
use certctl_bench::measure::{Outcome, Quantile, Recorder, Sample};
use certctl_bench::scenario::agent_storm::{AgentStorm, Fleet};
use certctl_bench::summary::plan::PlanFacts;
use certctl_bench::summary::{self, About, Results, Summary, Verdict, WorkloadPart};
use certctl_bench::system::{Behaviour, Store, SystemDescription, SystemKind};
use certctl_bench::wire::handshake::{HandshakeFlow, Record};
use certctl_bench::wire::{Handshake, Phases};

const MAX_LAG: Duration = Duration::from_millis(10);

/// A run of the storm: 60 s at 40/s.
#[derive(Clone, Copy)]
pub struct Made {
    /// The factor by which everything takes longer than usual.
    pub slowness: f64,
    /// The number of the run: the minute of its end, and the source of its samples.
    pub number: u64,
    /// SQL statements per right answer.
    pub calls: u64,
    /// One arrival in so many is answered by a 500, without a statement.
    pub broken_every: Option<u64>,
}

impl Default for Made {
    fn default() -> Self {
        Self { slowness: 1.0, number: 1, calls: 5, broken_every: None }
    }
}

impl Made {
    /// Returns its summary.
    pub fn summary(self) -> Summary {
        const PER_S: u64 = 40;
        const WINDOW_S: u64 = 60;
        let arrivals = PER_S * WINDOW_S;
        let record = record();
        let mut recorder = Recorder::new(Duration::from_secs(WINDOW_S), MAX_LAG, &["heartbeat"]);
        for index in 0..200 {
            let phases =
                Phases { dial_ns: 50_000, hello_ns: 300_000, finish_ns: 100_000 + index * 100, ..Phases::default() };
            recorder.opened(&record, &phases);
        }
        recorder.begin(Moment::from_ns(1_000));
        for index in 0..arrivals {
            let intended = Moment::from_ns(1_000 + index * 1_000_000_000 / PER_S);
            let actual = intended + Duration::from_micros(50);
            // Spread evenly from 1 to 2 ms, in an order of each run's own.
            let place = (index * 7_919 + self.number * 104_729) % arrivals;
            let first_byte_ns = (1e6 * (1.0 + place as f64 / arrivals as f64) * self.slowness) as u64;
            let phases = Phases { send_ns: 20_000, first_byte_ns, receive_ns: 5_000, ..Phases::default() };
            let end = actual + Duration::from_nanos(phases.total_ns());
            recorder.scheduled(0, intended);
            recorder.record(&Sample {
                step: 0,
                intended,
                connection: 0,
                handed: intended,
                waited: false,
                actual,
                end,
                own_ns: 25_000,
                phases,
                outcome: if self.breaks(index) { Outcome::Failed(500) } else { Outcome::Ok },
                handshake: None,
                unconnected: false,
                answer_bytes: 0,
            });
        }
        let measurement = recorder.finish(ThreadUse { scheduling: "SCHED_OTHER", ..ThreadUse::default() }.into());
        let thresholds = [Threshold::Response(Quantile::P95, Duration::from_millis(500)), Threshold::Errors(0.001)];
        let checked = thresholds.map(|threshold| threshold.check(&measurement));
        let part = WorkloadPart { measurement, work: Vec::new(), observations: Vec::new() };
        let results = Results {
            shards: None,
            parts: &[part],
            checked: &checked,
            breaches: &[],
            ended: None,
            invalid: &[],
            verdict: Verdict::Pass,
            evidence: vec![self.evidence(arrivals)],
            machine_use: Vec::new(),
        };
        let mut summary = Summary::new(about(), vec![planned()], results);
        summary.finished_at = format!("2026-01-01T00:{:02}:00Z", self.number);
        // As of a run from before runs had ids: a golden file has no random figures.
        summary.run_id = None;
        summary
    }

    fn breaks(self, arrival: u64) -> bool {
        self.broken_every.is_some_and(|every| arrival.is_multiple_of(every))
    }

    /// Writes its summary into `folder`.
    pub fn save(self, folder: &Path) {
        save(&self.summary(), folder);
    }

    fn evidence(self, arrivals: u64) -> Evidence {
        let right = (0..arrivals).filter(|index| !self.breaks(*index)).count() as u64;
        let total = Cost {
            calls: self.calls * right,
            rows: 8 * right,
            wal_bytes: 1_500 * right + self.number * 1_000,
            wal_records: 12 * right,
            ..Cost::default()
        };
        let each = |count: u64| count as f64 / arrivals as f64;
        let per_arrival =
            PerArrival { calls: each(total.calls), rows: each(total.rows), wal_bytes: each(total.wal_bytes) };
        let statements = Statements {
            total,
            per_arrival: Some(per_arrival),
            most_called: Vec::new(),
            all: Vec::new(),
            different: 5,
        };
        Evidence { arrivals, statements: Some(Known::Yes(statements)), ..Evidence::default() }
    }
}

/// Writes `summary` into `folder`, which it makes.
pub fn save(summary: &summary::Summary, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    certctl_bench::report::result_files::save(summary, folder).unwrap();
}

fn planned() -> PlanFacts {
    let plan = Plan {
        model: Model::Open { pattern: Pattern::Constant(Rate::per_second(40)), clients: 200, affinity: Affinity::Own },
        steps: 1,
        starts_after: Duration::ZERO,
        goes_on: Duration::ZERO,
        rng_seed: 1,
        part: None,
        warm_up: Duration::from_secs(5),
        window: Duration::from_secs(60),
        connections: 200,
        further: 0,
        opening: Opening::Before(Rate::per_second(1_000)),
        timeout: Duration::from_secs(10),
        max_lag: MAX_LAG,
    };
    PlanFacts::of("agent_storm", &AgentStorm::new(Fleet::Contract, 200, "h", "t"), &plan)
}

fn about() -> About {
    let settings = serde_json::json!({ "fsync": "on", "server_version": "15.18 (Debian 15.18-0+deb12u1)" });
    About {
        scenario: "agent_storm".into(),
        title: "200 agents heartbeat in turn".to_owned(),
        system: SystemDescription {
            address: None,
            kind: SystemKind::Reference,
            base_url: "https://localhost:8443".to_owned(),
            version: "0.1.0".to_owned(),
            binary_sha256: None,
            migrations_sha256: None,
            behaviour: Behaviour::AsBuilt,
            store: Store::Postgresql { version: "15".to_owned(), private: true },
            trust: "certificate verified against the given CA".to_owned(),
            settings: settings.as_object().unwrap().clone(),
        },
        machine: Machine {
            cpu_model: "Some CPU @ 2.00GHz".to_owned(),
            cpu_part: None,
            microcode: None,
            cores: 2,
            cpu_quota: None,
            memory_is_limited: false,
            memory_bytes: 8 << 30,
            kernel: "6.1.0".to_owned(),
            virtualisation: "virtual machine (QEMU)".to_owned(),
            rustc: "rustc 1.95.0".to_owned(),
            commit: "abc".to_owned(),
        },
    }
}

/// Returns a full handshake, as most servers make it.
pub fn record() -> Record {
    let handshake = Handshake {
        kind: HandshakeFlow::Full,
        version: "TLS1.3",
        suite: "TLS13_AES_128_GCM_SHA256",
        group: "X25519",
        key: "ecdsa-p256",
        chain_length: 1,
        alpn: "http/1.1",
    };
    Record { handshake, as_declared: true, read_bytes: 1_100, written_bytes: 350, certificate: 1 }
}
