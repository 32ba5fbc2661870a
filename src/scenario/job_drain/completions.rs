//! The count of what certctl completes by itself: a thread looks once a second, from the wave on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::load::limits::spawn;

/// Counts what is complete.
pub type Look = Box<dyn FnMut() -> Result<u64> + Send>;

/// The interval of the looks, and so the precision of the moment at which all is complete.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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
    failure: Mutex<Option<Error>>,
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
            failure: Mutex::default(),
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

    /// Takes the error of a look, after which there was no further one.
    pub fn failure(&self) -> Option<Error> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Shared {
    fn watch(&self, mut look: Look) {
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            if self.begun.load(Ordering::Relaxed) && Instant::now() >= next {
                next = Instant::now() + LOOK_EVERY;
                match look() {
                    Ok(count) => self.count.store(count, Ordering::Relaxed),
                    Err(error) => {
                        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return;
                    }
                }
                if self.count.load(Ordering::Relaxed) >= self.wanted {
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
