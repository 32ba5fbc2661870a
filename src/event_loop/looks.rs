//! The looks of an event loop at its sockets: how old may be what the last one has shown?

use std::time::Duration;

use crate::clock::Moment;

/// The longest look that finds something at once, and more of it for each event. A longer one waited until something
/// came.
const LOOK: Duration = Duration::from_micros(20);
const LOOK_EACH: Duration = Duration::from_micros(1);

/// The looks of a loop so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// The moment before which everything came that has been shown for certain.
    shown_before: Moment,
    /// The moment after which everything came that the last look has shown.
    shown_since: Moment,
}

impl Looks {
    /// Begins at `now`, when nothing can have come yet.
    pub(super) fn begin(now: Moment) -> Self {
        Self { shown_before: now, shown_since: now }
    }

    /// Takes a look that lasted from `began`, or a little later, to `ended`, and has shown so many events. `is_whole`
    /// is true if that was all that there was.
    pub(super) fn looked(&mut self, began: Moment, ended: Moment, shown: usize, is_whole: bool) {
        // A loop that waits is woken at once.
        let waited = ended - began > LOOK + LOOK_EACH * shown as u32;
        self.shown_since = if waited { ended } else { self.shown_before };
        if is_whole {
            self.shown_before = if waited { ended } else { began };
        }
    }

    /// Returns the earliest moment at which what the last look has shown may have come.
    pub(super) fn shown_since(self) -> Moment {
        self.shown_since
    }
}
