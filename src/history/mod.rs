//! The runs that were made here, kept in one file: docs/HISTORY.md.
//!
//! [`store`] is the database. [`trend`] follows one measure over the runs in which it can be compared, and
//! [`change_points`] finds the runs from which on it is another.

pub mod change_points;
pub mod store;
pub mod trend;

pub use store::History;
