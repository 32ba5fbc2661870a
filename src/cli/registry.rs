//! The registry: every bench target that runs scenarios, and those that `certctl-bench run` plays. A test compares it
//! with the benches, the seeds and the docs.

use std::process::ExitCode;

use super::acme_enroll_flags::AcmeEnrollFlags;
use super::acme_flags::{AcmeBurstFlags, AcmeFlowFlags};
use super::agent_storm_flags::AgentStormFlags;
use super::api_tier_flags::ApiTierFlags;
use super::bench::{self, Bench};
use super::bulk_renewal_flags::BulkRenewalFlags;
use super::connector_tier_flags::ConnectorTierFlags;
use super::deploy_loop_flags::DeployLoopFlags;
use super::handshake_bench;
use super::invocation::{self, Invocation};
use super::job_drain_flags::JobDrainFlags;
use super::merge;
use super::revocation_flags::RevocationFlags;
use super::shard::{self, ShardFlags};
use crate::error::{Context, Error, Result};
use crate::foreign;
use crate::measure::threshold::Threshold;
use crate::run::Workload;
use crate::shard::merge::MergedRun;
use crate::summary::Summary;

/// A bench target.
#[derive(Clone, Copy, Debug)]
pub struct BenchTarget {
    /// Its name.
    pub name: &'static str,
    /// Its description, in a sentence.
    pub about: &'static str,
    /// The seeds whose rows it needs.
    pub seeds: &'static [&'static str],
    /// The bench target as a part of this program.
    pub(super) playable: Playable,
    load: fn(&[&str]) -> Result<PlannedLoad>,
    shard: fn(ShardFlags) -> Result<u8>,
    sum_up: fn(MergedRun) -> Result<Summary>,
}

/// A bench target as a part of `certctl-bench`.
#[derive(Clone, Copy, Debug)]
pub struct Playable {
    /// Its name.
    pub(super) name: &'static str,
    /// Its description, in a sentence.
    pub(super) about: &'static str,
    /// Plays it, and returns the exit code.
    pub(super) play: fn(Invocation) -> ExitCode,
    /// Returns its command line.
    pub(super) command: fn() -> clap::Command,
}

/// The load that flags of a bench target plan.
pub struct PlannedLoad {
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// The bound on errors over all of them.
    pub error_floor: Threshold,
}

/// Every bench target that runs scenarios.
pub static ALL: [BenchTarget; 10] = [
    entry::<AcmeBurstFlags>(),
    entry::<AcmeEnrollFlags>(),
    entry::<AcmeFlowFlags>(),
    entry::<AgentStormFlags>(),
    entry::<ApiTierFlags>(),
    entry::<BulkRenewalFlags>(),
    entry::<ConnectorTierFlags>(),
    entry::<DeployLoopFlags>(),
    entry::<JobDrainFlags>(),
    entry::<RevocationFlags>(),
];

/// Returns every bench target that `certctl-bench run` plays: all but `generator`, which measures parts of the suite
/// for those who change them.
pub(super) fn playable() -> impl Iterator<Item = Playable> {
    ALL.iter().map(|target| target.playable).chain([handshake_bench::PLAYABLE])
}

/// Plays a part of a bench target, and returns the exit code, if this process was started for that: by a run that
/// `certctl-bench run` has started.
pub fn play_part() -> Option<ExitCode> {
    let name = invocation::part_of()?;
    let target = playable().find(|target| target.name == name)?;
    Some((target.play)(Invocation::of_cargo(target.name)))
}

/// Returns the bench target `name`.
///
/// # Errors
/// If there is none (kind `Usage`).
pub fn named(name: &str) -> Result<&'static BenchTarget> {
    ALL.iter().find(|target| target.name == name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|target| target.name).collect();
        Error::usage(format!("there is no bench target {}", foreign::line(name)))
            .with_hint(format!("give one of {}", names.join(", ")))
    })
}

const fn entry<B: Bench>() -> BenchTarget {
    let (shard, sum_up) = (shard::run_for::<B>, merge::sum_up::<B>);
    let (play, command) = (bench::play_installed::<B>, bench::command::<B>);
    let playable = Playable { name: B::NAME, about: B::ABOUT, play, command };
    BenchTarget { name: B::NAME, about: B::ABOUT, seeds: B::SEEDS, playable, load: load::<B>, shard, sum_up }
}

impl BenchTarget {
    /// Returns the load that these flags plan.
    ///
    /// # Errors
    /// If the flags are wrong.
    pub fn load(&self, flags: &[&str]) -> Result<PlannedLoad> {
        (self.load)(flags)
    }

    /// Plays a shard of it, and returns the exit code.
    ///
    /// # Errors
    /// If it cannot run.
    pub(super) fn shard(&self, flags: ShardFlags) -> Result<u8> {
        (self.shard)(flags)
    }

    /// Makes the result of a run of it whose parts were merged.
    ///
    /// # Errors
    /// If the parts are of another version of the suite.
    pub(super) fn sum_up(&self, run: MergedRun) -> Result<Summary> {
        (self.sum_up)(run)
    }
}

fn load<B: Bench>(flags: &[&str]) -> Result<PlannedLoad> {
    let arguments = [B::NAME, "--bench"].iter().chain(flags).map(Into::into).collect();
    let flags = bench::parse::<B>(arguments).context(|| format!("reading flags of {}", B::NAME))?;
    let planned = flags.bench.groups(&flags.load)?.into_iter().flatten();
    Ok(PlannedLoad { workloads: planned.map(|one| one.workload).collect(), error_floor: flags.bench.error_floor() })
}
