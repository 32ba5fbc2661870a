//! The timers of an event loop.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::clock::Moment;

/// The timers that have not fired yet.
#[derive(Default)]
pub(super) struct Timers {
    armed: BTreeMap<TimerKey, Waker>,
    count: u64,
}

/// The moment of a timer, and a number that distinguishes it from others at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerKey(Moment, u64);

impl Timers {
    /// Arms a timer, which wakes `waker` at `moment`.
    pub(super) fn arm(&mut self, moment: Moment, waker: Waker) -> TimerKey {
        self.count += 1;
        let key = TimerKey(moment, self.count);
        self.armed.insert(key, waker);
        key
    }

    /// Lets a timer that has not fired yet wake `waker` instead.
    pub(super) fn rearm(&mut self, key: TimerKey, waker: &Waker) {
        if let Some(armed) = self.armed.get_mut(&key) {
            armed.clone_from(waker);
        }
    }

    /// Cancels a timer, if it has not fired yet.
    pub(super) fn cancel(&mut self, key: TimerKey) {
        self.armed.remove(&key);
    }

    /// Returns the moment of the next timer.
    pub(super) fn next(&self) -> Option<Moment> {
        self.armed.first_key_value().map(|(key, _)| key.0)
    }

    /// Removes a timer whose moment is not after `now`, the earliest first, and returns its waker.
    pub(super) fn fire(&mut self, now: Moment) -> Option<Waker> {
        let first = self.armed.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
