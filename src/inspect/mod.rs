//! Checks of a system before it is loaded: the preflight of a run, and `doctor`, which goes on where that stops.

pub mod doctor;
pub mod preflight;
