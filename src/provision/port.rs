//! Free ports on loopback. None can be reserved for another process, so that a server may find its port taken.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::error::{Context, Result};

/// Returns an address that was free a moment ago.
///
/// # Errors
/// If there is none.
pub fn free_address() -> Result<SocketAddr> {
    address(&listen()?)
}

/// Returns two ports that were free a moment ago.
///
/// # Errors
/// If there are none.
pub fn free_pair() -> Result<[u16; 2]> {
    // Both are held at once, so that they differ.
    let held = [listen()?, listen()?];
    Ok([address(&held[0])?.port(), address(&held[1])?.port()])
}

fn listen() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(doing)
}

fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().context(doing)
}

fn doing() -> String {
    "looking for a free port on 127.0.0.1".to_owned()
}

/// Reports whether a server's output ends with the error that its port is taken.
pub fn is_port_conflict(words: &str) -> bool {
    words.to_ascii_lowercase().contains("address already in use")
}
