//! Whole runs from the front door: bench targets and verbs, at the reference server, at real daemons and at scripted peers.

mod acme;
mod acme_enroll;
mod agent_storm;
mod api_tier;
mod bless;
mod bulk_renewal;
mod capacity;
mod certctl;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod connector_tier;
mod deploy_loop;
mod doctor;
mod duet;
mod faults;
mod files;
mod fleet;
mod foreign_text;
mod job_drain;
mod live;
mod machine;
mod peers;
mod preflight;
mod rate_profile;
mod remote;
mod report_verb;
mod revocation;
mod runs_verb;
mod saved;
mod secrets;
mod shards;
mod signals;
mod stall;
mod terminal;
mod threads;
