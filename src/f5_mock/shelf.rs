//! A store that stays within its bounds: when it is full, the oldest items that are not held make room.

use std::collections::{BTreeMap, HashMap};

/// Items by name.
pub struct Shelf<T> {
    items: HashMap<String, Item<T>>,
    /// The items that are not held, oldest first.
    idle: BTreeMap<u64, String>,
    next_rank: u64,
    bytes: usize,
    limits: Limits,
}

/// The bounds of a shelf.
#[derive(Clone, Copy)]
pub struct Limits {
    pub items: usize,
    pub bytes: usize,
}

struct Item<T> {
    value: T,
    bytes: usize,
    holders: usize,
    rank: u64,
}

/// The reason for which a shelf refuses a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The item that would be replaced or removed is held.
    Held,
    /// There is no room, and no item that may be removed.
    Full,
    /// There is no item of this name.
    Unknown,
}

impl<T> Shelf<T> {
    /// Returns an empty shelf.
    pub fn new(limits: Limits) -> Self {
        Self { items: HashMap::new(), idle: BTreeMap::new(), next_rank: 0, bytes: 0, limits }
    }

    /// Puts an item of a size there, in place of the one of its name.
    pub fn put(&mut self, name: &str, value: T, bytes: usize) -> Result<(), Trouble> {
        match self.remove(name) {
            Ok(_) | Err(Trouble::Unknown) => {}
            Err(trouble) => return Err(trouble),
        }
        while self.items.len() >= self.limits.items || self.bytes + bytes > self.limits.bytes {
            let (_, oldest) = self.idle.pop_first().ok_or(Trouble::Full)?;
            if let Some(item) = self.items.remove(&oldest) {
                self.bytes -= item.bytes;
            }
        }
        let rank = self.rank(name);
        self.items.insert(name.to_owned(), Item { value, bytes, holders: 0, rank });
        self.bytes += bytes;
        Ok(())
    }

    /// Replaces the value of an item, which keeps its holders. It takes the room that it needs, also beyond the bounds.
    pub fn replace(&mut self, name: &str, value: T, bytes: usize) {
        if let Some(item) = self.items.get_mut(name) {
            self.bytes = self.bytes - item.bytes + bytes;
            (item.value, item.bytes) = (value, bytes);
        }
    }

    /// Returns all items by name, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.items.iter().map(|(name, item)| (name, &item.value))
    }

    /// Returns the item of this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.items.get(name).map(|item| &item.value)
    }

    /// Returns the item of this name, to be changed without changing its size.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.items.get_mut(name).map(|item| &mut item.value)
    }

    /// Removes the item of this name.
    pub fn remove(&mut self, name: &str) -> Result<T, Trouble> {
        match self.items.get(name) {
            None => Err(Trouble::Unknown),
            Some(item) if item.holders > 0 => Err(Trouble::Held),
            Some(item) => {
                self.idle.remove(&item.rank);
                self.bytes -= item.bytes;
                self.items.remove(name).map(|item| item.value).ok_or(Trouble::Unknown)
            }
        }
    }

    /// Holds the item of this name until it is released as often.
    pub fn hold(&mut self, name: &str) {
        if let Some(item) = self.items.get_mut(name) {
            item.holders += 1;
            self.idle.remove(&item.rank);
        }
    }

    /// Releases an item that was held.
    pub fn release(&mut self, name: &str) {
        let Some(item) = self.items.get_mut(name).filter(|item| item.holders > 0) else { return };
        item.holders -= 1;
        if item.holders == 0 {
            let rank = self.rank(name);
            if let Some(item) = self.items.get_mut(name) {
                item.rank = rank;
            }
        }
    }

    /// Ranks an item as the newest of those that may be removed.
    fn rank(&mut self, name: &str) -> u64 {
        let rank = self.next_rank;
        self.next_rank += 1;
        self.idle.insert(rank, name.to_owned());
        rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_unheld_item_is_evicted() {
        let mut shelf = Shelf::new(Limits { items: 3, bytes: 100 });
        for name in ["a", "b", "c"] {
            shelf.put(name, name, 10).unwrap();
        }
        shelf.hold("a");
        shelf.put("d", "d", 10).unwrap();
        assert!(shelf.get("a").is_some() && shelf.get("b").is_none() && shelf.get("c").is_some());
        assert_eq!((shelf.put("a", "x", 10), shelf.remove("a")), (Err(Trouble::Held), Err(Trouble::Held)));
        // Bytes count too: only the one that is held is left.
        shelf.put("e", "e", 90).unwrap();
        assert!(shelf.get("c").is_none() && shelf.get("d").is_none() && shelf.get("a").is_some());
        assert_eq!(shelf.put("f", "f", 91), Err(Trouble::Full));
        shelf.replace("a", "y", 5);
        assert_eq!((shelf.get("a"), shelf.bytes), (Some(&"y"), 5));
        shelf.release("a");
        assert_eq!((shelf.remove("a"), shelf.remove("a")), (Ok("y"), Err(Trouble::Unknown)));
        assert_eq!((shelf.bytes, shelf.items.len(), shelf.idle.len()), (0, 0, 0));
    }

    #[test]
    fn replaced_items_free_their_space() {
        let mut shelf = Shelf::new(Limits { items: 2, bytes: 100 });
        for round in 0..50 {
            shelf.put("a", round, 60).unwrap();
            shelf.hold("a");
            shelf.release("a");
        }
        assert_eq!((shelf.get("a"), shelf.bytes, shelf.idle.len()), (Some(&49), 60, 1));
    }
}
