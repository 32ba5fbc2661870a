//! The daemons behind certctl's connectors: nginx, Apache httpd, HAProxy, and an F5. They run already, or a run starts
//! them (the F5 as a mock).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::advice::Named;
use super::base_url::BaseUrl;
use super::counters::Counters;
use super::f5::{F5Mock, Management};
use super::side_effects::Measured;
use super::{Behaviour, Store, SystemDescription, SystemKind};
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::event_loop::timeout;
use crate::load::runtime::runtime;
use crate::measure::Outcome;
use crate::measure::validity::Work;
use crate::provision::daemon::{self, Daemon, Reload, StartedDaemon, Worker};
use crate::provision::pki::{Authority, Identity, KeyType, Purpose};
pub use crate::scenario::connector_kind::ConnectorKind;
use crate::scenario::rotation::Rotations;
use crate::wire::connection::Stopwatch;
use crate::wire::offer::{HandshakeOffer, Resumption};
use crate::wire::peer::{Connections, Peer};
use crate::wire::request::{Method, encode};
use crate::wire::sessions::Sessions;
use crate::wire::tls::{self, TlsOptions, Trust};
use crate::wire::{Dialer, Fault, FaultKind, Phases, Scratch};

/// The longest wait for a daemon's answer before the measurement.
const PATIENCE: Duration = Duration::from_secs(10);
/// The full handshakes after which a daemon without a ticket of TLS 1.3 is taken to give none: a session of TLS 1.2 can
/// be resumed by any number of connections.
const PRIMING_CONNECTIONS: usize = 32;
/// The names for which certificates of started daemons are valid.
const NAMES: [&str; 6] =
    ["localhost", "nginx-target", "apache-target", "haproxy-target", "f5-mock-target", "127.0.0.1"];

/// The choice of daemons for a run.
#[derive(Clone, Debug)]
pub struct DaemonChoice {
    /// The kinds of daemon that are measured.
    pub kinds: Vec<ConnectorKind>,
    /// Daemons that run already. If there are none, all that are installed are started.
    pub named: Vec<(ConnectorKind, BaseUrl)>,
    /// The verification of the certificates of those.
    pub trust: Trust,
    /// The key type of the certificates of started daemons.
    pub key_type: KeyType,
    /// The way in which a started HAProxy takes up a new certificate.
    pub haproxy_reload: Reload,
}

impl DaemonChoice {
    /// Chooses those of these kinds that are installed: they are started, with ECDSA keys.
    pub fn started(kinds: Vec<ConnectorKind>) -> Self {
        Self {
            kinds,
            named: Vec::new(),
            trust: Trust::System,
            key_type: KeyType::EcdsaP256,
            haproxy_reload: Reload::Graceful,
        }
    }
}

/// A daemon that answers.
pub struct Connector {
    /// Its kind.
    pub kind: ConnectorKind,
    /// Its base URL.
    pub base: BaseUrl,
    /// The first address of its host at which it answers.
    address: SocketAddr,
    trust: Trust,
    version: String,
    origin: Origin,
}

enum Origin {
    Running,
    Started(Arc<Mutex<StartedDaemon>>),
    Mock(Box<F5Mock>),
}

/// The daemons that answer. Dropping this stops those that were started.
pub struct Connectors {
    all: Vec<Connector>,
    /// The daemons that are missing, each with its fix, one per line.
    skipped: Vec<String>,
    authority: Arc<Authority>,
    key_type: KeyType,
    haproxy_reload: Reload,
    rotations: Arc<Rotations>,
}

impl Connectors {
    /// Starts the daemons to be started, and checks that all answer. `f5_mock` is the mock's program.
    ///
    /// # Errors
    /// If a daemon does not answer 200, or none is there.
    pub fn prepare(wanted: DaemonChoice, f5_mock: &Path, notify: &mut dyn FnMut(String)) -> Result<Self> {
        let authority = Arc::new(Authority::root(KeyType::EcdsaP256)?);
        let mut connectors = Self {
            all: Vec::new(),
            skipped: Vec::new(),
            authority,
            key_type: wanted.key_type,
            haproxy_reload: wanted.haproxy_reload,
            rotations: Arc::default(),
        };
        if wanted.named.is_empty() {
            connectors.start(&wanted.kinds, f5_mock, notify)?;
        } else {
            connectors.find(&wanted, notify)?;
        }
        if connectors.all.is_empty() {
            return Err(Error::new("none of the selected daemons is installed or named")
                .with_hint("install one (Debian: apt-get install nginx apache2 haproxy), or name a running one"));
        }
        Ok(connectors)
    }

    fn skip(&mut self, skipped: String, notify: &mut dyn FnMut(String)) {
        notify(skipped.clone());
        self.skipped.push(skipped);
    }

    /// Connects to daemons that run already.
    fn find(&mut self, wanted: &DaemonChoice, notify: &mut dyn FnMut(String)) -> Result<()> {
        if matches!(wanted.trust, Trust::Insecure) {
            notify("WARNING: --insecure: certificates are not verified, and may be those of impostors".to_owned());
        }
        for kind in &wanted.kinds {
            match wanted.named.iter().find(|(named, _)| named == kind) {
                Some((_, base)) => self.all.push(Connector::running(*kind, base.clone(), wanted.trust.clone())?),
                None => self.skip(format!("skipped: {kind} not named ({})", kind.variable()), notify),
            }
        }
        Ok(())
    }

    /// Starts those of `kinds` that are installed.
    fn start(&mut self, kinds: &[ConnectorKind], f5_mock: &Path, notify: &mut dyn FnMut(String)) -> Result<()> {
        for kind in kinds {
            match kind.daemon() {
                Some(daemon) => self.start_daemon(*kind, daemon, notify)?,
                None => self.start_f5(f5_mock, notify)?,
            }
        }
        Ok(())
    }

    fn start_daemon(&mut self, kind: ConnectorKind, daemon: Daemon, notify: &mut dyn FnMut(String)) -> Result<()> {
        let installation = match daemon::find(daemon)? {
            Ok(installation) => installation,
            Err(skipped) => {
                self.skip(skipped.to_string(), notify);
                return Ok(());
            }
        };
        let reload = if daemon == Daemon::Haproxy { self.haproxy_reload } else { Reload::Graceful };
        let options = daemon::DaemonOptions { reload, ..Default::default() };
        let sidecar = StartedDaemon::start(&installation, &self.identity()?, &options)?;
        let (address, version) = (sidecar.address(), sidecar.version().to_owned());
        notify(format!("started {kind} {version} at {address}"));
        self.add(Connector {
            kind,
            base: BaseUrl::local(address.port()),
            address,
            trust: self.authority.trust(),
            version,
            origin: Origin::Started(Arc::new(Mutex::new(sidecar))),
        })
    }

    fn start_f5(&mut self, f5_mock: &Path, notify: &mut dyn FnMut(String)) -> Result<()> {
        let mock = F5Mock::start(f5_mock)?;
        // The mock generates its own first certificate, with a key type of its choice.
        mock.deploy(&self.identity()?)?;
        notify(format!("started a mock of an F5 at {}", mock.address));
        self.add(Connector {
            kind: ConnectorKind::F5,
            base: mock.base.clone(),
            address: mock.address,
            // The certificates that are deployed to it come from this run's authority.
            trust: mock.trust.clone().and(self.authority.certificate()),
            version: format!("mock {}", mock.version),
            origin: Origin::Mock(Box::new(mock)),
        })
    }

    /// Adds a started daemon, if it answers.
    fn add(&mut self, started: Connector) -> Result<()> {
        started.preflight()?;
        self.all.push(started);
        Ok(())
    }

    /// Issues a new certificate for the started daemons.
    fn identity(&self) -> Result<Identity> {
        self.authority.issue(self.key_type, Purpose::Server, &NAMES)
    }

    /// Returns the record of the replacements, with their times.
    pub fn rotations(&self) -> Arc<Rotations> {
        self.rotations.clone()
    }

    /// Returns the addresses at which they listen.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.all.iter().map(|connector| connector.address).collect()
    }

    /// Returns the daemons that answer.
    pub fn all(&self) -> &[Connector] {
        &self.all
    }

    /// Returns the started daemons, as handles to replace their certificates.
    pub fn replaceable(&self) -> Vec<Replaceable> {
        let replaceable = self.all.iter().filter_map(|connector| {
            let what = match &connector.origin {
                Origin::Running => return None,
                Origin::Started(sidecar) => Which::StartedDaemon(sidecar.clone()),
                Origin::Mock(mock) => Which::F5(mock.management()),
            };
            Some(Replaceable { kind: connector.kind, what, authority: self.authority.clone(), key_type: self.key_type })
        });
        replaceable.collect()
    }

    /// Returns the mock of an F5, if one was started.
    pub fn f5(&self) -> Option<&F5Mock> {
        self.all.iter().find_map(|connector| match &connector.origin {
            Origin::Mock(mock) => Some(&**mock),
            _ => None,
        })
    }

    /// Returns the counters of the mock of an F5 at this moment.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn f5_counts(&self) -> Result<Option<Counters>> {
        self.f5().map(F5Mock::counts).transpose()
    }

    /// Returns the work that the answers of a workload claim, beside the evidence of it.
    ///
    /// # Errors
    /// If the mock of an F5 does not answer.
    pub fn work(&self, measured: Measured<'_>, before: Option<&Counters>) -> Result<Vec<Work>> {
        let Measured { scenario, peer, measurement } = measured;
        let mut work = Vec::new();
        if peer.connections == Connections::PerArrival {
            let (claimed, found) = (measurement.outcomes.count(Outcome::Ok), measurement.phases.tls.count());
            let name = "right answers on a connection of their own";
            work.push(Work { name, claimed, found, source: "the TLS library" });
        }
        // Daemons that ran already have no counters to query.
        let claims = scenario.claims();
        if let (false, Some(before), Some(mock)) = (claims.is_empty(), before, self.f5()) {
            work.extend(mock.counts()?.work_since(before, &claims, measurement.unanswered));
        }
        Ok(work)
    }

    /// Describes the daemons, for results.
    pub fn description(&self) -> SystemDescription {
        let mut settings = Map::new();
        for connector in &self.all {
            let started = !matches!(connector.origin, Origin::Running);
            let mut facts = json!({
                "base_url": connector.base.to_string(),
                "key_type": started.then(|| self.key_type.label()),
                "started": started,
                "version": connector.version,
            });
            if !connector.base.is_address() {
                facts["address"] = connector.address.to_string().into();
            }
            if started && connector.kind == ConnectorKind::Haproxy && self.haproxy_reload == Reload::Runtime {
                facts["replaced_by"] = "commit ssl cert".into();
            }
            settings.insert(connector.kind.label().to_owned(), facts);
        }
        if !self.skipped.is_empty() {
            settings.insert("skipped".to_owned(), Value::from(self.skipped.clone()));
        }
        let versions: Vec<String> = self.all.iter().map(|one| format!("{} {}", one.kind, one.version)).collect();
        let urls: Vec<String> = self.all.iter().map(|one| one.base.to_string()).collect();
        SystemDescription {
            kind: SystemKind::Connectors,
            base_url: urls.join(", "),
            address: None,
            version: versions.join(", "),
            binary_sha256: None,
            migrations_sha256: None,
            behaviour: Behaviour::AsBuilt,
            store: Store::None,
            trust: self.all.first().map_or_else(String::new, |one| one.trust.to_string()),
            settings,
        }
    }
}

impl Connector {
    /// Connects to a daemon that runs already, at the first address of its host at which it answers.
    fn running(kind: ConnectorKind, base: BaseUrl, trust: Trust) -> Result<Self> {
        let mut failure =
            Error::new(format!("{base}: the host has no address")).with_hint(format!("check the URL of {kind}"));
        for address in base.addresses()? {
            let (base, trust, version) = (base.clone(), trust.clone(), "unknown".to_owned());
            let connector = Self { kind, base, address, trust, version, origin: Origin::Running };
            match connector.preflight() {
                Ok(()) => return Ok(connector),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Creates a peer for workloads with this offer, of up to `connections` at a time. Sessions to resume exist when it
    /// returns.
    ///
    /// # Errors
    /// If the TLS version and group do not go together, or the daemon does not answer.
    pub fn peer(&self, offer: HandshakeOffer, connections: usize) -> Result<Peer> {
        let dialers = match offer.resumption {
            Resumption::Full => vec![self.dialer(offer, None)?],
            Resumption::Resumed => vec![self.resuming_dialer(offer, connections)?],
            Resumption::Mixed => vec![self.dialer(offer, None)?, self.resuming_dialer(offer, connections)?],
            Resumption::Offered => {
                vec![self.dialer(offer, None)?, self.resuming_dialer(offer, connections)?.either_way()]
            }
        };
        Ok(Peer { dialers, connections: Connections::PerArrival })
    }

    fn dialer(&self, offer: HandshakeOffer, sessions: Option<Arc<Sessions>>) -> Result<Dialer> {
        let options = TlsOptions { trust: self.trust.clone(), sessions, version: offer.version, group: offer.group };
        Ok(Dialer::new(self.address, self.base.server_name()?, tls::configure(&options)?))
    }

    /// Creates a dialer with a session to resume for each connection: if the daemon stalls, all of them shake hands at
    /// once, and a ticket is good for one handshake.
    fn resuming_dialer(&self, offer: HandshakeOffer, connections: usize) -> Result<Dialer> {
        let sessions = Arc::new(Sessions::for_connections(connections));
        let dialer = self.dialer(offer, Some(sessions.clone()))?;
        // Most daemons give two tickets per full handshake, some give one.
        for done in 0..connections.max(PRIMING_CONNECTIONS) {
            if sessions.tickets() >= connections || (done >= PRIMING_CONNECTIONS && sessions.tickets() == 0) {
                break;
            }
            self.exchange(&dialer)?;
        }
        sessions.resume();
        Ok(dialer.resuming())
    }

    /// Creates a peer that keeps a connection for each client.
    ///
    /// # Errors
    /// If the certificate's authority cannot be used.
    pub fn keeping_peer(&self) -> Result<Peer> {
        let config = tls::client_config(&self.trust)?;
        let greeting = encode(Method::Get, self.kind.path(), &self.base.host_header(), None, "");
        let dialers = vec![Dialer::new(self.address, self.base.server_name()?, config)];
        Ok(Peer { dialers, connections: Connections::Kept(greeting) })
    }

    /// Creates a peer of full handshakes, each on a new connection, that takes any certificate: the caller compares it
    /// with the one that it deployed, whatever authority that has.
    ///
    /// # Errors
    /// If its name cannot be a server's.
    pub fn unverified_peer(&self) -> Result<Peer> {
        Ok(Peer { dialers: vec![self.unverified_dialer()?], connections: Connections::PerArrival })
    }

    fn unverified_dialer(&self) -> Result<Dialer> {
        Ok(Dialer::new(self.address, self.base.server_name()?, tls::client_config(&Trust::Insecure)?))
    }

    /// Returns the id of the certificate that it shows now. Not for use inside an async runtime.
    ///
    /// # Errors
    /// If it does not complete a handshake.
    pub fn shown(&self) -> Result<u64> {
        let dialer = self.unverified_dialer()?;
        let what = || format!("{} at {}: reading its certificate", self.kind, self.base);
        runtime()?.block_on(async {
            let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
            match timeout(PATIENCE, dialer.open(&mut watch, &mut phases)).await {
                Ok(Ok(connection)) => Ok(connection.record().certificate),
                Ok(Err(fault)) => Err(Error::new(format!("{}: {fault}", what()))),
                Err(_) => Err(Error::new(format!("{}: no handshake within {PATIENCE:?}", what()))),
            }
        })
    }

    /// Reports whether it is reached over loopback.
    pub fn is_local(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Sends it one request and checks the answer.
    fn preflight(&self) -> Result<()> {
        let dialer = Dialer::new(self.address, self.base.server_name()?, tls::client_config(&self.trust)?);
        self.exchange(&dialer)
    }

    fn exchange(&self, dialer: &Dialer) -> Result<()> {
        let status = runtime()?.block_on(async {
            let answered = timeout(PATIENCE, get(dialer, self.kind.path(), &self.base.host_header())).await;
            answered.unwrap_or_else(|_| Err(Fault::new(FaultKind::Closed, format!("no answer within {PATIENCE:?}"))))
        });
        match status {
            Ok(200) => Ok(()),
            Ok(status) => {
                Err(Error::new(format!("{} at {}: GET {} answers {status}", self.kind, self.base, self.kind.path()))
                    .with_hint("have it answer 200 there"))
            }
            Err(fault) => {
                let (what, url_from) = (self.kind.to_string(), format!("the URL of {}", self.kind));
                let (base, trust) = (&self.base, &self.trust);
                let named = Named { what: &what, base, url_from: &url_from, ca_flag: "--connector-ca-file", trust };
                Err(Error::new(format!("{what} at {}", named.what(&fault))).with_hint(named.hint(&fault)))
            }
        }
    }
}

async fn get(dialer: &Dialer, path: &str, host: &str) -> Result<u16, Fault> {
    let (mut watch, mut phases, mut scratch) = (Stopwatch::from(Moment::now()), Phases::default(), Scratch::default());
    let mut connection = dialer.open(&mut watch, &mut phases).await?;
    scratch.request = encode(Method::Get, path, host, None, "");
    connection.exchange(Method::Get, &mut scratch, &mut watch, &mut phases).await?;
    connection.close(PATIENCE).await;
    // An exchange that succeeds has a response.
    Ok(scratch.response().map_or(0, |response| response.status))
}

/// A daemon whose certificate can be replaced while it runs.
pub struct Replaceable {
    /// Its kind.
    pub kind: ConnectorKind,
    what: Which,
    authority: Arc<Authority>,
    key_type: KeyType,
}

enum Which {
    StartedDaemon(Arc<Mutex<StartedDaemon>>),
    F5(Management),
}

impl Replaceable {
    /// Issues the next certificate.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn next(&self) -> Result<Identity> {
        self.authority.issue(self.key_type, Purpose::Server, &NAMES)
    }

    /// Returns the processes that serve now and that a replacement of the certificate will replace.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn workers(&self) -> Result<Vec<Worker>> {
        match &self.what {
            Which::StartedDaemon(sidecar) => {
                sidecar.lock().unwrap_or_else(PoisonError::into_inner).workers_to_replace()
            }
            Which::F5(_) => Ok(Vec::new()),
        }
    }

    /// Deploys the certificate, as certctl's connector does, and returns once the daemon has been notified.
    ///
    /// # Errors
    /// If the daemon refuses it.
    pub fn replace(&self, identity: &Identity) -> Result<()> {
        match &self.what {
            Which::StartedDaemon(sidecar) => sidecar.lock().unwrap_or_else(PoisonError::into_inner).replace(identity),
            Which::F5(management) => management.deploy(identity),
        }
    }
}
