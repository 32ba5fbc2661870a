//! The looks of an event loop at its sockets: how old may be what the last one has shown?

use std::time::Duration;

use crate::clock::Moment;

/// The longest look that finds something at once. A longer one waited until something came.
const LOOK: Duration = Duration::from_micros(20);

/// The looks of a loop so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// Whatever came before this moment has been shown.
    shown_before: Moment,
    /// What the last look has shown came after this moment.
    shown_since: Moment,
}

impl Looks {
    /// Begins at `now`, when nothing can have come yet.
    pub(super) fn begin(now: Moment) -> Self {
        Self { shown_before: now, shown_since: now }
    }

    /// Takes a look that lasted from `began`, or a little later, to `ended`. `is_whole` is true if it has shown all that
    /// there was.
    pub(super) fn looked(&mut self, began: Moment, ended: Moment, is_whole: bool) {
        // A loop that waits is woken at once.
        let waited = ended - began > LOOK;
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
