//! Least and greatest value and mean of a quantity, exact.

use serde::{Deserialize, Serialize};

/// A summary of a quantity's values, which are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteSpread {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl ByteSpread {
    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum += value;
    }

    /// Adds the values of another summary.
    pub fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
            self.max = self.max.max(other.max);
            self.count += other.count;
            self.sum += other.sum;
        }
    }

    /// Returns the least and the greatest value; `None` without any.
    pub fn range(&self) -> Option<(u64, u64)> {
        (self.count > 0).then_some((self.min, self.max))
    }

    /// Returns the arithmetic mean; `None` without any value.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_range_and_mean() {
        let mut spread = ByteSpread::default();
        assert_eq!((spread.range(), spread.mean()), (None, None));
        [5, 3, 7].into_iter().for_each(|value| spread.add(value));
        assert_eq!((spread.range(), spread.mean()), (Some((3, 7)), Some(5.0)));
    }
}
