//! The servers on loopback that handshakes are measured with. Each is known by its label before it is started, so that
//! loops can be listed and chosen without starting anything.

use super::keyring::Keyring;
use super::listener::{self, Listener};
use super::loopback::Peer;
use super::matrix::Group;
use crate::error::Result;

/// A server that can be had.
pub enum Server {
    /// One of our own.
    Own,
    /// One that runs already.
    Running(Peer),
}

/// A server that is there until this is dropped.
pub struct Started {
    /// How to reach it.
    pub peer: Peer,
    _own: Option<Listener>,
}

impl Server {
    /// Its name in ids.
    pub fn label(&self) -> &str {
        match self {
            Self::Own => listener::LABEL,
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
                Started { peer: listener.peer(keyring)?, _own: Some(listener) }
            }
            Self::Running(peer) => Started { peer: peer.clone(), _own: None },
        })
    }
}
