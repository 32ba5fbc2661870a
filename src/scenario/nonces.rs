//! The nonces that were given out: a check that each is new, and the youngest of them by name.
//!
//! The time of an insertion is bounded. A nonce is looked up among fingerprints of 128 bits in 4,096 tables, each of
//! which grows on its own: at the limit a table has 4,096 entries, and moving those takes some hundredths of a
//! millisecond. The bytes of nonces are kept in blocks, which are never moved, and are reused once their content is too
//! old.
//!
//! Exactness: two different nonces count as the same one if their fingerprints agree, under keys drawn anew for each
//! run. For n nonces that has a probability of n² / 2¹²⁹: of ten million, less than 10⁻²⁴.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::clock::Moment;

/// The number of tables.
const TABLES: usize = 4_096;
/// The number of entries of a table at first; a power of two. Three quarters of them are used before it grows: 196,608
/// nonces in all.
const FIRST_ROOM: usize = 64;
/// The most nonces that are checked.
pub const MOST: u64 = 1 << 24;
/// The size of a block of nonces, in bytes.
const BLOCK_BYTES: usize = 256 * 1024;
/// The most blocks that are kept: 64 MiB.
const MOST_BLOCKS: usize = 256;

/// The nonces given out so far.
pub struct Nonces {
    keys: [RandomState; 2],
    tables: Vec<NonceTable>,
    seen: u64,
    unique: u64,
    unchecked: u64,
    lasting: Duration,
    blocks: VecDeque<Block>,
}

/// An open-addressing hash table of fingerprints; 0 is an empty entry.
struct NonceTable {
    entries: Vec<u128>,
    used: usize,
}

/// Nonces one after another, roughly in the order of their requests.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    /// The end of each, and the moment of its request.
    ends: Vec<(u32, Moment)>,
}

impl Nonces {
    /// Returns an empty set whose nonces are kept by name for so long.
    pub fn new(lasting: Duration) -> Self {
        Self {
            keys: [RandomState::new(), RandomState::new()],
            tables: (0..TABLES).map(|_| NonceTable { entries: vec![0; FIRST_ROOM], used: 0 }).collect(),
            seen: 0,
            unique: 0,
            unchecked: 0,
            lasting,
            blocks: VecDeque::with_capacity(MOST_BLOCKS + 1),
        }
    }

    /// Notes a nonce that was requested at `requested`; returns true if it is new. One beyond [`MOST`] counts as new.
    pub fn insert(&mut self, nonce: &[u8], requested: Moment) -> bool {
        self.seen += 1;
        if self.unique >= MOST {
            self.unchecked += 1;
            return true;
        }
        let [high, low] = self.keys.each_ref().map(|key| key.hash_one(nonce));
        // Not 0, which is an empty entry.
        let fingerprint = u128::from(high) << 64 | u128::from(low) | 1;
        let table = &mut self.tables[high as usize % TABLES];
        if !table.insert(fingerprint) {
            return false;
        }
        self.unique += 1;
        self.keep(nonce, requested);
        true
    }

    /// Returns the number of nonces, new or not.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the number of nonces that were new.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// Returns the number of nonces beyond [`MOST`], which were not checked.
    pub fn unchecked(&self) -> u64 {
        self.unchecked
    }

    /// Returns the new ones that were requested after `since` and are still kept, as far as they are text.
    pub fn since(&self, since: Moment) -> impl Iterator<Item = &str> {
        self.blocks.iter().flat_map(move |block| block.since(since))
    }

    fn keep(&mut self, nonce: &[u8], requested: Moment) {
        if self.blocks.back().is_none_or(|block| !block.has_room(nonce)) {
            let old = |block: &Block| block.ends.last().is_none_or(|(_, last)| requested - *last > self.lasting);
            let full = self.blocks.len() >= MOST_BLOCKS;
            let used = self.blocks.front().is_some_and(|block| full || old(block)).then(|| self.blocks.pop_front());
            self.blocks.push_back(used.flatten().map_or_else(Block::new, Block::cleared));
        }
        if let Some(block) = self.blocks.back_mut()
            && block.has_room(nonce)
        {
            block.bytes.extend_from_slice(nonce);
            block.ends.push((block.bytes.len() as u32, requested));
        }
    }
}

impl NonceTable {
    fn insert(&mut self, fingerprint: u128) -> bool {
        if (self.used + 1) * 4 > self.entries.len() * 3 {
            let room = self.entries.len() * 2;
            let entries = std::mem::replace(&mut self.entries, vec![0; room]);
            for entry in entries.into_iter().filter(|entry| *entry != 0) {
                let at = self.place(entry);
                self.entries[at] = entry;
            }
        }
        let at = self.place(fingerprint);
        let new = self.entries[at] == 0;
        self.entries[at] = fingerprint;
        self.used += usize::from(new);
        new
    }

    /// Returns the index of a fingerprint, or of the empty entry for it.
    fn place(&self, fingerprint: u128) -> usize {
        let mask = self.entries.len() - 1;
        // The lowest bit is always set, and the table was chosen by the upper half.
        let mut at = (fingerprint >> 1) as usize & mask;
        while self.entries[at] != 0 && self.entries[at] != fingerprint {
            at = (at + 1) & mask;
        }
        at
    }
}

impl Block {
    fn new() -> Self {
        // A nonce has some 16 bytes at least.
        Self { bytes: Vec::with_capacity(BLOCK_BYTES), ends: Vec::with_capacity(BLOCK_BYTES / 16) }
    }

    fn cleared(mut self) -> Self {
        self.bytes.clear();
        self.ends.clear();
        self
    }

    fn has_room(&self, nonce: &[u8]) -> bool {
        self.bytes.len() + nonce.len() <= BLOCK_BYTES && self.ends.len() < BLOCK_BYTES / 16
    }

    fn since(&self, since: Moment) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end as usize));
        let nonces = starts.zip(&self.ends).filter(move |(_, (_, requested))| *requested > since);
        nonces.filter_map(|(start, (end, _))| std::str::from_utf8(&self.bytes[start..*end as usize]).ok())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::measure::allocations;

    const LASTING: Duration = Duration::from_secs(240);

    fn at(seconds: u64) -> Moment {
        Moment::from_ns(seconds * 1_000_000_000)
    }

    proptest! {
        #[test]
        fn a_nonce_is_new_only_once(numbers in prop::collection::vec(0u32..2_000, 0..3_000)) {
            let (mut nonces, mut known) = (Nonces::new(LASTING), HashSet::new());
            for number in &numbers {
                let nonce = format!("nonce-{number:030}");
                prop_assert_eq!(nonces.insert(nonce.as_bytes(), at(1)), known.insert(nonce));
            }
            prop_assert_eq!((nonces.seen(), nonces.unique()), (numbers.len() as u64, known.len() as u64));
            let kept: HashSet<String> = nonces.since(at(0)).map(str::to_owned).collect();
            prop_assert_eq!(kept, known);
        }
    }

    #[test]
    fn half_a_million_nonces_are_distinguished() {
        // Every table grows twice.
        let mut nonces = Nonces::new(LASTING);
        let all = || (0..500_000).map(|number| format!("{number:08}-of-an-acme-server"));
        assert!(all().all(|nonce| nonces.insert(nonce.as_bytes(), at(1))));
        assert!(!all().any(|nonce| nonces.insert(nonce.as_bytes(), at(1))));
        assert_eq!((nonces.seen(), nonces.unique(), nonces.unchecked()), (1_000_000, 500_000, 0));
    }

    #[test]
    fn the_oldest_nonces_are_evicted_first() {
        let mut nonces = Nonces::new(LASTING);
        for second in 0..1_000 {
            for number in 0..100 {
                assert!(nonces.insert(format!("{second:04}-{number:03}-0123456789abcdef").as_bytes(), at(second)));
            }
        }
        assert!(nonces.blocks.len() <= 4, "{} blocks", nonces.blocks.len());
        assert_eq!(nonces.since(at(999 - 240)).count(), 240 * 100);
    }

    #[test]
    fn inserting_a_nonce_within_capacity_allocates_nothing() {
        let mut nonces = Nonces::new(LASTING);
        nonces.insert(b"the-first", at(1));
        let text: Vec<String> = (0..5_000).map(|number| format!("{number:08}")).collect();
        let before = allocations::of_this_thread();
        assert!(text.iter().all(|nonce| nonces.insert(nonce.as_bytes(), at(1))));
        assert_eq!(allocations::of_this_thread() - before, 0);
    }
}
