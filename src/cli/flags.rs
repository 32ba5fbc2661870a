//! The flags that every bench target shares. Each has an environment variable `CERTCTL_BENCH_…`; the old harness's
//! names work too.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use super::criterion::CriterionFlags;
use crate::error::{Error, Result};
use crate::load::desk::Affinity;
use crate::load::open::Plan;
use crate::load::rate::Rate;
use crate::load::schedule::Arrivals;
use crate::scenario::agent_storm::SEEDED_AGENTS;
use crate::target::base::Base;
use crate::target::reference::Store;
use crate::target::{Target, Token};
use crate::wire::tls::Trust;

/// The token that the old harness used where none is given.
const DEFAULT_TOKEN: &str = "load-test-token";

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Criterion's loop: one connection, one request per iteration.
    Loop,
    /// The scenario's workload at its rate, judged by its thresholds.
    Sustained,
    /// The loop, then the workload.
    Both,
}

/// The command line of a bench target.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cargo bench --bench agent_storm --",
    version,
    about = "A fleet of agents heartbeats at certctl, each on a TLS connection of its own.",
    after_help = "Exit codes: 0 pass, 1 could not run, 2 usage, 3 threshold breached, 5 invalid measurement.",
    args_override_self = true
)]
pub struct BenchFlags {
    /// What to run.
    #[arg(long, value_enum, default_value = "both", env = "CERTCTL_BENCH_MODE")]
    pub mode: Mode,
    /// Where results go.
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Where the load goes.
    #[command(flatten)]
    pub target: TargetFlags,
    /// How much load there is.
    #[command(flatten)]
    pub load: LoadFlags,
    /// Criterion's own flags.
    #[command(flatten)]
    pub criterion: CriterionFlags,
}

/// Where the load goes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Target (default: a reference server that is started on loopback)")]
pub struct TargetFlags {
    /// A running certctl: https://host:port [env also: CERTCTL_BASE].
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_TARGET")]
    target: Option<String>,
    /// The API key, for a running certctl [env also: CERTCTL_TOKEN; default: load-test-token].
    #[arg(long, value_name = "KEY", env = "CERTCTL_BENCH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The CA that signed the server's certificate, PEM [env also: CERTCTL_CA_FILE; default: the system's].
    #[arg(long, value_name = "FILE", env = "CERTCTL_BENCH_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Accept any server certificate.
    #[arg(long, env = "CERTCTL_BENCH_INSECURE", conflicts_with = "ca_file")]
    insecure: bool,
    /// PostgreSQL URL. With a running certctl: its database, to check the work done. Without: where the reference
    /// server keeps its rows, instead of a private PostgreSQL.
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Let the reference server keep its rows in memory.
    #[arg(long, env = "CERTCTL_BENCH_IN_MEMORY", conflicts_with_all = ["database", "target"])]
    in_memory: bool,
}

/// How much load there is.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Workload")]
pub struct LoadFlags {
    /// Arrivals: 167/s, 100/m.
    #[arg(long, default_value = "167/s", env = "CERTCTL_BENCH_RATE")]
    rate: Rate,
    /// How arrivals are spread: constant or poisson.
    #[arg(long, default_value = "constant", env = "CERTCTL_BENCH_ARRIVALS")]
    arrivals: Arrivals,
    /// The measured window: 30s, 5m.
    #[arg(long, default_value = "30s", value_parser = duration, env = "CERTCTL_BENCH_DURATION")]
    duration: Duration,
    /// Load before the measured window.
    #[arg(long, default_value = "5s", value_parser = duration_or_zero, env = "CERTCTL_BENCH_WARM_UP")]
    warm_up: Duration,
    /// How many agents take turns.
    #[arg(long, default_value_t = SEEDED_AGENTS, value_parser = clap::value_parser!(u64).range(1..=SEEDED_AGENTS),
          env = "CERTCTL_BENCH_AGENTS")]
    agents: u64,
    /// Pool this many connections instead of one per agent.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000),
          env = "CERTCTL_BENCH_CONNECTIONS")]
    connections: Option<u32>,
    /// How fast connections are opened before the load.
    #[arg(long, default_value = "1000/s", env = "CERTCTL_BENCH_CONNECT_RATE")]
    connect_rate: Rate,
    /// How long a request may take, or an arrival may wait for a connection.
    #[arg(long, default_value = "10s", value_parser = duration, env = "CERTCTL_BENCH_TIMEOUT")]
    timeout: Duration,
    /// A run in which more than 1% of arrivals start later than this is invalid.
    #[arg(long, default_value = "10ms", value_parser = duration, env = "CERTCTL_BENCH_MAX_LAG")]
    max_lag: Duration,
    /// Makes a random schedule repeatable.
    #[arg(long, default_value_t = 1, env = "CERTCTL_BENCH_RNG_SEED")]
    rng_seed: u64,
}

/// Where the load goes, once flags and environment are understood.
pub enum Where {
    /// A certctl that runs already.
    Running(Box<Target>),
    /// The reference server, which is to be started.
    Reference(Store),
}

impl TargetFlags {
    /// Understands flags and environment together.
    ///
    /// # Errors
    /// If one of them is wrong.
    pub fn resolve(self) -> Result<Where> {
        let Some(base) = self.target.or_else(|| variable("CERTCTL_BASE")) else {
            return Ok(Where::Reference(match self.database {
                Some(url) => Store::Database(url),
                None if self.in_memory => Store::InMemory,
                None => Store::Auto,
            }));
        };
        let base: Base =
            base.parse().map_err(|error| Error::usage(format!("target URL (--target, CERTCTL_BASE): {error}")))?;
        let token = self.token.or_else(|| variable("CERTCTL_TOKEN")).unwrap_or_else(|| DEFAULT_TOKEN.to_owned());
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::usage(
                "the token (--token, CERTCTL_TOKEN) holds a space or a control character, or nothing",
            )
            .mend("give the key alone, without quotes or line ends"));
        }
        let trust = match self.ca_file.or_else(|| variable("CERTCTL_CA_FILE").map(PathBuf::from)) {
            _ if self.insecure => Trust::Insecure,
            Some(file) => Trust::from_file(&file)?,
            None => Trust::System,
        };
        Ok(Where::Running(Box::new(Target::external(base, trust, Token::new(token), self.database))))
    }
}

impl LoadFlags {
    /// The workload that the flags ask for, and how many agents take turns.
    ///
    /// # Errors
    /// If the flags contradict one another.
    pub fn plan(&self) -> Result<(Plan, u64)> {
        let (connections, affinity) = match self.connections {
            Some(count) => (count as usize, Affinity::Any),
            None => (self.agents as usize, Affinity::Own),
        };
        if self.max_lag >= self.timeout {
            return Err(Error::usage("--max-lag is not below --timeout: no arrival could ever be late"));
        }
        let plan = Plan {
            rate: self.rate,
            arrivals: self.arrivals,
            rng_seed: self.rng_seed,
            warm_up: self.warm_up,
            window: self.duration,
            connections,
            affinity,
            connect_rate: self.connect_rate,
            timeout: self.timeout,
            max_lag: self.max_lag,
        };
        Ok((plan, self.agents))
    }

    /// Cuts the workload down to a second or two: a smoke run shows that every part works.
    pub fn smoke(&mut self) {
        self.agents = self.agents.min(100);
        self.connections = self.connections.map(|count| count.min(100));
        self.rate = Rate::per_second(100);
        self.duration = Duration::from_secs(1);
        self.warm_up = Duration::from_millis(200);
    }
}

/// An environment variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        duration => Ok(duration),
    }
}

/// A day is longer than any run: more is a slip of the finger.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 30s, 5m or 500ms"))?;
    if duration > LONGEST { Err("must be at most a day".to_owned()) } else { Ok(duration) }
}
