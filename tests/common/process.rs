//! Processes as `/proc` shows them, and programs that tests make.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

/// The longest wait in a test: one that lasts longer fails.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A process, distinguished from a later one of the same number by its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    parent: u32,
    started: u64,
}

impl Process {
    /// Returns the process of this number, if it runs; one that has ended but was not reaped does not.
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let runs = !matches!(fields[0], "Z" | "X");
        let (parent, started) = (fields[1].parse().ok()?, fields[19].parse().ok()?);
        runs.then(|| Self { pid, name: name.to_owned(), parent, started })
    }

    pub fn runs(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Stops it until the result is dropped.
    pub fn pause(&self) -> Pause<'_> {
        self.signal(Signal::STOP);
        Pause(self)
    }

    fn signal(&self, signal: Signal) {
        if self.runs() {
            send(self.pid, signal);
        }
    }
}

/// A stopped process, which goes on when this is dropped.
pub struct Pause<'a>(&'a Process);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

/// Returns everything that runs and was started by `ancestor`, or by a process that it started.
pub fn descendants(ancestor: u32) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut others: Vec<Process> = pids.filter_map(Process::of).collect();
    let (mut family, mut found) = (HashSet::from([ancestor]), Vec::new());
    loop {
        let (ours, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|process| family.contains(&process.parent));
        if ours.is_empty() {
            return found;
        }
        family.extend(ours.iter().map(|process| process.pid));
        found.extend(ours);
        others = rest;
    }
}

/// Waits until `holds`, which it must before patience ends.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal to a process, which may have ended.
pub fn send(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
}

/// Starts a program with a limit, soft and hard; `None` is no limit.
pub fn limit(command: &mut Command, resource: Resource, soft: Option<u64>, hard: Option<u64>) {
    // SAFETY: the closure makes one async-signal-safe system call and does not allocate.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(resource, Rlimit { current: soft, maximum: hard })?));
    }
}

/// Starts a program whose kernel refuses it namespaces (unshare), as a container's may.
pub fn forbid_unshare(command: &mut Command) {
    const fn step(code: u32, if_true: u8, if_false: u8, value: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt: if_true, jf: if_false, k: value }
    }
    const FORBIDDEN: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // The number of the system call is the first field of the data.
    let program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_unshare as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, FORBIDDEN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: the closure makes two async-signal-safe system calls, whose structures are valid for them, and does not
    // allocate.
    unsafe {
        command.pre_exec(move || {
            let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
            let is_done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0;
            if is_done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
}

/// Lets a program end by SIGHUP though the tests were started by `nohup`, and ignore it.
pub fn heed_hangups(command: &mut Command) {
    // SAFETY: the closure makes one async-signal-safe system call and does not allocate.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
}

/// Copies a program to where it is run. Another process writes the copy: a file that this one has open for writing, be it
/// in a child that another test has just forked, cannot be executed (ETXTBSY).
pub fn copy_program(from: impl AsRef<OsStr>, to: &Path) {
    let install = Command::new("install").args(["-m", "755"]).arg(from).arg(to).status().unwrap();
    assert!(install.success());
}

/// Writes a shell script that is run afterwards, by another process for the same reason.
pub fn write_script(path: &Path, text: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}
