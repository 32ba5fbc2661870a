//! The load: arrival schedules, pacing, workers, users, shards, warm-up and drain. Independent of HTTP, TLS and certctl:
//! phases, handshakes and faults pass through unread.

pub mod arrival;
mod closed;
pub mod cut;
pub mod deadline;
pub mod dispatcher;
pub mod limits;
mod open;
pub mod own_part;
pub mod plan;
pub mod ports;
pub mod priority;
pub mod profile;
pub mod progress;
pub mod rate;
pub mod run;
pub mod runtime;
pub mod schedule;
pub mod shard;
pub mod start_line;
pub mod threads;
mod worker_pool;
