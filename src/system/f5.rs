//! The F5 that a run starts: a mock of its iControl REST API, and of a virtual server that serves the deployed
//! certificate.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;

use super::base_url::BaseUrl;
use super::counters::Counters;
use super::probe::PATIENCE;
use super::{Token, check_program};
use crate::clock::Moment;
use crate::error::{Context, Error, Result};
use crate::event_loop::timeout;
use crate::foreign;
use crate::load::runtime::runtime;
use crate::measure::Outcome;
use crate::provision::child::{Child, Spec};
use crate::provision::pki::Identity;
use crate::scenario::f5_deploy::deployment::{Credentials, Deployment, LOGOUT, Pair, STEPS};
use crate::wire::connection::Stopwatch;
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode};
use crate::wire::tls::{Trust, client_config};
use crate::wire::{Connection, Dialer, Fault, Phases, Scratch};

/// The name of its program.
pub const PROGRAM: &str = "f5-mock";
/// The path of a request, without a login, that checks that it works.
pub const HEALTH_PATH: &str = "/healthz";
/// The profile of the virtual server that every client connects to, except the management client.
pub const SERVED_PROFILE: &str = "clientssl-certctl";

/// The longest wait for the mock to accept connections.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// The server name for which the mock keeps showing its own certificate, whatever is deployed.
const MANAGEMENT_NAME: &str = "management.localhost";
const COUNTS_PATH: &str = "/mock/counts";

/// A running mock. Dropping it stops it.
pub struct F5Mock {
    /// Its address.
    pub address: SocketAddr,
    /// Its address as a URL.
    pub base: BaseUrl,
    /// The authority of the certificate that it starts with. A certificate deployed later has its own authority.
    pub trust: Trust,
    /// Its version, as it reports it.
    pub version: String,
    management: Management,
    _server: Child,
}

/// A client for requests to the mock beside the load, for use from any thread.
#[derive(Clone)]
pub struct Management {
    address: SocketAddr,
    host: String,
    config: Arc<ClientConfig>,
    credentials: Credentials,
    /// The number of connections that the management client opened, which are not part of the load.
    connections: Arc<AtomicU64>,
}

impl F5Mock {
    /// Starts the program `binary`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(binary: &Path) -> Result<Self> {
        check_program("the F5 mock", binary)?;
        let mut command = Command::new(binary);
        command.args(["--listen", "127.0.0.1:0"]);
        let mut server = Child::spawn("the F5 mock", command, Spec::default())?;
        let ready = server.wait_for_line(START_PATIENCE)?;
        let ready: Value = serde_json::from_str(&ready)
            .map_err(|error| Error::new(format!("the F5 mock's ready line is not JSON: {error}")))?;
        let text = |key: &str| {
            ready[key].as_str().ok_or_else(|| Error::new(format!("the F5 mock's ready line lacks {key:?}")))
        };
        let address: SocketAddr = text("address")?.parse().context(|| "reading the F5 mock's address".to_owned())?;
        let (base, trust) =
            (BaseUrl::local(address.port()), Trust::from_pem(text("ca_pem")?.as_bytes(), "of the F5 mock")?);
        let management = Management {
            address,
            host: base.host_header(),
            config: client_config(&trust)?,
            credentials: Credentials {
                username: "certctl-bench".to_owned(),
                password: Token::generate()?.reveal().to_owned(),
            },
            connections: Arc::default(),
        };
        Ok(Self { address, base, trust, version: text("version")?.to_owned(), management, _server: server })
    }

    /// Returns the credentials of a login.
    pub fn credentials(&self) -> &Credentials {
        &self.management.credentials
    }

    /// Returns the management client, for threads other than the one that holds the mock.
    pub fn management(&self) -> Management {
        self.management.clone()
    }

    /// Deploys an identity to [`SERVED_PROFILE`]: new handshakes show it from then on. Not for use inside an async
    /// runtime.
    ///
    /// # Errors
    /// If a step fails.
    pub fn deploy(&self, identity: &Identity) -> Result<()> {
        self.management.deploy(identity)
    }

    /// Requests the mock's own counters of work, without the handshakes of the management client. The mock counts
    /// before it answers. Not for use inside an async runtime.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn counts(&self) -> Result<Counters> {
        self.management.counts()
    }
}

impl Management {
    /// Deploys an identity: see [`F5Mock::deploy`].
    ///
    /// # Errors
    /// If a step fails.
    pub fn deploy(&self, identity: &Identity) -> Result<()> {
        let pair = Arc::new(Pair { certificate: identity.chain_pem.clone(), key: identity.key_pem.clone() });
        let id = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut deployment = Deployment::new(pair, SERVED_PROFILE, &id.to_string());
        runtime()?.block_on(async {
            let mut session = self.connect().await?;
            let done = self.deploy_in(&mut session, &mut deployment).await;
            if done.is_err() {
                let method = deployment.encode(LOGOUT, &self.host, &self.credentials, &mut session.scratch.request);
                // Gives the token back if possible; the first error is the one to report.
                let _ = session.exchange(method, || "logging out".to_owned()).await;
            }
            done
        })
    }

    async fn deploy_in(&self, session: &mut ManagementSession, deployment: &mut Deployment) -> Result<()> {
        for (step, name) in STEPS.iter().enumerate() {
            let what = || format!("deploying to the F5 mock at {}: {name}", self.address);
            let method = deployment.encode(step, &self.host, &self.credentials, &mut session.scratch.request);
            let response = session.exchange(method, what).await?;
            let outcome = deployment.judge(step, &response);
            if outcome != Outcome::Ok {
                return Err(Error::new(format!("{}: {outcome}: {}", what(), reason(&response))));
            }
        }
        Ok(())
    }

    /// Requests the counters: see [`F5Mock::counts`].
    ///
    /// # Errors
    /// If it does not answer.
    pub fn counts(&self) -> Result<Counters> {
        runtime()?.block_on(async {
            let mut session = self.connect().await?;
            session.scratch.request = encode(Method::Get, COUNTS_PATH, &self.host, None, "");
            let what = || format!("querying the F5 mock at {} for {COUNTS_PATH}", self.address);
            let response = session.exchange(Method::Get, what).await?;
            let mut values: Value = serde_json::from_slice(response.body).unwrap_or_default();
            if let Some(handshakes) = values["handshakes"].as_u64() {
                let own = self.connections.load(Ordering::Relaxed);
                values["handshakes"] = handshakes.saturating_sub(own).into();
            }
            Counters::new(values, "the F5 mock's own count")
                .ok_or_else(|| Error::new(format!("{}: the answer is not a JSON object", what())))
        })
    }

    async fn connect(&self) -> Result<ManagementSession> {
        let what = || format!("connecting to the F5 mock at {}", self.address);
        let name = ServerName::try_from(MANAGEMENT_NAME).context(what)?;
        let dialer = Dialer::new(self.address, name, self.config.clone());
        let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
        let connection = in_time(dialer.open(&mut watch, &mut phases), what).await?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(ManagementSession { connection, scratch: Scratch::default() })
    }
}

/// A connection of the management client.
struct ManagementSession {
    connection: Connection,
    scratch: Scratch,
}

impl ManagementSession {
    async fn exchange(&mut self, method: Method, what: impl Fn() -> String) -> Result<Response<'_>> {
        let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
        let kept = self.connection.exchange(method, &mut self.scratch, &mut watch, &mut phases);
        in_time(kept, &what).await?;
        self.scratch.response().ok_or_else(|| Error::new(format!("{}: no complete response", what())))
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Fault>>, what: impl Fn() -> String) -> Result<T> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(|fault| Error::new(format!("{}: {fault}", what()))),
        Err(_) => Err(Error::new(format!("{}: not done within {PATIENCE:?}", what()))),
    }
}

/// Returns the reason in an error of iControl.
fn reason(response: &Response<'_>) -> String {
    let json: Value = serde_json::from_slice(response.body).unwrap_or_default();
    json["message"].as_str().map_or_else(|| "no reason given".to_owned(), foreign::line)
}
