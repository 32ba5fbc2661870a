//! The nonces that were given out: a check that each is new, and the youngest of them by name.
//!
//! Memory and the time of an insertion are bounded, however long the run. A nonce is looked up among fingerprints in
//! 4,096 tables. Each grows on its own, so that no more than 3,584 fingerprints are ever moved at once, and has two
//! generations: once the young one is full, it becomes the old one, and what was old is forgotten. A nonce is forgotten
//! after 3,584 others in its own table, which is after some 14 million in all. The bytes of nonces are kept in blocks,
//! which are never moved, and are reused once their content is too old.
//!
//! Exactness: two different nonces count as the same one if fingerprint and table agree, 76 bits in all, under keys drawn
//! anew for each run. Among the first n that has a probability of n² / 2⁷⁷, of ten million less than 10⁻⁹; and at most
//! 29 million are remembered, so that no later nonce adds more than 4 × 10⁻¹⁶.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::clock::Moment;

/// The number of tables.
const TABLES: usize = 4_096;
/// The number of entries of a generation at first: a power of two, and at least 8, so that one always stays empty.
const FIRST_ROOM: usize = 64;
/// The most entries of a generation, a power of two: 256 MiB in all.
const MOST_ROOM: usize = 4_096;
/// The size of a block of nonces, in bytes.
const BLOCK_BYTES: usize = 256 * 1024;
/// The most blocks that are kept: 64 MiB of nonces, and as much for their times.
const MOST_BLOCKS: usize = 256;

/// The nonces given out so far.
pub struct Nonces {
    keys: [RandomState; 2],
    tables: Box<[NonceTable]>,
    most_room: usize,
    seen: u64,
    unique: u64,
    look_back: Option<u64>,
    lasting: Duration,
    /// True if they are kept by name too.
    by_name: bool,
    blocks: VecDeque<Block>,
}

/// The fingerprints of one part of the nonces.
#[derive(Default)]
struct NonceTable {
    young: Generation,
    old: Generation,
    /// The number of nonces, of all tables, before the first of the young generation.
    young_since: u64,
}

/// An open-addressing hash table of fingerprints; 0 is an empty entry.
#[derive(Default)]
struct Generation {
    entries: Vec<u64>,
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
    /// Returns an empty set; where nonces are kept by name, then for so long.
    pub fn new(lasting: Duration) -> Self {
        Self::sized(lasting, TABLES, FIRST_ROOM, MOST_ROOM)
    }

    fn sized(lasting: Duration, tables: usize, first_room: usize, most_room: usize) -> Self {
        let table = || NonceTable { young: Generation::with_room(first_room), ..NonceTable::default() };
        Self {
            keys: [RandomState::new(), RandomState::new()],
            tables: std::iter::repeat_with(table).take(tables).collect(),
            most_room,
            seen: 0,
            unique: 0,
            look_back: None,
            lasting,
            by_name: false,
            blocks: VecDeque::with_capacity(MOST_BLOCKS + 1),
        }
    }

    /// Keeps nonces by name from now on, which takes more memory than all the rest.
    pub fn keep_names(&mut self) {
        self.by_name = true;
    }

    /// Notes a nonce that was requested at `requested`; returns true if it is none of those that are remembered.
    pub fn insert(&mut self, nonce: &[u8], requested: Moment) -> bool {
        let [place, fingerprint] = self.keys.each_ref().map(|key| key.hash_one(nonce));
        // Not 0, which is an empty entry.
        let fingerprint = fingerprint.max(1);
        let table = &mut self.tables[place as usize % self.tables.len()];
        let new = !table.has(fingerprint);
        if new {
            if let Some(look_back) = table.make_room(self.most_room, self.seen) {
                self.look_back = Some(self.look_back.map_or(look_back, |least| least.min(look_back)));
            }
            table.young.insert(fingerprint);
            self.unique += 1;
            if self.by_name {
                self.keep(nonce, requested);
            }
        }
        self.seen += 1;
        new
    }

    /// Returns the number of nonces, new or not.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the number of nonces that were new.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// Returns the number of nonces before each with which it was compared at least; `None` if with all of them.
    pub fn look_back(&self) -> Option<u64> {
        self.look_back
    }

    /// Returns the new ones that were requested after `since` and are still kept by name, as far as they are text.
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
    fn has(&self, fingerprint: u64) -> bool {
        self.young.has(fingerprint) || self.old.has(fingerprint)
    }

    /// Makes room for one more fingerprint, after `seen` nonces. If fingerprints were forgotten for it, returns the
    /// number of nonces that were compared with the youngest of these.
    fn make_room(&mut self, most_room: usize, seen: u64) -> Option<u64> {
        if !self.young.is_full() {
            return None;
        }
        if self.young.entries.len() < most_room {
            self.young.grow();
            return None;
        }
        std::mem::swap(&mut self.young, &mut self.old);
        let forgotten = (self.young.used > 0).then(|| seen - self.young_since);
        self.young.clear(most_room);
        self.young_since = seen;
        forgotten
    }
}

impl Generation {
    fn with_room(room: usize) -> Self {
        Self { entries: vec![0; room], used: 0 }
    }

    /// Returns true if seven eighths of the entries are used.
    fn is_full(&self) -> bool {
        self.used * 8 >= self.entries.len() * 7
    }

    fn has(&self, fingerprint: u64) -> bool {
        !self.entries.is_empty() && self.entries[self.place(fingerprint)] == fingerprint
    }

    /// Adds a fingerprint that it does not have.
    fn insert(&mut self, fingerprint: u64) {
        let at = self.place(fingerprint);
        self.entries[at] = fingerprint;
        self.used += 1;
    }

    fn grow(&mut self) {
        let grown = Self::with_room(self.entries.len() * 2);
        for fingerprint in std::mem::replace(self, grown).entries.into_iter().filter(|entry| *entry != 0) {
            self.insert(fingerprint);
        }
    }

    fn clear(&mut self, room: usize) {
        self.entries.fill(0);
        self.entries.resize(room, 0);
        self.used = 0;
    }

    /// Returns the index of a fingerprint, or of the empty entry for it.
    fn place(&self, fingerprint: u64) -> usize {
        let mask = self.entries.len() - 1;
        let mut at = fingerprint as usize & mask;
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
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::measure::allocations;

    const LASTING: Duration = Duration::from_secs(240);

    fn at(seconds: u64) -> Moment {
        Moment::from_ns(seconds * 1_000_000_000)
    }

    /// A set that forgets soon: three tables, each with two generations of fourteen.
    fn forgetful() -> Nonces {
        Nonces::sized(LASTING, 3, 8, 16)
    }

    proptest! {
        #[test]
        fn a_nonce_is_new_only_once(numbers in prop::collection::vec(0u32..2_000, 0..3_000)) {
            let (mut nonces, mut known) = (Nonces::new(LASTING), HashSet::new());
            nonces.keep_names();
            for number in &numbers {
                let nonce = format!("nonce-{number:030}");
                prop_assert_eq!(nonces.insert(nonce.as_bytes(), at(1)), known.insert(nonce));
            }
            prop_assert_eq!((nonces.seen(), nonces.unique()), (numbers.len() as u64, known.len() as u64));
            prop_assert_eq!(nonces.look_back(), None);
            let kept: HashSet<String> = nonces.since(at(0)).map(str::to_owned).collect();
            prop_assert_eq!(kept, known);
        }

        /// Against a set that forgets nothing: a nonce never counts as repeated that is not, and one that is repeated
        /// counts as new only beyond the stated number.
        #[test]
        fn a_nonce_is_forgotten_only_beyond_the_look_back(numbers in prop::collection::vec(0u8..120, 0..2_000)) {
            let (mut nonces, mut taken) = (forgetful(), HashMap::new());
            for (place, number) in numbers.iter().enumerate() {
                match (nonces.insert(&[*number], at(1)), taken.get(number)) {
                    (false, known) => prop_assert!(known.is_some(), "{number} is none of those before"),
                    (true, None) => {
                        taken.insert(*number, place);
                    }
                    (true, Some(before)) => {
                        prop_assert!((place - before) as u64 > nonces.look_back().unwrap(), "{number}");
                        taken.insert(*number, place);
                    }
                }
            }
            let held = |table: &NonceTable| table.young.entries.len().max(table.old.entries.len());
            prop_assert!(nonces.tables.iter().all(|table| held(table) <= 16));
            // A generation of its own table, at the least.
            prop_assert!(nonces.look_back().is_none_or(|look_back| look_back >= 14));
        }
    }

    #[test]
    fn a_repetition_is_found_however_many_were_forgotten() {
        let mut nonces = forgetful();
        for number in 0..10_000_u32 {
            assert!(nonces.insert(&number.to_be_bytes(), at(1)));
            assert!(!nonces.insert(&number.to_be_bytes(), at(1)));
            assert!(number == 0 || !nonces.insert(&(number - 1).to_be_bytes(), at(1)));
        }
        assert_eq!((nonces.seen(), nonces.unique()), (29_999, 10_000));
        // Three insertions a number, and fourteen numbers for its table at the least.
        assert!(nonces.look_back().is_some_and(|look_back| (39..500).contains(&look_back)), "{:?}", nonces.look_back());
    }

    #[test]
    fn half_a_million_nonces_are_distinguished() {
        // Every table grows twice.
        let mut nonces = Nonces::new(LASTING);
        let all = || (0..500_000).map(|number| format!("{number:08}-of-an-acme-server"));
        assert!(all().all(|nonce| nonces.insert(nonce.as_bytes(), at(1))));
        assert!(!all().any(|nonce| nonces.insert(nonce.as_bytes(), at(1))));
        assert_eq!((nonces.seen(), nonces.unique(), nonces.look_back()), (1_000_000, 500_000, None));
    }

    #[test]
    fn the_oldest_nonces_are_evicted_first() {
        let mut nonces = Nonces::new(LASTING);
        nonces.keep_names();
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
        nonces.keep_names();
        nonces.insert(b"the-first", at(1));
        let text: Vec<String> = (0..5_000).map(|number| format!("{number:08}")).collect();
        let before = allocations::of_this_thread();
        assert!(text.iter().all(|nonce| nonces.insert(nonce.as_bytes(), at(1))));
        assert_eq!(allocations::of_this_thread() - before, 0);
    }
}
