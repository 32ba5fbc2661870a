//! Tasks of the generator's one thread, as the runtime's own tasks.
//!
//! A [`tokio::task::LocalSet`] takes tasks that cannot move between threads, but runs up to 61 of them before the runtime
//! looks at sockets and timers again, whatever its event interval: a burst of answers would keep the pacer from its turn
//! for milliseconds. The runtime's own tasks keep to the interval, and must be [`Send`]: here they are by a wrapper that
//! panics on any other thread than the one that made it. The runtime has but one.

use std::future::Future;

use send_wrapper::SendWrapper;
use tokio::task::{JoinHandle, JoinSet};

/// Starts a task on the calling thread's runtime.
pub fn spawn<F: Future<Output: Send + 'static> + 'static>(tasks: &mut JoinSet<F::Output>, future: F) {
    tasks.spawn(SendWrapper::new(future));
}

/// Starts a task of which nobody waits for the end.
pub fn detach<F: Future<Output = ()> + 'static>(future: F) -> JoinHandle<()> {
    tokio::spawn(SendWrapper::new(future))
}
