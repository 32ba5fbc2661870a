//! Turns among all tests: few runs of whole workloads overlap, be they of this test program or of another that `./test`
//! runs beside it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The number of tests that may run workloads at once. Runs wait most of their time, for servers to start and windows
/// to pass; no outcome depends on their pace.
pub const SEATS: usize = 4;
/// The pause between two looks for a free seat.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The tests of this program that have a turn, by their threads.
static HOLDERS: Mutex<Option<HashMap<ThreadId, Holder>>> = Mutex::new(None);

struct Holder {
    /// The number of turns that it has.
    count: usize,
    /// Locked against other tests and programs until they are closed.
    _seats: Vec<File>,
}

/// A test's turn to run workloads, until it is dropped. A test that runs several at once holds several, on one seat.
#[derive(Debug)]
pub struct Turn {
    thread: ThreadId,
}

impl Turn {
    /// Waits for a free seat.
    pub fn take() -> Self {
        Self::on(|| {
            loop {
                if let Some(seat) = (0..SEATS).find_map(try_seat) {
                    return vec![seat];
                }
                thread::sleep(LOOK_EVERY);
            }
        })
    }

    /// Waits until no other test runs a workload, and lets none begin. A thread that has a turn already keeps just
    /// that.
    pub fn take_alone() -> Self {
        // All take the seats in one order, so that no two wait for each other.
        Self::on(|| (0..SEATS).map(seat).collect())
    }

    fn on(seats: impl FnOnce() -> Vec<File>) -> Self {
        let thread = thread::current().id();
        if !holders(|holders| holders.get_mut(&thread).map(|holder| holder.count += 1).is_some()) {
            // Taken without the lock, so that others go on.
            let _seats = seats();
            holders(|holders| holders.insert(thread, Holder { count: 1, _seats }));
        }
        Self { thread }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        holders(|holders| {
            if let Some(holder) = holders.get_mut(&self.thread) {
                holder.count -= 1;
                if holder.count == 0 {
                    holders.remove(&self.thread);
                }
            }
        });
    }
}

/// Returns what `with` makes of the holders. A test that failed meanwhile left them intact.
fn holders<T>(with: impl FnOnce(&mut HashMap<ThreadId, Holder>) -> T) -> T {
    let mut holders: MutexGuard<'_, _> = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    with(holders.get_or_insert_default())
}

fn file(number: usize) -> File {
    File::create(format!(concat!(env!("CARGO_TARGET_TMPDIR"), "/turn-{}"), number)).unwrap()
}

/// Locks a seat if it is free.
fn try_seat(number: usize) -> Option<File> {
    let file = file(number);
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok().map(|()| file)
}

/// Waits for a seat and locks it.
fn seat(number: usize) -> File {
    let file = file(number);
    while let Err(error) = flock(&file, FlockOperation::LockExclusive) {
        assert_eq!(error, Errno::INTR);
    }
    file
}
