//! The command line, and the tokens, which come by environment so that no process list shows them.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, ValueEnum};
use serde_json::{Map, Value};

use crate::auth::Key;
use crate::store::Grant;

const TOKEN_VARIABLE: &str = "CERTCTL_REFERENCE_TOKEN";
const VIEWER_TOKEN_VARIABLE: &str = "CERTCTL_REFERENCE_VIEWER_TOKEN";

/// certctl's default limits of ACME orders.
const ORDERS_PER_HOUR: u32 = 100;
const CONCURRENT_ORDERS: u32 = 5;

/// A certctl-shaped HTTPS server for benchmarks, on loopback only. It stops when its standard input ends.
///
/// Environment: CERTCTL_REFERENCE_TOKEN (required) is the bearer token of the administrator key `loadtest`;
/// CERTCTL_REFERENCE_VIEWER_TOKEN (optional) that of the read-only key `viewer`.
#[derive(Debug, Parser)]
#[command(name = "certctl-reference", version)]
#[command(group(ArgGroup::new("store").args(["database", "in_memory"]).required(true).multiple(false)))]
pub struct Args {
    /// Loopback address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT", value_parser = loopback)]
    pub listen: SocketAddr,

    /// Present the certificates of this PEM file instead of one made at the start
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Keep all rows in this PostgreSQL database (15 or later)
    #[arg(long, value_name = "URL", env = "CERTCTL_REFERENCE_DATABASE", hide_env_values = true)]
    pub database: Option<String>,

    /// Keep all rows in memory, but of audit rows the end of their chain only
    #[arg(long)]
    pub in_memory: bool,

    /// Agents in the in-memory store
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub agents: u32,

    /// Certificates in the in-memory store
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub certificates: u32,

    /// Targets in the in-memory store: one for each of the first agents; certificates are mapped to them in turn
    #[arg(long, value_name = "N", default_value_t = 0, env = "CERTCTL_REFERENCE_TARGETS")]
    pub targets: u32,

    /// Certificates in the in-memory store that agents deploy, each with a target of the agent with its number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub deployments: u32,

    /// Certificates of a job drain in the in-memory store
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub drain: u32,

    /// The first agents, to whose targets the certificates of a job drain are mapped in turn
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub drain_agents: u32,

    /// The side that makes the keys of renewals
    #[arg(long, value_enum, default_value_t = KeyGeneration::Agent, env = "CERTCTL_REFERENCE_KEYGEN")]
    pub keygen: KeyGeneration,

    /// Time between two rounds of the job processor; 0s for no rounds [default: 30s with --keygen server, none with
    /// --keygen agent, where it would only take deployments from their agents]
    #[arg(long, value_name = "TIME", env = "CERTCTL_REFERENCE_JOB_INTERVAL", value_parser = interval)]
    pub job_interval: Option<Duration>,

    /// Time after which the CRL is made again; 0s for never
    #[arg(long, value_name = "TIME", default_value = "1h", env = "CERTCTL_REFERENCE_CRL_INTERVAL", value_parser = interval)]
    pub crl_interval: Duration,

    /// OCSP requests a minute for each client address; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 1_000, env = "CERTCTL_REFERENCE_OCSP_LIMIT")]
    pub ocsp_limit: usize,

    /// Answer as certctl was built, or as its documents say where the two differ
    #[arg(long, value_enum, default_value_t = Behaviour::AsBuilt)]
    pub behaviour: Behaviour,

    /// The end of ACME orders: as built it fails with 500, and works on a certctl whose database was patched for it; as
    /// documented it works
    #[arg(long, value_enum, value_name = "OUTCOME", env = "CERTCTL_REFERENCE_ACME_FINALIZE")]
    acme_finalize: Option<AcmeFinalize>,

    /// The most ACME orders of an account within an hour; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = ORDERS_PER_HOUR, env = "CERTCTL_REFERENCE_ACME_ORDERS_PER_HOUR")]
    pub acme_orders_per_hour: u32,

    /// The most open ACME orders of an account; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = CONCURRENT_ORDERS, env = "CERTCTL_REFERENCE_ACME_CONCURRENT_ORDERS")]
    pub acme_concurrent_orders: u32,

    /// The port of 127.0.0.1 at which http-01 challenges of every name are checked; without it they all fail, as
    /// certctl's do on loopback
    #[arg(long, value_name = "PORT")]
    pub acme_http01_port: Option<u16>,

    /// Limit each client address to 50 requests a second, burst 100, as certctl does by default
    #[arg(long)]
    pub rate_limit: bool,

    /// Wait so long (2ms) before each request but the probes is looked at: a defect to be found by who compares runs.
    /// It is announced nowhere
    #[arg(long, value_name = "TIME", default_value = "0s", env = "CERTCTL_REFERENCE_DELAY", value_parser = delay)]
    pub delay: Duration,

    /// Share of the requests that wait so long (2%), evenly spread
    #[arg(long, value_name = "SHARE", default_value = "100%", env = "CERTCTL_REFERENCE_DELAYED", value_parser = share)]
    pub delayed: f64,

    /// Worker threads
    #[arg(long, value_name = "N", default_value = "2")]
    pub workers: NonZeroUsize,
}

/// The side that makes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyGeneration {
    /// Agents make keys and submit signing requests
    Agent,
    /// The job processor makes keys
    Server,
}

/// The end of an ACME order once its signing request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcmeFinalize {
    /// The certificate is signed, kept, and can be downloaded
    Works,
    /// The certificate is signed and cannot be kept: 500, and the order stays open
    Fails,
}

impl AcmeFinalize {
    /// Returns the name used on the command line and among the settings.
    pub fn label(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Fails => "fails",
        }
    }
}

impl Args {
    /// Returns the end of ACME orders.
    pub fn acme_finalize(&self) -> AcmeFinalize {
        self.acme_finalize.unwrap_or(match self.behaviour {
            Behaviour::AsBuilt => AcmeFinalize::Fails,
            Behaviour::AsDocumented => AcmeFinalize::Works,
        })
    }

    /// Returns ACME's settings that differ from those of the behaviour, for results to state.
    pub fn acme_deviations(&self) -> Map<String, Value> {
        let finalize = self.acme_finalize.map(|finalize| Value::from(finalize.label()));
        let limit = |limit: u32, usual: u32| (limit != usual).then(|| Value::from(limit));
        let settings = [
            ("acme_finalize", finalize),
            ("acme_orders_per_hour", limit(self.acme_orders_per_hour, ORDERS_PER_HOUR)),
            ("acme_concurrent_orders", limit(self.acme_concurrent_orders, CONCURRENT_ORDERS)),
        ];
        settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// Returns the time between two rounds of the job processor, if there are any.
    pub fn job_rounds(&self) -> Option<Duration> {
        let usual = match self.keygen {
            KeyGeneration::Agent => Duration::ZERO,
            KeyGeneration::Server => JOB_INTERVAL,
        };
        Some(self.job_interval.unwrap_or(usual)).filter(|interval| !interval.is_zero())
    }
}

/// The certctl that is imitated, where its code and its documents differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Behaviour {
    /// Unknown agent or ACME profile: 500. A heartbeat of an agent that was not Online puts its old row back. A
    /// certificate of a taken name or an unknown owner: 500. A cursor leads to the first page for ever. A bulk renewal
    /// by criteria, and the metrics, look at the 50 oldest certificates. ACME needs a bearer token, its errors carry no
    /// nonce, every account may download every certificate, and a signing request for other names is answered with 500.
    /// An OCSP request in a body is looked up without the serial number's leading zeros, and its nonce comes back
    /// beside the status. The job processor takes deployments from their agents
    AsBuilt,
    /// Unknown agent or ACME profile: 404. Every accepted heartbeat leaves its own time and metadata. A certificate of
    /// a taken name: 409, of an unknown owner: 400. A cursor leads to the next page. A bulk renewal by criteria, and
    /// the metrics, look at all certificates. ACME is open to everyone, its errors carry nonces, certificates are for
    /// the accounts that ordered them, and a signing request for other names is answered with 400. OCSP finds every
    /// serial number, and its nonce comes back in the response's extensions. The job processor leaves deployments to
    /// their agents. An unknown certificate or job is 404 everywhere
    AsDocumented,
}

impl Behaviour {
    /// Returns the most certificates that are looked at where all are meant: as built, a limit beyond 500 becomes the
    /// default one.
    pub fn most_certificates(self) -> Option<i64> {
        (self == Self::AsBuilt).then_some(50)
    }

    /// Returns the name used on the command line and in the announcement.
    pub fn label(self) -> &'static str {
        match self {
            Self::AsBuilt => "as-built",
            Self::AsDocumented => "as-documented",
        }
    }
}

/// certctl's default.
const JOB_INTERVAL: Duration = Duration::from_secs(30);

/// The longest interval.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 30s"))?;
    if interval <= LONGEST_INTERVAL { Ok(interval) } else { Err(format!("at most {LONGEST_INTERVAL:?}")) }
}

/// The longest delay: longer than any client waits.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

fn delay(text: &str) -> Result<Duration, String> {
    let delay = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 2ms"))?;
    if delay <= LONGEST_DELAY { Ok(delay) } else { Err(format!("at most {LONGEST_DELAY:?}")) }
}

fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("write it as 2%, from 0% to 100%".to_owned()),
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:0".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{} is not a loopback address; this server has no place on a network", address.ip()))
    }
}

/// The bearer tokens. Neither `Debug` nor `Display`: a token is never printed.
pub struct Tokens {
    admin: String,
    viewer: Option<String>,
}

impl Tokens {
    /// Reads the tokens from the environment.
    pub fn from_environment() -> Result<Self, String> {
        let admin =
            read(TOKEN_VARIABLE).ok_or_else(|| format!("{TOKEN_VARIABLE} is not set; set it to the bearer token"))?;
        let viewer = read(VIEWER_TOKEN_VARIABLE);
        if viewer.as_ref() == Some(&admin) {
            return Err(format!("{VIEWER_TOKEN_VARIABLE} equals {TOKEN_VARIABLE}; give the viewer its own token"));
        }
        Ok(Self { admin, viewer })
    }

    /// Returns the roles that the keys get at boot.
    pub fn grants(&self) -> Vec<Grant> {
        let mut grants = vec![Grant { actor: "loadtest", role: "r-admin" }];
        if self.viewer.is_some() {
            grants.push(Grant { actor: "viewer", role: "r-viewer" });
        }
        grants
    }

    /// Returns the keys, with tokens reduced to digests.
    pub fn into_keys(self) -> Vec<Key> {
        let mut keys = vec![Key::new("loadtest", &self.admin, true)];
        keys.extend(self.viewer.map(|token| Key::new("viewer", &token, false)));
        keys
    }
}

fn read(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|token| !token.is_empty())
}
