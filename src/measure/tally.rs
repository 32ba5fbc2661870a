//! Counts by kind, for a handful of kinds.

/// The number of occurrences of each kind. A look-up is a linear search: there are few kinds, and the first is the
/// usual one.
#[derive(Clone, Debug)]
pub struct Tally<T> {
    entries: Vec<(T, u64)>,
}

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self { entries: Vec::with_capacity(16) }
    }
}

impl<T: Copy + Ord> Tally<T> {
    /// Counts one of `kind`.
    pub fn add(&mut self, kind: T) {
        match self.entries.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => self.entries.push((kind, 1)),
        }
    }

    /// Returns the number of occurrences of `kind`.
    pub fn count(&self, kind: T) -> u64 {
        self.entries.iter().find(|(known, _)| *known == kind).map_or(0, |(_, count)| *count)
    }

    /// Returns the number of all occurrences.
    pub fn total(&self) -> u64 {
        self.entries.iter().map(|(_, count)| count).sum()
    }

    /// Returns every kind that occurred with its count, in the order of the kinds.
    pub fn sorted(&self) -> Vec<(T, u64)> {
        let mut entries = self.entries.clone();
        entries.sort_unstable_by_key(|(kind, _)| *kind);
        entries
    }
}
