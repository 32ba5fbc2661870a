//! The number of generator threads: given, or derived from the load and the processors that are free for it.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use super::plan::{Model, Opening, Plan};
use super::shard::MOST_SHARDS;

/// The CPU time that a request on a kept connection is assumed to take, pacing and recording included, in microseconds:
/// at a few thousand requests per second, where each wakes the thread up.
const REQUEST_US: f64 = 100.0;
/// The CPU time that a new connection with a verified full handshake and its request is assumed to take, in
/// microseconds.
const CONNECTION_US: f64 = 700.0;
/// The share of a processor that a thread may be expected to use: at twice that a run is invalid.
const EXPECTED_BUSY: f64 = 0.45;

/// The number of threads of the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratorThreads {
    /// So many.
    Count(NonZeroU64),
    /// As many as the load takes.
    Auto,
}

impl Default for GeneratorThreads {
    fn default() -> Self {
        Self::Count(NonZeroU64::MIN)
    }
}

impl GeneratorThreads {
    /// Returns the number of threads for groups of workloads that run one after another, each side by side. `divisible`
    /// is true if more than one thread can send their requests, and `free` the number of processors that the system
    /// leaves to the generator.
    ///
    /// As many as the load takes are so many that none of them is expected to be busy for more than 45% of the time, by
    /// the planned rate and the CPU time of a request: at most one for each free processor, and for each connection of
    /// the workload with the fewest. A closed workload has no rate: its users count as one request a second each.
    pub fn resolve(self, groups: &[Vec<&Plan>], divisible: bool, free: usize) -> u64 {
        if let Self::Count(count) = self {
            return count.get();
        }
        if !divisible {
            return 1;
        }
        let busy =
            groups.iter().map(|group| group.iter().map(|plan| expected_cpus(plan)).sum::<f64>()).fold(0.0, f64::max);
        let connections = groups.iter().flatten().map(|plan| plan.connections as u64).min().unwrap_or(1);
        let wanted = (busy / EXPECTED_BUSY).ceil() as u64;
        wanted.min(connections).min(free as u64).clamp(1, MOST_SHARDS)
    }

    /// Returns the largest number of threads that may come of it on a machine with so many processors.
    pub fn most(self, processors: usize) -> u64 {
        match self {
            Self::Count(count) => count.get(),
            Self::Auto => processors as u64,
        }
    }
}

/// Returns the number of processors that are free for the generator: all but those of a system on this machine, which
/// gets half of them.
pub fn free_processors(all: usize, system_is_here: bool) -> usize {
    if system_is_here { (all / 2).max(1) } else { all.saturating_sub(1).max(1) }
}

/// Returns the processors that the generator is expected to use for a workload.
fn expected_cpus(plan: &Plan) -> f64 {
    let per_s = match &plan.model {
        Model::Open { pattern, clients, .. } => pattern.peak_per_second(*clients),
        Model::Closed { .. } => plan.connections as f64,
    };
    let each_us = match plan.opening {
        Opening::Before(_) => REQUEST_US,
        Opening::ByFirstRequest => CONNECTION_US,
    };
    per_s * each_us / 1e6
}

impl FromStr for GeneratorThreads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse().ok().filter(|count: &NonZeroU64| count.get() <= MOST_SHARDS);
        count.map(Self::Count).ok_or_else(|| format!("`{text}`: give a number from 1 to {MOST_SHARDS}, or auto"))
    }
}

impl fmt::Display for GeneratorThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::dispatcher::Affinity;
    use crate::load::rate::Rate;
    use crate::load::schedule::Pattern;

    fn plan(per_s: u64, connections: usize, opening: Opening) -> Plan {
        let (pattern, affinity) = (Pattern::Constant(Rate::per_second(per_s)), Affinity::Any);
        Plan {
            model: Model::Open { pattern, clients: 1, affinity },
            steps: 1,
            starts_after: Duration::ZERO,
            warm_up: Duration::ZERO,
            window: Duration::from_secs(30),
            goes_on: Duration::ZERO,
            connections,
            further: 0,
            opening,
            timeout: Duration::from_secs(1),
            max_lag: Duration::from_millis(10),
            rng_seed: 1,
            part: None,
        }
    }

    #[test]
    fn threads_are_parsed() {
        let count = |count| Ok(GeneratorThreads::Count(NonZeroU64::new(count).unwrap()));
        assert_eq!(["1".parse(), "4096".parse(), "auto".parse()], [count(1), count(4_096), Ok(GeneratorThreads::Auto)]);
        for wrong in ["", "0", "-1", "4097", "2.5", "Auto", "many"] {
            assert!(wrong.parse::<GeneratorThreads>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn as_many_threads_as_the_load_takes() {
        let kept = Opening::Before(Rate::per_second(1_000));
        let auto = |groups: &[&[&Plan]], free| {
            let groups: Vec<Vec<&Plan>> = groups.iter().map(|group| group.to_vec()).collect();
            GeneratorThreads::Auto.resolve(&groups, true, free)
        };
        // 4,500 requests a second take 45% of a processor.
        let [slow, quick] = [4_500, 4_501].map(|per_s| plan(per_s, 50, kept));
        assert_eq!([auto(&[&[&slow]], 8), auto(&[&[&quick]], 8)], [1, 2]);
        // Side by side they add up; one after another they do not.
        assert_eq!([auto(&[&[&slow, &slow]], 8), auto(&[&[&slow], &[&slow]], 8)], [2, 1]);
        // No more than processors are free, and than there are connections to divide.
        let fast = plan(1_000_000, 50, kept);
        assert_eq!([auto(&[&[&fast]], 8), auto(&[&[&fast]], 1), auto(&[&[&fast]], 100)], [8, 1, 50]);
        // New connections cost more.
        assert_eq!(auto(&[&[&plan(1_500, 50, Opening::ByFirstRequest)]], 8), 3);
        let closed = Plan { model: Model::Closed { think: Duration::ZERO, rounds: None }, ..plan(1, 50, kept) };
        assert_eq!(auto(&[&[&closed]], 8), 1);
    }

    #[test]
    fn what_cannot_be_divided_has_one_thread() {
        let plan = plan(1_000_000, 50, Opening::ByFirstRequest);
        assert_eq!(GeneratorThreads::Auto.resolve(&[vec![&plan]], false, 8), 1);
        // A number that is given is not changed: the run is refused where it cannot be.
        let three = GeneratorThreads::Count(NonZeroU64::new(3).unwrap());
        assert_eq!(three.resolve(&[vec![&plan]], false, 1), 3);
    }

    #[test]
    fn a_system_on_this_machine_keeps_half_of_it() {
        assert_eq!([1, 2, 4, 5].map(|all| free_processors(all, true)), [1, 1, 2, 2]);
        assert_eq!([1, 2, 4].map(|all| free_processors(all, false)), [1, 1, 3]);
    }
}
