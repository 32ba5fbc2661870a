//! A network namespace with nothing but loopback, for a run whose system is not to reach any network.
//!
//! The process itself enters it, so that all that it starts is in it too, and nothing is left to remove: the namespace
//! ends with its last process.

use std::fs;
use std::io;

use rustix::fd::AsRawFd as _;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::error::{Error, Result};

/// The kernel setting that can forbid anybody to make a namespace, with the value that does, and one that does not.
const FORBIDDING_ALL: (&str, &str, &str) = ("user.max_net_namespaces", "0", "1024");
/// Those that can forbid it to an ordinary user.
const FORBIDDING_USERS: [(&str, &str, &str); 3] = [
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "1024"),
];
const LOOPBACK: &[u8] = b"lo";

/// Moves this process into a new network namespace and brings its loopback up: as root, or with a user namespace of its
/// own in which it stays the same user. Call it before any thread is started: others would stay behind.
///
/// # Errors
/// If the kernel refuses both, with the setting that may be the reason.
pub fn enter_loopback() -> Result<()> {
    let entered = match unshare(UnshareFlags::NEWNET) {
        // In a user namespace root could not become the lesser user that PostgreSQL needs.
        Err(Errno::PERM) if !geteuid().is_root() => enter_as_user(),
        entered => entered.map_err(io::Error::from),
    };
    entered.and_then(|()| bring_loopback_up()).map_err(|error| {
        Error::new(format!("making a network namespace with nothing but loopback, for certctl: {error}"))
            .with_hint(format!("{}, or let certctl reach this machine's networks: --share-network", way_to_allow()))
    })
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: the flags do not separate file descriptors, the only thing that makes the call unsafe.
    unsafe { unshare_unsafe(flags) }
}

fn enter_as_user() -> io::Result<()> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)?;
    // The group can be mapped only once setgroups is denied (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// Sets the flag "up" of the interface `lo`, as `ip link set lo up` does.
fn bring_loopback_up() -> io::Result<()> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: an all-zero `ifreq` is a valid value: bytes, numbers and null pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(LOOPBACK) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the descriptor is open, and SIOCSIFFLAGS reads an `ifreq`, which is valid for the call.
    match unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns what would allow the namespace, as far as the kernel's settings tell.
fn way_to_allow() -> String {
    let is_set = |name: &str, value: &str| {
        let read = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")));
        read.is_ok_and(|now| now.trim() == value)
    };
    let (name, forbids, allows) = FORBIDDING_ALL;
    if is_set(name, forbids) {
        return format!("run sysctl {name}={allows} as root before");
    }
    let is_root = geteuid().is_root();
    match FORBIDDING_USERS.iter().find(|(name, forbids, _)| !is_root && is_set(name, forbids)) {
        Some((name, _, allows)) => format!("run as root, or run sysctl {name}={allows} as root before"),
        None => "run as root with CAP_SYS_ADMIN (docker run --cap-add SYS_ADMIN)".to_owned(),
    }
}
