//! Request timeouts, all in one place: a timer per request would cost more than half as much as pacing itself.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::clock::Moment;

/// The interval between searches for expired requests; a request may outlive its deadline by this much.
pub const SWEEP_EVERY: Duration = Duration::from_millis(20);

/// The deadlines of all workers of one thread. Every request has the same patience, so that a worker's next deadline is
/// never before its last one.
pub struct Deadlines {
    patience: Duration,
    state: RefCell<TimerState>,
}

struct TimerState {
    /// The workers that are looked at again, each once at most, however many requests it sends meanwhile: not after
    /// their deadlines.
    looks: BinaryHeap<Reverse<(Moment, usize)>>,
    slots: Vec<Slot>,
}

#[derive(Clone, Default)]
struct Slot {
    /// The deadline of the last request.
    at: Moment,
    is_queued: bool,
    armed: bool,
    expired: bool,
    waker: Option<Waker>,
}

impl Deadlines {
    /// Makes deadlines for workers `0..workers`, each with at most one request at a time.
    pub fn new(workers: usize, patience: Duration) -> Self {
        let (looks, slots) = (BinaryHeap::with_capacity(workers), vec![Slot::default(); workers]);
        Self { patience, state: RefCell::new(TimerState { looks, slots }) }
    }

    /// Runs `future` for `worker` until its deadline; returns `None` if that comes first.
    pub async fn guard<F: Future>(&self, worker: usize, start: Moment, mut future: Pin<&mut F>) -> Option<F::Output> {
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
        self.disarm(worker);
        output
    }

    fn arm(&self, worker: usize, at: Moment) {
        let TimerState { looks, slots } = &mut *self.state.borrow_mut();
        let slot = &mut slots[worker];
        (slot.at, slot.armed, slot.expired) = (at, true, false);
        if !std::mem::replace(&mut slot.is_queued, true) {
            looks.push(Reverse((at, worker)));
        }
    }

    fn disarm(&self, worker: usize) {
        self.state.borrow_mut().slots[worker].armed = false;
    }

    /// Ends every request whose deadline is not after `now`.
    pub fn sweep(&self, now: Moment) {
        let TimerState { looks, slots } = &mut *self.state.borrow_mut();
        while let Some(Reverse((at, worker))) = looks.peek().copied()
            && at <= now
        {
            looks.pop();
            let slot = &mut slots[worker];
            slot.is_queued = slot.armed && slot.at > now;
            if slot.is_queued {
                looks.push(Reverse((slot.at, worker)));
            } else if slot.armed {
                slot.expire();
            }
        }
    }

    /// Ends every request in flight.
    pub fn expire_all(&self) {
        self.state.borrow_mut().slots.iter_mut().filter(|slot| slot.armed).for_each(Slot::expire);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORKERS: usize = 4;
    const PATIENCE_MS: u64 = 100;

    fn at(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    proptest! {
        /// However requests begin and end: at each sweep exactly those whose time is over have expired, and no worker
        /// is in line twice.
        #[test]
        fn a_request_expires_at_its_deadline(
            steps in prop::collection::vec((0..3u8, 0..WORKERS, 0..60u64), 1..200)
        ) {
            let deadlines = Deadlines::new(WORKERS, Duration::from_millis(PATIENCE_MS));
            let (mut now_ms, mut started) = (0, [None; WORKERS]);
            for (step, worker, pause_ms) in steps {
                now_ms += pause_ms;
                match (step, started[worker]) {
                    (0, None) => {
                        deadlines.arm(worker, at(now_ms + PATIENCE_MS));
                        started[worker] = Some(now_ms);
                    }
                    (1, Some(_)) => {
                        deadlines.disarm(worker);
                        started[worker] = None;
                    }
                    _ => {
                        deadlines.sweep(at(now_ms));
                        let state = deadlines.state.borrow();
                        for (slot, started) in state.slots.iter().zip(started) {
                            let is_over = started.is_some_and(|start| start + PATIENCE_MS <= now_ms);
                            prop_assert_eq!(slot.armed && slot.expired, is_over);
                        }
                        prop_assert!(state.looks.len() <= WORKERS);
                    }
                }
            }
        }
    }
}
