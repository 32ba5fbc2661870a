//! The file descriptors, threads and processes that a run needs.

use std::fmt;
use std::io;
use std::path::Path;
use std::thread::{Builder, JoinHandle};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Context, Error, Result};
use crate::load::ports::Ports;
use crate::measure::cgroup::Cgroup;

/// Descriptors that a run needs besides its connections: standard streams, timers, pipes, result files.
pub const SPARE: u64 = 64;
/// Descriptors that each further generator thread needs: those of its event loop, with room for some more.
const PER_THREAD: u64 = 16;

/// The sockets that a run may have open at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Connections that carry requests.
    pub connections: usize,
    /// Connections that wait for their peer to close.
    pub closing: usize,
    /// Generator threads besides the first one.
    pub further_threads: u64,
}

impl Sockets {
    /// Returns the number of descriptors that the run needs in all.
    pub fn descriptors(self) -> usize {
        self.connections + self.closing + self.spare() as usize
    }

    /// Returns the same with so many generator threads.
    #[must_use]
    pub fn with_threads(self, threads: u64) -> Self {
        Self { further_threads: threads.saturating_sub(1), ..self }
    }

    /// Returns the number of descriptors that are not sockets of the load.
    fn spare(self) -> u64 {
        SPARE + self.further_threads * PER_THREAD
    }

    /// Returns the most that one of `count` processes needs.
    #[must_use]
    pub fn of_each(self, count: u64) -> Self {
        let count = count.max(1) as usize;
        Self { connections: self.connections.div_ceil(count), closing: self.closing.div_ceil(count), ..self }
    }

    /// Raises this process's descriptor limit to the number needed. `sized` is the flag that sets the number of
    /// connections, and the number of connections for each unit of its value.
    ///
    /// # Errors
    /// If there are too few ports, or the hard limit is too low; the error states the limit and the command to type.
    pub fn allow(self, sized: (&str, u64)) -> Result<()> {
        self.allow_ports(sized)?;
        let needed = self.descriptors() as u64;
        let limit = getrlimit(Resource::Nofile);
        if limit.current.is_none_or(|limit| limit >= needed) {
            return Ok(());
        }
        if let Some(most) = limit.maximum.filter(|most| *most < needed) {
            let text = format!("{self}; the hard limit (RLIMIT_NOFILE) is {most}");
            let lower = self.lower(most, sized).map_or_else(String::new, |lower| format!(", or {lower}"));
            return Err(Error::new(text).with_hint(format!("run ulimit -Hn {needed} as root before the run{lower}")));
        }
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit })
            .map_err(io::Error::from)
            .context(|| format!("raising the descriptor limit to {needed}"))
    }

    /// Checks that this machine has a port for each connection.
    ///
    /// # Errors
    /// If it has fewer; the error states the range and the command to type.
    pub fn allow_ports(self, sized: (&str, u64)) -> Result<()> {
        Ports::of_this_machine().map_or(Ok(()), |ports| self.fit_ports(ports, sized))
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
        let left = limit.saturating_sub(self.spare());
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
    let format_limit = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN | Errno::NOMEM) => {
            let limits = Cgroup::of_this_process(&|path: &Path| std::fs::read_to_string(path).ok())
                .limits(&|path: &Path| std::fs::read_to_string(path).ok());
            let text = format!(
                "{}; threads and processes of this user (RLIMIT_NPROC): {}; of the control group (pids.max): {}; bytes of \
                 address space (RLIMIT_AS): {}",
                failed.what(),
                format_limit(getrlimit(Resource::Nproc).current),
                format_limit(limits.processes),
                format_limit(getrlimit(Resource::As).current)
            );
            Error::new(text)
                .with_hint("raise the one that is reached: ulimit -u 4096, docker's --pids-limit, ulimit -v unlimited")
        }
        Some(Errno::MFILE | Errno::NFILE) => {
            let limit = format_limit(getrlimit(Resource::Nofile).current);
            Error::new(format!("{}; file descriptors (RLIMIT_NOFILE): {limit}", failed.what()))
                .with_hint("run ulimit -n 1024 before the run")
        }
        _ => failed,
    }
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
        let sockets = |connections| Sockets { connections, ..Sockets::default() };
        sockets(28_232).fit_ports(ports, ("--users", 1)).unwrap();
        let error = sockets(28_233).fit_ports(ports, ("--users", 1)).unwrap_err().to_string();
        assert!(error.contains("28232, 32768 to 60999") && error.contains("ip_local_port_range"), "{error}");
        assert!(error.ends_with(", or give --users 28232"), "{error}");
    }

    #[test]
    fn a_descriptor_limit_is_reported_as_a_flag_value() {
        let sockets = |connections, closing| Sockets { connections, closing, ..Sockets::default() };
        let lower = |connections, closing, limit, sized| sockets(connections, closing).lower(limit, sized);
        let agents = ("--agents", 1);
        assert_eq!(lower(20, 0, 70, agents).as_deref(), Some("give --agents 6"));
        assert_eq!(lower(40, 0, 71, ("--connections", 2)).as_deref(), Some("give --connections 3"));
        assert_eq!(lower(20, 9, 74, agents).as_deref(), Some("lower --agents"));
        assert_eq!(lower(20, 9, 70, agents).as_deref(), Some("lower --rate and --agents"));
        // Further threads need theirs.
        let two = sockets(20, 0).with_threads(2);
        assert_eq!((two.descriptors(), two.lower(90, agents).as_deref()), (100, Some("give --agents 10")));
        // The limit does not allow even one.
        assert_eq!([lower(20, 0, 64, agents), lower(20, 0, 20, agents), lower(20, 9, 20, agents)], [const { None }; 3]);
    }

    #[test]
    fn a_failed_start_names_the_limits() {
        let of = |code: Errno| unstarted("starting the thread x", &code.into()).to_string();
        assert!(of(Errno::AGAIN).contains("RLIMIT_NPROC") && of(Errno::AGAIN).contains("pids.max"));
        assert!(of(Errno::MFILE).contains("RLIMIT_NOFILE"));
        assert!(!of(Errno::NOENT).contains("RLIMIT"));
    }

    #[test]
    fn this_machine_allows_threads() {
        allow_threads().unwrap();
    }
}
