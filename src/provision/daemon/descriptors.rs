//! The file descriptors of a daemon.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most connections that a daemon is set up for: twice those of two seconds at 2,000 new ones per second.
const CONNECTIONS: u64 = 8192;
/// Descriptors for other uses than connections: logs, pipes, listeners, files.
const SPARE: u64 = 256;
/// HAProxy counts two descriptors for each connection, since it may need one to a server.
const EACH: u64 = 2;

/// Returns the number of connections, up to 8,192, for which the hard limit on descriptors is enough.
pub fn connections() -> u64 {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    (most.saturating_sub(SPARE) / EACH).clamp(1, CONNECTIONS)
}

/// Starts `command` with a limit on descriptors that is enough for `connections`.
pub fn raise(command: &mut Command, connections: u64) {
    let wanted = connections * EACH + SPARE;
    // SAFETY: the closure makes only async-signal-safe system calls and does not allocate.
    unsafe {
        command.pre_exec(move || {
            let limit = getrlimit(Resource::Nofile);
            let needed = limit.maximum.map_or(wanted, |most| wanted.min(most));
            let current = limit.current.map(|current| current.max(needed));
            setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
            Ok(())
        });
    }
}
