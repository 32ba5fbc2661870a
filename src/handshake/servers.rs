//! The servers on loopback with which handshakes are measured. Each is known by its label before it is started, so that
//! loops can be listed and selected without starting anything.

use super::keyring::{self, Keyring};
use super::listener::{self, Listener};
use super::loopback::RunningServer;
use super::matrix::KeyExchange;
use crate::error::Result;
use crate::provision::daemon::{DaemonInstallation, DaemonOptions, StartedDaemon};
use crate::provision::pki::{KeyType, Purpose};

/// A server that is available.
pub enum Server {
    /// The suite's own server.
    Own,
    /// An installed daemon, started for this purpose.
    Daemon(DaemonInstallation),
    /// A server that runs already.
    Running(RunningServer),
}

/// A server that runs until this is dropped, or longer if it ran before.
pub struct Started {
    /// The address, trust and name with which a client reaches it.
    pub peer: RunningServer,
    _own: Option<Listener>,
    _daemon: Option<StartedDaemon>,
}

impl Server {
    /// Returns its name in ids.
    pub fn label(&self) -> &str {
        match self {
            Self::Own => listener::LABEL,
            Self::Daemon(installation) => installation.daemon.label(),
            Self::Running(peer) => &peer.label,
        }
    }

    /// Starts it, unless it runs already.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, keyring: &mut Keyring) -> Result<Started> {
        Ok(match self {
            Self::Own => {
                let listener = Listener::start(keyring, &KeyExchange::ALL)?;
                Started { peer: listener.peer(keyring)?, _own: Some(listener), _daemon: None }
            }
            Self::Daemon(installation) => {
                let identity = keyring.identity(KeyType::EcdsaP256, Purpose::Server)?;
                let sidecar = StartedDaemon::start(installation, identity, &DaemonOptions::default())?;
                let (label, address) = (self.label().to_owned(), sidecar.address());
                let peer = RunningServer { label, address, trust: keyring.trust(), name: keyring::name()? };
                Started { peer, _own: None, _daemon: Some(sidecar) }
            }
            Self::Running(peer) => Started { peer: peer.clone(), _own: None, _daemon: None },
        })
    }
}
