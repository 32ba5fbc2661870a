//! The preflight: checks of a system before the first measured request, with one line for the defect and one for its
//! fix.

mod acme_directory;
mod drain;
mod ours;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::event_loop::timeout;
use crate::foreign;
use crate::load::runtime::runtime;
use crate::scenario::acme::Paths;
use crate::scenario::agent_storm::AgentStorm;
use crate::scenario::deploy_loop;
use crate::scenario::need::Need;
use crate::seed::Sizes;
use crate::system::advice::Named;
use crate::system::probe::{Answer, PATIENCE, Probe};
use crate::system::{Certctl, ServerVersion, SystemKind};
use crate::wire::connection::Stopwatch;
use crate::wire::request::Method;
use crate::wire::{Connection, Dialer, Fault, FaultKind, Phases, tls};

pub use acme_directory::{is_path, renewal_info};

/// The burst of requests that certctl's default limiter lets through, and the requests per second after it.
const LIMITER_BURST: f64 = 100.0;
const LIMITER_RATE: f64 = 50.0;
/// The probes of a preflight: a limiter that is on refuses one of them, unless the answers are slow.
const LIMITER_PROBES: usize = 128;
/// The longest time of those probes: at fewer than 50 per second the limiter would let any number of them through.
const LIMITER_PATIENCE: Duration = Duration::from_secs(5);
/// The longest time, and the most probes, of a proof that the limiter is off.
const LIMITER_PROOF_PATIENCE: Duration = Duration::from_secs(20);
pub(super) const LIMITER_PROOF_PROBES: usize = 2_000;
/// The OCSP requests that certctl's default limiter answers within a minute, for each address.
const OCSP_LIMIT: u64 = 1_000;
/// The share of those that a run may take without a proof that there is no such limit, since earlier runs take some
/// too.
const OCSP_SHARE: f64 = 0.5;
/// The OCSP answer "unauthorized" (RFC 6960, section 4.2.1), with which the limiter refuses.
const REFUSED: &[u8] = &[0x30, 3, 0x0a, 1, 6];
/// The longest time of that proof.
const OCSP_PATIENCE: Duration = Duration::from_secs(20);
/// The certificates that agents deploy in a run with the default flags.
const USUAL_DEPLOYMENTS: u64 = 20;
/// The longest time of the whole preflight.
const WHOLE_PATIENCE: Duration = Duration::from_secs(60);

/// The results of the preflight.
#[derive(Clone)]
pub struct Findings {
    /// Opens connections to the first of the system's addresses that answers.
    pub dialer: Dialer,
    /// The version that the server reports.
    pub version: ServerVersion,
    /// The ACME server's directory, if a scenario needs one.
    pub acme: Option<Paths>,
}

/// Checks `certctl`: first the needs of every scenario, then `needs` in their order.
///
/// # Errors
/// If a check fails: the first failure, with its fix.
pub fn inspect(certctl: &Certctl, needs: &[Need]) -> Result<Findings> {
    let inspection = async {
        let dialer = reach(certctl).await?;
        let mut inspection = Inspection { certctl, probe: Probe::new(certctl, dialer.clone()) };
        let (mut version, mut rights, mut acme) = (ServerVersion::unknown(), Rights::default(), None);
        if !needs.contains(&Need::AcmeAlone) {
            inspection.health().await?;
            version = inspection.version().await?;
            rights = inspection.token_is_known().await?;
            inspection.rate_limiter_is_off(LIMITER_PROBES).await?;
        }
        for need in needs {
            match need {
                Need::Permission(permission) => inspection.token_may(&rights, permission)?,
                Need::Agent(number) => inspection.agent_is_seeded(*number).await?,
                Need::Certificate(number) => {
                    inspection.certificate_is_seeded(*number).await?;
                }
                Need::Deployment(number) => inspection.deployment_is_seeded(*number).await?,
                Need::Renewable(number) => inspection.certificate_is_renewable(*number).await?,
                // Nobody else has rows there, whatever certctl's demo seed has by now.
                Need::OnlyOurs(_) if certctl.has_private_database() => {}
                Need::OnlyOurs(criteria) => inspection.certificates_are_ours(criteria).await?,
                Need::Ocsp { issuer, per_minute } => inspection.ocsp_is_not_limited(issuer, *per_minute).await?,
                Need::Database => inspection.database_is_given()?,
                Need::Drain { certificates, agents } => inspection.drain_is_seeded(*certificates, *agents).await?,
                Need::Keys(keys) => inspection.keys_are_made_by(*keys).await?,
                Need::ProcessorRounds { jobs, within } => inspection.rounds_may_suffice(*jobs, *within)?,
                Need::AcmeAlone | Need::AcmeFinalization => {}
                Need::Acme { directory, bearer, renewal_info: needs_renewal_info } => {
                    let found = inspection.acme(directory, *bearer).await?;
                    if *needs_renewal_info {
                        renewal_info(&found, &certctl.base)?;
                    }
                    acme = Some(found);
                }
            }
        }
        Ok(Findings { dialer, version, acme })
    };
    let inspected = runtime()?.block_on(async { timeout(WHOLE_PATIENCE, inspection).await });
    inspected.unwrap_or_else(|_| {
        let base = &certctl.base;
        Err(Error::new(format!(
            "{base}: the requests of the preflight were not all answered within {WHOLE_PATIENCE:?}"
        ))
        .with_hint("check its log: it answers each, but too slowly to be measured"))
    })
}

/// Connects to the first of the system's addresses that completes a handshake.
async fn reach(certctl: &Certctl) -> Result<Dialer> {
    let config = tls::client_config(&certctl.trust)?;
    let mut fault = None;
    for address in certctl.base.addresses()? {
        let dialer = Dialer::new(address, certctl.base.server_name()?, config.clone());
        match open(&dialer).await {
            Ok(_) => return Ok(dialer),
            Err(found) => fault = Some((address, found)),
        }
    }
    match fault {
        Some((address, fault)) => Err(unreachable(certctl, address, &fault)),
        None => Err(Error::new(format!("{}: the host has no address", certctl.base)).with_hint("check CERTCTL_BASE")),
    }
}

/// Opens a connection, within [`PATIENCE`].
pub(super) async fn open(dialer: &Dialer) -> Result<Connection, Fault> {
    let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
    let opened = timeout(PATIENCE, dialer.open(&mut watch, &mut phases)).await;
    opened.unwrap_or_else(|_| {
        let kind = if phases.dial_ns == 0 { FaultKind::Connect } else { FaultKind::Tls };
        Err(Fault::new(kind, format!("no answer within {PATIENCE:?}")))
    })
}

/// Creates the error for a connection that could not be opened.
pub(super) fn unreachable(certctl: &Certctl, address: SocketAddr, fault: &Fault) -> Error {
    let (base, trust) = (&certctl.base, &certctl.trust);
    let named = Named { what: "certctl", base, url_from: "CERTCTL_BASE", ca_flag: "--ca-file", trust };
    let what = match fault.kind {
        FaultKind::Connect => format!("{base} is not reachable at {address}: {}", fault.detail),
        _ => named.what(fault),
    };
    Error::new(what).with_hint(named.hint(fault))
}

/// The token's user and permissions.
#[derive(Default)]
pub(super) struct Rights {
    pub user: String,
    pub permissions: BTreeSet<String>,
}

/// Returns the roles that grant a permission, as a hint.
fn granted_by(permission: &str) -> &'static str {
    match permission {
        "cert.read" => "grant r-agent or r-operator",
        "agent.read" => "grant r-operator or r-viewer",
        "cert.bulk_revoke" => "grant r-admin",
        _ if permission.starts_with("agent.") => "grant r-agent",
        _ => "grant r-operator",
    }
}

/// The checks of a system, over one probe.
pub(super) struct Inspection<'a> {
    pub certctl: &'a Certctl,
    pub probe: Probe<'a>,
}

impl Inspection<'_> {
    pub(super) fn not_certctl(&self, path: &str, answer: &Answer) -> Error {
        if let Some(coding) = &answer.coding {
            let (base, status) = (&self.certctl.base, answer.status);
            return Error::new(format!(
                "{base}{path} answers {status} coded as {coding}, though every request says Accept-Encoding: identity"
            ))
            .with_hint(
                "switch compression off in the proxy in front of certctl, or point CERTCTL_BASE at certctl itself",
            );
        }
        if answer.status >= 500 && !answer.is_html() {
            let (base, status, body) = (&self.certctl.base, answer.status, foreign::line_of_bytes(&answer.body));
            return Error::new(format!("{base}{path} answers {status}: {body}"))
                .with_hint("check certctl's log, or that of the proxy in front of it");
        }
        let what = match answer {
            _ if answer.is_html() => "HTML instead of JSON",
            Answer { is_json: true, .. } => "the wrong JSON",
            _ => "something that is not JSON",
        };
        Error::new(format!(
            "{}{path} answers {} with {what}: this is not certctl's API",
            self.certctl.base, answer.status
        ))
        .with_hint("point CERTCTL_BASE at certctl's own HTTPS address, not at a proxy, dashboard or other service")
    }

    pub(super) async fn health(&mut self) -> Result<()> {
        let answer = self.probe.get("/health").await?;
        let healthy = answer.json().is_some_and(|json| json["status"] == "healthy");
        if answer.status == 429 {
            return Err(self.limited());
        }
        if answer.status != 200 || !healthy {
            return Err(self.not_certctl("/health", &answer));
        }
        let answer = self.probe.get("/ready").await?;
        match answer.json().as_ref().map(|json| &json["status"]) {
            Some(status) if answer.status == 200 && status == "ready" => Ok(()),
            Some(_) if answer.status == 503 => Err(Error::new(format!(
                "{}: certctl does not reach its database: {}",
                self.certctl.base,
                answer.reason()
            ))
            .with_hint("start PostgreSQL, or correct certctl's CERTCTL_DATABASE_URL")),
            _ => Err(self.not_certctl("/ready", &answer)),
        }
    }

    pub(super) async fn version(&mut self) -> Result<ServerVersion> {
        let answer = self.probe.get("/api/v1/version").await?;
        match answer.status {
            429 => return Err(self.limited()),
            500.. => return Err(self.not_certctl("/api/v1/version", &answer)),
            _ => {}
        }
        let Some(json) = answer.json() else { return Err(self.not_certctl("/api/v1/version", &answer)) };
        let text = |key: &str| json[key].as_str().filter(|text| !text.is_empty()).map(foreign::line);
        let version = text("version").unwrap_or_else(|| "unknown".to_owned());
        let version = text("commit").map_or(version.clone(), |commit| format!("{version} ({commit})"));
        Ok(ServerVersion { version, behaviour: text("behaviour") })
    }

    pub(super) async fn token_is_known(&mut self) -> Result<Rights> {
        let path = "/api/v1/auth/check";
        let answer = self.probe.send_with_token(Method::Get, path).await?;
        match answer.status {
            200 => {}
            429 => return Err(self.limited()),
            401 => {
                return Err(Error::new(format!("{}: the token is not known: {}", self.certctl.base, answer.reason()))
                    .with_hint("set CERTCTL_TOKEN to a key of certctl's CERTCTL_API_KEYS_NAMED (name:key:admin)"));
            }
            _ => return Err(self.not_certctl(path, &answer)),
        }
        let Some(json) = answer.json().filter(|json| json["effective_permissions"].is_array()) else {
            return Err(self.not_certctl(path, &answer));
        };
        let permissions = json["effective_permissions"].as_array().into_iter().flatten();
        let permissions = permissions.filter_map(|entry| Some(entry["permission"].as_str()?.to_owned())).collect();
        Ok(Rights { user: json["user"].as_str().map_or_else(|| "?".to_owned(), foreign::line), permissions })
    }

    pub(super) fn token_may(&self, rights: &Rights, permission: &str) -> Result<()> {
        if rights.permissions.contains(permission) { Ok(()) } else { Err(self.may_not(&rights.user, permission)) }
    }

    fn may_not(&self, user: &str, permission: &str) -> Error {
        let base = &self.certctl.base;
        Error::new(format!("{base}: the token of {user:?} lacks the permission {permission}")).with_hint(format!(
            "use an admin key: CERTCTL_API_KEYS_NAMED=name:key:admin (any other key is read-only), or {}",
            granted_by(permission)
        ))
    }

    fn database_is_given(&self) -> Result<()> {
        if self.certctl.database.is_some() {
            return Ok(());
        }
        let (base, is_reference) = (&self.certctl.base, self.certctl.system.kind == SystemKind::Reference);
        let hint = match is_reference {
            true => "leave out --in-memory, and install PostgreSQL 15 or newer if there is none",
            false => "give --database URL, with the URL of certctl's own database",
        };
        Err(Error::usage(format!(
            "{base}: each size renews the same certificates, which cannot be put back without a database"
        ))
        .with_hint(hint))
    }

    fn limited(&self) -> Error {
        Error::new(format!(
            "{}: certctl's rate limiter is on and would answer most requests with 429",
            self.certctl.base
        ))
        .with_hint("start certctl with CERTCTL_RATE_LIMIT_ENABLED=false")
    }

    /// Sends enough requests to be refused by a rate limiter, at most `most_probes`. Returns true if it is proven to be
    /// off: no answer was a 429, and more were right than certctl's default limiter lets through in that time.
    pub(super) async fn rate_limiter_is_off(&mut self, most_probes: usize) -> Result<bool> {
        let start = Moment::now();
        let (mut right, mut is_off) = (0_u32, false);
        for probe in 0..most_probes {
            let patience = if probe < LIMITER_PROBES { LIMITER_PATIENCE } else { LIMITER_PROOF_PATIENCE };
            let is_proven = is_off && probe >= LIMITER_PROBES;
            if Moment::now() - start > patience || self.probe.was_limited() || is_proven {
                break;
            }
            right += u32::from(self.probe.get("/health").await?.status == 200);
            let let_through = LIMITER_BURST + LIMITER_RATE * (Moment::now() - start).as_secs_f64();
            is_off |= f64::from(right) > let_through;
        }
        if self.probe.was_limited() { Err(self.limited()) } else { Ok(is_off) }
    }

    /// Sends as many OCSP requests as certctl's default limiter answers, and one more, if the run needs so many. They
    /// are about a serial number that no certificate has.
    pub(super) async fn ocsp_is_not_limited(&mut self, issuer: &str, per_minute: u64) -> Result<()> {
        let path = format!("/.well-known/pki/ocsp/{issuer}/{:040x}", 0);
        let probes = if per_minute as f64 > OCSP_LIMIT as f64 * OCSP_SHARE { OCSP_LIMIT + 1 } else { 1 };
        let start = Moment::now();
        for _ in 0..probes {
            if Moment::now() - start > OCSP_PATIENCE {
                break;
            }
            let answer = self.probe.get(&path).await?;
            match (answer.status, &answer.body[..]) {
                (200, REFUSED) => return Err(self.ocsp_limited()),
                (200, _) if !answer.is_html() && !answer.is_json => {}
                (429, _) => return Err(self.limited()),
                (status, _) => {
                    let (base, reason) = (&self.certctl.base, answer.reason());
                    return Err(Error::new(format!("{base}: the OCSP responder of {issuer} answers {status}: {reason}"))
                        .with_hint(
                        "as built, certctl refuses to write the key of its responder: have the run start it (--certctl), \
                         which gives it one, or ask for the revocation list alone (--sources crl)",
                    ));
                }
            }
        }
        Ok(())
    }

    fn ocsp_limited(&self) -> Error {
        Error::new(format!(
            "{}: certctl's limiter of OCSP requests is on and would refuse most of them",
            self.certctl.base
        ))
        .with_hint("start certctl with CERTCTL_OCSP_RATE_LIMIT_PER_IP_MIN=0, or wait a minute and lower --rate")
    }

    async fn agent_is_seeded(&mut self, number: u64) -> Result<()> {
        let path = AgentStorm::path(number);
        let answer = self.probe.send_with_token(Method::Post, &path).await?;
        match answer.status {
            200 if answer.json().is_some_and(|json| json["status"] == "heartbeat_recorded") => Ok(()),
            200 => Err(self.not_certctl(&path, &answer)),
            403 => Err(self.may_not("?", "agent.heartbeat")),
            429 => Err(self.limited()),
            410 => Err(Error::new(format!("{}: agent {number} of the seeded fleet is retired", self.certctl.base))
                .with_hint("UPDATE agents SET retired_at = NULL WHERE id LIKE 'ag-loadtest-%'")),
            // certctl answers 500 for an unknown agent; its documentation says 404.
            404 | 500 => {
                let text = format!(
                    "{}: agent {number} of the fleet is not seeded ({}: {})",
                    self.certctl.base,
                    answer.status,
                    answer.reason()
                );
                let there = self.seeded_agents_below(number).await;
                let text = if there > 0 { format!("{text}; agents 1 to {there} are") } else { text };
                Err(Error::new(text).with_hint(format!(
                    "run `certctl-bench seed --agents {} --database URL` with the URL of certctl's own database, or \
                     lower --agents",
                    number.max(Sizes::default().agents)
                )))
            }
            _ => Err(self.not_certctl(&path, &answer)),
        }
    }

    /// Returns the number of seeded agents, given that agent `number` is not seeded; 0 if that cannot be determined.
    async fn seeded_agents_below(&mut self, number: u64) -> u64 {
        let (mut there, mut missing) = (0, number);
        while there + 1 < missing {
            let middle = there + (missing - there) / 2;
            match self.probe.send_with_token(Method::Post, &AgentStorm::path(middle)).await {
                Ok(answer) if answer.status == 200 => there = middle,
                Ok(_) => missing = middle,
                Err(_) => return 0,
            }
        }
        there
    }

    /// Checks that the certificate is seeded, and returns its status.
    pub(super) async fn certificate_is_seeded(&mut self, number: u64) -> Result<String> {
        let missing =
            (format!("certificate {number} of those to renew"), "certctl-bench seed --database URL".to_owned());
        self.certificate_is_there(&format!("cert-loadtest-bulk-{number:05}"), missing).await
    }

    /// Checks that the certificate that an agent deploys is seeded.
    pub(super) async fn deployment_is_seeded(&mut self, number: u64) -> Result<()> {
        let rows = number.max(USUAL_DEPLOYMENTS);
        let seed = format!("certctl-bench seed --deployments {rows} --database URL");
        let missing = (format!("certificate {number} of those that agents deploy"), seed);
        self.certificate_is_there(&deploy_loop::certificate(number), missing).await.map(drop)
    }

    /// Returns the status of the certificate `id`. If it is missing, the error has the words for it, and the command
    /// that seeds it.
    async fn certificate_is_there(&mut self, id: &str, (what, seed): (String, String)) -> Result<String> {
        let path = format!("/api/v1/certificates/{id}");
        let answer = self.probe.send_with_token(Method::Get, &path).await?;
        match answer.status {
            200 if answer.json().is_some_and(|json| json["id"] == id) => {
                Ok(answer.json().unwrap_or_default()["status"].as_str().unwrap_or("").to_owned())
            }
            403 => Err(self.may_not("?", "cert.read")),
            429 => Err(self.limited()),
            // certctl answers 500 for some unknown rows, and 404 in plain text for an unknown route.
            404 | 500 if answer.is_json => Err(Error::new(format!(
                "{}: {what} is not seeded ({}: {})",
                self.certctl.base,
                answer.status,
                answer.reason()
            ))
            .with_hint(format!("run `{seed}` with the URL of certctl's own database"))),
            _ => Err(self.not_certctl(&path, &answer)),
        }
    }

    /// Checks that a renewal of the certificate can begin.
    async fn certificate_is_renewable(&mut self, number: u64) -> Result<()> {
        let status = self.certificate_is_seeded(number).await?;
        self.is_out_of_renewal(&format!("certificate {number} of those to renew"), &status)
    }

    /// Checks that a certificate is not in renewal already; with a database the run puts it back itself.
    fn is_out_of_renewal(&self, what: &str, status: &str) -> Result<()> {
        if status == "RenewalInProgress" && self.certctl.database.is_none() {
            let why = format!("{}: {what} is in renewal already, from an earlier run", self.certctl.base);
            let hint = "run `certctl-bench seed --reset --database URL`, or give this run the --database";
            return Err(Error::new(why).with_hint(hint));
        }
        Ok(())
    }
}
