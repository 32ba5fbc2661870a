//! The statuses that answers of one kind showed, from the order to revoke on.

use std::time::Duration;

use crate::clock::Moment;
use crate::measure::observation::Value;

/// The statement of an answer about one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is not revoked.
    Good {
        /// True if the request was sent after the revocation was confirmed.
        is_stale: bool,
        /// True if it was sent so long after that that no answer may say so.
        is_overdue: bool,
    },
    /// It is revoked.
    Revoked,
    /// Neither, by a defect that is counted elsewhere.
    Nothing,
}

/// The statuses of one kind of request.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The last word about each certificate, from the first order on.
    last: Vec<Option<Word>>,
    /// The end of the last answer about each that said good.
    last_good: Vec<Option<Moment>>,
    /// The end of the last answer of all.
    last_word: Option<Moment>,
    stale: u64,
    overdue: u64,
    after_confirmation: u64,
}

impl Shown {
    /// Begins without a word about any of so many certificates.
    pub fn new(certificates: usize) -> Self {
        Self {
            last: vec![None; certificates],
            last_good: vec![None; certificates],
            last_word: None,
            stale: 0,
            overdue: 0,
            after_confirmation: 0,
        }
    }

    /// Notes the word of an answer that had arrived by `end`, after the first order.
    pub fn note(&mut self, certificate: usize, word: Word, is_after_confirmation: bool, end: Moment) {
        self.after_confirmation += u64::from(is_after_confirmation && word != Word::Nothing);
        if let Word::Good { is_stale, is_overdue } = word {
            self.stale += u64::from(is_stale);
            self.overdue += u64::from(is_overdue);
            self.last_good[certificate] = self.last_good[certificate].max(Some(end));
        }
        self.last_word = self.last_word.max(Some(end));
        self.last[certificate] = Some(word);
    }

    /// Returns the time from the order until the last answer that said good of a certificate whose revocation was
    /// confirmed, if the last word about each of these is that it is revoked. The others may be good for ever.
    pub fn until(&self, ordered: Moment, confirmed: &[usize]) -> Value {
        let since = |moment: Option<Moment>| moment.map_or(Duration::ZERO, |moment| moment - ordered);
        let is_settled = |index: &usize| matches!(self.last[*index], Some(Word::Revoked | Word::Nothing));
        let says_revoked = |index: &usize| self.last[*index] == Some(Word::Revoked);
        match confirmed.iter().all(is_settled) && confirmed.iter().any(says_revoked) {
            true => Value::Duration(since(confirmed.iter().filter_map(|index| self.last_good[*index]).max())),
            false => Value::NotWithin(since(self.last_word)),
        }
    }

    /// Returns the number of stale words: good, though the request was sent after the confirmation.
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// Returns the number of those among them that no answer may say.
    pub fn overdue(&self) -> u64 {
        self.overdue
    }

    /// Returns the number of words of answers to requests that were sent after the confirmation.
    pub fn after_confirmation(&self) -> u64 {
        self.after_confirmation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Word = Word::Good { is_stale: false, is_overdue: false };
    const STALE: Word = Word::Good { is_stale: true, is_overdue: false };

    fn at(ms: u64) -> Moment {
        Moment::from_ns(1_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn the_last_good_answer_ends_the_time() {
        let mut shown = Shown::new(2);
        shown.note(0, GOOD, false, at(10));
        shown.note(0, Word::Revoked, true, at(20));
        assert_eq!(shown.until(at(0), &[0, 1]), Value::NotWithin(Duration::from_millis(20)));
        shown.note(1, Word::Revoked, true, at(30));
        assert_eq!(shown.until(at(0), &[0, 1]), Value::Duration(Duration::from_millis(10)));
        // A certificate that is good again, from a cache, was not revoked for good.
        shown.note(0, STALE, true, at(40));
        assert_eq!(shown.until(at(0), &[0, 1]), Value::NotWithin(Duration::from_millis(40)));
        shown.note(0, Word::Revoked, true, at(50));
        assert_eq!(shown.until(at(0), &[0, 1]), Value::Duration(Duration::from_millis(40)));
        assert_eq!((shown.stale(), shown.overdue(), shown.after_confirmation()), (1, 0, 4));
    }

    #[test]
    fn unknown_certificates_hold_nothing_up() {
        let mut shown = Shown::new(2);
        shown.note(0, Word::Nothing, true, at(10));
        assert_eq!(shown.until(at(0), &[0]), Value::NotWithin(Duration::from_millis(10)));
        shown.note(1, Word::Revoked, true, at(20));
        assert_eq!(shown.until(at(0), &[0, 1]), Value::Duration(Duration::ZERO));
        assert_eq!(shown.after_confirmation(), 1);
    }

    #[test]
    fn a_revocation_that_failed_does_not_lengthen_the_time() {
        let mut shown = Shown::new(2);
        shown.note(0, GOOD, false, at(10));
        shown.note(0, Word::Revoked, true, at(20));
        shown.note(1, GOOD, false, at(900));
        assert_eq!(shown.until(at(0), &[0]), Value::Duration(Duration::from_millis(10)));
        assert_eq!(shown.until(at(0), &[0, 1]), Value::NotWithin(Duration::from_millis(900)));
    }
}
