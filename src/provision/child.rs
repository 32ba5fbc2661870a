//! A child process that cannot outlive this process.
//!
//! Three mechanisms end it, so that one of them works however this process ends:
//! - **the death signal**: the kernel sends it to the child when the thread that forked it ends. Since a thread may end
//!   before its process, one thread that lives as long as the process forks every child;
//! - **the life line**: the child's stdin is a pipe whose other end only this process holds; a child that reads stdin
//!   sees the end of file;
//! - **`Drop`**: stop signal, a bounded wait, SIGKILL, reap.
//!
//! A child leads a process group of its own: a terminal's Ctrl-C reaches only this process, which then decides about
//! the child. When a child is found to have ended, the rest of its group is killed: a server's workers may not notice
//! its end.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, fchown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, geteuid, getpid, getppid, kill_process, kill_process_group,
    set_parent_process_death_signal, setpgid, setsid, waitid,
};

use crate::error::{Context, Error, Result};
use crate::foreign;
use crate::load::limits::{spawn, unstarted};
use crate::terminal::github;

/// The part of a child's stderr that is kept, its end, in bytes.
const TAIL_BYTES: usize = 8 * 1024;
/// The longest line that is read from a child's stdout, in bytes: after a longer one no more are.
const LINE_BYTES: u64 = 64 * 1024;
/// The most lines that wait to be taken: a later one is discarded.
const LINES: usize = 64;
/// The time that `Drop` waits before it sends SIGKILL.
const DROP_GRACE: Duration = Duration::from_secs(5);
/// The longest wait for a killed child; only one that hangs in the kernel takes longer.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// The interval at which a wait checks whether the child has ended.
const STEP: Duration = Duration::from_millis(2);
/// The interval at which a wait checks whether a whole group has ended.
const GROUP_STEP: Duration = Duration::from_millis(20);

/// A user and its group, to run a child as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
}

impl RunAs {
    /// Looks the user up by name; returns `None` if there is no such user.
    pub fn named(name: &str) -> Result<Option<RunAs>> {
        let c_name = CString::new(name).context(|| format!("looking up the user {name:?}"))?;
        let mut text = vec![0_u8; 16 * 1024];
        // SAFETY: an all-zero `passwd` is a valid value (integers and null pointers); getpwnam_r overwrites it.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found: *mut libc::passwd = std::ptr::null_mut();
        // SAFETY: every pointer is valid for the call, and `text.len()` is the length of `text`.
        let code =
            unsafe { libc::getpwnam_r(c_name.as_ptr(), &mut entry, text.as_mut_ptr().cast(), text.len(), &mut found) };
        match (code, found.is_null()) {
            (0, false) => Ok(Some(RunAs { uid: entry.pw_uid, gid: entry.pw_gid })),
            // POSIX permits these codes too for "no such user".
            (0 | libc::ENOENT | libc::ESRCH, true) => Ok(None),
            (code, _) => Err(io::Error::from_raw_os_error(code)).context(|| format!("looking up the user {name:?}")),
        }
    }

    /// Returns the user that a started server runs as: as root, the first of `names` that exists; otherwise `None`, the
    /// current user.
    ///
    /// # Errors
    /// If this process runs as root and no such user exists.
    pub fn lesser(names: &[&str]) -> Result<Option<RunAs>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for name in names {
            if let Some(user) = RunAs::named(name)? {
                return Ok(Some(user));
            }
        }
        Err(Error::new(format!("finding a user other than root to start a server as: no user {}", names.join(" or ")))
            .with_hint("run as an ordinary user"))
    }

    /// Makes the user the owner of a file or folder. A link that somebody put in its place is not followed.
    ///
    /// # Errors
    /// If this process may not do that.
    pub fn take(self, path: &Path) -> Result<()> {
        lchown(path, Some(self.uid), Some(self.gid)).context(|| format!("changing the owner of {}", path.display()))
    }

    /// Creates a file of `user`, or for `None` of the current one. Nothing that is at `path` already is written to: a
    /// link there would lead elsewhere.
    ///
    /// # Errors
    /// If there is something at `path`, or this process may not do that.
    pub fn create(user: Option<RunAs>, path: &Path, mode: u32) -> Result<File> {
        let what = || format!("writing {}", path.display());
        let file = File::options().write(true).create_new(true).mode(mode).open(path).context(what)?;
        if let Some(user) = user {
            fchown(&file, Some(user.uid), Some(user.gid)).context(what)?;
        }
        Ok(file)
    }
}

/// The user, output, death signal and stop signal of a child.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The signal that the kernel sends the child when this process dies. `None` is for a child whose work begins then:
    /// it gets a session of its own, and learns of the death only by the end of its stdin.
    pub death_signal: Option<Signal>,
    /// The signal that [`Child::stop`] sends after it has closed stdin; `None` if the closed stdin is enough.
    pub stop_signal: Option<Signal>,
    /// The user to run the child as (needs root); its supplementary groups are dropped as well.
    pub run_as: Option<RunAs>,
    /// A new file for stderr, for a child that may write much; `None`: this process reads stderr.
    pub log: Option<PathBuf>,
    /// True if stdout goes to that file too. Then no line can be waited for.
    pub log_stdout: bool,
}

impl Default for Spec {
    /// Killed by SIGKILL when this process dies, stopped by the closed stdin, run as the current user, its stderr read
    /// here.
    fn default() -> Self {
        Self { death_signal: Some(Signal::KILL), stop_signal: None, run_as: None, log: None, log_stdout: false }
    }
}

/// A running child process; dropping it stops it.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    life_line: Option<ChildStdin>,
    lines: Receiver<io::Result<String>>,
    tail: Tail,
    stop_signal: Option<Signal>,
    ended: bool,
}

impl Child {
    /// Starts `command` under `spec`. Errors name the child `name`.
    ///
    /// Any thread may call this. It replaces stdin, stdout, stderr, user and group of `command`. It fails if the
    /// program cannot be started: it is missing, or this process may not switch to `run_as`.
    pub fn spawn(name: &str, mut command: Command, spec: Spec) -> Result<Child> {
        let what = format!("starting {name} ({})", command.get_program().display());
        // Its messages are quoted: none is for the runner of a job.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env_remove(github::VARIABLE);
        match &spec.log {
            // Always a new file: the folder may belong to a less privileged user, who could have put a link there.
            Some(path) => {
                let creating = || format!("{what}: creating {}", path.display());
                let log = File::create_new(path).context(creating)?;
                if spec.log_stdout {
                    command.stdout(log.try_clone().context(creating)?);
                }
                command.stderr(log)
            }
            None => command.stderr(Stdio::piped()),
        };
        if let Some(user) = spec.run_as {
            // As root, `uid` also drops all supplementary groups (std calls setgroups).
            command.gid(user.gid).uid(user.uid);
        }
        tie(&mut command, spec.death_signal);
        let spawned = on_the_spawning_thread(move || command.spawn()).and_then(|spawned| spawned);
        let mut process = spawned.map_err(|error| unstarted(&what, &error))?;
        let life_line = process.stdin.take();
        let readers = read_lines(process.stdout.take()).and_then(|lines| {
            let tail = match spec.log {
                Some(path) => Tail::File(path),
                None => Tail::collect(process.stderr.take())?,
            };
            Ok((lines, tail))
        });
        let (lines, tail) = match readers {
            Ok(readers) => readers,
            Err(error) => {
                // A child whose output is not read would block.
                let _ = process.kill();
                let _ = process.wait();
                return Err(error);
            }
        };
        let (name, stop_signal) = (name.to_owned(), spec.stop_signal);
        Ok(Child { name, process, life_line, lines, tail, stop_signal, ended: false })
    }

    /// Returns the child's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the first line that the child writes to stdout, and returns it without its line end.
    ///
    /// It is an error, with exit status and stderr, if no line comes within `timeout` or the child ends or closes
    /// stdout first.
    pub fn wait_for_line(&mut self, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // In slices, since a grandchild can hold stdout open after the child has ended.
            let has_ended = self.exited()?.is_some();
            let slice = Duration::from_millis(if has_ended { 1_000 } else { 50 });
            match self.lines.recv_timeout(left.min(slice)) {
                Ok(line) => return line.context(|| format!("reading the first line of {}", self.name)),
                Err(RecvTimeoutError::Disconnected) => {
                    self.wait(left.min(Duration::from_millis(500)))?;
                    return Err(self.failure("it closed stdout before it reported that it is ready"));
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    return Err(self.failure(&format!("it did not report within {timeout:?} that it is ready")));
                }
                // All that it wrote before its end has been read by now.
                Err(RecvTimeoutError::Timeout) if has_ended => {
                    return Err(self.failure("it ended before it reported that it is ready"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Returns the next line that the child has written to stdout, if there is one; never waits.
    pub fn line(&self) -> Option<String> {
        self.lines.try_recv().ok()?.ok()
    }

    /// Returns the exit status if the child has ended; never waits. The first call after its end kills the rest of its
    /// group.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        if !self.ended {
            if !has_ended(&self.process).context(|| format!("waiting for {}", self.name))? {
                return Ok(None);
            }
            self.ended = true;
            self.kill_group();
        }
        self.process.try_wait().context(|| format!("waiting for {}", self.name))
    }

    /// Waits up to `timeout` for the child to end by itself; returns `None` if it has not.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(Some(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(left.min(STEP));
        }
    }

    /// Writes a line to the child's stdin.
    ///
    /// # Errors
    /// If the child has closed stdin, or was stopped.
    pub fn write_line(&mut self, line: &str) -> Result<()> {
        let decisive_span = || format!("writing to {}", self.name);
        match &mut self.life_line {
            Some(stdin) => writeln!(stdin, "{line}").context(decisive_span),
            None => Err(Error::new(format!("{}: it was stopped", decisive_span()))),
        }
    }

    /// Sends `signal` to the child; does nothing if it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // A child that has ended but was not reaped keeps its pid, so the pid cannot belong to another process.
        if self.exited()?.is_none() {
            let _ = kill_process(Pid::from_child(&self.process), signal);
        }
        Ok(())
    }

    /// Closes stdin and sends the stop signal, if there is one; after `grace`, sends SIGKILL to the child's process
    /// group. Returns once the child is reaped; another call returns the same status.
    pub fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.life_line = None;
        if let Some(signal) = self.stop_signal {
            self.signal(signal)?;
        }
        if let Some(status) = self.wait(grace)? {
            return Ok(status);
        }
        self.kill_group();
        self.wait(KILL_WAIT)?
            .ok_or_else(|| Error::new(format!("stopping {} (pid {}): SIGKILL did not end it", self.name, self.pid())))
    }

    /// Kills the child's process group. Must be called before the child is reaped.
    fn kill_group(&self) {
        // The child leads its group and is not reaped, so the number still belongs to it.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
    }

    /// Sends `signal` to every process of the child's group, waits up to `grace` until all of them have ended, and
    /// kills the rest: for a child that may end before the processes that it started, as a build tool does.
    ///
    /// # Errors
    /// If not even SIGKILL ends the child.
    pub fn stop_group(&mut self, signal: Signal, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.exited()? {
            return Ok(status);
        }
        self.life_line = None;
        let (group, deadline) = (self.process.id(), Instant::now() + grace);
        // The child leads its group and is not reaped, so the number still belongs to it.
        let _ = kill_process_group(Pid::from_child(&self.process), signal);
        while group_runs(group) && Instant::now() < deadline {
            thread::sleep(GROUP_STEP);
        }
        self.kill_group();
        self.wait(KILL_WAIT)?
            .ok_or_else(|| Error::new(format!("stopping {} (pid {}): SIGKILL did not end it", self.name, self.pid())))
    }

    /// Returns the end of what the child wrote to stderr, at most 8 KiB.
    pub fn stderr_tail(&self) -> String {
        self.tail.text(Duration::ZERO)
    }

    /// Creates an error with `why`, the child's state or exit status, and the end of what it wrote to stderr.
    pub fn failure(&mut self, why: &str) -> Error {
        let (state, patience) = match self.exited() {
            Ok(Some(status)) => (format!("ended with {status}"), Duration::from_millis(500)),
            _ => (format!("is still running as pid {}", self.pid()), Duration::ZERO),
        };
        let tail = self.tail.text(patience);
        let last_output = match tail.trim_end() {
            "" => "it wrote nothing to stderr".to_owned(),
            text => format!("it last wrote:\n{}", foreign::redact(text)),
        };
        Error::new(format!("{}: {why}; it {state}; {last_output}", self.name))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // An error cannot be returned from here; the death signal still holds the child.
        let _ = self.stop(DROP_GRACE);
    }
}

/// Reports whether the child, which is not reaped, has ended. It stays unreaped.
fn has_ended(process: &std::process::Child) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(Pid::from_child(process)), options)?.is_some())
}

/// Reports whether a process of this group runs; one that has ended but was not reaped does not count.
fn group_runs(group: u32) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok()).any(|stat| {
        // PID (NAME) STATE PARENT GROUP …, where the name may hold anything.
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        let (state, of) = (fields.next(), fields.nth(1));
        of.and_then(|of| of.parse().ok()) == Some(group) && !matches!(state, Some("Z" | "X"))
    })
}

/// Puts the child into a group (or session) of its own and has the kernel signal it when this process dies.
fn tie(command: &mut Command, death_signal: Option<Signal>) {
    let parent = getpid();
    // SAFETY: the closure makes only async-signal-safe system calls and does not allocate.
    unsafe {
        command.pre_exec(move || {
            let Some(signal) = death_signal else {
                setsid()?;
                return Ok(());
            };
            setpgid(None, None)?;
            // A change of user clears the death signal; std makes that change before it calls this closure.
            set_parent_process_death_signal(Some(signal))?;
            // If the parent died before the signal was set, the signal never comes.
            if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
        });
    }
}

type Errand = Box<dyn FnOnce() + Send>;

/// Runs `work` on the one thread that forks all children and lives as long as the process: the death signal comes when
/// the forking *thread* ends, and callers may be short-lived threads.
fn on_the_spawning_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    static JOBS: Mutex<Option<Sender<Errand>>> = Mutex::new(None);
    let gone = || io::Error::other("the thread that starts processes has ended");
    let (answer, answered) = mpsc::channel();
    let job: Errand = Box::new(move || drop(answer.send(work())));
    {
        let mut jobs = JOBS.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_none() {
            let (sender, receiver) = mpsc::channel::<Errand>();
            thread::Builder::new()
                .name("spawner".to_owned())
                .spawn(move || receiver.into_iter().for_each(|job| job()))?;
            *jobs = Some(sender);
        }
        jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
    }
    answered.recv().map_err(|_| gone())
}

/// Reads lines in the background, so that the child never blocks on the pipe. Those that nobody takes are discarded,
/// but for the first.
fn read_lines(stdout: Option<impl Read + Send + 'static>) -> Result<Receiver<io::Result<String>>> {
    let (sender, receiver) = mpsc::sync_channel(LINES);
    if let Some(stdout) = stdout {
        spawn("stdout", move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let mut line = Vec::new();
                let read = match stdout.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
                    Ok(_) if line.last() == Some(&b'\n') => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
                    Ok(_) => break,
                    Err(error) => Err(error),
                };
                let is_over = read.is_err();
                if matches!(sender.try_send(read), Err(TrySendError::Disconnected(_))) || is_over {
                    break;
                }
            }
            drop(sender);
            let _ = io::copy(&mut stdout, &mut io::sink());
        })?;
    }
    Ok(receiver)
}

/// The end of what a child wrote to stderr.
#[derive(Debug)]
enum Tail {
    Ring { bytes: Arc<Mutex<VecDeque<u8>>>, closed: Receiver<()> },
    File(PathBuf),
}

impl Tail {
    /// Drains `stderr` in the background, so that the child never blocks on it.
    fn collect(stderr: Option<impl Read + Send + 'static>) -> Result<Tail> {
        let bytes = Arc::new(Mutex::new(VecDeque::with_capacity(TAIL_BYTES)));
        let (closing, closed) = mpsc::channel();
        if let Some(mut stderr) = stderr {
            let ring = Arc::clone(&bytes);
            spawn("stderr", move || {
                let mut chunk = [0; 4096];
                while let Ok(length @ 1..) = stderr.read(&mut chunk) {
                    let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
                    let excess = (ring.len() + length).saturating_sub(TAIL_BYTES);
                    ring.drain(..excess);
                    ring.extend(&chunk[..length]);
                }
                drop(closing);
            })?;
        }
        Ok(Tail::Ring { bytes, closed })
    }

    /// Returns the tail as text; waits up to `patience` for the child to close its side, so that its last output is
    /// included.
    fn text(&self, patience: Duration) -> String {
        match self {
            Tail::Ring { bytes, closed } => {
                let _ = closed.recv_timeout(patience);
                let mut ring = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                String::from_utf8_lossy(ring.make_contiguous()).into_owned()
            }
            Tail::File(path) => file_tail(path).unwrap_or_else(|error| format!("({}: {error})", path.display())),
        }
    }
}

/// Returns the end of a file, at most 8 KiB.
pub(super) fn file_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES as u64)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
