//! Free ports on loopback. None can be reserved for another process, so that a server may find its port taken.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::error::{Context, Result};

/// Returns an address that was free a moment ago.
///
/// # Errors
/// If there is none.
pub fn free_address() -> Result<SocketAddr> {
    let what = || "looking for a free port on 127.0.0.1".to_owned();
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).context(what)
}

/// Reports whether a server's output ends with the error that its port is taken.
pub fn is_port_conflict(words: &str) -> bool {
    words.to_ascii_lowercase().contains("address already in use")
}
