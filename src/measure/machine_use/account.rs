//! The account of CPU use: readings of the kernel's counters turned into the use of the processors between them.

use std::collections::{BTreeMap, HashMap};

use super::procfs::{CpuSet, Process, Processors};
use super::{CpuUse, MachineSample, MachineUse, Other, STARVED};
use crate::clock::Moment;
use crate::measure::cgroup::Throttling;

/// The number of names of others that a result holds.
const KEPT_NAMES: usize = 8;
/// The shortest sample that may count as a starved second, in seconds: ticks are 10 ms, too coarse for shorter ones.
const MIN_SAMPLE_S: f64 = 0.5;

/// One reading of all counters.
#[derive(Clone, Debug, Default)]
pub struct MachineReading {
    /// The moment of the reading.
    pub at: Moment,
    /// True if the measured window has begun.
    pub in_window: bool,
    /// The counters of the processors that are watched.
    pub processors: Processors,
    /// All processes that are visible.
    pub processes: Vec<Process>,
    /// CPU time of the measuring thread, in ticks.
    pub measuring_ticks: u64,
    /// The stops by quotas so far.
    pub throttling: Throttling,
    /// The time in which a task waited for a processor so far, in microseconds.
    pub pressure_us: Option<u64>,
}

/// The owner of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The generator.
    Generator,
    /// The system under test.
    System,
    /// PostgreSQL.
    Postgresql,
}

/// The processes with an owner, which their descendants share.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// The owners by process id. The nearest ancestor decides.
    pub owners: HashMap<u32, Owner>,
    /// True if the system under test is known to be elsewhere, or is among the owners: only then do all remaining
    /// processes count as others.
    pub is_complete: bool,
}

/// The sum of readings.
pub struct Account {
    roots: Roots,
    watched: CpuSet,
    ticks_per_s: f64,
    last: Option<MachineReading>,
    window_start: Option<Moment>,
    samples: Vec<(Moment, MachineSample)>,
    others: BTreeMap<String, u64>,
    measuring_ticks: u64,
    throttled: u64,
}

/// Rounds to four digits: further ones are below the resolution of a clock tick.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

impl CpuUse {
    pub(super) fn rounded(self) -> Self {
        Self {
            generator: rounded(self.generator),
            system: self.system.map(rounded),
            postgresql: self.postgresql.map(rounded),
            others: rounded(self.others),
            interrupts: rounded(self.interrupts),
            steal: rounded(self.steal),
            idle: rounded(self.idle),
        }
    }
}

impl MachineSample {
    fn rounded(self) -> Self {
        Self {
            at_s: rounded(self.at_s),
            span_s: rounded(self.span_s),
            cpu: self.cpu.rounded(),
            stopped_s: rounded(self.stopped_s),
            pressure: self.pressure.map(rounded),
        }
    }
}

/// CPU time of processes between two readings, in ticks.
#[derive(Default)]
struct Used {
    generator: u64,
    system: u64,
    postgresql: u64,
    others: BTreeMap<String, u64>,
}

impl Account {
    /// Makes an empty account of these processors, of a kernel with this number of clock ticks per second.
    pub fn new(roots: Roots, watched: CpuSet, ticks_per_s: f64) -> Self {
        Self {
            roots,
            watched,
            ticks_per_s,
            last: None,
            window_start: None,
            samples: Vec::new(),
            others: BTreeMap::new(),
            measuring_ticks: 0,
            throttled: 0,
        }
    }

    /// Adds a reading, later than those before.
    pub fn add(&mut self, now: MachineReading) {
        let begins = now.in_window && self.window_start.is_none();
        // The kernel counts in ticks: the use between readings that are closer would be noise.
        let is_close = self.last.as_ref().is_some_and(|last| (now.at - last.at).as_secs_f64() * self.ticks_per_s < 1.0);
        if is_close && !begins {
            return;
        }
        if begins {
            self.window_start = Some(now.at);
        }
        let Some(last) = self.last.replace(now) else { return };
        let Some(now) = &self.last else { return };
        if is_close {
            return;
        }
        let span_s = (now.at - last.at).as_secs_f64();
        let used = self.used(&last.processes, &now.processes);
        let per_s = |ticks: u64| ticks as f64 / self.ticks_per_s / span_s;
        let grown = |of: fn(&Processors) -> u64| per_s(of(&now.processors).saturating_sub(of(&last.processors)));
        let all = f64::from(now.processors.count);
        let (idle, interrupts, steal) = (grown(|p| p.idle), grown(|p| p.interrupts), grown(|p| p.steal));
        let of = |owner, ticks| self.roots.owners.values().any(|one| *one == owner).then(|| per_s(ticks));
        let (system, postgresql) = (of(Owner::System, used.system), of(Owner::Postgresql, used.postgresql));
        let generator = per_s(used.generator);
        // Idle time is counted exactly, the rest by sampling at ticks: so the use by others is the remainder.
        let ours = generator + system.unwrap_or(0.0) + postgresql.unwrap_or(0.0);
        let others = (all - idle - interrupts - steal - ours).max(0.0);
        let throttling = now.throttling.since(last.throttling);
        let waited = now.pressure_us.zip(last.pressure_us).map(|(now, last)| now.saturating_sub(last) as f64 / 1e6);
        let sample = MachineSample {
            at_s: 0.0,
            span_s,
            cpu: CpuUse { generator, system, postgresql, others, interrupts, steal, idle },
            stopped_s: throttling.stopped_ns as f64 / 1e9,
            pressure: waited.map(|waited_s| (waited_s / span_s).min(1.0)),
        };
        self.samples.push((last.at, sample));
        if last.in_window {
            for (name, ticks) in used.others {
                *self.others.entry(name).or_default() += ticks;
            }
            self.measuring_ticks += now.measuring_ticks.saturating_sub(last.measuring_ticks);
            self.throttled += throttling.times;
        }
    }

    /// Returns the use between the last two readings, with the number of processors that are watched.
    pub fn latest(&self) -> Option<(CpuUse, u32)> {
        let (_, sample) = self.samples.last()?;
        Some((sample.cpu, self.last.as_ref()?.processors.count))
    }

    /// Returns the CPU time of processes between two readings. The time of a process that has ended may be in the
    /// account of the parent that waited for it, together with the part that was counted already.
    fn used(&self, before: &[Process], now: &[Process]) -> Used {
        let key = |process: &Process| (process.pid, process.started);
        let earlier: HashMap<_, _> = before.iter().map(|process| (key(process), process)).collect();
        let alive: HashMap<_, _> = now.iter().map(|process| (process.pid, process)).collect();
        let mut counted: HashMap<u32, u64> = HashMap::new();
        for gone in before.iter().filter(|process| alive.get(&process.pid).map(|one| key(one)) != Some(key(process))) {
            *counted.entry(gone.parent).or_default() += gone.own + gone.reaped;
        }
        let first = before.is_empty();
        let mut used = Used::default();
        for process in now {
            let (own, reaped) = match earlier.get(&key(process)) {
                Some(earlier) => (
                    process.own.saturating_sub(earlier.own),
                    process.reaped.saturating_sub(earlier.reaped + counted.get(&process.pid).copied().unwrap_or(0)),
                ),
                None if first => (0, 0),
                None => (process.own, process.reaped),
            };
            let ticks = own + reaped;
            if ticks == 0 {
                continue;
            }
            match self.owner(process, &alive) {
                Some(Owner::Generator) => used.generator += ticks,
                Some(Owner::System) => used.system += ticks,
                Some(Owner::Postgresql) => used.postgresql += ticks,
                None if self.watched.contains(&process.processor) => {
                    *used.others.entry(process.name.clone()).or_default() += ticks;
                }
                None => {}
            }
        }
        used
    }

    fn owner(&self, process: &Process, alive: &HashMap<u32, &Process>) -> Option<Owner> {
        /// The deepest tree of processes: a deeper one is damaged, since a reading is not of one instant.
        const DEEPEST: usize = 64;
        let mut pid = process.pid;
        for _ in 0..DEEPEST {
            if let Some(owner) = self.roots.owners.get(&pid) {
                return Some(*owner);
            }
            pid = alive.get(&pid)?.parent;
        }
        None
    }

    /// Sums up the window; returns `None` if no reading was in it.
    pub fn finish(self) -> Option<MachineUse> {
        let start = self.window_start?;
        let signed = |at: Moment| at.ns_since(start) as f64 / 1e9 - start.ns_since(at) as f64 / 1e9;
        let timeline = self.samples.iter().map(|(at, sample)| MachineSample { at_s: signed(*at), ..*sample });
        let timeline: Vec<_> = timeline.map(MachineSample::rounded).collect();
        let measured: Vec<_> = timeline.iter().filter(|sample| sample.at_s >= 0.0).collect();
        let measured_s: f64 = measured.iter().map(|sample| sample.span_s).sum();
        if measured_s <= 0.0 {
            return None;
        }
        let mean = |of: &dyn Fn(&MachineSample) -> f64| {
            measured.iter().map(|sample| of(sample) * sample.span_s).sum::<f64>() / measured_s
        };
        let known = |of: &dyn Fn(&MachineSample) -> Option<f64>| {
            measured.iter().all(|sample| of(sample).is_some()).then(|| mean(&|sample| of(sample).unwrap_or(0.0)))
        };
        let cpu = CpuUse {
            generator: mean(&|sample| sample.cpu.generator),
            system: known(&|sample| sample.cpu.system),
            postgresql: known(&|sample| sample.cpu.postgresql),
            others: mean(&|sample| sample.cpu.others),
            interrupts: mean(&|sample| sample.cpu.interrupts),
            steal: mean(&|sample| sample.cpu.steal),
            idle: mean(&|sample| sample.cpu.idle),
        }
        .rounded();
        let cpus = self.last.as_ref().map_or(0, |reading| reading.processors.count);
        let starved = |sample: &&&MachineSample| {
            sample.span_s >= MIN_SAMPLE_S && sample.cpu.taken_share() > STARVED && sample.cpu.is_judged(cpus)
        };
        let is_complete = self.roots.is_complete;
        let mut others: Vec<_> = self.others.into_iter().collect();
        others.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        others.truncate(KEPT_NAMES);
        let top_others =
            others.into_iter().map(|(name, ticks)| Other { name, cpu_s: ticks as f64 / self.ticks_per_s }).collect();
        Some(MachineUse {
            cpus,
            measured_s: rounded(measured_s),
            mean: cpu,
            measuring_thread: rounded(self.measuring_ticks as f64 / self.ticks_per_s / measured_s),
            taken_share: is_complete.then(|| rounded(cpu.taken_share())),
            starved_seconds: if is_complete { measured.iter().filter(starved).count() as u64 } else { 0 },
            top_others,
            throttled: self.throttled,
            stopped_s: rounded(measured.iter().map(|sample| sample.stopped_s).sum()),
            pressure: known(&|sample| sample.pressure).map(rounded),
            timeline,
            ..MachineUse::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, name: &str, own: u64, reaped: u64) -> Process {
        Process { pid, parent, name: name.to_owned(), own, reaped, started: u64::from(pid), processor: 0 }
    }

    fn reading(at_s: u64, in_window: bool, idle: u64, processes: Vec<Process>) -> MachineReading {
        let processors = Processors { count: 2, idle, interrupts: 0, steal: 0 };
        let at = Moment::from_ns(1_000_000_000 * (100 + at_s));
        MachineReading { at, in_window, processors, processes, ..MachineReading::default() }
    }

    fn roots() -> Roots {
        let owners = [(10, Owner::Generator), (20, Owner::System), (30, Owner::Postgresql)];
        Roots { owners: owners.into_iter().collect(), is_complete: true }
    }

    #[test]
    fn processes_are_attributed_to_their_nearest_root() {
        let mut account = Account::new(roots(), CpuSet::from([0]), 100.0);
        let tree = |generator, system, worker, postmaster, backend, rustc| {
            vec![
                process(1, 0, "init", 0, 0),
                process(10, 1, "agent_storm", generator, 0),
                process(20, 10, "certctl-referen", system, 0),
                process(21, 20, "worker", worker, 0),
                process(30, 10, "postgres", postmaster, 0),
                process(31, 30, "postgres", backend, 0),
                process(40, 1, "rustc", rustc, 0),
            ]
        };
        account.add(reading(0, false, 1_000, tree(5, 5, 5, 5, 5, 5)));
        account.add(reading(1, true, 1_100, tree(6, 6, 6, 6, 6, 6)));
        account.add(reading(2, true, 1_150, tree(16, 26, 36, 16, 26, 46)));
        let used = account.finish().unwrap();
        assert_eq!(
            used.mean,
            CpuUse {
                generator: 0.1,
                system: Some(0.5),
                postgresql: Some(0.3),
                others: 0.6,
                interrupts: 0.0,
                steal: 0.0,
                idle: 0.5
            }
        );
        assert_eq!(used.top_others, [Other { name: "rustc".to_owned(), cpu_s: 0.4 }]);
        assert_eq!((used.cpus, used.measured_s, used.timeline.len()), (2, 1.0, 2));
        assert_eq!([used.timeline[0].at_s, used.timeline[1].at_s], [-1.0, 0.0]);
        let share = used.taken_share.unwrap();
        assert!((share - 0.6 / 1.1).abs() < 1e-4, "{share}");
    }

    #[test]
    fn a_second_is_starved_only_by_much_use_of_others() {
        let starved = |system: u64, rustc: u64| {
            let mut account = Account::new(roots(), CpuSet::from([0]), 100.0);
            let tree =
                |system, rustc| vec![process(20, 1, "certctl-referen", system, 0), process(40, 1, "rustc", rustc, 0)];
            account.add(reading(0, true, 0, tree(0, 0)));
            account.add(reading(1, true, 0, tree(system, rustc)));
            account.finish().unwrap().starved_seconds
        };
        // Nothing of two processors is idle: a twentieth of both is ten ticks.
        assert_eq!([starved(195, 5), starved(191, 9), starved(189, 11), starved(0, 200)], [0, 0, 1, 1]);
    }

    #[test]
    fn cpu_time_of_ended_children_is_counted_once() {
        let mut account = Account::new(roots(), CpuSet::from([0]), 100.0);
        account.add(reading(
            0,
            true,
            0,
            vec![process(30, 1, "postgres", 10, 100), process(31, 30, "postgres", 50, 0), process(40, 1, "make", 0, 0)],
        ));
        // A backend ended after 7 more ticks; one started and ended within the second and used 3; one is new, with 4;
        // and a compiler started and ended, with 60.
        account.add(reading(
            1,
            true,
            100,
            vec![
                process(30, 1, "postgres", 11, 100 + 57 + 3),
                process(33, 30, "postgres", 4, 0),
                process(40, 1, "make", 1, 60),
            ],
        ));
        let used = account.finish().unwrap();
        assert_eq!(used.mean.postgresql, Some(0.15));
        assert_eq!(used.top_others, [Other { name: "make".to_owned(), cpu_s: 0.61 }]);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut account = Account::new(roots(), CpuSet::from([0]), 100.0);
        account.add(reading(0, true, 0, vec![process(50, 1, "cc1", 900, 0)]));
        let again = Process { started: 77, ..process(50, 1, "ld", 20, 0) };
        account.add(reading(1, true, 100, vec![again]));
        assert_eq!(account.finish().unwrap().top_others, [Other { name: "ld".to_owned(), cpu_s: 0.2 }]);
    }

    #[test]
    fn an_unseen_system_leaves_the_share_of_others_unknown() {
        let owners = [(10, Owner::Generator)].into_iter().collect();
        let mut account = Account::new(Roots { owners, is_complete: false }, CpuSet::from([0]), 100.0);
        account.add(reading(0, true, 0, Vec::new()));
        account.add(reading(1, true, 5, Vec::new()));
        let used = account.finish().unwrap();
        assert_eq!((used.taken_share, used.mean.system, used.starved_seconds), (None, None, 0));
    }

    #[test]
    fn readings_closer_than_a_tick_make_no_sample() {
        let mut account = Account::new(roots(), CpuSet::from([0]), 100.0);
        let at = |ms: u64, in_window: bool, idle: u64| MachineReading {
            at: Moment::from_ns(1_000_000 * ms),
            ..reading(0, in_window, idle, Vec::new())
        };
        // A warm-up of a millisecond, two seconds, and an end just after the second of them.
        for (ms, in_window, idle) in [(5_000, false, 0), (5_001, true, 0), (6_001, true, 150), (7_001, true, 250)] {
            account.add(at(ms, in_window, idle));
        }
        account.add(at(7_003, false, 250));
        let used = account.finish().unwrap();
        let samples = used.timeline.iter().map(|sample| (sample.at_s, sample.span_s, sample.cpu.others));
        assert_eq!(samples.collect::<Vec<_>>(), [(0.0, 1.0, 0.5), (1.0, 1.0, 1.0)]);
    }

    #[test]
    fn an_account_without_a_window_is_empty() {
        let mut account = Account::new(roots(), CpuSet::from([0]), 100.0);
        account.add(reading(0, false, 0, Vec::new()));
        account.add(reading(1, false, 5, Vec::new()));
        assert!(account.finish().is_none());
    }
}
