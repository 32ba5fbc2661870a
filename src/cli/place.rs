//! The place: a system under test that was prepared for workloads, with the facts that they need about it.

use std::io::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::bench::SystemFacts;
use super::common_flags::Where;
use crate::error::Result;
use crate::evidence::processes::Addresses;
use crate::inspect::preflight::{self, Findings};
use crate::scenario::acme::Paths;
use crate::scenario::need::Need;
use crate::seed::Sizes;
use crate::system::connectors::Connectors;
use crate::system::{Behaviour, Rows, SystemDescription, Target, reference};
use crate::terminal::errln;
use crate::wire::peer::Peer;
use crate::wire::tls::Trust;

/// A system under test that was prepared and checked.
pub enum Place {
    /// A certctl, or the reference server.
    Certctl {
        /// The system.
        target: Box<Target>,
        /// The findings of the preflight.
        findings: Box<Findings>,
    },
    /// The daemons behind certctl's connectors.
    Connectors(Connectors),
}

impl Place {
    /// Starts what is not running, and checks everything. `program` is the server of this repository to start.
    ///
    /// # Errors
    /// If something does not start, or is not as it must be.
    pub fn prepare(place: Where, program: &Path, needs: &[Need]) -> Result<Self> {
        let mut target = match place {
            Where::Connectors(wanted) => {
                return Ok(Self::Connectors(Connectors::prepare(*wanted, program, &mut |line| errln!("{line}"))?));
            }
            Where::Running(target) => *target,
            Where::Reference(store, behaviour) => {
                for need in needs {
                    if let Need::Acme { directory, .. } = need {
                        preflight::is_path(directory)?;
                    }
                }
                reference::start(program, &store, behaviour, sizes(needs), &mut |line| errln!("{line}"))?
            }
        };
        if matches!(target.trust, Trust::Insecure) {
            errln!("WARNING: --insecure: the server's certificate is not verified, and may be that of an impostor");
        }
        let waiting = Waiting::start(format!("the answers of {}", target.base));
        let findings = Box::new(preflight::inspect(&target, needs)?);
        drop(waiting);
        target.system.answered(&findings.version);
        Ok(Self::Certctl { target: Box::new(target), findings })
    }

    /// Returns the Host header of requests to a certctl.
    pub fn host(&self) -> String {
        match self {
            Self::Certctl { target, .. } => target.base.host_header(),
            Self::Connectors(_) => String::new(),
        }
    }

    /// Returns the facts that workloads need; `host` is [`Place::host`].
    ///
    /// # Errors
    /// If the system does not provide one of them.
    pub fn site<'a>(&'a self, host: &'a str) -> Result<SystemFacts<'a>> {
        match self {
            Self::Certctl { target, findings } => site(host, target, findings),
            Self::Connectors(connectors) => Ok(SystemFacts { connectors: Some(connectors), ..SystemFacts::default() }),
        }
    }

    /// Returns the facts about the system for the results.
    pub fn facts(&self) -> SystemDescription {
        match self {
            Self::Certctl { target, findings } => {
                let address = (!target.base.is_address()).then(|| findings.dialer.address().to_string());
                SystemDescription { address, ..target.system.clone() }
            }
            Self::Connectors(connectors) => connectors.facts(),
        }
    }

    /// Returns the addresses of the system and of its database.
    pub fn addresses(&self) -> Addresses {
        match self {
            Self::Certctl { target, findings } => {
                Addresses { system: vec![findings.dialer.address()], rows: target.rows() }
            }
            Self::Connectors(connectors) => Addresses { system: connectors.addresses(), rows: Rows::Nowhere },
        }
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

/// Returns the sizes of the seeds of a server that is started here: the defaults, or more where more is needed.
fn sizes(needs: &[Need]) -> Sizes {
    let mut sizes = Sizes::default();
    for need in needs {
        match need {
            Need::Agent(number) => sizes.agents = sizes.agents.max(*number),
            Need::Certificate(number) | Need::Renewable(number) => sizes.certificates = sizes.certificates.max(*number),
            Need::Permission(_) | Need::Database | Need::OnlyOurs(_) | Need::Acme { .. } => {}
        }
    }
    sizes
}

/// Returns the facts about a checked system that workloads need.
pub fn site<'a>(host: &'a str, target: &'a Target, findings: &Findings) -> Result<SystemFacts<'a>> {
    let acme = match &findings.acme {
        None => None,
        Some(found) => {
            let renewal_info = found.renewal_info(&target.base)?.to_owned();
            let (directory, new_nonce) = (found.directory.clone(), found.new_nonce.clone());
            Some(Paths { directory, new_nonce, renewal_info })
        }
    };
    let acme_is_audited = target.system.behaviour == Behaviour::AsBuilt;
    let peer = Some(Rc::new(Peer::certctl(findings.dialer.clone(), host)));
    Ok(SystemFacts { host, token: target.token.reveal(), acme, acme_is_audited, peer, connectors: None })
}
