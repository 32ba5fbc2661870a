//! The count of what certctl completes by itself: a thread looks once a second, from the wave on. A look that fails is
//! followed by another, a second later.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::load::limits::spawn;

/// Counts what is complete.
pub type Look = Box<dyn FnMut() -> Result<u64> + Send>;

/// The interval of the looks, and so the precision of the moment at which all is complete.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The number of looks in a row that may fail: more than that, and the count is not to be believed.
const MOST_FAILED: u64 = 3;
/// The interval at which the thread looks whether it is to begin or to end.
const WAKE_EVERY: Duration = Duration::from_millis(20);

/// A count from a thread of its own, which ends with it.
pub struct Completions {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    wanted: u64,
    begun: AtomicBool,
    stop: AtomicBool,
    count: AtomicU64,
    /// The moment at which the count reached what is wanted, in nanoseconds; 0 before.
    reached_ns: AtomicU64,
    failures: Mutex<Failures>,
}

/// The looks that failed.
#[derive(Default)]
struct Failures {
    all: u64,
    /// Those since the last that succeeded.
    in_a_row: u64,
    /// The error of the last one.
    last: Option<Error>,
}

impl Completions {
    /// Starts the thread, which waits for the wave: before the generator raises its priority, which the thread would
    /// inherit. It ends once `wanted` are complete.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(wanted: u64, look: Look) -> Result<Self> {
        let shared = Arc::new(Shared {
            wanted,
            begun: AtomicBool::default(),
            stop: AtomicBool::default(),
            count: AtomicU64::default(),
            reached_ns: AtomicU64::default(),
            failures: Mutex::default(),
        });
        let of_thread = shared.clone();
        let thread = spawn("completions", move || of_thread.watch(look))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Begins the looks.
    pub fn begin(&self) {
        self.shared.begun.store(true, Ordering::Relaxed);
    }

    /// Returns the last count.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Returns the moment at which as many as wanted were complete, late by a second at most.
    pub fn reached(&self) -> Option<Moment> {
        let reached_ns = self.shared.reached_ns.load(Ordering::Relaxed);
        (reached_ns > 0).then(|| Moment::from_ns(reached_ns))
    }

    /// Returns the number of looks that failed.
    pub fn failed(&self) -> u64 {
        self.shared.failures().all
    }

    /// Returns the error of the last looks, if several in a row failed and none succeeded after them.
    pub fn failure(&self) -> Option<Error> {
        let failures = self.shared.failures();
        let error = failures.last.as_ref().filter(|_| failures.in_a_row > MOST_FAILED)?;
        let again =
            Error::new(format!("the last {} looks for completed renewals failed: {}", failures.in_a_row, error.what()));
        Some(match error.hint() {
            Some(hint) => again.with_hint(hint),
            None => again,
        })
    }
}

impl Shared {
    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a look; returns true once all is complete.
    fn note(&self, looked: Result<u64>) -> bool {
        let mut failures = self.failures();
        match looked {
            Ok(count) => {
                self.count.store(count, Ordering::Relaxed);
                failures.in_a_row = 0;
                count >= self.wanted
            }
            Err(error) => {
                failures.all += 1;
                failures.in_a_row += 1;
                failures.last = Some(error);
                false
            }
        }
    }

    fn watch(&self, mut look: Look) {
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            if self.begun.load(Ordering::Relaxed) && Instant::now() >= next {
                next = Instant::now() + LOOK_EVERY;
                if self.note(look()) {
                    self.reached_ns.store(Moment::now().as_ns(), Ordering::Relaxed);
                    return;
                }
            }
            thread::sleep(WAKE_EVERY);
        }
    }
}

impl Drop for Completions {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It returns nothing; a panic of it shows as a count that never came.
            let _ = thread.join();
        }
    }
}
