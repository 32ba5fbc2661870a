//! The file descriptors, threads and processes that a run needs.

use std::fmt;
use std::io;
use std::path::Path;
use std::thread::{Builder, JoinHandle};

use crate::error::{Context, Error, Result};
use crate::load::ports::Ports;
use crate::measure::cgroup::Cgroup;

/// Descriptors that a run needs besides its connections: standard streams, timers, pipes, result files.
pub const SPARE: u64 = 64;

/// The sockets that a run may have open at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Connections that carry requests.
    pub connections: usize,
    /// Connections that wait for their peer to close.
    pub closing: usize,
}

impl Sockets {
    /// Returns the number of descriptors that the run needs in all.
    pub fn descriptors(self) -> usize {
        self.connections + self.closing + SPARE as usize
    }

    /// Raises this process's descriptor limit to the number needed. `sized` is the flag that sets the number of
    /// connections, and the number of connections for each unit of its value.
    ///
    /// # Errors
    /// If there are too few ports, or the hard limit is too low; the error states the limit and the command to type.
    pub fn allow(self, sized: (&str, u64)) -> Result<()> {
        if let Some(ports) = Ports::of_this_machine() {
            self.fit_ports(ports, sized)?;
        }
        let needed = self.descriptors() as u64;
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid rlimit for the call to fill.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
            return Err(std::io::Error::last_os_error()).context(|| "reading the descriptor limit".to_owned());
        }
        if limit.rlim_cur >= needed {
            return Ok(());
        }
        if limit.rlim_max < needed {
            let text = format!("{self}; the hard limit (RLIMIT_NOFILE) is {}", limit.rlim_max);
            let lower = self.lower(limit.rlim_max, sized).map_or_else(String::new, |lower| format!(", or {lower}"));
            return Err(Error::new(text).with_hint(format!("run ulimit -Hn {needed} as root before the run{lower}")));
        }
        limit.rlim_cur = needed;
        // SAFETY: `limit` is a valid rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            return Err(std::io::Error::last_os_error())
                .context(|| format!("raising the descriptor limit to {needed}"));
        }
        Ok(())
    }

    /// Checks the number of ports: each connection to one peer has a port of its own.
    fn fit_ports(self, ports: Ports, (flag, each): (&str, u64)) -> Result<()> {
        if self.connections as u64 <= ports.count() {
            return Ok(());
        }
        let Ports { low, high, .. } = ports;
        Err(Error::new(format!(
            "{} connections need as many ports; this machine has {}, {low} to {high}",
            self.connections,
            ports.count()
        ))
        .with_hint(format!(
            "run sysctl net.ipv4.ip_local_port_range='1024 65535', or give {flag} {}",
            ports.count() / each
        )))
    }

    /// Returns the setting that `limit` descriptors would allow, as a hint, or `None` if there is none.
    fn lower(self, limit: u64, (flag, each): (&str, u64)) -> Option<String> {
        let left = limit.saturating_sub(SPARE);
        match left.checked_sub(self.closing as u64) {
            Some(left) if self.closing == 0 => (left >= each).then(|| format!("give {flag} {}", left / each)),
            Some(1..) => Some(format!("lower {flag}")),
            _ => (left > 0).then(|| format!("lower --rate and {flag}")),
        }
    }
}

/// The largest number of threads that a run starts beside its first one: watchers, the live line, readers of the output
/// of child processes.
const THREADS: usize = 16;

/// Checks that a run can start the threads that it will need: some are started by libraries, which panic if they
/// cannot.
///
/// # Errors
/// If the threads cannot be started; the error names the limits that may be the reason.
pub fn allow_threads() -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (held, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
    let mut threads = Vec::new();
    let mut failed = None;
    for _ in 0..THREADS + cores {
        let gate = gate.clone();
        // Each waits until all are started: the limit is on the number at once.
        match spawn("probe", move || drop(gate.lock().map(|gate| gate.recv()))) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop(held);
    for thread in threads {
        // The thread does nothing that could fail.
        let _ = thread.join();
    }
    failed.map_or(Ok(()), Err)
}

/// Starts a thread.
///
/// # Errors
/// If the kernel refuses it; the error names the limits that may be the reason.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| unstarted(&format!("starting the thread {name}"), &error))
}

/// Returns the error of starting a thread or a process, which names the limit that may be the reason.
pub fn unstarted(what: &str, error: &io::Error) -> Error {
    let failed = Error::new(format!("{what}: {error}"));
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOMEM) => {
            let limits = Cgroup::of_this_process(&|path: &Path| std::fs::read_to_string(path).ok())
                .limits(&|path: &Path| std::fs::read_to_string(path).ok());
            let format_limit =
                |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
            let text = format!(
                "{}; threads and processes of this user (RLIMIT_NPROC): {}; of the control group (pids.max): {}; bytes of \
                 address space (RLIMIT_AS): {}",
                failed.what(),
                format_limit(resource_limit(libc::RLIMIT_NPROC)),
                format_limit(limits.processes),
                format_limit(resource_limit(libc::RLIMIT_AS))
            );
            Error::new(text)
                .with_hint("raise the one that is reached: ulimit -u 4096, docker's --pids-limit, ulimit -v unlimited")
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            let limit =
                resource_limit(libc::RLIMIT_NOFILE).map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
            Error::new(format!("{}; file descriptors (RLIMIT_NOFILE): {limit}", failed.what()))
                .with_hint("run ulimit -n 1024 before the run")
        }
        _ => failed,
    }
}

/// Returns a soft limit of this process; `None` if it is unlimited.
fn resource_limit(which: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to fill. Should it fail, the limit reads 0.
    unsafe { libc::getrlimit(which, &raw mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections", self.connections)?;
        if self.closing > 0 {
            write!(f, ", and {} that wait for their peer to close,", self.closing)?;
        }
        write!(f, " need {} file descriptors", self.descriptors())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::ports::Reuse;

    #[test]
    fn more_connections_than_ports_are_refused_with_a_hint() {
        let ports = Ports { low: 32_768, high: 60_999, waiting: 0, reused: Reuse::Loopback };
        let sockets = |connections| Sockets { connections, closing: 0 };
        sockets(28_232).fit_ports(ports, ("--users", 1)).unwrap();
        let error = sockets(28_233).fit_ports(ports, ("--users", 1)).unwrap_err().to_string();
        assert!(error.contains("28232, 32768 to 60999") && error.contains("ip_local_port_range"), "{error}");
        assert!(error.ends_with(", or give --users 28232"), "{error}");
    }

    #[test]
    fn a_descriptor_limit_is_reported_as_a_flag_value() {
        let lower = |connections, closing, limit, sized| Sockets { connections, closing }.lower(limit, sized);
        let agents = ("--agents", 1);
        assert_eq!(lower(20, 0, 70, agents).as_deref(), Some("give --agents 6"));
        assert_eq!(lower(40, 0, 71, ("--connections", 2)).as_deref(), Some("give --connections 3"));
        assert_eq!(lower(20, 9, 74, agents).as_deref(), Some("lower --agents"));
        assert_eq!(lower(20, 9, 70, agents).as_deref(), Some("lower --rate and --agents"));
        // The limit does not allow even one.
        assert_eq!([lower(20, 0, 64, agents), lower(20, 0, 20, agents), lower(20, 9, 20, agents)], [const { None }; 3]);
    }

    #[test]
    fn a_failed_start_names_the_limits() {
        let of = |code| unstarted("starting the thread x", &io::Error::from_raw_os_error(code)).to_string();
        assert!(of(libc::EAGAIN).contains("RLIMIT_NPROC") && of(libc::EAGAIN).contains("pids.max"));
        assert!(of(libc::EMFILE).contains("RLIMIT_NOFILE"));
        assert!(!of(libc::ENOENT).contains("RLIMIT"));
    }

    #[test]
    fn this_machine_allows_threads() {
        allow_threads().unwrap();
    }
}
