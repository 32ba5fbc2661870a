//! The file descriptors that a run needs.

use crate::error::{Context, Error, Result};

/// Descriptors that a run needs besides its connections: standard streams, timers, pipes, result files.
const SPARE: u64 = 64;

/// Raises this process's descriptor limit to what `connections` need.
///
/// # Errors
/// If the hard limit is lower; the error says which limit and what to type.
pub fn allow_connections(connections: usize) -> Result<()> {
    let needed = connections as u64 + SPARE;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to fill.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(std::io::Error::last_os_error()).context(|| "reading the descriptor limit".to_owned());
    }
    if limit.rlim_cur >= needed {
        return Ok(());
    }
    if limit.rlim_max < needed {
        return Err(Error::new(format!(
            "{connections} connections need {needed} file descriptors; the hard limit (RLIMIT_NOFILE) is {}",
            limit.rlim_max
        ))
        .mend(format!(
            "ulimit -Hn {needed} as root before the run, or --connections {}",
            limit.rlim_max - SPARE.min(limit.rlim_max)
        )));
    }
    limit.rlim_cur = needed;
    // SAFETY: `limit` is a valid rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(std::io::Error::last_os_error()).context(|| format!("raising the descriptor limit to {needed}"));
    }
    Ok(())
}
