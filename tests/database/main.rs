//! PostgreSQL: seeds, evidence, and counts on every version.

#[path = "../common/mod.rs"]
mod common;
mod evidence;
mod seed;
mod witness;
