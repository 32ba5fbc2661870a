//! The facts that a live view shows: what was planned, and the seconds so far.

use std::collections::VecDeque;
use std::time::Duration;

use super::second::LiveSecond;
use crate::load::plan::Plan;
use crate::measure::threshold::Threshold;
use crate::run::Workload;

/// The number of seconds that are kept, the last ten minutes.
const KEPT: usize = 600;

/// The planned extent of several workloads side by side.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// Their connections.
    pub connections: usize,
    /// Time until the first workload measures.
    pub warm_up: Duration,
    /// Time from then until the last has measured.
    pub window: Duration,
}

impl Extent {
    fn of<'p>(plans: impl Iterator<Item = &'p Plan> + Clone) -> Self {
        let warm_up = plans.clone().map(|plan| plan.starts_after + plan.warm_up).min().unwrap_or_default();
        let end = plans.clone().map(Plan::end).max().unwrap_or_default();
        Self { connections: plans.map(|plan| plan.connections).sum(), warm_up, window: end.saturating_sub(warm_up) }
    }
}

/// A threshold that a live view draws as a line: a bound on response times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitLine {
    /// The names of the bounded measures.
    pub names: String,
    /// The limit.
    pub limit: Duration,
}

/// Returns the bounds on the response times of workloads, those with the same limit together.
fn limits<'w>(workloads: impl Iterator<Item = &'w Workload>) -> Vec<LimitLine> {
    let mut lines: Vec<LimitLine> = Vec::new();
    for threshold in workloads.flat_map(|workload| &workload.thresholds) {
        let (Threshold::Response(_, limit) | Threshold::Step(_, _, limit)) = threshold else { continue };
        let name = threshold.to_string();
        match lines.iter_mut().find(|line| line.limit == *limit) {
            Some(line) if line.names.split(", ").any(|known| known == name) => {}
            Some(line) => line.names = format!("{}, {name}", line.names),
            None => lines.push(LimitLine { names: name, limit: *limit }),
        }
    }
    lines
}

/// The state of a live view.
#[derive(Debug, Default)]
pub struct View {
    /// The name of the bench target.
    pub scenario: String,
    /// A description of the run in a sentence.
    pub title: String,
    /// The planned extent of the workloads that run.
    pub extent: Extent,
    /// Their bounds on response times.
    pub limits: Vec<LimitLine>,
    /// The bound on the errors of the whole run.
    pub floor: Option<Threshold>,
    /// The last seconds, the latest last.
    pub seconds: VecDeque<LiveSecond>,
    /// The number of all seconds so far.
    pub shown: usize,
    /// The time at which the current stage began, in seconds from the beginning of the display.
    pub stage_at_s: f64,
    /// Right answers and errors of the workloads that ran before.
    before: (u64, u64),
    /// True if no second of the current workloads was added yet.
    is_new: bool,
}

impl View {
    /// Makes a view of a run that has not begun, described by `title`, with the bound on its errors.
    pub fn of(scenario: &str, title: &str, floor: Option<Threshold>) -> Self {
        Self { scenario: scenario.to_owned(), title: title.to_owned(), floor, ..Self::default() }
    }

    /// Begins to show these workloads after those before.
    pub fn show<'w>(&mut self, workloads: impl Iterator<Item = &'w Workload> + Clone) {
        self.before = self.so_far();
        self.is_new = true;
        self.extent = Extent::of(workloads.clone().map(|workload| &workload.plan));
        self.limits = limits(workloads);
    }

    /// Returns the right answers and the errors of the whole run so far.
    pub fn so_far(&self) -> (u64, u64) {
        let now = self.seconds.back().filter(|_| !self.is_new).map(|second| &second.counts);
        let (ok, errors) = now.map_or((0, 0), |counts| (counts.ok, counts.not_ok + counts.unsent));
        (self.before.0 + ok, self.before.1 + errors)
    }

    /// Adds a second.
    pub fn push(&mut self, second: LiveSecond) {
        if std::mem::take(&mut self.is_new) || self.seconds.back().map(|last| last.stage) != Some(second.stage) {
            self.stage_at_s = second.at_s;
        }
        self.shown += 1;
        if self.seconds.len() == KEPT {
            self.seconds.pop_front();
        }
        // Of the counts, only the latest distributions are shown, and they would be nearly all of the memory.
        if let Some(last) = self.seconds.back_mut() {
            (last.counts.response, last.counts.lag) = Default::default();
        }
        self.seconds.push_back(second);
    }
}
