//! Runs in the formats of other tools. docs/FORMATS.md has the tools that read each.

pub mod csv;
pub mod hgrm;
pub mod hlog;
pub mod junit;
pub mod k6;
pub mod openmetrics;
pub mod otlp;

use crate::summary::WorkloadResults;
use crate::summary::facts::{DistributionFacts, StepFacts};

/// Returns the measures of a workload by name, those without a sample left out.
fn measures(results: &WorkloadResults) -> Vec<(&'static str, &DistributionFacts)> {
    let (latency, opening, reopening) = (&results.latency, &results.opening, &results.reopening);
    with_samples([
        ("response", &latency.response),
        ("service", &latency.service),
        ("own_part", &latency.own_part),
        ("certain", &latency.certain),
        ("schedule_lag", &latency.schedule_lag),
        ("timer_lag", &results.timer.lag),
        ("dial", &latency.dial),
        ("tls_hello", &latency.tls_hello),
        ("tls_finish", &latency.tls_finish),
        ("send", &latency.send),
        ("first_byte", &latency.first_byte),
        ("receive", &latency.receive),
        ("failed_response", &latency.failed_response),
        ("opening_dial", &opening.dial),
        ("opening_tls", &opening.tls),
        ("reopening_dial", &reopening.dial),
        ("reopening_tls", &reopening.tls),
    ])
}

/// Returns the measures of a step by name, those without a sample left out.
fn measures_of_step(step: &StepFacts) -> Vec<(&'static str, &DistributionFacts)> {
    with_samples([("response", &step.response), ("service", &step.service), ("certain", &step.certain)])
}

fn with_samples<'r, const N: usize>(
    named: [(&'static str, &'r DistributionFacts); N],
) -> Vec<(&'static str, &'r DistributionFacts)> {
    named.into_iter().filter(|(_, facts)| facts.count > 0).collect()
}
