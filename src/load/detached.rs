//! Tasks of one generator thread, run as the runtime's own tasks.
//!
//! A [`tokio::task::LocalSet`] takes tasks that cannot move between threads, but runs up to 61 of them before the
//! runtime looks at sockets and timers again, whatever its event interval: a burst of answers would keep the pacer from
//! its turn for milliseconds. The runtime's own tasks keep to the interval, but must be [`Send`]: a wrapper makes them
//! so, which panics on any thread other than the one that made it. Each runtime has only one thread.

use std::future::Future;

use send_wrapper::SendWrapper;
use tokio::task::{JoinHandle, JoinSet};

/// Starts a task on the calling thread's runtime.
pub fn spawn<F: Future<Output: Send + 'static> + 'static>(tasks: &mut JoinSet<F::Output>, future: F) {
    tasks.spawn(SendWrapper::new(future));
}

/// Starts a task whose end is not awaited.
pub fn detach<F: Future<Output = ()> + 'static>(future: F) -> JoinHandle<()> {
    tokio::spawn(SendWrapper::new(future))
}
