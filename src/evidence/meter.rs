//! Measurement of the machine's use during a run: once a second, from a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::gettid;

use super::processes::{Occupants, processes};
use crate::clock::{Moment, thread_cpu_ns};
use crate::error::Result;
use crate::load::limits::spawn;
use crate::load::progress::{Progress, Stage};
use crate::measure::cgroup::Cgroup;
use crate::measure::machine_use::MachineUse;
use crate::measure::machine_use::account::{Account, MachineReading};
use crate::measure::machine_use::procfs::{self, CpuSet};
use crate::system::Addresses;

/// The interval of the readings.
const EVERY: Duration = Duration::from_secs(1);
/// The bound on the cost of measuring, as a divisor of one processor's time: costly readings are taken less often.
const MOST_COST: u32 = 200;

/// The thread that takes the readings. Dropping this ends it.
pub struct MachineMeter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<MachineUse>>>,
}

impl MachineMeter {
    /// Starts to measure, for a run that the calling thread is going to drive.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(addresses: Addresses, progress: Arc<Progress>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let measuring_thread = gettid();
        let thread = spawn("meter", move || Watch::new(&addresses, measuring_thread).run(&progress, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops, and returns the use in the window; `None` if the window never began.
    pub fn finish(mut self) -> Option<MachineUse> {
        self.end()
    }

    fn end(&mut self) -> Option<MachineUse> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        thread.thread().unpark();
        // A panic of the thread has already been printed; the run is not lost with it.
        thread.join().ok().flatten()
    }
}

impl Drop for MachineMeter {
    fn drop(&mut self) {
        self.end();
    }
}

/// The state of the thread.
struct Watch {
    occupants: Occupants,
    cgroup: Cgroup,
    used: CpuSet,
    measuring_stat: String,
    account: Account,
    /// The most expensive reading so far, in CPU time.
    cost: Duration,
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

impl Watch {
    fn new(addresses: &Addresses, measuring_thread: Pid) -> Self {
        let occupants = Occupants::find(addresses);
        let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
        let used = processors_of(occupants.roots.owners.keys().copied());
        let account = Account::new(occupants.roots.clone(), used.clone(), ticks_per_s);
        Self {
            used,
            cgroup: Cgroup::of_this_process(&read),
            measuring_stat: format!("/proc/self/task/{}/stat", measuring_thread.as_raw_pid()),
            occupants,
            account,
            cost: Duration::ZERO,
        }
    }

    fn run(mut self, progress: &Progress, stop: &AtomicBool) -> Option<MachineUse> {
        progress.unpark_at_changes();
        // The timeline begins with the warm-up: no readings while connections are opened.
        while progress.stage() < Stage::WarmUp && !stop.load(Ordering::Relaxed) {
            thread::park();
        }
        loop {
            let stage = progress.stage();
            self.take(stage == Stage::Measuring);
            if let Some((cpu, cpus)) = self.account.latest() {
                progress.observe_machine(cpu, cpus);
            }
            if stage > Stage::Measuring || stop.load(Ordering::Relaxed) {
                break;
            }
            let next = Moment::now() + EVERY.max(self.cost * MOST_COST);
            while Moment::now() < next && progress.stage() == stage && !stop.load(Ordering::Relaxed) {
                thread::park_timeout(next - Moment::now());
            }
        }
        let (cgroup, occupants) = (self.cgroup, self.occupants);
        let mut used = self.account.finish()?;
        used.cpu_quota = cgroup.limits(&read).cpu_quota;
        used.system_is = occupants.system;
        used.postgresql_is = occupants.postgresql;
        used.watching_cpu_s = (thread_cpu_ns() / 1_000_000) as f64 / 1e3;
        Some(used)
    }

    fn take(&mut self, in_window: bool) {
        let before = thread_cpu_ns();
        let stat = read(Path::new("/proc/stat")).unwrap_or_default();
        let pressure = self.cgroup.pressure_file().and_then(|file| read(&file));
        let pressure = pressure.or_else(|| read(Path::new("/proc/pressure/cpu")));
        let measuring = read(Path::new(&self.measuring_stat)).and_then(|stat| procfs::process(&stat));
        self.account.add(MachineReading {
            at: Moment::now(),
            in_window,
            processors: procfs::processors(&stat, &self.used),
            processes: processes(),
            measuring_ticks: measuring.map_or(0, |thread| thread.own),
            throttling: self.cgroup.throttling(&read),
            pressure_us: pressure.as_deref().and_then(procfs::pressure_us),
        });
        self.cost = self.cost.max(Duration::from_nanos(thread_cpu_ns() - before));
    }
}

/// Returns the processors on which at least one of these processes may run.
fn processors_of(pids: impl Iterator<Item = u32>) -> CpuSet {
    let mut all = CpuSet::new();
    for pid in pids {
        let status = read(Path::new(&format!("/proc/{pid}/status"))).unwrap_or_default();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        all.extend(list.map(procfs::cpu_list).unwrap_or_default());
    }
    all
}
