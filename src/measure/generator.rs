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
