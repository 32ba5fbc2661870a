//! PostgreSQL as a witness: what it counts, on every version and under hostile settings, and how a session gets there.

mod common;

#[path = "witness/counts.rs"]
mod counts;
#[path = "witness/sessions.rs"]
mod sessions;
#[path = "witness/tls.rs"]
mod tls;
#[path = "witness/waits.rs"]
mod waits;
