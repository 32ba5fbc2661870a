//! The front door: flags, bench targets, verbs and exit codes.

pub mod acme;
pub mod agent_storm;
pub mod api_tier;
pub mod bench;
pub mod bless;
pub mod bulk_renewal;
pub mod compare;
pub mod connector_tier;
pub mod criterion;
pub mod doctor;
mod elsewhere;
pub mod exit;
pub mod flags;
pub mod handshake;
pub mod place;
pub mod registry;
pub mod relative;
mod remote;
pub mod report;
pub mod request_loop;
mod saved;
pub mod seed;
mod session;
mod shield;
pub mod signals;
pub mod splice;
mod turn;
