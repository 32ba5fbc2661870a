//! The machine while a run was measured: CPU time by process, CPU time taken by the host, and stops by a quota. It
//! decides whether a slow answer is due to the system or to the machine.

pub mod account;
pub mod procfs;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::validity::Invalid;

/// The part of the bound from which on a run is doubtful.
const DOUBTFUL_PART: f64 = 0.5;
/// The share of the CPU left free that others and the host take in a starved second.
pub const STARVED: f64 = 0.9;
/// The least share of all processors that others and the host must take to be judged: a system that keeps them busy
/// itself leaves so little that the kernel's own work would be most of it.
const LEAST_TAKEN: f64 = 0.05;
/// The share of starved seconds above which a run is invalid, since p90 is in them; a single one makes it doubtful.
const MAX_STARVED_SHARE: f64 = 0.1;
/// The share of its window for which a quota may stop a run: beyond it, the stops are in the p99.
const MAX_STOPPED_SHARE: f64 = 0.01;
/// The number of other processes that are named.
const NAMED: usize = 3;

/// CPU time by its user, in processors: 1 is one of them for all of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CpuUse {
    /// This process and its children, except the system under test and its database.
    pub generator: f64,
    /// The system under test; null if it is not on this machine, or not visible.
    pub system: Option<f64>,
    /// PostgreSQL with all of its processes; null if none was seen.
    pub postgresql: Option<f64>,
    /// Everything else.
    pub others: f64,
    /// Interrupts and the work that they defer, which belong to no process.
    pub interrupts: f64,
    /// Taken by the hypervisor.
    pub steal: f64,
    /// Used by nothing.
    pub idle: f64,
}

/// One sample, about a second long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MachineSample {
    /// The moment of its start, in seconds; the measured window begins at 0, and the warm-up is before it.
    pub at_s: f64,
    /// Its length, in seconds.
    pub span_s: f64,
    /// The users of the processors.
    #[serde(flatten)]
    pub cpu: CpuUse,
    /// The time for which a quota stopped this process's control group, over all processors, in seconds.
    pub stopped_s: f64,
    /// The share of the time in which a task waited for a processor, 0 to 1; null if the kernel does not report it.
    pub pressure: Option<f64>,
}

/// CPU time of other processes with the same name.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Other {
    /// Their name, at most 15 plain characters.
    pub name: String,
    /// Their CPU time in the window, in seconds.
    pub cpu_s: f64,
}

/// The use of the machine in the measured window of workloads that ran side by side.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MachineUse {
    /// The workloads.
    pub workloads: Vec<String>,
    /// The number of processors that were watched: those on which generator and system may run.
    pub cpus: u32,
    /// The quota of this process's control group, in processors, if it has one.
    pub cpu_quota: Option<f64>,
    /// The part of the window that the samples cover, in seconds.
    pub measured_s: f64,
    /// The mean over the window.
    pub mean: CpuUse,
    /// The part of the generator's use that is its sending and measuring thread's, in processors.
    pub measuring_thread: f64,
    /// The processes that were taken for the system under test, or the reason for which there are none.
    pub system_is: String,
    /// The same for PostgreSQL.
    pub postgresql_is: String,
    /// The share of the CPU left free by the run that others and the host took, 0 to 1; null if others cannot be
    /// distinguished from the system under test.
    pub taken_share: Option<f64>,
    /// The number of seconds in which nearly all of it was taken, and enough of the processors to be judged.
    pub starved_seconds: u64,
    /// The others with the most CPU time.
    pub top_others: Vec<Other>,
    /// The number of times that a quota stopped this process's control group.
    pub throttled: u64,
    /// The time for which it did, over all processors, in seconds.
    pub stopped_s: f64,
    /// See [`MachineSample::pressure`].
    pub pressure: Option<f64>,
    /// CPU time that this observation used, in seconds; it is part of the generator's.
    pub watching_cpu_s: f64,
    /// The reason for which the figures are doubtful, if they are.
    pub doubtful: Option<String>,
    /// The warm-up and the window, sample by sample.
    pub timeline: Vec<MachineSample>,
}

/// Returns the greater of two figures, of which either may be missing.
fn greater(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

impl CpuUse {
    fn merge(&mut self, other: &Self) {
        let sum = |one: Option<f64>, other: Option<f64>| one.into_iter().chain(other).reduce(|one, other| one + other);
        self.generator += other.generator;
        self.system = sum(self.system, other.system);
        self.postgresql = sum(self.postgresql, other.postgresql);
        self.others += other.others;
        self.interrupts += other.interrupts;
        self.steal += other.steal;
        self.idle += other.idle;
        *self = self.rounded();
    }

    /// Returns true if others and the host took enough of these processors to be judged.
    pub fn is_judged(&self, processors: u32) -> bool {
        self.others + self.steal >= LEAST_TAKEN * f64::from(processors)
    }

    /// Returns the share of the CPU left free by the run that others and the host took.
    pub fn taken_share(&self) -> f64 {
        let taken = self.others + self.steal;
        let free = taken + self.idle;
        if free <= 0.0 { 0.0 } else { taken / free }
    }
}

/// The largest share that others may take, 0 to 1; 1 is never exceeded, and disables the judgement of quotas too.
/// docs/METHODOLOGY.md has the experiment behind the default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuBound(pub f64);

impl MachineUse {
    /// Judges the run: records the reasons for which it is doubtful, and returns those for which it is invalid.
    pub fn judge(&mut self, bound: CpuBound) -> Vec<Invalid> {
        let CpuBound(bound) = bound;
        if bound >= 1.0 {
            return Vec::new();
        }
        let stopped = Stopped { times: self.throttled, stopped_s: self.stopped_s, of_s: self.measured_s };
        let taken = self.taken_share.map(|share| Taken {
            share,
            bound,
            starved_seconds: self.starved_seconds,
            of_seconds: self.measured_samples().count() as u64,
            steal_share: if share > 0.0 { self.mean.steal / (self.mean.steal + self.mean.others) } else { 0.0 },
            who: self.top_others.clone(),
        });
        let mut invalid = Vec::new();
        let mut doubtful = Vec::new();
        if let Some(taken) = taken {
            let starved = taken.starved_seconds as f64 > taken.of_seconds as f64 * MAX_STARVED_SHARE;
            let share = if self.mean.is_judged(self.cpus) { taken.share } else { 0.0 };
            if share > bound || starved {
                invalid.push(Invalid::Starved(taken));
            } else if share > bound * DOUBTFUL_PART || taken.starved_seconds > 0 {
                doubtful.push(taken.to_string());
            }
        }
        if stopped.stopped_s > stopped.of_s * MAX_STOPPED_SHARE {
            invalid.push(Invalid::Throttled(stopped));
        } else if stopped.times > 0 {
            doubtful.push(stopped.to_string());
        }
        self.doubtful = (!doubtful.is_empty()).then(|| doubtful.join("; "));
        invalid
    }

    /// Adds the use of another machine by the same run: processors and times add up, and a figure that bounds a run is
    /// that of the machine on which it is worse.
    pub fn merge(&mut self, other: &Self) {
        self.cpus += other.cpus;
        self.cpu_quota = self.cpu_quota.zip(other.cpu_quota).map(|(one, other)| one + other);
        self.measured_s = self.measured_s.max(other.measured_s);
        self.mean.merge(&other.mean);
        self.measuring_thread = account::rounded(self.measuring_thread + other.measuring_thread);
        for (own, others) in [(&mut self.system_is, &other.system_is), (&mut self.postgresql_is, &other.postgresql_is)]
        {
            if own != others {
                "on several machines".clone_into(own);
            }
        }
        self.taken_share = greater(self.taken_share, other.taken_share);
        self.starved_seconds = self.starved_seconds.max(other.starved_seconds);
        for one in &other.top_others {
            match self.top_others.iter_mut().find(|known| known.name == one.name) {
                Some(known) => known.cpu_s += one.cpu_s,
                None => self.top_others.push(one.clone()),
            }
        }
        self.top_others.sort_by(|one, other| other.cpu_s.total_cmp(&one.cpu_s));
        self.top_others.truncate(NAMED);
        self.throttled += other.throttled;
        self.stopped_s += other.stopped_s;
        self.pressure = greater(self.pressure, other.pressure);
        self.watching_cpu_s += other.watching_cpu_s;
        self.doubtful = match (self.doubtful.take(), &other.doubtful) {
            (None, other) => other.clone(),
            // Of many machines, one says enough.
            (own, _) => own,
        };
        for (own, other) in self.timeline.iter_mut().zip(&other.timeline) {
            own.cpu.merge(&other.cpu);
            own.span_s = own.span_s.max(other.span_s);
            own.stopped_s += other.stopped_s;
            own.pressure = greater(own.pressure, other.pressure);
        }
    }

    /// Returns the samples of the window.
    pub fn measured_samples(&self) -> impl Iterator<Item = &MachineSample> {
        self.timeline.iter().filter(|sample| sample.at_s >= 0.0)
    }
}

/// The CPU that others and the host took from a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The share of the CPU left free by the run, 0 to 1.
    pub share: f64,
    /// The largest share allowed, 0 to 1.
    pub bound: f64,
    /// The number of samples in which nearly all of it was taken.
    pub starved_seconds: u64,
    /// The number of all samples.
    pub of_seconds: u64,
    /// The host's part in it, 0 to 1.
    pub steal_share: f64,
    /// The others with the most CPU time.
    pub who: Vec<Other>,
}

/// The stops of a run by a quota.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopped {
    /// The number of stops.
    pub times: u64,
    /// The time for which it was stopped, over all processors, in seconds.
    pub stopped_s: f64,
    /// The length of the window, in seconds.
    pub of_s: f64,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.steal_share > 0.5;
        let who = if host { "the host (steal)" } else { "other processes" };
        write!(
            f,
            "{who} took {:.0}% of the CPU that the run left free (bound {:.0}%), nearly all of it in {} of {} samples",
            self.share * 100.0,
            self.bound * 100.0,
            self.starved_seconds,
            self.of_seconds
        )?;
        if !host && !self.who.is_empty() {
            write!(f, ": {}", named(&self.who))?;
        }
        f.write_str(if host {
            " (measure on a host of its own, or at another time)"
        } else {
            " (end them, or measure elsewhere)"
        })
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the CPU quota of the control group stopped the run {} times, for {:.2} s of CPU in {:.1} s (raise the quota: \
             cpu.max, or docker's --cpus)",
            self.times, self.stopped_s, self.of_s
        )
    }
}

/// Returns the names and CPU times of the others that used most.
pub fn named(others: &[Other]) -> String {
    others.iter().take(NAMED).map(|other| format!("{} {:.1} s", other.name, other.cpu_s)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(others: f64, steal: f64, samples: &[f64]) -> MachineUse {
        let cpu = |others: f64, steal: f64| CpuUse {
            generator: 0.1,
            system: Some(0.3),
            postgresql: Some(0.4),
            others,
            interrupts: 0.2,
            steal,
            idle: 1.0 - others - steal,
        };
        let timeline = samples.iter().enumerate().map(|(at, others)| MachineSample {
            at_s: at as f64 - 1.0,
            span_s: 1.0,
            cpu: cpu(*others, 0.0),
            ..MachineSample::default()
        });
        let timeline: Vec<_> = timeline.collect();
        let starved = timeline.iter().skip(1).filter(|sample| sample.cpu.taken_share() > STARVED).count();
        MachineUse {
            cpus: 2,
            measured_s: samples.len() as f64 - 1.0,
            mean: cpu(others, steal),
            taken_share: Some(cpu(others, steal).taken_share()),
            starved_seconds: starved as u64,
            top_others: vec![Other { name: "rustc".to_owned(), cpu_s: 12.3 }],
            timeline,
            ..MachineUse::default()
        }
    }

    #[test]
    fn cpu_use_of_others_makes_a_run_doubtful_then_invalid() {
        let judged = |others: f64, steal: f64| {
            let mut machine = busy(others, steal, &[0.0; 11]);
            let invalid = machine.judge(CpuBound(0.5));
            (machine.doubtful, invalid.into_iter().map(|reason| reason.to_string()).next())
        };
        assert_eq!(judged(0.25, 0.0), (None, None));
        let (doubtful, invalid) = judged(0.26, 0.0);
        let words = "other processes took 26% of the CPU that the run left free (bound 50%), nearly all of it in 0 of 10 \
                     samples: rustc 12.3 s (end them, or measure elsewhere)";
        assert_eq!((doubtful.as_deref(), invalid), (Some(words), None));
        let (doubtful, invalid) = judged(0.51, 0.0);
        assert!(doubtful.is_none() && invalid.unwrap().contains("other processes took 51%"));
        assert!(judged(0.1, 0.45).1.unwrap().starts_with("the host (steal) took 55%"));
    }

    #[test]
    fn starved_seconds_count_even_if_the_mean_is_low() {
        let mut samples = [0.0; 21];
        samples[0] = 1.0;
        let mut judged = |starved: usize| {
            samples[1..]
                .iter_mut()
                .enumerate()
                .for_each(|(at, others)| *others = if at < starved { 0.95 } else { 0.0 });
            let mut machine = busy(0.01, 0.0, &samples);
            (machine.judge(CpuBound(0.5)).len(), machine.doubtful.is_some())
        };
        // The second of the warm-up does not count.
        assert_eq!([judged(0), judged(1), judged(2), judged(3)], [(0, false), (0, true), (0, true), (1, false)]);
    }

    #[test]
    fn a_busy_system_is_not_blamed_on_others() {
        let judged = |others: f64| {
            let mut machine = busy(others, 0.0, &[0.0; 11]);
            machine.mean = CpuUse { postgresql: Some(1.95 - others), steal: 0.05, idle: 0.0, ..machine.mean };
            machine.taken_share = Some(machine.mean.taken_share());
            assert_eq!(machine.taken_share, Some(1.0));
            (machine.judge(CpuBound(0.5)).len(), machine.doubtful.is_some())
        };
        assert_eq!([judged(0.0), judged(0.04), judged(0.06)], [(0, false), (0, false), (1, false)]);
    }

    #[test]
    fn the_use_of_several_machines_adds_up_and_the_worst_counts() {
        let mut all = MachineUse { pressure: Some(0.1), ..busy(0.2, 0.1, &[0.0, 0.95]) };
        let starved = MachineUse { pressure: None, cpu_quota: Some(2.0), ..busy(0.4, 0.0, &[0.0, 0.95, 0.95]) };
        all.merge(&starved);
        assert_eq!((all.cpus, all.measured_s, all.starved_seconds, all.cpu_quota), (4, 2.0, 2, None));
        assert_eq!((all.mean.generator, all.mean.others, all.mean.system), (0.2, 0.6, Some(0.6)));
        assert_eq!((all.taken_share, all.pressure), (starved.taken_share, Some(0.1)));
        assert_eq!(all.top_others, [Other { name: "rustc".to_owned(), cpu_s: 24.6 }]);
        assert_eq!((all.timeline.len(), all.timeline[1].cpu.others), (2, 1.9));
    }

    #[test]
    fn throttling_by_a_quota_invalidates_a_run() {
        let judged = |times: u64, stopped_s: f64| {
            let mut machine = MachineUse { throttled: times, stopped_s, ..busy(0.0, 0.0, &[0.0; 31]) };
            (machine.judge(CpuBound(0.5)), machine.doubtful)
        };
        assert_eq!(judged(0, 0.0), (Vec::new(), None));
        assert!(judged(1, 0.1).1.unwrap().contains("stopped the run 1 times, for 0.10 s of CPU in 30.0 s"));
        let stopped = Stopped { times: 22, stopped_s: 1.6, of_s: 30.0 };
        assert_eq!(judged(22, 1.6), (vec![Invalid::Throttled(stopped)], None));
    }

    #[test]
    fn a_bound_of_100_percent_disables_the_check() {
        let mut machine = MachineUse { throttled: 9, stopped_s: 9.0, ..busy(0.99, 0.0, &[0.99; 5]) };
        assert_eq!((machine.judge(CpuBound(1.0)), machine.doubtful), (Vec::new(), None));
    }

    #[test]
    fn processes_that_may_be_the_system_are_not_judged() {
        let mut machine = MachineUse { taken_share: None, ..busy(0.9, 0.0, &[0.9; 5]) };
        assert_eq!((machine.judge(CpuBound(0.5)), machine.doubtful), (Vec::new(), None));
    }
}
