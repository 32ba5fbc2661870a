//! The generator's own use of resources: a run in which it was the bottleneck measured the generator.

use std::cell::Cell;
use std::time::Duration;

use super::allocations;
use crate::clock::{Moment, process_cpu_ns, thread_cpu_ns};

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
#[derive(Clone, Copy, Debug, Default)]
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

/// Readings at the edges of a run's stages.
#[derive(Clone, Copy, Debug, Default)]
pub struct GeneratorUse {
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
    /// The scheduling of the generator's thread by the kernel in the window.
    pub scheduling: &'static str,
}

impl GeneratorUse {
    /// Widens the window to cover that of one more workload.
    pub fn cover(&mut self, start: GeneratorReading, end: GeneratorReading) {
        if self.window_end.at == Moment::default() || start.at < self.window_start.at {
            self.window_start = start;
        }
        if self.window_end.at < end.at {
            self.window_end = end;
        }
    }

    /// Returns the CPU time of the whole process within the window, in seconds.
    pub fn window_cpu_s(&self) -> f64 {
        seconds(self.window_end.process_cpu_ns - self.window_start.process_cpu_ns)
    }

    /// Returns the CPU time of the whole process while connections were opened, in seconds.
    pub fn opening_cpu_s(&self) -> f64 {
        seconds(self.opened.process_cpu_ns - self.start.process_cpu_ns)
    }

    /// Returns the time that opening the connections took.
    pub fn opening(&self) -> Duration {
        self.opened.at - self.start.at
    }

    /// Returns the share of the window in which the generator's thread was on a CPU, 0 to 1; 0 for a load that never
    /// began.
    pub fn busy_share(&self) -> f64 {
        let wall_ns = self.window_end.at.ns_since(self.window_start.at);
        let cpu_ns = self.window_end.thread_cpu_ns - self.window_start.thread_cpu_ns;
        if wall_ns < SHORTEST_WINDOW_NS { 0.0 } else { cpu_ns as f64 / wall_ns as f64 }
    }

    /// Returns the number of allocations of the generator's thread within the window; `None` if the program does not
    /// count.
    pub fn allocations(&self) -> Option<u64> {
        let counted = self.window_end.allocations > 0;
        counted.then(|| self.window_end.allocations - self.window_start.allocations)
    }

    /// Returns the number of requests of all workloads that ended within the window, those of a warm-up included.
    pub fn requests(&self) -> u64 {
        self.window_end.requests - self.window_start.requests
    }

    /// Returns the resident memory at the end of the window, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.window_end.rss_bytes
    }

    /// Returns the resident memory that came with the connections and the window, per connection, in bytes.
    pub fn rss_per_connection_bytes(&self) -> Option<u64> {
        let grown = self.window_end.rss_bytes.saturating_sub(self.start.rss_bytes);
        grown.checked_div(self.connections)
    }
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
