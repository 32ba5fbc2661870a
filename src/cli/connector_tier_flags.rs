//! Flags of `connector_tier`, and the workloads that they plan.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::bench::{Bench, Groups, SystemArgs};
use super::common_flags::{ArrivalSpread, EnvironmentUse, LoadFlags, RateProfileFlag, duration};
use crate::error::{Error, Result};
use crate::load::dispatcher::Affinity;
use crate::load::plan::{Model, Opening};
use crate::load::ports::Ports;
use crate::load::rate::Rate;
use crate::measure::threshold::Threshold;
use crate::provision::daemon::Reload;
use crate::provision::pki::KeyType;
use crate::run::{Binding, PlannedWorkload, Workload, sockets};
use crate::scenario::connector_handshake::{self, ConnectorHandshake};
use crate::scenario::connector_kind::ConnectorKind;
use crate::scenario::f5_deploy::deployment::STEPS;
use crate::scenario::f5_deploy::{self, F5Deploy};
use crate::scenario::need::Need;
use crate::system::base_url::BaseUrl;
use crate::system::connectors::{Connector, Connectors, DaemonChoice};
use crate::system::f5::PROGRAM as F5_MOCK;
use crate::wire::offer::{HandshakeOffer, Resumption};
use crate::wire::tls::{KeyExchange, TlsVersion, Trust};

/// The default window: at the contract's rate the thresholds need 300 arrivals.
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// The default window of `rotation`.
const ROTATION_WINDOW: Duration = Duration::from_secs(60);
/// Connections a second to each daemon while its certificate is rotated.
const ROTATION_RATE: u64 = 50;

/// Flags that name the daemons.
#[derive(Args, Clone, Debug)]
#[command(
    next_help_heading = "System under test (default: every installed daemon, started on loopback, and a mock of an F5)"
)]
pub struct ConnectorFlags {
    /// A running nginx: https://host:port [env also: NGINX_TARGET_URL].
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_NGINX")]
    nginx: Option<String>,
    /// A running Apache httpd [env also: APACHE_TARGET_URL].
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_APACHE")]
    apache: Option<String>,
    /// A running HAProxy [env also: HAPROXY_TARGET_URL].
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_HAPROXY")]
    haproxy: Option<String>,
    /// A running F5, or a server that answers /healthz in its place [env also: F5_TARGET_URL].
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_F5")]
    f5: Option<String>,
    /// The authority of the running daemons' certificates, PEM [default: the system's].
    #[arg(long, value_name = "FILE", env = "CERTCTL_BENCH_CONNECTOR_CA_FILE")]
    connector_ca_file: Option<PathBuf>,
    /// Accept any certificate of a running daemon.
    #[arg(long, env = "CERTCTL_BENCH_INSECURE", conflicts_with = "connector_ca_file")]
    insecure: bool,
    /// The key of the certificates of daemons that are started.
    #[arg(long, value_enum, default_value = "ecdsa-p256", env = "CERTCTL_BENCH_KEY_TYPE")]
    key_type: KeyType,
}

impl SystemArgs for ConnectorFlags {
    const NAMES: &'static [(&'static str, Option<&'static str>)] = &[
        ("nginx", Some("NGINX_TARGET_URL")),
        ("apache", Some("APACHE_TARGET_URL")),
        ("haproxy", Some("HAPROXY_TARGET_URL")),
        ("f5", Some("F5_TARGET_URL")),
    ];

    type Choice = DaemonChoice;

    fn resolve(self, environment: EnvironmentUse) -> Result<DaemonChoice> {
        let urls = [
            (ConnectorKind::Nginx, self.nginx),
            (ConnectorKind::Apache, self.apache),
            (ConnectorKind::Haproxy, self.haproxy),
            (ConnectorKind::F5, self.f5),
        ];
        let mut named = Vec::new();
        for (kind, url) in urls {
            let old_name = kind.variable();
            if let Some(url) = url.or_else(|| environment.variable(old_name)) {
                let base: BaseUrl = url
                    .parse()
                    .map_err(|error| Error::usage(format!("URL of {kind} (--{kind}, {old_name}): {error}")))?;
                named.push((kind, base));
            }
        }
        let trust = match &self.connector_ca_file {
            _ if self.insecure => Trust::Insecure,
            Some(file) => Trust::from_file(file)?,
            None => Trust::System,
        };
        Ok(DaemonChoice {
            kinds: ConnectorKind::ALL.to_vec(),
            named,
            trust,
            key_type: self.key_type,
            haproxy_reload: Reload::Graceful,
        })
    }
}

/// Flags of `connector_tier`.
#[derive(Args, Clone, Debug)]
pub struct ConnectorTierFlags {
    /// The workload to run.
    #[arg(long, value_enum, default_value = "handshake", env = "CERTCTL_BENCH_WORKLOAD")]
    workload: ConnectorWorkload,
    /// New connections to each daemon: 100/m, 50/s [default: 100/m; rotation 50/s].
    #[arg(long, env = "CERTCTL_BENCH_RATE")]
    rate: Option<Rate>,
    #[command(flatten)]
    profile: RateProfileFlag,
    /// Spread of the arrivals: constant or poisson.
    #[arg(long, default_value = "constant", env = "CERTCTL_BENCH_ARRIVALS")]
    arrivals: ArrivalSpread,
    /// Connections to each daemon that may be open at once.
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000),
          env = "CERTCTL_BENCH_CONNECTIONS")]
    connections: u32,
    /// Resumption of TLS sessions. A run whose handshakes are other than declared is invalid [default: full; rotation
    /// offers a session in every other handshake, which the daemon may resume or not].
    #[arg(long, value_enum, env = "CERTCTL_BENCH_RESUMPTION")]
    resumption: Option<Resumption>,
    /// Offer this protocol version alone.
    #[arg(long, value_enum, env = "CERTCTL_BENCH_TLS_VERSION")]
    tls_version: Option<TlsVersion>,
    /// Offer this key exchange group alone.
    #[arg(long, value_enum, env = "CERTCTL_BENCH_GROUP")]
    group: Option<KeyExchange>,
    /// Leave out the daemons that are not named here.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "DAEMONS", env = "CERTCTL_BENCH_ONLY")]
    only: Vec<ConnectorKind>,
    /// With --workload rotation: interval at which each daemon's certificate is replaced.
    #[arg(long, default_value = "10s", value_parser = duration, env = "CERTCTL_BENCH_ROTATE_EVERY")]
    rotate_every: Duration,
    /// With --workload rotation: replace HAProxy's certificate in its running process (`commit ssl cert`) instead of
    /// reloading it.
    #[arg(long, env = "CERTCTL_BENCH_HAPROXY_COMMIT")]
    haproxy_commit: bool,
    /// With --workload f5-deploy: number of certificates deployed at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100), env = "CERTCTL_BENCH_USERS")]
    users: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ConnectorWorkload {
    /// New connections to all daemons, in parallel.
    Handshake,
    /// Certificates are deployed to the F5.
    F5Deploy,
    /// New connections to all daemons while their certificates are replaced.
    Rotation,
}

impl ConnectorTierFlags {
    fn offer(&self) -> HandshakeOffer {
        HandshakeOffer {
            resumption: match self.resumption {
                None if self.workload == ConnectorWorkload::Rotation => Resumption::Offered,
                declared => declared.unwrap_or(Resumption::Full),
            },
            version: self.tls_version,
            group: self.group,
        }
    }

    fn rate(&self) -> Rate {
        let usual = match self.workload {
            ConnectorWorkload::Rotation => Rate::per_second(ROTATION_RATE),
            _ => Rate::per_minute(100),
        };
        self.rate.unwrap_or(usual)
    }

    fn wants(&self, kind: ConnectorKind) -> bool {
        match self.workload {
            ConnectorWorkload::F5Deploy => kind == ConnectorKind::F5,
            _ => self.only.is_empty() || self.only.contains(&kind),
        }
    }

    /// Refuses flags that the workload would ignore.
    fn check(&self) -> Result<()> {
        let resumes = self.resumption.is_some_and(|declared| declared != Resumption::Full);
        if self.workload == ConnectorWorkload::Rotation && resumes {
            return Err(Error::usage(
                "--workload rotation always offers sessions; a reload invalidates them, so that the kind of handshake \
                 cannot be declared",
            )
            .with_hint("leave --resumption out, or give --resumption full"));
        }
        if self.workload != ConnectorWorkload::Rotation && self.haproxy_commit {
            return Err(Error::usage(
                "--haproxy-commit applies only to --workload rotation, which replaces certificates",
            )
            .with_hint("leave --haproxy-commit out"));
        }
        let passed_over = [
            ("--rate", self.rate.is_some()),
            ("--rate-profile", self.profile.rate_profile.is_some()),
            ("--arrivals", self.arrivals != ArrivalSpread::Constant),
            ("--resumption", resumes),
            ("--tls-version", self.tls_version.is_some()),
            ("--group", self.group.is_some()),
            ("--only", !self.only.is_empty()),
        ];
        let passed_over = passed_over.iter().find(|(_, given)| *given);
        match passed_over.filter(|_| self.workload == ConnectorWorkload::F5Deploy) {
            Some((flag, _)) => Err(Error::usage(format!(
                "{flag} does not apply to --workload f5-deploy: its users deploy to the F5, each over one persistent \
                 connection"
            ))
            .with_hint(format!("leave {flag} out; set the number of concurrent deployments with --users"))),
            None => Ok(()),
        }
    }

    /// Plans the workload of new connections to a daemon.
    fn connecting(&self, kind: ConnectorKind, load: &LoadFlags) -> Result<PlannedWorkload<Connectors>> {
        let window = load.duration.unwrap_or(match self.workload {
            ConnectorWorkload::Rotation => ROTATION_WINDOW,
            _ => WINDOW,
        });
        let pattern = load.pattern(self.profile.rate_profile.as_ref(), self.rate(), self.arrivals, window)?;
        let peak_per_s = pattern.peak_per_second(1);
        let model = Model::Open { pattern, clients: 1, affinity: Affinity::Any };
        let mut plan = load.plan(model, self.connections as usize, connector_handshake::STEPS.len())?;
        plan.opening = Opening::ByFirstRequest;
        plan.window = window;
        // Constant schedules would all begin together, and each daemon would wait for the others.
        let period = Duration::from_secs_f64(1.0 / peak_per_s);
        plan.starts_after = period * kind as u32 / ConnectorKind::ALL.len() as u32;
        // Random schedules of one seed would be the same.
        plan.rng_seed = plan.rng_seed.wrapping_add(kind as u64);
        let rotates_every = self.rotates_every();
        let expected = peak_per_s * (plan.warm_up + plan.window).as_secs_f64();
        let (offer, connections) = (self.offer(), plan.connections);
        let name = connector_handshake::name(kind, rotates_every.is_some());
        let workload = Workload { name, plan, thresholds: connector_handshake::thresholds(kind) };
        let bind = move |connectors: &Connectors| {
            // A daemon that is not installed was reported when the others were started.
            let Some(connector) = connectors.all().iter().find(|one| one.kind == kind) else { return Ok(None) };
            let mut scenario = ConnectorHandshake::new(kind, offer, &connector.base.host_header());
            if let Some(every) = rotates_every {
                scenario = scenario.through(connectors.rotations(), every, expected);
            }
            Ok(Some(Binding::of(scenario, connector.peer(offer, connections)?)))
        };
        Ok(PlannedWorkload::new(workload, bind))
    }

    /// Plans the workload that deploys certificates to the F5, one after another.
    fn deploying(&self, load: &LoadFlags) -> Result<PlannedWorkload<Connectors>> {
        let model = Model::Closed { think: Duration::ZERO, rounds: None };
        let plan = load.plan(model, self.users as usize, STEPS.len())?;
        let bind = |connectors: &Connectors| {
            let connector = connectors.all().iter().find(|one| one.kind == ConnectorKind::F5);
            let (connector, mock) = connector.zip(connectors.f5()).ok_or_else(|| {
                Error::usage("certificates are deployed only to this suite's mock of an F5")
                    .with_hint("leave the URLs out")
            })?;
            let scenario = F5Deploy::new(&connector.base.host_header(), mock.credentials().clone())?;
            Ok(Some(Binding::of(scenario, connector.keeping_peer()?)))
        };
        Ok(PlannedWorkload::new(Workload { name: f5_deploy::NAME, plan, thresholds: Vec::new() }, bind))
    }
}

impl Bench for ConnectorTierFlags {
    type System = ConnectorFlags;

    const NAME: &'static str = "connector_tier";
    const ABOUT: &'static str =
        "TLS handshakes with the daemons behind certctl's connectors, each on a new connection.";
    const SEEDS: &'static [&'static str] = &[];
    const SERVER: &'static str = F5_MOCK;

    fn smoke(&mut self) {
        if self.workload != ConnectorWorkload::F5Deploy {
            self.rate = Some(Rate::per_second(20));
        }
        self.connections = self.connections.min(20);
        self.rotate_every = self.rotate_every.min(Duration::from_millis(800));
    }

    fn needs(&self, _load: &LoadFlags) -> Vec<Need> {
        Vec::new()
    }

    fn loops(&self) -> &'static [&'static str] {
        // The loops of handshakes are a bench target of their own.
        &[]
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<Connectors>> {
        self.check()?;
        let kinds = ConnectorKind::ALL.into_iter().filter(|kind| self.wants(*kind));
        Ok(vec![match self.workload {
            ConnectorWorkload::F5Deploy => vec![self.deploying(load)?],
            ConnectorWorkload::Handshake | ConnectorWorkload::Rotation => {
                kinds.map(|kind| self.connecting(kind, load)).collect::<Result<_>>()?
            }
        }])
    }

    fn adjust(&self, choice: &mut DaemonChoice) {
        choice.kinds.retain(|kind| self.wants(*kind));
        choice.haproxy_reload = if self.haproxy_commit { Reload::Runtime } else { Reload::Graceful };
    }

    fn remark(&self, connectors: &Connectors, workloads: &[&Workload]) -> Option<String> {
        if self.workload == ConnectorWorkload::F5Deploy {
            return None;
        }
        let loopback = connectors.all().iter().all(Connector::is_local);
        let peaks = workloads.iter().filter_map(|workload| workload.plan.model.peak());
        let peak = peaks.max_by_key(|rate| rate.in_common_period())?;
        let headroom = Ports::of_this_machine()?.headroom(peak, loopback);
        let warning = if headroom.lasts() { "" } else { "WARNING: " };
        Some(format!("{warning}{headroom}\n{}", sockets(workloads.iter().copied())))
    }

    fn unsplit(&self) -> Option<&'static str> {
        Some("its daemons are observed by one process")
    }

    fn error_floor(&self) -> Threshold {
        match self.workload {
            // Not one connection may fail.
            ConnectorWorkload::Rotation => Threshold::Errors(f64::MIN_POSITIVE),
            _ => Threshold::Errors(0.01),
        }
    }

    fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        const OF_CERTCTL: &str = "applies only to a certctl: daemons have no such rows";
        vec![("agents", OF_CERTCTL), ("certificates", OF_CERTCTL)]
    }

    fn rotates_every(&self) -> Option<Duration> {
        (self.workload == ConnectorWorkload::Rotation).then_some(self.rotate_every)
    }
}
