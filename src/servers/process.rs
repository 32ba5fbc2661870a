//! The process: its descriptor limit, its threads, and the three requests to stop.

use std::future::Future;
use std::io::Read as _;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Raises the soft limit on open files to the hard one; a connection costs one descriptor.
///
/// A failure is not reported here: it shows as accept errors, which the listener reports.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Checks that so many threads can be started beside the present ones, since a runtime panics where it cannot start its
/// own.
///
/// # Errors
/// If they cannot.
pub fn allow_threads(count: usize) -> Result<(), String> {
    // Each waits until all have been started: the limit is on threads that exist at once.
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
    let start = |_| {
        let gate = std::sync::Arc::clone(&gate);
        std::thread::Builder::new().spawn(move || drop(gate.lock().map(|gate| gate.recv())))
    };
    let started: Vec<_> = (0..count).map(start).collect();
    drop(release);
    let mut failed = Ok(());
    for thread in started {
        match thread {
            // The thread does nothing that could fail.
            Ok(thread) => drop(thread.join()),
            Err(e) => {
                failed = Err(format!("cannot start {count} threads: {e}; raise ulimit -u, or the group's pids.max"))
            }
        }
    }
    failed
}

/// Returns a future that ends at SIGTERM, SIGINT or the end of standard input.
///
/// The end of standard input is how a parent stops this process, also when the parent is killed.
///
/// # Errors
/// If signals, or standard input, cannot be watched.
pub fn stop_requested() -> Result<impl Future<Output = ()>, String> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let stdin_ended = watch_stdin()?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // An error means that the thread is gone, which also only happens once stdin has ended.
            _ = stdin_ended => {}
        }
    })
}

fn listen(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|e| format!("cannot listen for signals: {e}"))
}

/// Reads standard input in a thread of its own, since a blocked read cannot be cancelled.
fn watch_stdin() -> Result<oneshot::Receiver<()>, String> {
    let (ended, receiver) = oneshot::channel();
    let watch = move || {
        let mut ignored = [0; 256];
        loop {
            match std::io::stdin().read(&mut ignored) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Nothing receives this any more if a signal came first.
        let _ = ended.send(());
    };
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(watch)
        .map_err(|e| format!("cannot watch standard input: {e}"))?;
    Ok(receiver)
}
