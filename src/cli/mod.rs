//! The front door: flags, bench targets, verbs and exit codes.

pub mod acme_flags;
pub mod agent_storm_flags;
pub mod api_tier_flags;
pub mod bench;
pub mod bless;
pub mod bulk_renewal_flags;
pub mod common_flags;
pub mod compare;
pub mod connector_tier_flags;
pub mod criterion;
pub mod doctor;
pub mod duet;
mod elsewhere;
pub mod exit;
pub mod handshake_bench;
pub mod prepare;
pub mod registry;
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
