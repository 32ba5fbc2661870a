//! Turns among the tests of a program: runs of whole workloads do not overlap with those of other tests. Cargo runs test
//! programs one after another.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Whose turn it is, and how many times over.
static HOLDER: Mutex<Option<(ThreadId, usize)>> = Mutex::new(None);
static FREE: Condvar = Condvar::new();

/// A test's turn to run workloads, until it is dropped. A test that runs several at once holds several.
#[derive(Debug)]
pub struct Turn;

impl Turn {
    /// Waits until no other test holds one.
    pub fn take() -> Self {
        let this = thread::current().id();
        let mut holder = lock();
        loop {
            match &mut *holder {
                None => *holder = Some((this, 1)),
                Some((thread, count)) if *thread == this => *count += 1,
                Some(_) => {
                    holder = FREE.wait(holder).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            }
            return Self;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut holder = lock();
        if let Some((_, count)) = &mut *holder {
            *count -= 1;
            if *count == 0 {
                *holder = None;
                FREE.notify_one();
            }
        }
    }
}

/// A test that failed meanwhile left the count as good as it was.
fn lock() -> MutexGuard<'static, Option<(ThreadId, usize)>> {
    HOLDER.lock().unwrap_or_else(PoisonError::into_inner)
}
