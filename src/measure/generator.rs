//! The generator's own use of resources: a run in which it was the bottleneck measured the generator.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::allocations;
use crate::clock::{Moment, process_cpu_ns, thread_cpu_ns};
use crate::foreign::{self, Label};

/// The shortest window: between the two readings of a shorter one there was nothing but the reading.
const SHORTEST_WINDOW_NS: u64 = 1_000_000;

thread_local! {
    static REQUESTS: Cell<u64> = const { Cell::new(0) };
}

/// Records that a request of the calling thread is over, measured or not.
pub fn request_over() {
    REQUESTS.set(REQUESTS.get() + 1);
}

/// A reading of the generator's clocks and memory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct GeneratorReading {
    at: Moment,
    thread_cpu_ns: u64,
    process_cpu_ns: u64,
    rss_bytes: u64,
    allocations: u64,
    requests: u64,
}

impl GeneratorReading {
    /// Takes a reading now, for the calling thread.
    pub fn take() -> Self {
        Self {
            at: Moment::now(),
            thread_cpu_ns: thread_cpu_ns(),
            process_cpu_ns: process_cpu_ns(),
            rss_bytes: rss_bytes(),
            allocations: allocations::of_this_thread(),
            requests: REQUESTS.get(),
        }
    }
}

/// The use of resources by one thread of the generator: readings at the edges of a run's stages.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ThreadUse {
    /// Its process: [`process_id`]. CPU time and memory are the process's, so that those of its threads are one.
    pub process: u64,
    /// Before the first connection.
    pub start: GeneratorReading,
    /// After the last connection was opened.
    pub opened: GeneratorReading,
    /// At the beginning of the measured window.
    pub window_start: GeneratorReading,
    /// At its end.
    pub window_end: GeneratorReading,
    /// The number of connections that were opened.
    pub connections: u64,
    /// The scheduling of the thread by the kernel in the window.
    #[serde(deserialize_with = "foreign::label")]
    pub scheduling: Label,
    /// The highest resident memory that its process ever had, in bytes.
    pub peak_rss_bytes: u64,
}

impl ThreadUse {
    /// Widens the window to cover that of one more workload.
    pub fn cover(&mut self, start: GeneratorReading, end: GeneratorReading) {
        if self.window_end.at == Moment::default() || start.at < self.window_start.at {
            self.window_start = start;
        }
        if self.window_end.at < end.at {
            self.window_end = end;
        }
    }

    /// Returns the share of the window in which the thread was on a CPU, 0 to 1; 0 for a load that never began.
    fn busy_share(&self) -> f64 {
        let wall_ns = self.window_end.at.ns_since(self.window_start.at);
        let cpu_ns = self.window_end.thread_cpu_ns.saturating_sub(self.window_start.thread_cpu_ns);
        if wall_ns < SHORTEST_WINDOW_NS { 0.0 } else { cpu_ns as f64 / wall_ns as f64 }
    }
}

/// The use of resources by the generator: that of each of its threads, in one process or in several.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GeneratorUse(Vec<ThreadUse>);

impl From<ThreadUse> for GeneratorUse {
    fn from(thread: ThreadUse) -> Self {
        Self(vec![thread])
    }
}

impl GeneratorUse {
    /// Adds the use by further threads.
    pub fn merge(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Returns the number of threads.
    pub fn threads(&self) -> usize {
        self.0.len()
    }

    /// Returns the CPU time of all processes within the window, in seconds.
    pub fn window_cpu_s(&self) -> f64 {
        seconds(self.grown(|one| one.window_start.process_cpu_ns, |one| one.window_end.process_cpu_ns))
    }

    /// Returns the CPU time of all processes while connections were opened, in seconds.
    pub fn opening_cpu_s(&self) -> f64 {
        seconds(self.grown(|one| one.start.process_cpu_ns, |one| one.opened.process_cpu_ns))
    }

    /// Returns the time that opening the connections took, in the thread that took longest.
    pub fn opening(&self) -> Duration {
        self.0.iter().map(|one| one.opened.at - one.start.at).max().unwrap_or_default()
    }

    /// Returns the share of the window in which the busiest thread was on a CPU, 0 to 1; 0 for a load that never began.
    pub fn busy_share(&self) -> f64 {
        self.0.iter().map(ThreadUse::busy_share).fold(0.0, f64::max)
    }

    /// Returns the number of allocations of the generator's threads within the window; `None` if the program does not
    /// count.
    pub fn allocations(&self) -> Option<u64> {
        let counted = !self.0.is_empty() && self.0.iter().all(|one| one.window_end.allocations > 0);
        let of = |one: &ThreadUse| one.window_end.allocations.saturating_sub(one.window_start.allocations);
        counted.then(|| self.0.iter().map(of).sum())
    }

    /// Returns the number of requests of all workloads that ended within the window, those of a warm-up included.
    pub fn requests(&self) -> u64 {
        let of = |one: &ThreadUse| one.window_end.requests.saturating_sub(one.window_start.requests);
        self.0.iter().map(of).sum()
    }

    /// Returns the resident memory at the end of the window, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.grown(|_| 0, |one| one.window_end.rss_bytes)
    }

    /// Returns the highest resident memory that the processes ever had, in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.grown(|_| 0, |one| one.peak_rss_bytes)
    }

    /// Returns the resident memory that came with the connections and the window, per connection, in bytes.
    pub fn rss_per_connection_bytes(&self) -> Option<u64> {
        let grown = self.grown(|one| one.start.rss_bytes, |one| one.window_end.rss_bytes);
        grown.checked_div(self.0.iter().map(|one| one.connections).sum())
    }

    /// Returns the scheduling of the threads by the kernel in the window; `mixed` where it differs.
    pub fn scheduling(&self) -> Label {
        let mut of = self.0.iter().map(|one| one.scheduling);
        let first = of.next().unwrap_or_default();
        if of.all(|other| other == first) { first } else { "mixed" }
    }

    /// Returns by how much a figure of processes grew, all together: in each of them from the least of its threads'
    /// first readings to the greatest of their last.
    fn grown(&self, from: impl Fn(&ThreadUse) -> u64, to: impl Fn(&ThreadUse) -> u64) -> u64 {
        let mut processes = BTreeMap::new();
        for one in &self.0 {
            let (least, greatest) = processes.entry(one.process).or_insert((u64::MAX, 0));
            (*least, *greatest) = (from(one).min(*least), to(one).max(*greatest));
        }
        processes.values().map(|(least, greatest)| greatest.saturating_sub(*least)).sum()
    }
}

/// Returns a number that no other process of the run has, on whatever machine.
pub fn process_id() -> u64 {
    static ID: OnceLock<u64> = OnceLock::new();
    // Its keys are random in each process.
    *ID.get_or_init(|| RandomState::new().hash_one(std::process::id()))
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

/// Returns the resident memory of this process in bytes; 0 if the kernel does not report it.
fn rss_bytes() -> u64 {
    let page_bytes = rustix::param::page_size() as u64;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * page_bytes
}

/// Returns the highest resident memory that this process ever had, in bytes; 0 if the kernel does not report it.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|value| value.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes the use of a thread that was on a CPU for `busy_ms` of a window of a second.
    fn thread(process: u64, busy_ms: u64) -> GeneratorUse {
        let at = |ms: u64, cpu_ms: u64| GeneratorReading {
            at: Moment::from_ns(ms * 1_000_000),
            thread_cpu_ns: cpu_ms * 1_000_000,
            process_cpu_ns: 10_000_000 + ms * 2_000_000,
            rss_bytes: 1_000 * ms,
            allocations: 5 + ms,
            requests: 2 * ms,
        };
        let (start, opened, window_start, window_end) = (at(0, 0), at(500, 1), at(600, 2), at(1_600, 2 + busy_ms));
        let (connections, scheduling, peak_rss_bytes) = (10, "SCHED_OTHER", 2_000_000);
        let use_of =
            ThreadUse { process, start, opened, window_start, window_end, connections, scheduling, peak_rss_bytes };
        use_of.into()
    }

    #[test]
    fn a_busy_thread_is_not_hidden_by_idle_ones() {
        let mut all = thread(1, 100);
        [950, 100, 100].into_iter().for_each(|busy_ms| all.merge(&thread(1, busy_ms)));
        assert_eq!((all.threads(), all.busy_share()), (4, 0.95));
    }

    #[test]
    fn the_figures_of_a_process_count_once() {
        let mut all = thread(1, 100);
        all.merge(&thread(1, 100));
        assert_eq!((all.window_cpu_s(), all.opening_cpu_s(), all.rss_bytes()), (2.0, 1.0, 1_600_000));
        assert_eq!((all.peak_rss_bytes(), all.rss_per_connection_bytes()), (2_000_000, Some(1_600_000 / 20)));
        all.merge(&thread(2, 100));
        assert_eq!((all.window_cpu_s(), all.rss_bytes(), all.peak_rss_bytes()), (4.0, 3_200_000, 4_000_000));
        // Those of threads are added up.
        assert_eq!((all.requests(), all.allocations()), (3 * 2_000, Some(3 * 1_000)));
        let uncounted = GeneratorUse::from(ThreadUse::default());
        assert_eq!((uncounted.allocations(), uncounted.scheduling()), (None, ""));
        assert_eq!(all.scheduling(), "SCHED_OTHER");
        all.merge(&uncounted);
        assert_eq!((all.allocations(), all.scheduling()), (None, "mixed"));
    }
}
