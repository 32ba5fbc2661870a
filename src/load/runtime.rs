//! The runtime that all sockets and timers of a thread run on.
//!
//! Its tasks may be such as cannot move between threads, and are the runtime's own: a [`tokio::task::LocalSet`] takes such
//! tasks too, but runs up to 61 of them before the runtime looks at sockets and timers again, whatever its event interval.

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::limits::unstarted;
use crate::error::Result;

/// Builds the runtime of one generator thread.
///
/// # Errors
/// If the process is out of file descriptors.
pub fn runtime() -> Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        // The number of tasks that run between two polls of sockets and the pacer's timer: with the default of 61, a
        // burst of answers would delay the next arrival by a millisecond or two.
        .event_interval(4)
        .build_local(LocalOptions::default())
        .map_err(|error| unstarted("starting the generator's runtime", &error))
}
