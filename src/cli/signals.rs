//! Signals that end a run: Ctrl-C (SIGINT), SIGTERM, and SIGHUP, which comes when a terminal is closed.
//!
//! Before anything is measured, a signal ends the process at once, whatever it waits for: a lookup of a name, a server
//! that is silent, `initdb`. Nothing is lost, and everything that was started is tied to this process and ends with it.
//! After that the first signal lets the run come to its end, within a bound in case something prevents that.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{iterator, low_level};

use crate::error::{Context, Error, Result};
use crate::exit_code;
use crate::terminal::errln;

/// The longest time for a stopped run to confirm its measurements once they are on disk: a frozen database is the
/// slowest thing that it then waits for.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
/// The interval at which the thread that waits for the end checks whether they are on disk.
const LOOK: Duration = Duration::from_millis(100);

/// Nothing is measured yet: a signal ends the process.
const PREPARING: u8 = 0;
/// There is something to keep: a signal sets the flag.
const RUNNING: u8 = 1;
/// A signal came while nothing was measured.
const ENDED: u8 = 2;
/// The measurements are on disk.
const KEPT: u8 = 3;

/// A watch for the signals that end a run.
pub struct Signals {
    stop: Arc<AtomicBool>,
    state: Arc<AtomicU8>,
}

impl Signals {
    /// Watches while a run is prepared: the first signal ends the process with exit code 1.
    ///
    /// # Errors
    /// If the kernel refuses a handler or a thread.
    pub fn watch() -> Result<Self> {
        let watch = Self { stop: Self::flag()?, state: Arc::new(AtomicU8::new(PREPARING)) };
        let state = watch.state.clone();
        let mut arriving = iterator::Signals::new(signals()).context(|| "watching for signals".to_owned())?;
        let end = move || {
            if arriving.forever().next().is_none() {
                return;
            }
            if state.compare_exchange(PREPARING, ENDED, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                errln!("error: stopped before anything was measured");
                process::exit(exit_code::COULD_NOT_RUN.into());
            }
            while state.load(Ordering::SeqCst) != KEPT {
                thread::sleep(LOOK);
            }
            thread::sleep(STOP_PATIENCE);
            errln!(
                "error: stopped, and not finished within {STOP_PATIENCE:?}: the summary holds what was measured until \
                 then"
            );
            process::exit(exit_code::INVALID.into());
        };
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(end);
        thread.context(|| "starting a thread that watches for signals".to_owned())?;
        Ok(watch)
    }

    /// Watches while child processes do the work: the first signal only sets the flag.
    ///
    /// # Errors
    /// If the kernel refuses a handler.
    pub fn flag() -> Result<Arc<AtomicBool>> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in signals() {
            register(signal, &stop)?;
        }
        Ok(stop)
    }

    /// Marks the start of the measurement: from now on the first signal sets the flag that this returns.
    ///
    /// # Errors
    /// If a signal has come already.
    pub fn measuring(&self) -> Result<Arc<AtomicBool>> {
        match self.state.compare_exchange(PREPARING, RUNNING, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Ok(self.stop.clone()),
            Err(_) => Err(Error::new("stopped before anything was measured")),
        }
    }

    /// Marks the measurements as saved on disk: from now on a stopped run has a few seconds.
    pub fn kept(&self) {
        self.state.store(KEPT, Ordering::SeqCst);
    }
}

/// Undoes inherited settings of signals: an ignored SIGCHLD, with which no child can be waited for, and blocked signals
/// that end a run.
pub fn reset() {
    // SAFETY: plain system calls on a set that is made first.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Lets the first `signal` set `stop`, and one that comes when it is set end the process at once, with all that it
/// started.
fn register(signal: libc::c_int, stop: &Arc<AtomicBool>) -> Result<()> {
    let stop = stop.clone();
    let act = move || {
        // In one step: two signals may be handled at the same time, by two threads.
        if stop.swap(true, Ordering::SeqCst) {
            low_level::exit(128 + signal);
        }
    };
    // SAFETY: the action is async-signal-safe: an atomic swap and `_exit`.
    unsafe { low_level::register(signal, act) }.map(drop).context(|| "watching for signals".to_owned())
}

/// Returns the signals that are watched for. SIGHUP is not if it is ignored: a run under `nohup` is to outlive the
/// terminal.
fn signals() -> Vec<libc::c_int> {
    let mut signals = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    signals
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: an all-zero `sigaction` is a valid value; the call fills it and changes nothing, as the new one is null.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `now` is valid for the call.
    let read = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) };
    read == 0 && now.sa_sigaction == libc::SIG_IGN
}
