//! Request timeouts, all in one place: a timer per request would cost more than half as much as pacing itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::clock::Moment;

/// The interval between searches for expired requests; a request may outlive its deadline by this much.
pub const SWEEP_EVERY: Duration = Duration::from_millis(20);

/// The deadlines of all workers of one thread. Every request has the same patience, so that deadlines expire in the
/// order in which they were set.
pub struct Deadlines {
    patience: Duration,
    state: RefCell<TimerState>,
}

struct TimerState {
    queue: VecDeque<Entry>,
    slots: Vec<Slot>,
}

struct Entry {
    at: Moment,
    worker: usize,
    round: u64,
}

#[derive(Default)]
struct Slot {
    round: u64,
    armed: bool,
    expired: bool,
    waker: Option<Waker>,
}

impl Deadlines {
    /// Makes deadlines for workers `0..workers`, each with at most one request at a time; `expected` is the number of
    /// requests that start within `patience`.
    pub fn new(workers: usize, patience: Duration, expected: usize) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(workers).collect();
        Self { patience, state: RefCell::new(TimerState { queue: VecDeque::with_capacity(expected), slots }) }
    }

    /// Runs `future` for `worker` until its deadline; returns `None` if that comes first.
    pub async fn guard<F: Future>(&self, worker: usize, start: Moment, mut future: Pin<Box<F>>) -> Option<F::Output> {
        self.arm(worker, start + self.patience);
        let output = poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            let slot = &mut self.state.borrow_mut().slots[worker];
            if slot.expired {
                return Poll::Ready(None);
            }
            match &mut slot.waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => slot.waker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
        self.state.borrow_mut().slots[worker].armed = false;
        output
    }

    fn arm(&self, worker: usize, at: Moment) {
        let state = &mut *self.state.borrow_mut();
        let slot = &mut state.slots[worker];
        slot.round += 1;
        slot.armed = true;
        slot.expired = false;
        state.queue.push_back(Entry { at, worker, round: slot.round });
    }

    /// Ends every request whose deadline is not after `now`.
    pub fn sweep(&self, now: Moment) {
        let state = &mut *self.state.borrow_mut();
        while let Some(entry) = state.queue.front()
            && entry.at <= now
        {
            let slot = &mut state.slots[entry.worker];
            if slot.armed && slot.round == entry.round {
                slot.expire();
            }
            state.queue.pop_front();
        }
    }

    /// Ends every request in flight.
    pub fn expire_all(&self) {
        let state = &mut *self.state.borrow_mut();
        state.queue.clear();
        state.slots.iter_mut().filter(|slot| slot.armed).for_each(Slot::expire);
    }
}

impl Slot {
    fn expire(&mut self) {
        self.expired = true;
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
