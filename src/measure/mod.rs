//! Measurement: samples, distributions, counts, the timeline, the generator's own health, and the validity of a run.
//! Independent of the source of the samples.

pub mod absence;
pub mod allocations;
pub mod attribution;
pub mod binomial;
pub mod breach;
pub mod buckets;
pub mod cgroup;
pub mod distribution;
pub mod generator;
pub mod instructions;
pub mod machine;
pub mod machine_use;
mod merge;
pub mod observation;
pub mod outcome;
pub mod recorder;
pub mod segment;
pub mod spread;
pub mod tally;
pub mod threshold;
pub mod timeline;
pub mod validity;

pub use distribution::{Distribution, Quantile};
pub use outcome::Outcome;
pub use recorder::{Measurement, Recorder, RecorderSettings, Sample, StepSample};
pub use tally::Tally;
