//! Phases as bars, one for each workload and run. They show means, since only means add up.

use super::plot::phases::Bar;
use super::runs::ScenarioRuns;
use crate::summary::WorkloadResults;
use crate::summary::facts::DistributionFacts;
use crate::summary::plan::ConnectionUse;

/// Bars that share one scale.
#[derive(Debug)]
pub struct Stacked {
    /// Their title, in a few words.
    pub title: &'static str,
    /// At least one.
    pub bars: Vec<Bar>,
}

/// Returns the bars of `group`: of whole exchanges where each arrival opened a connection of its own; else of requests,
/// and apart from them of the connections.
pub fn of(group: &ScenarioRuns) -> Vec<Stacked> {
    let mut stacks = [
        Stacked { title: "Where a connection's time went (means)", bars: Vec::new() },
        Stacked { title: "Where a request's time went (means)", bars: Vec::new() },
        Stacked { title: "Where the time to open a connection went (means)", bars: Vec::new() },
    ];
    for name in group.workloads() {
        for run in &group.runs {
            let Some((plan, results)) = run.summary.measured_named(name) else { continue };
            let label = if run.label.is_empty() { name.to_owned() } else { format!("{name}, {}", run.label) };
            let [whole, requests, opening] = &mut stacks;
            if plan.affinity == ConnectionUse::PerArrival {
                whole.bars.extend(bar(&label, exchange(results)));
            } else {
                requests.bars.extend(bar(&label, request(results)));
                let opened = if results.opening.tls.count > 0 { &results.opening } else { &results.reopening };
                opening.bars.extend(bar(&label, [("TCP connect", &opened.dial), ("TLS handshake", &opened.tls)]));
            }
        }
    }
    stacks.into_iter().filter(|stack| !stack.bars.is_empty()).collect()
}

/// Returns the phases, in order, of an arrival that opened a connection of its own.
fn exchange(results: &WorkloadResults) -> impl Iterator<Item = (&'static str, &DistributionFacts)> {
    let latency = &results.latency;
    let connecting = [
        ("TCP connect", &latency.dial),
        ("TLS: hello → server's answer", &latency.tls_hello),
        ("TLS: rest", &latency.tls_finish),
    ];
    connecting.into_iter().chain(request(results))
}

fn request(results: &WorkloadResults) -> [(&'static str, &DistributionFacts); 3] {
    let latency = &results.latency;
    [("send", &latency.send), ("first byte", &latency.first_byte), ("receive", &latency.receive)]
}

fn bar<'d>(label: &str, phases: impl IntoIterator<Item = (&'static str, &'d DistributionFacts)>) -> Option<Bar> {
    let segments = phases.into_iter().filter_map(|(name, facts)| Some((name.to_owned(), facts.mean_us?)));
    let bar = Bar { label: label.to_owned(), segments: segments.collect() };
    (!bar.segments.is_empty()).then_some(bar)
}
