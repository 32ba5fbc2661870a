//! The source address of this process's connections to loopback: where ports run short, each process of a run has one of
//! its own, with all of its ports.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::OnceLock;

use rustix::net::bind as bind_socket;

static SOURCE: OnceLock<Ipv4Addr> = OnceLock::new();

/// Sets the source address of all connections to loopback that this process opens from now on. Only the first call has
/// an effect.
pub fn set(address: Ipv4Addr) {
    let _ = SOURCE.set(address);
}

/// Returns true if connections to `address` have a source address of this process's own.
pub fn applies(address: SocketAddr) -> bool {
    SOURCE.get().is_some() && address.is_ipv4() && address.ip().is_loopback()
}

/// Gives a socket that is to be connected to `address` the source address of this process, if it has one.
///
/// # Errors
/// That of the operating system.
pub fn bind(socket: impl AsFd, address: SocketAddr) -> io::Result<()> {
    let Some(source) = SOURCE.get().filter(|_| applies(address)) else { return Ok(()) };
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a C int, whose address and size are given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            // The port is chosen by the connect, which may share it with connections to other addresses.
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(bind_socket(socket, &SocketAddr::from((*source, 0)))?)
}
