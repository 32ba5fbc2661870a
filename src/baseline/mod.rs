//! Baselines and comparisons. docs/BASELINES.md defines the terms and names the sources of the statistics.
//!
//! A summary becomes [`measure::MeasureValue`]s; one or more summaries, or a committed [`file::Baseline`], become a
//! [`side::Side`]; two sides become a [`compare::Comparison`], and that a [`judgement::Judgement`]. Pure but for
//! [`source`], [`local`] and [`bless`], which read and write files.

pub mod bless;
pub mod compare;
pub mod environment;
pub mod file;
pub mod judgement;
pub mod local;
pub mod measure;
pub mod side;
pub mod source;
pub mod statistics;
pub mod student;
pub mod workload;

pub use compare::Comparison;
pub use file::Baseline;
pub use judgement::Judgement;
pub use side::Side;
