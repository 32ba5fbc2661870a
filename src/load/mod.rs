//! When: arrival schedules, pacing, workers, warm-up and drain. Knows no HTTP, TLS or certctl: phases,
//! handshakes and faults pass through unread.

pub mod deadline;
pub mod desk;
pub mod limits;
pub mod open;
pub mod pacer;
pub mod priority;
pub mod progress;
pub mod rate;
pub mod schedule;
