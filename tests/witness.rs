//! PostgreSQL as a witness: its counts on every version and under hostile settings, and the sessions that read them.

mod common;

#[path = "witness/counts.rs"]
mod counts;
#[path = "witness/sessions.rs"]
mod sessions;
#[path = "witness/tls.rs"]
mod tls;
#[path = "witness/waits.rs"]
mod waits;
