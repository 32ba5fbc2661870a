//! The servers on loopback that handshakes are measured with. Each is known by its label before it is started, so that
//! loops can be listed and chosen without starting anything.

use super::keyring::{self, Keyring};
use super::listener::{self, Listener};
use super::loopback::Peer;
use super::matrix::Group;
use crate::error::Result;
use crate::target::pki::{KeyType, Purpose};
use crate::target::sidecar::{Installation, Options, Sidecar};

/// A server that can be had.
pub enum Server {
    /// One of our own.
    Own,
    /// An installed daemon, started for the occasion.
    Daemon(Installation),
    /// One that runs already.
    Running(Peer),
}

/// A server that is there until this is dropped.
pub struct Started {
    /// How to reach it.
    pub peer: Peer,
    _own: Option<Listener>,
    _daemon: Option<Sidecar>,
}

impl Server {
    /// Its name in ids.
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
                let listener = Listener::start(keyring, &Group::ALL)?;
                Started { peer: listener.peer(keyring)?, _own: Some(listener), _daemon: None }
            }
            Self::Daemon(installation) => {
                let identity = keyring.identity(KeyType::EcdsaP256, Purpose::Server)?;
                let sidecar = Sidecar::start(installation, identity, &Options::default())?;
                let (label, address) = (self.label().to_owned(), sidecar.address());
                let peer = Peer { label, address, trust: keyring.trust(), name: keyring::name()? };
                Started { peer, _own: None, _daemon: Some(sidecar) }
            }
            Self::Running(peer) => Started { peer: peer.clone(), _own: None, _daemon: None },
        })
    }
}
