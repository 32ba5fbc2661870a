//! `certctl-bench capacity`: the highest rate at which a system keeps a scenario's thresholds.

mod seeker;

use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use super::acme_enroll_flags::AcmeEnrollFlags;
use super::acme_flags::{AcmeBurstFlags, AcmeFlowFlags};
use super::agent_storm_flags::AgentStormFlags;
use super::api_tier_flags::ApiTierFlags;
use super::bench::{self, Bench, SystemArgs as _};
use super::bench_load::{BenchLoad, Played, play};
use super::bulk_renewal_flags::BulkRenewalFlags;
use super::common_flags::{CertctlFlags, EnvironmentUse, duration};
use super::compare::share;
use super::deploy_loop_flags::{DeployLoopFlags, DeploymentFlags};
use super::github_job;
use super::invocation;
use super::job_drain_flags::JobDrainFlags;
use super::prepare::SystemChoice as _;
use super::remote;
use super::revocation_flags::RevocationFlags;
use super::signals::Signals;
use crate::capacity::search::{SearchSettings, rounded, unfinished};
use crate::capacity::{Capacity, PointBounds, SCHEMA_VERSION, stop_rule};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::live::Live;
use crate::load::rate::Rate;
use crate::measure::machine::Machine;
use crate::provision::network;
use crate::report::capacity as report;
use crate::run::sockets;
use crate::system::{System as _, reference};
use crate::terminal::{out, outln};
use seeker::Seeker;

/// The part of the first rate that is the lowest rate, unless another is given.
const FLOOR_PART: f64 = 0.01;

/// Flags of `certctl-bench capacity`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Flags of the bench target follow after `--`: certctl-bench capacity -- --connections 200\n\
                  Exit codes: 0 found, 1 could not run, 2 usage, 3 breached at the lowest rate, 5 the limit found is not \
                  the system's, or the search did not end.")]
pub struct CapacityFlags {
    /// The bench target, whose workload has a rate.
    #[arg(long, value_name = "NAME", default_value = AgentStormFlags::NAME)]
    bench: String,
    /// The first rate [default: the bench target's own].
    #[arg(long, value_name = "RATE")]
    from: Option<Rate>,
    /// The lowest rate to try [default: a hundredth of the first, or the lowest whose quantiles have enough samples].
    #[arg(long, value_name = "RATE")]
    floor: Option<Rate>,
    /// The highest rate to try [default: 1000000/s].
    #[arg(long, value_name = "RATE")]
    to: Option<Rate>,
    /// Factor between rates until the first bracket is found.
    #[arg(long, default_value = "1.5", value_parser = factor)]
    factor: f64,
    /// Width of the bracket at which the search ends, as a share of its lower end.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = precision)]
    precision: f64,
    /// Most points to measure.
    #[arg(long, value_name = "COUNT", default_value_t = 40, value_parser = clap::value_parser!(u16).range(2..=500))]
    max_points: u16,
    /// Longest time for all points.
    #[arg(long, default_value = "1h", value_parser = duration)]
    max_time: Duration,
    /// Window of a point; it is longer where a threshold's quantile needs more samples.
    #[arg(long, default_value = "20s", value_parser = duration)]
    point: Duration,
    /// Longest window of a point.
    #[arg(long, default_value = "5m", value_parser = duration)]
    longest_point: Duration,
    /// Arrivals in flight above which a point ends, as a breach [default: as many as make a breach certain].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    max_in_flight: Option<u64>,
    /// Program of the reference server [default: certctl-reference beside this program].
    #[arg(long, value_name = "PROGRAM")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    system: CertctlFlags,
    /// Load a system that is not on this machine's loopback.
    #[arg(long, env = "CERTCTL_BENCH_ALLOW_REMOTE")]
    allow_remote: bool,
    /// Folder of the results [default: target/certctl-bench/capacity].
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_OUTPUT")]
    output: Option<PathBuf>,
    /// Write the result as Markdown too.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Flags of the bench target.
    #[arg(last = true, value_name = "FLAGS")]
    load: Vec<String>,
}

impl CapacityFlags {
    /// Refuses flags of the system without effect on the command line that these were parsed from.
    ///
    /// # Errors
    /// If such a flag is there.
    pub fn check(&self, command_line: &ArgMatches) -> Result<()> {
        let given = |id: &str| command_line.value_source(id) == Some(ValueSource::CommandLine);
        let mut ignored = self.system.ignored(EnvironmentUse::Counts).into_iter();
        match ignored.find(|(id, _)| given(id)) {
            Some((id, what_for)) => {
                Err(Error::usage(format!("--{} {what_for}", id.replace('_', "-"))).with_hint("leave it out"))
            }
            None => Ok(()),
        }
    }

    /// Moves this process into a network of its own, where a certctl-server is to be started. Call it before any thread
    /// is started.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn enter_network(&self) -> Result<()> {
        if self.system.wants_loopback_alone() { network::enter_loopback() } else { Ok(()) }
    }

    fn bounds(&self) -> Result<PointBounds> {
        if self.point > self.longest_point {
            let [point, longest] = [self.point, self.longest_point].map(humantime::format_duration);
            return Err(Error::usage(format!("--point {point} is above --longest-point {longest}"))
                .with_hint("lower --point, or raise --longest-point"));
        }
        let seconds = |duration: Duration| duration.as_secs_f64();
        Ok(PointBounds {
            least_s: seconds(self.point),
            most_s: seconds(self.longest_point),
            search_s: seconds(self.max_time),
        })
    }
}

/// The bench targets that have a capacity to search.
const SEARCHED: [Played<CapacityFlags>; 7] = [
    (AcmeBurstFlags::NAME, at_certctl::<AcmeBurstFlags>),
    (AcmeEnrollFlags::NAME, at_certctl::<AcmeEnrollFlags>),
    (AcmeFlowFlags::NAME, at_certctl::<AcmeFlowFlags>),
    (AgentStormFlags::NAME, at_certctl::<AgentStormFlags>),
    (ApiTierFlags::NAME, at_certctl::<ApiTierFlags>),
    (BulkRenewalFlags::NAME, at_certctl::<BulkRenewalFlags>),
    (DeployLoopFlags::NAME, of_deployments),
];

/// Searches for the capacity, and prints a table and the answer. Returns the exit code.
///
/// # Errors
/// If the first point cannot run.
pub fn run(flags: CapacityFlags) -> Result<u8> {
    let name = flags.bench.clone();
    match &*name {
        // These have no rate that decides, and say so.
        JobDrainFlags::NAME => at_certctl::<JobDrainFlags>(flags),
        RevocationFlags::NAME => at_certctl::<RevocationFlags>(flags),
        name => play(&SEARCHED, name, "a capacity to search", flags),
    }
}

fn of_deployments(flags: CapacityFlags) -> Result<u8> {
    let system = DeploymentFlags::of(flags.system.clone());
    seek::<DeployLoopFlags>(flags, system)
}

fn at_certctl<B: Bench<System = CertctlFlags>>(flags: CapacityFlags) -> Result<u8> {
    let system = flags.system.clone();
    seek::<B>(flags, system)
}

fn seek<B: Bench>(flags: CapacityFlags, system: B::System) -> Result<u8> {
    let load = BenchLoad::<B>::parse(
        "capacity",
        &flags.load,
        &[
            ("duration", "has no effect in a search: its points have --point and --longest-point"),
            ("max_requests", "has no effect in a search: a point has as many requests as its quantiles need"),
        ],
    )?;
    let bounds = flags.bounds()?;
    let own = load.bench.rate()?;
    let Some(from) = flags.from.or(own) else {
        return Err(Error::usage(format!(
            "{}: its users wait for their answers, so that the system sets its pace, and no rate can be raised",
            B::NAME
        ))
        .with_hint("give the first rate, which makes the workload an open one: --from 50/s"));
    };
    let search = settings(&flags, &bounds, &load, from)?;
    let first = seeker::plan(&load, &bounds, search.from_per_s)?;
    let workloads = || first.iter().flatten().map(|planned| &planned.workload);
    sockets(workloads()).with_threads(load.load.most_threads()).allow(load.bench.sized())?;
    let mut at_first = load.bench.clone();
    at_first.set_rate(from);
    let needs = [at_first.needs(&load.load), load.load.needs()].concat();
    let mut choice = system.resolve(EnvironmentUse::Counts)?;
    load.bench.adjust(&mut choice);
    let destinations = choice.destinations()?;
    let (folder, _claim) = bench::output_folder(flags.output.clone(), "capacity", false)?;
    let file = folder.join("capacity.json");
    let beside = ["txt", "html"].map(|extension| file.with_extension(extension));
    for old in std::iter::once(&file).chain(&beside).chain(flags.markdown.as_ref()) {
        files::forget(old)?;
    }
    let signals = Signals::watch()?;
    remote::clear(&destinations, flags.allow_remote, B::NAME, workloads())?;
    let system = choice.prepare(&reference_program(flags.reference.clone())?, &needs)?;
    let certctl = system.certctl().ok_or_else(|| Error::new(format!("{}: its system is no certctl", B::NAME)))?;
    let mut seeker = Seeker {
        load: &load,
        system: &system,
        certctl,
        live: Live::start(B::NAME, B::ABOUT, None, Vec::new())?,
        stop: signals.measuring()?,
        most_in_flight: flags.max_in_flight,
        result: Capacity {
            schema_version: SCHEMA_VERSION,
            suite_version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: B::NAME.to_owned(),
            finished_at: String::new(),
            conclusion: unfinished(&[]),
            exit_code: unfinished(&[]).exit_code(),
            why: None,
            unit: load.bench.unit(),
            translations: Vec::new(),
            first_limit: None,
            notes: Vec::new(),
            search,
            point_bounds: bounds,
            system: system.describe(),
            machine: Machine::this(),
            plans: Vec::new(),
            points: Vec::new(),
        },
    };
    seeker.seek(&signals, &file)?;
    let capacity = seeker.result;
    let text = report::text(&capacity);
    // Before files are written: a full disk costs nothing that was measured.
    out!("\n{text}");
    files::write(&file, capacity.to_json()?)?;
    signals.kept();
    let [text_file, page] = beside;
    files::write(&text_file, &text)?;
    files::write(&page, report::html(&capacity))?;
    outln!("{:<12} {}", "written", files::shown(&folder.join("capacity.{json,txt,html}")));
    if let Some(path) = &flags.markdown {
        files::write(path, report::markdown(&capacity))?;
    }
    github_job::of_capacity(&capacity);
    Ok(capacity.exit_code)
}

/// Returns the bounds of the search.
fn settings<B: Bench>(
    flags: &CapacityFlags,
    bounds: &PointBounds,
    load: &BenchLoad<B>,
    from: Rate,
) -> Result<SearchSettings> {
    let per_s = |rate: Rate| rounded(rate.per_second_f64());
    let from_per_s = per_s(from);
    let mut longest_s = 0.0_f64;
    for planned in seeker::planned(load, Duration::from_secs_f64(bounds.least_s), from_per_s)?.iter().flatten() {
        let own = seeker::sampled_per_s(load, &planned.workload)?;
        longest_s = longest_s.max(stop_rule::sampling_s(&planned.workload, own));
    }
    // Below it no window is long enough.
    let least_per_s = rounded(from_per_s * longest_s / bounds.most_s * 1.001);
    let floor_per_s = flags.floor.map_or_else(|| rounded(from_per_s * FLOOR_PART), per_s).max(least_per_s).max(0.001);
    let ceiling_per_s = flags.to.map_or(1e6, per_s);
    if least_per_s > from_per_s {
        return Err(Error::usage(format!(
            "at {from_per_s}/s a threshold's quantile has its samples after {longest_s:.0} s, above --longest-point {:.0}s",
            bounds.most_s
        ))
        .with_hint(format!("give --from {least_per_s}/s or more, or --longest-point {:.0}s", longest_s.ceil())));
    }
    if floor_per_s > from_per_s || from_per_s > ceiling_per_s {
        return Err(Error::usage(format!(
            "the first rate, {from_per_s}/s, is not between --floor {floor_per_s}/s and --to {ceiling_per_s}/s"
        ))
        .with_hint("give --from between the two"));
    }
    Ok(SearchSettings {
        from_per_s,
        factor: flags.factor,
        precision: flags.precision,
        floor_per_s,
        ceiling_per_s,
        most_points: usize::from(flags.max_points),
    })
}

/// Returns the program of the reference server, which may be needed.
fn reference_program(chosen: Option<PathBuf>) -> Result<PathBuf> {
    match chosen {
        // One without a folder would be looked for in PATH.
        Some(program) => std::path::absolute(&program).context(|| format!("finding {}", program.display())),
        None => invocation::beside(reference::PROGRAM),
    }
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.1..=10.0).contains(&factor) => Ok(factor),
        _ => Err("write it as 1.5, from 1.1 to 10".to_owned()),
    }
}

fn precision(text: &str) -> Result<f64, String> {
    match share(text)? {
        share if (0.01..=0.5).contains(&share) => Ok(share),
        _ => Err("must be from 1% to 50%".to_owned()),
    }
}
