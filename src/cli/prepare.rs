//! Preparation of the system under test: it is started if need be, and checked.

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::common_flags::CertctlChoice;
use super::remote::{self, Destination};
use crate::error::{Error, Result};
use crate::inspect::preflight::{self, Findings};
use crate::scenario::job_drain::Keys;
use crate::scenario::need::Need;
use crate::seed::Sizes;
use crate::system::certctl_binary::{self, BinaryChoice, DatabasePatch};
use crate::system::connectors::{ConnectorKind, Connectors, DaemonChoice};
use crate::system::reference::{ReferenceStart, StoreChoice};
use crate::system::with_daemons::CertctlWithDaemons;
use crate::system::{Certctl, CheckedCertctl, System, f5, reference};
use crate::terminal::errln;
use crate::wire::tls::Trust;

/// The choice of a system under test, which flags make.
pub trait SystemChoice {
    /// The system under test, once it is prepared.
    type System: System;

    /// Returns every server that it reaches and that is not started here, with its addresses fixed.
    ///
    /// # Errors
    /// If a name cannot be resolved.
    fn destinations(&mut self) -> Result<Vec<Destination>>;

    /// Checks that shards on several machines can load it: it runs already, and no shard alone is to count what all of
    /// them do to it.
    ///
    /// # Errors
    /// If they cannot (kind `Usage`).
    fn is_for_shards(&self) -> Result<()> {
        Err(Error::usage("a shard loads a system that runs already, and none is named")
            .with_hint("give --target https://host:port"))
    }

    /// Starts the system if it is not running, and checks everything. `program` is the server of this repository to
    /// start.
    ///
    /// # Errors
    /// If something does not start, or is not as it must be.
    fn prepare(self, program: &Path, needs: &[Need]) -> Result<Self::System>;

    /// Returns the system of a loop process, to which a checked certctl is handed over; `None` for a kind of system
    /// that has no loops.
    fn handed_over(_certctl: CheckedCertctl) -> Option<Self::System> {
        None
    }
}

impl SystemChoice for CertctlChoice {
    type System = CheckedCertctl;

    fn destinations(&mut self) -> Result<Vec<Destination>> {
        Ok(match self {
            Self::Running(certctl) => {
                let mut found = vec![remote::server(&mut certctl.base)?];
                if let Some(url) = &certctl.database {
                    found.push(remote::database(url)?);
                }
                found
            }
            Self::Reference(StoreChoice::Database(url), _) => vec![remote::database(url)?],
            Self::Binary(_) | Self::Reference(StoreChoice::Auto | StoreChoice::InMemory, _) => Vec::new(),
        })
    }

    fn is_for_shards(&self) -> Result<()> {
        match self {
            Self::Running(certctl) if certctl.database.is_none() => Ok(()),
            Self::Running(_) => {
                Err(Error::usage("--database: one shard cannot tell its side effects from the others'")
                    .with_hint("leave it out: the answers of all shards are checked, and no rows are counted"))
            }
            Self::Binary(_) | Self::Reference(..) => {
                Err(Error::usage("a shard loads a system that runs already, and none is named")
                    .with_hint("give --target https://host:port"))
            }
        }
    }

    fn prepare(self, program: &Path, needs: &[Need]) -> Result<CheckedCertctl> {
        let certctl = match self {
            Self::Running(certctl) => *certctl,
            Self::Binary(mut choice) => {
                set_up(&mut choice, needs);
                start(choice, sizes(needs))?
            }
            Self::Reference(store, behaviour) => {
                for need in needs {
                    if let Need::Acme { directory, .. } = need {
                        preflight::is_path(directory)?;
                    }
                }
                let environment: Vec<_> = needs.iter().filter_map(reference_setting).collect();
                let start = ReferenceStart {
                    behaviour,
                    sizes: sizes(needs),
                    environment: &environment,
                    ..ReferenceStart::new(program, store)
                };
                reference::start(&start, &mut |line| errln!("{line}"))?
            }
        };
        announce_insecure(&certctl.trust);
        check(certctl, needs)
    }

    fn handed_over(certctl: CheckedCertctl) -> Option<CheckedCertctl> {
        Some(certctl)
    }
}

impl SystemChoice for DaemonChoice {
    type System = Connectors;

    fn destinations(&mut self) -> Result<Vec<Destination>> {
        let kinds = &self.kinds;
        let chosen = self.named.iter_mut().filter(|(kind, _)| kinds.contains(kind));
        chosen.map(|(_, base)| remote::server(base)).collect()
    }

    fn prepare(self, program: &Path, _needs: &[Need]) -> Result<Connectors> {
        Connectors::prepare(self, program, &mut |line| errln!("{line}"))
    }
}

/// Returns the changes of a certctl's database that `needs` take.
fn patches(needs: &[Need]) -> Vec<DatabasePatch> {
    let patch = |need: &Need| match need {
        Need::AcmeFinalization => Some(DatabasePatch::AcmeFinalization),
        Need::Ocsp { .. } => Some(DatabasePatch::OcspResponder),
        _ => None,
    };
    needs.iter().filter_map(patch).collect()
}

/// The choice of a certctl, and of the daemons that its agents deploy to.
pub struct DeploymentChoice {
    /// The certctl.
    pub certctl: CertctlChoice,
    /// The kinds of daemon; none for no daemons.
    pub daemons: Vec<ConnectorKind>,
}

impl SystemChoice for DeploymentChoice {
    type System = CertctlWithDaemons;

    fn destinations(&mut self) -> Result<Vec<Destination>> {
        self.certctl.destinations()
    }

    fn prepare(self, program: &Path, needs: &[Need]) -> Result<CertctlWithDaemons> {
        let certctl = self.certctl.prepare(program, needs)?;
        let daemons = match self.daemons.is_empty() {
            true => None,
            false => {
                let choice = DaemonChoice::started(self.daemons);
                Some(Connectors::prepare(choice, &program.with_file_name(f5::PROGRAM), &mut |line| errln!("{line}"))?)
            }
        };
        Ok(CertctlWithDaemons { certctl, daemons })
    }
}

/// Checks that a certctl that runs can be loaded as `needs` say.
///
/// # Errors
/// If something is not as it must be.
pub(super) fn check(mut certctl: Certctl, needs: &[Need]) -> Result<CheckedCertctl> {
    let waiting = Waiting::start(format!("the answers of {}", certctl.base));
    // A refused connection says less than the last words of the server that refused it.
    let found = preflight::inspect(&certctl, needs).map_err(|error| certctl.ended().unwrap_or(error));
    let Findings { dialer, version, acme } = found?;
    drop(waiting);
    certctl.system.answered(&version);
    if needs.contains(&Need::AcmeAlone) {
        certctl.system.is_acme_server_alone();
    } else if needs.contains(&Need::AcmeFinalization) {
        certctl.system.patched("so says --finalize");
    }
    Ok(CheckedCertctl { certctl, dialer, acme })
}

/// Warns of a server whose certificate is not verified.
pub(super) fn announce_insecure(trust: &Trust) {
    if matches!(trust, Trust::Insecure) {
        errln!("WARNING: --insecure: the server's certificate is not verified, and may be that of an impostor");
    }
}

/// Starts a certctl from its binary, and tells how far that is.
///
/// # Errors
/// If anything does not start.
pub(super) fn start(choice: BinaryChoice, sizes: Sizes) -> Result<Certctl> {
    announce_shared(&choice);
    certctl_binary::start(choice, sizes, &mut |line| errln!("{line}"))
}

/// Warns of a certctl that is started in this machine's network.
pub(super) fn announce_shared(choice: &BinaryChoice) {
    if choice.shares_network {
        errln!("WARNING: --share-network: certctl can reach every network that this machine can");
    }
}

/// The interval between two lines about a wait.
const WAITING_EVERY: Duration = Duration::from_secs(4);

/// A thread that prints, every few seconds until this is dropped, what is waited for: without that, a silent server
/// looks like a run that hangs.
struct Waiting {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    fn start(what: String) -> Self {
        let (end, ended) = mpsc::channel();
        let since = Instant::now();
        let report = move || {
            while ended.recv_timeout(WAITING_EVERY) == Err(RecvTimeoutError::Timeout) {
                // A line that cannot be written is lost, and nothing else.
                let _ = writeln!(std::io::stderr(), "still waiting for {what}: {} s", since.elapsed().as_secs());
            }
        };
        // Without the thread the lines are missing, and nothing else.
        let thread = thread::Builder::new().name("waiting".to_owned()).spawn(report).ok();
        Self { end: Some(end), thread }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // The thread only prints: it returns nothing.
            let _ = thread.join();
        }
    }
}

/// The job processor's interval where certctl makes the keys: its default.
const PROCESSOR_INTERVAL: &str = "30s";

/// Sets a certctl that is started up for what the needs say, unless the user has set it up otherwise.
pub(super) fn set_up(choice: &mut BinaryChoice, needs: &[Need]) {
    choice.patches = patches(needs);
    for need in needs {
        let Need::Keys(keys) = need else { continue };
        choice.settings.suggest("CERTCTL_KEYGEN_MODE", keys.label());
        if *keys == Keys::Server {
            // Without it certctl makes no keys.
            choice.settings.suggest("CERTCTL_DEMO_MODE_ACK", "true");
            choice.settings.suggest("CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL", PROCESSOR_INTERVAL);
        }
    }
}

/// Returns the variable that sets a reference server up for a need.
fn reference_setting(need: &Need) -> Option<(String, String)> {
    let (name, value) = match need {
        Need::Keys(keys) => ("CERTCTL_REFERENCE_KEYGEN", keys.label()),
        // 0 is no limit.
        Need::Ocsp { .. } => ("CERTCTL_REFERENCE_OCSP_LIMIT", "0"),
        Need::AcmeFinalization => ("CERTCTL_REFERENCE_ACME_FINALIZE", "works"),
        _ => return None,
    };
    Some((name.to_owned(), value.to_owned()))
}

/// Returns the sizes of the seeds of a server that is started here: the defaults, or more where more is needed.
pub(super) fn sizes(needs: &[Need]) -> Sizes {
    let mut sizes = Sizes::default();
    for need in needs {
        match need {
            Need::Agent(number) => sizes.agents = sizes.agents.max(*number),
            Need::Certificate(number) | Need::Renewable(number) => sizes.certificates = sizes.certificates.max(*number),
            Need::Deployment(number) => sizes.deployments = sizes.deployments.max(*number),
            Need::Drain { certificates, agents } => {
                sizes.drain = sizes.drain.max(*certificates);
                sizes.drain_agents = *agents;
                sizes.agents = sizes.agents.max(*agents);
            }
            Need::Permission(_) | Need::Database | Need::OnlyOurs(_) | Need::Keys(_) | Need::Ocsp { .. } => {}
            Need::AcmeAlone | Need::AcmeFinalization | Need::Acme { .. } | Need::ProcessorRounds { .. } => {}
        }
    }
    // Each belongs to an agent of its own.
    sizes.agents = sizes.agents.max(sizes.deployments);
    sizes
}
