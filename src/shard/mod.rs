//! Shards: the parts of one run that several processes play, on one machine or on many, and the merge of their results.
//! docs/SHARDING.md has the whole of it.

pub mod clocks;
pub mod merge;
pub mod part;
