//! Work that blocks, on threads of its own.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::Core;

/// The number of threads at work, for a loop that ends.
#[derive(Default)]
pub(super) struct Threads {
    working: Mutex<usize>,
    ended: Condvar,
}

impl Threads {
    fn count(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.working.lock().unwrap_or_else(PoisonError::into_inner));
        self.ended.notify_all();
    }

    /// Waits for all of them, for at most `patience`.
    pub(super) fn wait(&self, patience: Duration) {
        let working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.ended.wait_timeout_while(working, patience, |working| *working > 0));
    }
}

/// The place in which a thread leaves its result.
struct HandOver<T> {
    result: Option<T>,
    waker: Option<Waker>,
}

/// Runs `work` on a thread of its own, and returns its result.
///
/// # Errors
/// If the thread cannot be started, or `work` panics.
///
/// # Panics
/// If no event loop runs on this thread.
pub async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let threads = Core::current().threads.clone();
    let shared = Arc::new(Mutex::new(HandOver { result: None, waker: None }));
    let (working, hand_over) = (threads.clone(), shared.clone());
    threads.count(|working| *working += 1);
    let run = move || {
        let result = catch_unwind(AssertUnwindSafe(work)).map_err(|_| io::Error::other("it panicked"));
        let waker = {
            let mut hand_over = hand_over.lock().unwrap_or_else(PoisonError::into_inner);
            hand_over.result = Some(result);
            hand_over.waker.take()
        };
        working.count(|working| *working -= 1);
        if let Some(waker) = waker {
            waker.wake();
        }
    };
    std::thread::Builder::new().name("task".to_owned()).spawn(run).inspect_err(|_| {
        threads.count(|working| *working -= 1);
    })?;
    poll_fn(|context| {
        let mut hand_over = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match hand_over.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                hand_over.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}
