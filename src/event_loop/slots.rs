//! A list whose entries keep their places, which are used again once they are free.

/// Entries by place.
pub(super) struct Slots<T> {
    entries: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Adds what `make` returns for its place, and returns the place.
    pub(super) fn add(&mut self, make: impl FnOnce(usize) -> T) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[place] = Some(make(place));
        place
    }

    /// Returns the entry at a place.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.entries.get_mut(place)?.as_mut()
    }

    /// Removes the entry at a place.
    pub(super) fn remove(&mut self, place: usize) -> Option<T> {
        let removed = self.entries.get_mut(place)?.take();
        if removed.is_some() {
            self.free.push(place);
        }
        removed
    }
}
