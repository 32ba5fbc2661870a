//! The library and the tools around a run: comparison, reports, F5, daemons, handshakes, and the repository itself.

mod baseline;
mod capacity;
#[path = "../reference/client.rs"]
#[allow(dead_code, reason = "the reference server's tests use the rest")]
mod client;
#[path = "../common/mod.rs"]
mod common;
mod cost;
mod divided;
mod duet;
mod export;
mod f5;
mod f5_clients;
mod foreign;
mod handshake;
mod harness;
mod history;
mod html;
mod interop;
mod journeys;
mod kubernetes;
mod live;
mod markdown;
mod pebble;
mod picture;
mod power;
mod report;
mod repository;
mod shards;
mod shell;
mod sidecars;
mod splice;
mod status;
mod step_ca;
mod workflows;
