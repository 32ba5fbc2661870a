//! Counts by kind, for a handful of kinds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
        self.add_many(kind, 1);
    }

    /// Adds the occurrences of another tally.
    pub fn merge(&mut self, other: &Self) {
        other.entries.iter().for_each(|(kind, count)| self.add_many(*kind, *count));
    }

    fn add_many(&mut self, kind: T, more: u64) {
        match self.entries.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += more,
            None => self.entries.push((kind, more)),
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

impl<T: Copy + Ord + Serialize> Serialize for Tally<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.sorted().serialize(serializer)
    }
}

impl<'de, T: Copy + Ord + Deserialize<'de>> Deserialize<'de> for Tally<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut tally = Self::default();
        let entries = Vec::<(T, u64)>::deserialize(deserializer)?;
        entries.into_iter().for_each(|(kind, count)| tally.add_many(kind, count));
        Ok(tally)
    }
}
