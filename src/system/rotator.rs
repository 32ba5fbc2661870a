//! The certificate rotator: it replaces the certificates of daemons while they are measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::connectors::{Connectors, Replaceable};
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::load::limits::spawn;
use crate::load::progress::{Progress, Stage};
use crate::provision::daemon::Worker;
use crate::scenario::connector_kind::ConnectorKind;
use crate::scenario::rotation::{Retired, Rotation, Rotations};
use crate::terminal::errln;
use crate::wire::handshake::certificate_id;

/// The interval of the checks of the run's stage.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A thread that replaces certificates until it is dropped.
pub struct Rotator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rotator {
    /// Starts to replace the certificate of one daemon after another, each once per `every`, within the measured
    /// window.
    ///
    /// # Errors
    /// If no daemon's certificate can be replaced, or no thread can be started.
    pub fn start(connectors: &Connectors, every: Duration, progress: Arc<Progress>) -> Result<Self> {
        let daemons = connectors.replaceable();
        if daemons.is_empty() {
            return Err(Error::usage("certificates of running daemons cannot be replaced")
                .with_hint("leave their URLs out: the installed daemons are started instead"));
        }
        let (stop, rotations) = (Arc::new(AtomicBool::new(false)), connectors.rotations());
        let stopped = stop.clone();
        let thread = spawn("rotator", move || turn(&daemons, every, &progress, &rotations, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Rotator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread prints its errors itself.
            let _ = thread.join();
        }
    }
}

fn turn(daemons: &[Replaceable], every: Duration, progress: &Progress, rotations: &Rotations, stop: &AtomicBool) {
    let over = || stop.load(Ordering::Relaxed) || progress.stage() == Stage::Draining;
    let mut retiring = Vec::new();
    let wait = |span: Duration, retiring: &mut Vec<Retiring>| {
        let end = Instant::now() + span;
        while Instant::now() < end && !over() {
            thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now())));
            retiring.retain(|one| one.worker.runs() || one.note(rotations, true));
        }
    };
    while progress.stage() < Stage::Measuring && !over() {
        thread::sleep(LOOK_EVERY);
    }
    // The daemons take turns, evenly spread, so that the reload of one does not add to the latency of another.
    let pause = every / daemons.len().max(1) as u32;
    wait(pause, &mut retiring);
    'run: while !over() {
        for daemon in daemons {
            if let Err(error) = replace(daemon, rotations, &mut retiring) {
                errln!("error: replacing the certificate of {}: {error}", daemon.kind);
            }
            wait(pause, &mut retiring);
            if over() {
                break 'run;
            }
        }
    }
    for one in retiring {
        one.note(rotations, !one.worker.runs());
    }
}

/// A replaced worker process that had not ended at the last check.
struct Retiring {
    kind: ConnectorKind,
    worker: Worker,
    requested: Moment,
}

impl Retiring {
    /// Records how long it ran after its replacement; returns `false`, which removes it from the list.
    fn note(&self, rotations: &Rotations, ended: bool) -> bool {
        rotations.note_retired(Retired { kind: self.kind, requested: self.requested, seen: Moment::now(), ended });
        false
    }
}

fn replace(daemon: &Replaceable, rotations: &Rotations, retiring: &mut Vec<Retiring>) -> Result<()> {
    let identity = daemon.next()?;
    let workers = daemon.workers()?;
    let requested = Moment::now();
    retiring.extend(workers.into_iter().map(|worker| Retiring { kind: daemon.kind, worker, requested }));
    let replaced = daemon.replace(&identity);
    // Recorded even if it failed: that certificate will never be seen.
    let certificate = certificate_id(&identity.chain[0]);
    rotations.note(Rotation { kind: daemon.kind, requested, returned: Moment::now(), certificate });
    replaced
}
