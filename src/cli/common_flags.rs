//! The flags that every bench target shares. Each has an environment variable `CERTCTL_BENCH_…`; the old harness's
//! names work too.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use super::bench::{Bench, SystemArgs};
use super::criterion::CriterionFlags;
use super::history_flags::HistoryFlags;
use super::live_flags::LiveFlags;
pub(super) use super::processes::ProcessCount;
use crate::baseline::local::Keep;
use crate::error::{Error, Result};
use crate::exit_code;
use crate::files;
use crate::load::cut::{ErrorLimit, RunLimits};
use crate::load::plan::{Model, Opening, Plan};
use crate::load::profile::RateProfile;
use crate::load::rate::Rate;
pub(super) use crate::load::schedule::ArrivalSpread;
use crate::load::schedule::Pattern;
use crate::load::shard::Shard;
use crate::load::threads::{GeneratorThreads, free_processors};
use crate::measure::machine_use::CpuBound;
use crate::run::{self, BoundWorkload};
use crate::scenario::need::Need;
use crate::seed::Sizes;
use crate::system::base_url::{BaseUrl, redact};
use crate::system::certctl_binary::{BinaryChoice, ChosenSettings, FlagNames};
use crate::system::reference::StoreChoice;
use crate::system::{Addresses, Behaviour, Certctl, Token};
use crate::wire::tls::Trust;

/// The token that the old harness used where none is given.
const DEFAULT_TOKEN: &str = "load-test-token";

const OF_RUNNING: &str = "applies only to a running certctl, and none is named";
const OF_BINARY: &str = "applies only to --certctl, which starts a certctl";

/// The parts of a bench target that a run executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Criterion's loop: one connection, one request per iteration.
    Loop,
    /// The workload at its rate, judged by its thresholds.
    Sustained,
    /// The loop, then the workload.
    Both,
}

/// The command line of a bench target; `B` holds the flags that are its own.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = exit_code::HELP,
    args_override_self = true
)]
pub struct BenchFlags<B: Bench> {
    /// The parts to run.
    #[arg(long, value_enum, default_value = "both", env = "CERTCTL_BENCH_MODE")]
    pub mode: Mode,
    /// Folder of the results.
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Folder of the baselines saved by name [default: target/certctl-bench/baselines].
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_BASELINES")]
    pub baselines: Option<PathBuf>,
    /// The file in which the run is kept.
    #[command(flatten)]
    pub history: HistoryFlags,
    /// With --save-baseline: keep the workload's runs that were saved under the name before, and add this one.
    #[arg(long, requires = "save_baseline")]
    pub add_run: bool,
    /// Load a system that is not on this machine's loopback: others may depend on it, so that the run announces its
    /// load for five seconds.
    #[arg(long, env = "CERTCTL_BENCH_ALLOW_REMOTE")]
    pub allow_remote: bool,
    /// Processes that send the load, each a part of it: auto takes as few as the limit of file descriptors allows.
    #[arg(long, value_name = "COUNT", default_value_t = ProcessCount::Auto, env = "CERTCTL_BENCH_GENERATOR_PROCESSES")]
    pub generator_processes: ProcessCount,
    /// The system under test.
    #[command(flatten)]
    pub system: B::System,
    /// The flags of the load that are the bench target's own.
    #[command(flatten, next_help_heading = "Workload")]
    pub bench: B,
    /// The flags of the load that all bench targets share.
    #[command(flatten)]
    pub load: LoadFlags,
    /// The view of the run while it goes on.
    #[command(flatten)]
    pub live: LiveFlags,
    /// Criterion's own flags.
    #[command(flatten)]
    pub criterion: CriterionFlags,
}

impl<B: Bench> BenchFlags<B> {
    /// True for a smoke run, which only shows that everything works: with `--test`, or without `--bench`, as
    /// `cargo test` runs bench targets.
    pub fn is_smoke(&self) -> bool {
        self.criterion.test || !self.criterion.bench
    }

    /// Returns the runs to keep of those saved under the same name before.
    pub fn keep(&self) -> Keep {
        if self.add_run { Keep::Earlier } else { Keep::Nothing }
    }

    /// Cuts the workload down, if this is a smoke run.
    pub fn apply_smoke(&mut self) {
        if self.is_smoke() {
            self.load.smoke();
            self.bench.smoke();
        }
    }
}

/// Flags that name the system under test.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "System under test (default: a reference server, started on loopback)")]
pub struct CertctlFlags {
    /// A running certctl: https://host:port [env also: CERTCTL_BASE].
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_TARGET")]
    target: Option<String>,
    /// A certctl-server binary. The run starts it on loopback, with a private PostgreSQL, its demo rows and the seeds,
    /// in a network namespace of its own, and removes all of it afterwards.
    #[arg(long, value_name = "PATH", env = "CERTCTL_BENCH_CERTCTL",
          conflicts_with_all = ["target", "token", "ca_file", "insecure", "database", "allow_foreign_rows", "in_memory",
                                "behaviour"])]
    certctl: Option<PathBuf>,
    /// With --certctl: the folder of its migrations and demo seed [default: `migrations` in the binary's folder or one
    /// of the three above it].
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_CERTCTL_MIGRATIONS")]
    certctl_migrations: Option<PathBuf>,
    /// With --certctl: a setting of certctl's, CERTCTL_…, or of Go's runtime, GO…. Can be given several times; in the
    /// environment, one a line.
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "CERTCTL_BENCH_CERTCTL_ENV",
        hide_env_values = true,
        value_delimiter = '\n'
    )]
    certctl_env: Vec<String>,
    /// With --certctl: leave it in this machine's network. Its demo rows name private networks; those that make it
    /// connect there are switched off before it starts.
    #[arg(long, env = "CERTCTL_BENCH_SHARE_NETWORK")]
    share_network: bool,
    #[command(flatten)]
    access: AccessFlags,
    /// PostgreSQL URL. With a running certctl: its database, to check the work done. Without: where the reference
    /// server keeps its rows, instead of a private PostgreSQL.
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Let the reference server keep its rows in memory.
    #[arg(long, env = "CERTCTL_BENCH_IN_MEMORY", conflicts_with_all = ["database", "target"])]
    in_memory: bool,
    /// Behaviour of the reference server: that of certctl as built, or of its documents where the two differ.
    #[arg(long, value_enum, default_value = "as-built", env = "CERTCTL_BENCH_BEHAVIOUR")]
    behaviour: Behaviour,
}

/// Flags of the access to a certctl that runs already.
#[derive(Args, Clone, Debug)]
pub struct AccessFlags {
    /// The API key, for a running certctl [env also: CERTCTL_TOKEN; default: load-test-token].
    #[arg(long, value_name = "KEY", env = "CERTCTL_BENCH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The CA that signed its certificate, PEM [env also: CERTCTL_CA_FILE; default: the system's].
    #[arg(long, value_name = "FILE", env = "CERTCTL_BENCH_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Accept any certificate of a running certctl.
    #[arg(long, env = "CERTCTL_BENCH_INSECURE", conflicts_with = "ca_file")]
    insecure: bool,
    /// With a running certctl: use its database although it holds agents or certificates that are neither this suite's
    /// nor certctl's demo ones.
    #[arg(long, env = "CERTCTL_BENCH_ALLOW_FOREIGN_ROWS")]
    allow_foreign_rows: bool,
}

impl AccessFlags {
    /// Returns the certctl at `base`, whose database is perhaps known.
    ///
    /// # Errors
    /// If the key or the CA's file is not one.
    pub(super) fn certctl(&self, base: BaseUrl, database: Option<String>) -> Result<Certctl> {
        let token = self.token.clone().or_else(|| variable("CERTCTL_TOKEN"));
        let token = token.unwrap_or_else(|| DEFAULT_TOKEN.to_owned());
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::usage(
                "the token (--token, CERTCTL_TOKEN) is empty, or contains a space, a control character or a letter \
                 beyond ASCII",
            )
            .with_hint("give only the key, without quotes or line ends"));
        }
        let trust = match self.ca_file.clone().or_else(|| variable("CERTCTL_CA_FILE").map(PathBuf::from)) {
            _ if self.insecure => Trust::Insecure,
            Some(file) => Trust::from_file(&file)?,
            None => Trust::System,
        };
        let mut certctl = Certctl::external(base, trust, Token::new(token), database);
        certctl.allow_foreign_rows = self.allow_foreign_rows;
        Ok(certctl)
    }
}

/// Flags that size the load.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Workload")]
pub struct LoadFlags {
    /// The measured window: 30s, 5m [default: 30s; bulk_renewal and connector_tier 5m, job_drain at most 10m, --fleet
    /// restart 2m, --workload rotation and deploy_loop 1m].
    #[arg(long, value_parser = duration, env = "CERTCTL_BENCH_DURATION")]
    pub duration: Option<Duration>,
    /// Load before the measured window [default: 5s].
    #[arg(long, value_parser = duration_or_zero, env = "CERTCTL_BENCH_WARM_UP")]
    pub warm_up: Option<Duration>,
    /// Longest time for a request, for an arrival's wait for a connection, and for the drain [default: 10s; ACME and
    /// real fleets 30s, job_drain 60s and its wave 2m, deploy_loop 30s beside two polls].
    #[arg(long, value_parser = duration, env = "CERTCTL_BENCH_TIMEOUT")]
    pub timeout: Option<Duration>,
    /// Largest schedule lag of an arrival that is not late; a run with more than 1% late arrivals is invalid.
    #[arg(long, default_value = "10ms", value_parser = duration, env = "CERTCTL_BENCH_MAX_LAG")]
    pub max_lag: Duration,
    /// Largest share that other processes and the host may take of the CPU that the run left free: above it the run is
    /// invalid, from half of it on doubtful. Less than a twentieth of all processors is not judged. 100% switches this
    /// off, and the judgement of CPU quotas too.
    #[arg(long, value_name = "SHARE", default_value = "50%", value_parser = other_cpu, env = "CERTCTL_BENCH_MAX_OTHER_CPU")]
    pub max_other_cpu: CpuBound,
    /// Rate at which connections are opened before the load.
    #[arg(long, default_value = "1000/s", env = "CERTCTL_BENCH_CONNECT_RATE")]
    pub connect_rate: Rate,
    /// Threads that generate the load, each with its shard of connections and arrivals; auto: as many as the rate takes
    /// and processors are free. ACME scenarios, deploy_loop, job_drain, revocation, rotation and f5_deploy have one.
    #[arg(long, value_name = "COUNT|auto", default_value_t = GeneratorThreads::default(),
          env = "CERTCTL_BENCH_GENERATOR_THREADS")]
    pub generator_threads: GeneratorThreads,
    /// End the run, as a breach, when at least this share of the requests within this period fail: 50%/10s.
    #[arg(long, value_name = "SHARE/SPAN", env = "CERTCTL_BENCH_ABORT_ON_ERRORS")]
    pub abort_on_errors: Option<ErrorLimit>,
    /// Send no more requests than this (in acme_enroll, deploy_loop and job_drain: begin no more journeys), warm-up
    /// included, and judge what was measured by then.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), env = "CERTCTL_BENCH_MAX_REQUESTS")]
    pub max_requests: Option<u64>,
    /// Agents to have, and in agent_storm and job_drain to send, in deploy_loop to deploy [default: 5000; deploy_loop
    /// as many as --rate takes]. A running certctl needs as many seeds: certctl-bench seed --agents N.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=Sizes::MOST),
          env = "CERTCTL_BENCH_AGENTS")]
    pub agents: Option<u64>,
    /// Certificates to have for renewal, likewise [default: 10000]; in job_drain to renew at once [default: 1000].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=Sizes::MOST),
          env = "CERTCTL_BENCH_CERTIFICATES")]
    pub certificates: Option<u64>,
    /// Seed of random schedules, which makes them repeatable.
    #[arg(long, default_value_t = 1, env = "CERTCTL_BENCH_RNG_SEED")]
    pub rng_seed: u64,
    #[arg(skip)]
    smoke: bool,
}

/// The standing of the old harness's variables that name the system under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentUse {
    /// They name it where no flag does.
    Counts,
    /// They are ignored: only the command line names it.
    Ignored,
}

impl EnvironmentUse {
    /// Returns the value of a variable that names a system, if such variables count.
    pub(super) fn variable(self, name: &str) -> Option<String> {
        if self == Self::Counts { variable(name) } else { None }
    }
}

/// The choice of a certctl, or of a server shaped like it.
pub enum CertctlChoice {
    /// A certctl that runs already.
    Running(Box<Certctl>),
    /// A certctl-server binary, which is to be started.
    Binary(BinaryChoice),
    /// The reference server, which is to be started.
    Reference(StoreChoice, Behaviour),
}

impl SystemArgs for CertctlFlags {
    type Choice = CertctlChoice;

    const NAMES: &'static [(&'static str, Option<&'static str>)] =
        &[("target", Some("CERTCTL_BASE")), ("database", None), ("certctl", None)];

    fn resolve(self, environment: EnvironmentUse) -> Result<CertctlChoice> {
        if let Some(program) = self.certctl {
            if let Some(base) = environment.variable("CERTCTL_BASE") {
                return Err(Error::usage(format!(
                    "--certctl starts a certctl, but CERTCTL_BASE names a running one, {}",
                    redact(&base)
                ))
                .with_hint("leave out --certctl, or unset CERTCTL_BASE"));
            }
            let flags = FlagNames::CERTCTL;
            let settings = ChosenSettings::new(&self.certctl_env, flags)?;
            let (migrations, shares_network) = (self.certctl_migrations, self.share_network);
            let choice = BinaryChoice { flags, program, migrations, settings, shares_network, patches: Vec::new() };
            return Ok(CertctlChoice::Binary(choice));
        }
        let Some(base) = self.target.or_else(|| environment.variable("CERTCTL_BASE")) else {
            if self.access.allow_foreign_rows {
                return Err(Error::usage(
                    "--allow-foreign-rows applies only to the database of a running certctl, and none is named",
                )
                .with_hint("give --target https://host:port, or set CERTCTL_BASE"));
            }
            let store = match self.database {
                Some(url) => StoreChoice::Database(url),
                None if self.in_memory => StoreChoice::InMemory,
                None => StoreChoice::Auto,
            };
            return Ok(CertctlChoice::Reference(store, self.behaviour));
        };
        if self.in_memory {
            return Err(Error::usage(format!(
                "--in-memory applies only to the reference server, but CERTCTL_BASE names a running certctl, {}",
                redact(&base)
            ))
            .with_hint("leave out --in-memory, or unset CERTCTL_BASE to have a reference server started"));
        }
        if self.behaviour == Behaviour::AsDocumented {
            return Err(Error::usage(
                "--behaviour applies only to the reference server: a running certctl behaves as it was built",
            ));
        }
        let base: BaseUrl = base
            .parse()
            .map_err(|error| Error::usage(format!("the system's URL (--target, CERTCTL_BASE): {error}")))?;
        Ok(CertctlChoice::Running(Box::new(self.access.certctl(base, self.database)?)))
    }

    fn wants_loopback_alone(&self) -> bool {
        self.certctl.is_some() && !self.share_network
    }

    fn ignored(&self, environment: EnvironmentUse) -> Vec<(&'static str, &'static str)> {
        let of_binary = ["certctl_migrations", "certctl_env", "share_network"].map(|id| (id, OF_BINARY)).to_vec();
        if self.certctl.is_some() {
            return vec![("allow_remote", OF_RUNNING)];
        }
        if self.target.is_some() || environment.variable("CERTCTL_BASE").is_some() {
            return of_binary;
        }
        let mut ignored = ["token", "ca_file", "insecure"].map(|id| (id, OF_RUNNING)).to_vec();
        // The reference server's database may be on another machine.
        if self.database.is_none() {
            ignored.push(("allow_remote", OF_RUNNING));
        }
        ignored.extend(of_binary);
        ignored
    }
}

/// Returns the number of processors that this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl LoadFlags {
    /// Returns a plan of `model` over so many connections; a bench target then overrides what is its own.
    ///
    /// # Errors
    /// If the flags contradict one another.
    pub fn plan(&self, model: Model, connections: usize, steps: usize) -> Result<Plan> {
        let plan = Plan {
            model,
            steps,
            starts_after: Duration::ZERO,
            goes_on: Duration::ZERO,
            warm_up: self.warm_up.unwrap_or(Duration::from_secs(5)),
            window: self.window(),
            connections,
            further: 0,
            opening: Opening::Before(self.connect_rate),
            timeout: self.timeout.unwrap_or(Duration::from_secs(10)),
            max_lag: self.max_lag,
            rng_seed: self.rng_seed,
            part: None,
        };
        if plan.max_lag >= plan.timeout {
            return Err(Error::usage("--max-lag must be below --timeout: otherwise no arrival could be late"));
        }
        Ok(plan)
    }

    /// Returns the measured window of a bench target that has none of its own.
    pub fn window(&self) -> Duration {
        self.duration.unwrap_or(Duration::from_secs(30))
    }

    /// Returns the pattern of arrivals over a window of this length: at `rate`, or at the rate of `profile` if there is
    /// one.
    ///
    /// # Errors
    /// As [`LoadFlags::varying`].
    pub fn pattern(
        &self,
        profile: Option<&ProfileChoice>,
        rate: Rate,
        spread: ArrivalSpread,
        window: Duration,
    ) -> Result<Pattern> {
        profile.map_or_else(|| Ok(spread.at(rate)), |choice| self.varying(choice, spread, window))
    }

    /// Returns the pattern of arrivals at the rate of a profile, over a window of this length. A smoke run, whose
    /// window is short, has the profile's times brought forward.
    ///
    /// # Errors
    /// If the profile's file cannot be read or is none, or the window is too short for the profile (kind `Usage`).
    pub fn varying(&self, choice: &ProfileChoice, spread: ArrivalSpread, window: Duration) -> Result<Pattern> {
        let profile = choice.profile()?;
        let profile = if self.smoke { profile.fitted_into(window) } else { profile };
        let curve = profile.over(window).ok_or_else(|| {
            let [reaches, window] = [profile.reaches(), window].map(humantime::format_duration);
            Error::usage(format!("the rate profile {choice} reaches to {reaches}, but the window ends after {window}"))
                .with_hint(format!("give --duration {reaches} or more, or shorten the profile"))
        })?;
        Ok(Pattern::Varying(spread, curve))
    }

    /// Returns the rows that the system must have beside those of the workloads.
    pub fn needs(&self) -> Vec<Need> {
        self.agents.map(Need::Agent).into_iter().chain(self.certificates.map(Need::Certificate)).collect()
    }

    /// Returns the largest number of generator threads that the run may have.
    pub fn most_threads(&self) -> u64 {
        self.generator_threads.most(processors())
    }

    /// Returns the shards of a run of these groups at a system that listens at `addresses`: one for each generator
    /// thread.
    ///
    /// # Errors
    /// If there are to be several, and a workload cannot be divided (kind `Usage`).
    pub fn shards(&self, groups: &[Vec<BoundWorkload>], addresses: &Addresses) -> Result<Vec<Shard>> {
        let divisible = groups.iter().flatten().all(|bound| bound.scenario.divisible().is_some());
        let plans: Vec<Vec<_>> =
            groups.iter().map(|group| group.iter().map(|bound| &bound.workload.plan).collect()).collect();
        let system_is_here = addresses.system.iter().any(|address| address.ip().to_canonical().is_loopback());
        let free = free_processors(processors(), system_is_here);
        let threads = self.generator_threads.resolve(&plans, divisible, free);
        // Both the flag and the rule keep to the most shards.
        let shards = Shard::WHOLE.threads(threads).unwrap_or_else(|| vec![Shard::WHOLE]);
        groups.iter().try_for_each(|group| run::check_shards(group, &shards))?;
        Ok(shards)
    }

    /// Returns the limits that end the run early.
    pub fn limits(&self) -> RunLimits {
        RunLimits { requests: self.max_requests, errors: self.abort_on_errors, in_flight: None }
    }

    /// Cuts the workload down to a second or two: a smoke run shows that every part works.
    pub fn smoke(&mut self) {
        self.duration = Some(Duration::from_secs(1));
        self.warm_up = Some(Duration::from_millis(200));
        self.smoke = true;
    }

    /// True if the workload was cut down.
    pub fn is_smoke(&self) -> bool {
        self.smoke
    }
}

/// The flag of a rate that varies, for a bench target that has `--rate`. It is not `--profile`, which names an ACME
/// server's profile in `acme_flow` and `acme_burst`.
#[derive(Args, Clone, Debug)]
pub struct RateProfileFlag {
    /// Let the rate vary over the window, which the warm-up enters at the first rate: ramp:10/s-100/s;
    /// step:10/s,50/s,100/s, in equal parts; spike:10/s,100/s@20s+5s, from second 20 on for 5 s; or file:PATH, with a
    /// second and a rate on each line, between which the rate changes evenly.
    #[arg(long, value_name = "PROFILE", conflicts_with = "rate", env = "CERTCTL_BENCH_RATE_PROFILE")]
    pub rate_profile: Option<ProfileChoice>,
}

/// The most bytes of a file with a rate profile.
const MOST_PROFILE_BYTES: u64 = 64 << 10;

/// A rate profile as a flag gives it.
#[derive(Clone, Debug)]
pub enum ProfileChoice {
    /// Written out.
    Written(RateProfile),
    /// In a file, which is read once: all workloads of a run have the same profile, and a pipe has its content once.
    File(PathBuf, Arc<OnceLock<RateProfile>>),
}

impl ProfileChoice {
    /// Returns the profile, from its file if it is in one.
    fn profile(&self) -> Result<RateProfile> {
        let (path, read) = match self {
            Self::Written(profile) => return Ok(profile.clone()),
            Self::File(path, read) => (path, read),
        };
        if let Some(profile) = read.get() {
            return Ok(profile.clone());
        }
        let text = files::read_text(path, MOST_PROFILE_BYTES)
            .map_err(|error| Error::usage(format!("reading the rate profile {}: {error}", files::shown(path))))?;
        let profile = RateProfile::from_lines(&text).map_err(|why| {
            Error::usage(format!("the rate profile {}: {why}", files::shown(path)))
                .with_hint("give a second and a rate on each line, the first second 0, as in `0 10/s` and `30 100/s`")
        })?;
        Ok(read.get_or_init(|| profile).clone())
    }
}

impl FromStr for ProfileChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("file:") {
            Some("") => Err("the path of the file is missing".to_owned()),
            Some(path) => Ok(Self::File(path.into(), Arc::default())),
            None => text.parse().map(Self::Written),
        }
    }
}

impl fmt::Display for ProfileChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(profile) => profile.fmt(f),
            Self::File(path, _) => write!(f, "file:{}", files::shown(path)),
        }
    }
}

/// Returns an environment variable that is set and not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Parses a share that others may take: `50%`.
fn other_cpu(text: &str) -> Result<CpuBound, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(CpuBound(percent / 100.0)),
        _ => Err("write it as 50%, from 0% to 100%".to_owned()),
    }
}

/// Parses a span of time that is not zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// The longest span that is accepted: a day is longer than any run, so that more is a typing error.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// Parses a span of time, which may be zero.
pub fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 30s, 5m or 500ms"))?;
    if duration > LONGEST { Err("must be at most a day".to_owned()) } else { Ok(duration) }
}
