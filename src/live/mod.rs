//! The view of a run while it goes on: a line on standard error, a page on loopback, and metrics for Prometheus, all
//! from one thread that reads counters and never touches the generator's.

pub mod line;
mod metrics;
pub mod page;
pub mod second;
pub mod server;
pub mod view;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Context as _, Result};
use crate::load::limits::spawn;
use crate::load::progress::{Progress, Stage};
use crate::measure::threshold::Threshold;
use crate::report::colour::Palette;
use crate::run::Workload;
use crate::terminal;
use line::Place;
use second::Sampler;
use server::{LiveListener, LiveServer, Pages};
use view::View;

const EVERY: Duration = Duration::from_secs(1);
/// The longest time that the end of a run waits for the browsers that follow it to take the report.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// The view of a run. Dropping it ends it.
pub struct Live {
    began: Instant,
    state: Arc<Mutex<State>>,
    /// Wakes the thread.
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    watched: Option<Watched>,
    view: View,
    /// The report of the run, HTML, once it is over.
    report: Option<String>,
    is_over: bool,
}

/// Workloads that run.
struct Watched {
    progress: Arc<Progress>,
    sampler: Sampler,
    stage: Stage,
    since: Instant,
}

impl Live {
    /// Starts to show the run of a bench target, described by `title`, on standard error and at these listeners. `floor`
    /// is the bound on its errors, if it has one.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(scenario: &str, title: &str, floor: Option<Threshold>, listeners: Vec<LiveListener>) -> Result<Self> {
        let view = View::of(scenario, title, floor);
        let state = Arc::new(Mutex::new(State { view, ..State::default() }));
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = Arc::new(wake.context(|| "making an event counter".to_owned())?);
        let (shown, woken) = (state.clone(), wake.clone());
        let began = Instant::now();
        let thread = spawn("live", move || Display::new(began, shown, LiveServer::new(listeners, woken)).run())?;
        Ok(Self { began, state, wake, thread: Some(thread) })
    }

    /// Shows the `progress` of workloads that begin now, until the result is dropped.
    pub fn watch<'w>(
        &self,
        progress: Arc<Progress>,
        workloads: impl Iterator<Item = &'w Workload> + Clone,
    ) -> Watching<'_> {
        let mut state = lock(&self.state);
        state.view.show(workloads);
        // However short it is, each run has this line.
        let (begin, end) = if terminal::line_width().is_some() { ("\r", "\x1b[K") } else { ("", "\n") };
        terminal::progress(&format!("{begin}opening    0 of {} connections{end}", state.view.extent.connections));
        let sampler = Sampler::from(self.began.elapsed());
        state.watched = Some(Watched { progress, sampler, stage: Stage::Opening, since: Instant::now() });
        drop(state);
        self.wake();
        Watching(self)
    }

    /// Ends the view: a page that follows it becomes `report`.
    pub fn end(mut self, report: String) {
        lock(&self.state).report = Some(report);
        self.join();
    }

    fn wake(&self) {
        // Of a counter that is full, the thread is awake.
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }

    fn join(&mut self) {
        lock(&self.state).is_over = true;
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It only shows: its result does not matter.
            let _ = thread.join();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.join();
    }
}

/// Workloads that are shown until this is dropped.
pub struct Watching<'l>(&'l Live);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        // What has come since the last whole second belongs to the counts, and the load is over.
        if let Some(watched) = state.watched.take()
            && let Some(last) = state.view.seconds.back_mut()
        {
            (last.stage, last.counts) = (Stage::Draining, watched.progress.counts());
        }
        if terminal::line_width().is_some() {
            terminal::progress("\r\x1b[K");
        }
    }
}

/// Locks what both threads see. The generator's has it at the beginning and the end of its workloads only.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state of the thread.
struct Display {
    state: Arc<Mutex<State>>,
    server: LiveServer,
    began: Instant,
    width: Option<usize>,
    place: Place,
}

impl Display {
    fn new(began: Instant, state: Arc<Mutex<State>>, server: LiveServer) -> Self {
        let width = terminal::line_width();
        let place = width.map_or(Place::Log, |_| Place::Terminal(Palette::of(&io::stderr())));
        Self { state, server, began, width, place }
    }

    fn run(mut self) {
        let mut next = self.began;
        loop {
            if Instant::now() >= next {
                next = (next + EVERY).max(Instant::now());
                self.second();
            }
            let is_over = lock(&self.state).is_over;
            if is_over {
                break;
            }
            self.server.serve(
                next,
                &Pages {
                    whole: &|| page::whole(&lock(&self.state).view),
                    parts: &|| page::parts(&lock(&self.state).view),
                    metrics: &|| metrics::text(&lock(&self.state).view),
                },
            );
        }
        let report = lock(&self.state).report.take();
        self.server.end(report.as_deref(), Instant::now() + END_PATIENCE);
    }

    /// Reads the second that ends now, and shows it.
    fn second(&mut self) {
        let at = self.began.elapsed();
        let mut state = lock(&self.state);
        let State { watched, view, .. } = &mut *state;
        let Some(watched) = watched else { return };
        if at.saturating_sub(watched.sampler.last_at()) < EVERY / 2 {
            // Workloads have just begun: rates of a moment would mislead.
            return;
        }
        let stage = watched.progress.stage();
        if stage != watched.stage {
            (watched.stage, watched.since) = (stage, Instant::now());
        }
        let second = watched.sampler.sample(at, stage, watched.progress.counts(), &watched.progress.observed());
        view.push(second);
        self.show(view, watched.since.elapsed());
        if self.server.has_followers() {
            self.server.tell(&page::parts(view));
        }
    }

    fn show(&self, view: &mut View, since: Duration) {
        let line = line::line(view.seconds.make_contiguous(), &view.extent, since, self.place);
        match self.width {
            // Returns to the start of the line, prints the text and erases the rest.
            Some(width) => terminal::progress(&format!("\r{}\x1b[K", cut(&line, width))),
            None => terminal::progress(&format!("{line}\n")),
        }
    }
}

/// Cuts a line after so many characters; escape sequences, which colour it, take no room.
fn cut(line: &str, width: usize) -> String {
    let (mut room, mut in_escape) = (width, false);
    let kept = line.chars().filter(|letter| {
        let takes_room = !in_escape && *letter != '\x1b';
        in_escape = *letter == '\x1b' || in_escape && *letter != 'm';
        if takes_room && room == 0 {
            return false;
        }
        room -= usize::from(takes_room);
        true
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room_in_a_line() {
        let text = format!("12 {} 78", Palette::COLOURED.bad("45"));
        assert_eq!(cut(&text, 8), text);
        assert_eq!(cut(&text, 4), "12 \x1b[1;31m4\x1b[0m");
        assert_eq!(cut("plain", 9), "plain");
    }
}
