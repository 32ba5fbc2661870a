//! The event loop that all sockets and timers of a thread run on.

use super::limits::unstarted;
use crate::error::Result;
use crate::event_loop::EventLoop;

/// Makes the event loop of one generator thread.
///
/// # Errors
/// If the process is out of file descriptors.
pub fn runtime() -> Result<EventLoop> {
    EventLoop::new().map_err(|error| unstarted("starting the generator's event loop", &error))
}
