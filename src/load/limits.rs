//! The file descriptors that a run needs.

use std::fmt;

use crate::error::{Context, Error, Result};

/// Descriptors that a run needs besides its connections: standard streams, timers, pipes, result files.
pub const SPARE: u64 = 64;

/// The sockets that a run may have open at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Connections that requests are asked on.
    pub connections: usize,
    /// Connections that wait for their peer to close.
    pub closing: usize,
}

impl Sockets {
    /// The descriptors that the run needs in all.
    pub fn descriptors(self) -> usize {
        self.connections + self.closing + SPARE as usize
    }

    /// Raises this process's descriptor limit to what they need.
    ///
    /// # Errors
    /// If the hard limit is lower; the error says which limit and what to type.
    pub fn allow(self) -> Result<()> {
        let needed = self.descriptors() as u64;
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid rlimit for the call to fill.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
            return Err(std::io::Error::last_os_error()).context(|| "reading the descriptor limit".to_owned());
        }
        if limit.rlim_cur >= needed {
            return Ok(());
        }
        if limit.rlim_max < needed {
            let (text, lower) =
                (format!("{self}; the hard limit (RLIMIT_NOFILE) is {}", limit.rlim_max), self.lower(limit.rlim_max));
            return Err(Error::new(text).mend(format!("ulimit -Hn {needed} as root before the run, or {lower}")));
        }
        limit.rlim_cur = needed;
        // SAFETY: `limit` is a valid rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            return Err(std::io::Error::last_os_error())
                .context(|| format!("raising the descriptor limit to {needed}"));
        }
        Ok(())
    }

    /// What would do with at most `limit` descriptors.
    fn lower(self, limit: u64) -> String {
        match limit.checked_sub(self.closing as u64 + SPARE) {
            Some(left @ 1..) if self.closing == 0 => format!("--connections {left}"),
            Some(1..) => "lower --connections".to_owned(),
            _ => "lower --rate and --connections".to_owned(),
        }
    }
}

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections", self.connections)?;
        if self.closing > 0 {
            write!(f, ", and {} that wait for their peer to close,", self.closing)?;
        }
        write!(f, " need {} file descriptors", self.descriptors())
    }
}
