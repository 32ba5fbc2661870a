//! A system as workloads reach it: its dialers, and the lifetime of connections to it.

use super::Dialer;
use super::request::{Method, encode};

/// A system, and the connections to it.
pub struct Peer {
    /// Opens connections; where there are several, they take turns.
    pub dialers: Vec<Dialer>,
    /// The lifetime of connections.
    pub connections: Connections,
}

/// The lifetime of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Each client keeps its connection. The first request on it is this one, encoded, which costs the system next to
    /// nothing.
    Kept(Vec<u8>),
    /// Each arrival opens a new connection, and closes it.
    PerArrival,
}

impl Peer {
    /// Creates the peer of a certctl, or of a server shaped like it.
    pub fn certctl(dialer: Dialer, host: &str) -> Self {
        let greeting = encode(Method::Get, "/health", host, None, "");
        Self { dialers: vec![dialer], connections: Connections::Kept(greeting) }
    }

    /// Returns the dialer of the connection number `seq`.
    pub fn dialer(&self, seq: u64) -> &Dialer {
        &self.dialers[(seq % self.dialers.len() as u64) as usize]
    }
}
