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
    results.distributions().filter(|(_, facts)| facts.count > 0).collect()
}

/// Returns the measures of a step by name, those without a sample left out.
fn measures_of_step(step: &StepFacts) -> Vec<(&'static str, &DistributionFacts)> {
    step.distributions().into_iter().filter(|(_, facts)| facts.count > 0).collect()
}
