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
    /// The last seconds, the latest last.
    pub seconds: VecDeque<LiveSecond>,
}

impl View {
    /// Begins to show these workloads after those before.
    pub fn show<'w>(&mut self, workloads: impl Iterator<Item = &'w Workload> + Clone) {
        self.extent = Extent::of(workloads.clone().map(|workload| &workload.plan));
        self.limits = limits(workloads);
    }

    /// Adds a second.
    pub fn push(&mut self, second: LiveSecond) {
        if self.seconds.len() == KEPT {
            self.seconds.pop_front();
        }
        self.seconds.push_back(second);
    }
}
