//! Answers that were verified already: certctl sends the same bytes again and again from its caches, and a signature
//! costs more than a hash.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::digest::{SHA256, digest};

/// The results for the last different answers, by their whole bytes.
pub struct VerifiedAnswers<T> {
    results: HashMap<[u8; 32], T>,
    /// The oldest first.
    order: VecDeque<[u8; 32]>,
    most: usize,
}

impl<T: Clone> VerifiedAnswers<T> {
    /// Keeps the results for `most` answers.
    pub fn new(most: usize) -> Self {
        Self { results: HashMap::with_capacity(most), order: VecDeque::with_capacity(most), most }
    }

    /// Returns the result for these bytes, by `verify` if they are new.
    pub fn get(&mut self, bytes: &[u8], verify: impl FnOnce(&[u8]) -> T) -> T {
        let hash = digest(&SHA256, bytes);
        let Ok(hash) = <[u8; 32]>::try_from(hash.as_ref()) else { return verify(bytes) };
        if let Some(known) = self.results.get(&hash) {
            return known.clone();
        }
        let result = verify(bytes);
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.results.remove(&oldest);
        }
        self.order.push_back(hash);
        self.results.insert(hash, result.clone());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_verified_once_and_memory_is_bounded() {
        let (mut answers, mut verified) = (VerifiedAnswers::new(2), Vec::new());
        for bytes in [b"a", b"a", b"b", b"a", b"c", b"b", b"a"] {
            let length = answers.get(bytes, |bytes| {
                verified.push(bytes[0]);
                bytes.len()
            });
            assert_eq!(length, 1);
        }
        assert_eq!((verified.as_slice(), answers.results.len()), (&b"abca"[..], 2));
    }
}
