//! PostgreSQL as a witness: its counts on every version and under hostile settings, and the sessions that read them.

mod counts;
mod sessions;
mod tls;
mod waits;
