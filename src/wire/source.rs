//! The source address of this process's connections to loopback: where ports run short, each process of a run has one
//! of its own, with all of its ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

static SOURCE: OnceLock<Ipv4Addr> = OnceLock::new();

/// Sets the source address of all connections to loopback that this process opens from now on. Only the first call has
/// an effect.
pub fn set(address: Ipv4Addr) {
    let _ = SOURCE.set(address);
}

/// Returns the source address of connections to `address`, if one is set.
pub(super) fn of(address: SocketAddr) -> Option<Ipv4Addr> {
    SOURCE.get().copied().filter(|_| address.is_ipv4() && address.ip().is_loopback())
}
