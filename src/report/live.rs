//! The live line: a thread of its own shows the progress of a run, so that the generator never waits for a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::load::plan::Plan;
use crate::load::progress::{Progress, Stage};
use crate::terminal;

const EVERY: Duration = Duration::from_secs(1);
/// The interval of lines where the output is no terminal.
const EVERY_IN_A_LOG: Duration = Duration::from_secs(10);

/// The planned extent of several workloads side by side.
#[derive(Default)]
struct Extent {
    connections: usize,
    /// Time until the first workload measures.
    warm_up: Duration,
    /// Time from then until the last has measured.
    window: Duration,
}

impl Extent {
    fn of<'p>(plans: impl Iterator<Item = &'p Plan>) -> Self {
        let plans: Vec<_> = plans.collect();
        let warm_up = plans.iter().map(|plan| plan.starts_after + plan.warm_up).min().unwrap_or_default();
        let end = plans.iter().map(|plan| plan.end()).max().unwrap_or_default();
        let connections = plans.iter().map(|plan| plan.connections).sum();
        Self { connections, warm_up, window: end - warm_up }
    }
}

/// Shows the progress of a run on stderr until it is dropped.
pub struct Live {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    /// Starts to show the `progress` of a run under `plans`.
    pub fn start<'p>(progress: Arc<Progress>, plans: impl Iterator<Item = &'p Plan>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, extent) = (stop.clone(), Extent::of(plans));
        let show = move || show(&progress, &extent, &stopped);
        // Without a thread nothing is shown, and the run goes on all the same.
        Self { stop, thread: std::thread::Builder::new().name("progress".to_owned()).spawn(show).ok() }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread only prints: its result does not matter.
            let _ = thread.join();
        }
    }
}

fn show(progress: &Progress, extent: &Extent, stop: &AtomicBool) {
    let width = terminal::line_width();
    let mut line = Line { stage: Stage::Opening, since: Instant::now(), last: (0, 0), last_at: Instant::now() };
    let mut printed: Option<(Stage, Instant)> = None;
    while !stop.load(Ordering::Relaxed) {
        let text = line.next(progress, extent);
        match width {
            // Returns to the start of the line, prints the text and erases the rest.
            Some(width) => terminal::progress(&format!("\r{}\x1b[K", text.chars().take(width).collect::<String>())),
            None if printed.is_none_or(|(stage, at)| stage != line.stage || at.elapsed() >= EVERY_IN_A_LOG) => {
                printed = Some((line.stage, Instant::now()));
                terminal::progress(&format!("{text}\n"));
            }
            None => {}
        }
        std::thread::park_timeout(EVERY);
    }
    if width.is_some() {
        terminal::progress("\r\x1b[K");
    }
}

struct Line {
    stage: Stage,
    since: Instant,
    last: (u64, u64),
    last_at: Instant,
}

impl Line {
    fn next(&mut self, progress: &Progress, extent: &Extent) -> String {
        if progress.stage() != self.stage {
            self.stage = progress.stage();
            self.since = Instant::now();
        }
        let (ok, not_ok) = progress.answered();
        let span_s = self.last_at.elapsed().as_secs_f64().max(1e-3);
        let rate = (ok + not_ok - self.last.0 - self.last.1) as f64 / span_s;
        (self.last, self.last_at) = ((ok, not_ok), Instant::now());
        let of = |whole: Duration| format!("{:>3.0} of {} s", self.since.elapsed().as_secs_f64(), whole.as_secs_f64());
        let answered = format!("{rate:>6.0} answers/s, {ok} ok, {not_ok} not ok");
        match self.stage {
            Stage::Opening => format!("opening    {} of {} connections", progress.connections(), extent.connections),
            Stage::WarmUp => format!("warm-up    {}  {answered}", of(extent.warm_up)),
            Stage::Measuring => format!("measuring  {}  {answered}", of(extent.window)),
            Stage::Draining => format!("draining   {answered}"),
        }
    }
}
