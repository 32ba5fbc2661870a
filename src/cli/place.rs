//! The place: a system under test that was prepared for workloads, with what they must know of it.

use std::io::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::bench::Site;
use super::flags::Where;
use crate::error::Result;
use crate::report::summary::TargetFacts;
use crate::run::Peer;
use crate::scenario::acme::Paths;
use crate::scenario::need::Need;
use crate::target::Target;
use crate::target::connectors::Connectors;
use crate::target::occupants::{Addresses, Rows};
use crate::target::preflight::{self, Findings};
use crate::target::reference::{self, Behaviour};
use crate::target::seed::Sizes;
use crate::terminal::errln;
use crate::wire::tls::Trust;

/// A system under test that was looked over.
pub enum Place {
    /// A certctl, or the reference server.
    Certctl {
        /// The system.
        target: Box<Target>,
        /// What the preflight found.
        findings: Box<Findings>,
    },
    /// The daemons behind certctl's connectors.
    Connectors(Connectors),
}

impl Place {
    /// Starts what is not running, and looks everything over. `program` is the server of ours to start.
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
            errln!("WARNING: --insecure: the server's certificate is not verified; anyone may be answering");
        }
        let waiting = Waiting::start(format!("the answers of {}", target.base));
        let findings = Box::new(preflight::inspect(&target, needs)?);
        drop(waiting);
        target.system.answered(&findings.version);
        Ok(Self::Certctl { target: Box::new(target), findings })
    }

    /// The Host header of requests to a certctl.
    pub fn host(&self) -> String {
        match self {
            Self::Certctl { target, .. } => target.base.host_header(),
            Self::Connectors(_) => String::new(),
        }
    }

    /// What workloads must know; `host` is [`Place::host`].
    ///
    /// # Errors
    /// If the target lacks what it must tell.
    pub fn site<'a>(&'a self, host: &'a str) -> Result<Site<'a>> {
        match self {
            Self::Certctl { target, findings } => site(host, target, findings),
            Self::Connectors(connectors) => Ok(Site { connectors: Some(connectors), ..Site::default() }),
        }
    }

    /// What it is, for results.
    pub fn facts(&self) -> TargetFacts {
        match self {
            Self::Certctl { target, findings } => {
                let address = (!target.base.is_address()).then(|| findings.dialer.address().to_string());
                TargetFacts { address, ..TargetFacts::of(target) }
            }
            Self::Connectors(connectors) => connectors.facts(),
        }
    }

    /// Where it and its database are.
    pub fn addresses(&self) -> Addresses {
        match self {
            Self::Certctl { target, findings } => {
                Addresses { system: vec![findings.dialer.address()], rows: target.rows() }
            }
            Self::Connectors(connectors) => Addresses { system: connectors.addresses(), rows: Rows::Nowhere },
        }
    }
}

/// How often it is said that something is waited for.
const WAITING_EVERY: Duration = Duration::from_secs(4);

/// Says what is waited for every few seconds until it is dropped: a server that is silent looks like a run that hangs.
struct Waiting {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    fn start(what: String) -> Self {
        let (over, told) = mpsc::channel();
        let since = Instant::now();
        let say = move || {
            while told.recv_timeout(WAITING_EVERY) == Err(RecvTimeoutError::Timeout) {
                // Nobody reads a line that cannot be written.
                let _ = writeln!(std::io::stderr(), "still waiting for {what}: {} s", since.elapsed().as_secs());
            }
        };
        // Without the thread nothing is said, and nothing else is lost.
        let thread = thread::Builder::new().name("waiting".to_owned()).spawn(say).ok();
        Self { over: Some(over), thread }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.over = None;
        if let Some(thread) = self.thread.take() {
            // A thread that only prints has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// The seeds of a server that we start: what scenarios have by default, or more where more is needed.
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

/// What the workloads must know of a target that was looked over.
pub fn site<'a>(host: &'a str, target: &'a Target, findings: &Findings) -> Result<Site<'a>> {
    let acme = match &findings.acme {
        None => None,
        Some(found) => {
            let renewal_info = found.renewal_info(&target.base)?.to_owned();
            let (directory, new_nonce) = (found.directory.clone(), found.new_nonce.clone());
            Some(Paths { directory, new_nonce, renewal_info })
        }
    };
    let acme_is_audited = target.system.behaviour == Behaviour::AsBuilt.label();
    let peer = Some(Rc::new(Peer::certctl(findings.dialer.clone(), host)));
    Ok(Site { host, token: target.token.reveal(), acme, acme_is_audited, peer, connectors: None })
}
