//! Turns among all tests: runs of whole workloads do not overlap with those of other tests, nor with those of other
//! test programs, which `./test` runs side by side.

use std::fs::File;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The test of this program that has the turn.
static HOLDER: Mutex<Option<Holder>> = Mutex::new(None);
static FREE: Condvar = Condvar::new();

struct Holder {
    thread: ThreadId,
    /// The number of turns that it has.
    count: usize,
    /// Locked against other programs until it is closed.
    _lock: File,
}

/// A test's turn to run workloads, until it is dropped. A test that runs several at once holds several.
#[derive(Debug)]
pub struct Turn;

impl Turn {
    /// Waits until no other test holds one.
    pub fn take() -> Self {
        let this = thread::current().id();
        let mut holder = FREE
            .wait_while(lock(), |holder| holder.as_ref().is_some_and(|holder| holder.thread != this))
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *holder {
            Some(holder) => holder.count += 1,
            None => *holder = Some(Holder { thread: this, count: 1, _lock: lock_programs() }),
        }
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut holder = lock();
        if let Some(Holder { count, .. }) = &mut *holder {
            *count -= 1;
            if *count == 0 {
                *holder = None;
                FREE.notify_one();
            }
        }
    }
}

/// Locks the holder. A test that failed meanwhile left the count intact.
fn lock() -> MutexGuard<'static, Option<Holder>> {
    HOLDER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no other test program has the lock.
fn lock_programs() -> File {
    let file = File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/turn")).unwrap();
    while let Err(error) = flock(&file, FlockOperation::LockExclusive) {
        assert_eq!(error, Errno::INTR);
    }
    file
}
