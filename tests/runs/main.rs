//! Whole runs from the front door: bench targets and verbs, at the reference server, at real daemons and at scripted peers.

mod acme;
mod agent_storm;
mod api_tier;
mod bless;
mod bulk_renewal;
mod certctl;
#[path = "../common/mod.rs"]
mod common;
mod connector_tier;
mod doctor;
mod duet;
mod faults;
mod files;
mod fleet;
mod foreign_text;
mod job_drain;
mod machine;
mod peers;
mod preflight;
mod rate_profile;
mod remote;
mod report_verb;
mod saved;
mod secrets;
mod signals;
mod stall;
mod terminal;
