//! The file descriptors of a daemon.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::error::{Context, Result};

/// The most connections that a daemon is set up for: twice those of two seconds at 2,000 new ones per second.
const CONNECTIONS: u64 = 8192;
/// Descriptors for other uses than connections: logs, pipes, listeners, files.
const SPARE: u64 = 256;
/// HAProxy counts two descriptors for each connection, since it may need one to a server.
const EACH: u64 = 2;

/// Returns the number of connections, up to 8,192, for which the hard limit on descriptors is enough.
///
/// # Errors
/// If the kernel does not return the limit.
pub fn connections() -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to fill.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error()).context(|| "reading the descriptor limit".to_owned());
    }
    Ok((limit.rlim_max.saturating_sub(SPARE) / EACH).clamp(1, CONNECTIONS))
}

/// Starts `command` with a limit on descriptors that is enough for `connections`.
pub fn raise(command: &mut Command, connections: u64) {
    let wanted = connections * EACH + SPARE;
    // SAFETY: the closure makes only async-signal-safe system calls and does not allocate.
    unsafe {
        command.pre_exec(move || {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) < 0 {
                return Err(io::Error::last_os_error());
            }
            limit.rlim_cur = limit.rlim_cur.max(wanted.min(limit.rlim_max));
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}
