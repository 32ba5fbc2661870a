//! Distributions of durations, as HDR histograms.

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::serialization::{Deserializer as HdrReader, Serializer as _, V2DeflateSerializer};
use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Context as _, Error, Result};

/// The longest duration, in nanoseconds: ten minutes. Longer ones count as this.
pub const MAX_NS: u64 = 600_000_000_000;
/// The precision: every value is kept to within 0.1%.
const SIGNIFICANT_DIGITS: u8 = 3;
/// The first bytes of V2, and of V2 that is deflated.
const PLAIN: [u8; 4] = 0x1c84_9313_u32.to_be_bytes();
const DEFLATED: [u8; 4] = 0x1c84_9314_u32.to_be_bytes();
/// Bounds on a histogram that is read; one that is written stays far below them.
const MOST_BYTES: usize = 1 << 20;
const MOST_DIGITS: u64 = 4;
const MOST_VALUE: u64 = 1 << 48;
const MOST_SAMPLES: u64 = 1 << 53;
/// The number of samples that must lie beyond a quantile for it to be stated.
pub const SAMPLES_BEYOND: u64 = 10;

/// A quantile, exact: in hundred-thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantile(u32);

impl Quantile {
    /// The median.
    pub const P50: Self = Self(50_000);
    /// 90%.
    pub const P90: Self = Self(90_000);
    /// 95%.
    pub const P95: Self = Self(95_000);
    /// 99%.
    pub const P99: Self = Self(99_000);
    /// 99.9%.
    pub const P999: Self = Self(99_900);
    /// The quantiles that every result states.
    pub const STATED: [Self; 5] = [Self::P50, Self::P90, Self::P95, Self::P99, Self::P999];

    /// Returns the number of samples that a run needs before this quantile has ten beyond it.
    pub fn samples_needed(self) -> u64 {
        (SAMPLES_BEYOND * 100_000).div_ceil(u64::from(100_000 - self.0))
    }

    /// Returns the number of samples that a run needs before its longest one is beyond this quantile of the sampled
    /// distribution, with a confidence of 95%: the least n with quantileⁿ ≤ 5% (David and Nagaraja, "Order Statistics",
    /// section 7.1).
    pub fn samples_needed_for_maximum(self) -> u64 {
        (0.05_f64.ln() / self.fraction().ln()).ceil() as u64
    }

    /// Returns the quantile as a share, 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 100_000.0
    }
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", f64::from(self.0) / 1_000.0)
    }
}

/// A distribution of durations in nanoseconds. Recording allocates nothing once there is room.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    /// Made with the first sample, unless [`Distribution::make_room`] was called: it takes a quarter of a megabyte, and
    /// many distributions stay empty.
    histogram: Option<Histogram<u64>>,
}

/// The layout of a histogram, as HdrHistogram names its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The significant decimal digits to which it keeps values.
    pub digits: usize,
    /// The number of its buckets, each of which covers twice the range of the one before it.
    pub buckets: u64,
    /// The number of counters in a bucket.
    pub sub_buckets: u64,
}

fn empty() -> Histogram<u64> {
    // The arguments are constants within the library's bounds.
    Histogram::new_with_bounds(1, MAX_NS, SIGNIFICANT_DIGITS).expect("constant bounds are valid")
}

impl Distribution {
    /// Makes room, so that not even the first sample allocates.
    pub fn make_room(&mut self) {
        self.histogram.get_or_insert_with(empty);
    }

    /// Adds one sample; one beyond [`MAX_NS`] counts as that.
    pub fn record(&mut self, ns: u64) {
        self.histogram.get_or_insert_with(empty).saturating_record(ns);
    }

    /// Returns the histogram if it has a sample.
    fn known(&self) -> Option<&Histogram<u64>> {
        self.histogram.as_ref().filter(|histogram| !histogram.is_empty())
    }

    /// Returns the histogram, with samples or without.
    fn whole(&self) -> Cow<'_, Histogram<u64>> {
        self.histogram.as_ref().map_or_else(|| Cow::Owned(empty()), Cow::Borrowed)
    }

    /// Returns the number of samples.
    pub fn count(&self) -> u64 {
        self.known().map_or(0, Histogram::len)
    }

    /// Returns the quantile in nanoseconds, or `None` if fewer than ten samples lie beyond it.
    pub fn quantile_ns(&self, quantile: Quantile) -> Option<u64> {
        (self.count() >= quantile.samples_needed()).then(|| self.value_ns(quantile.fraction()))
    }

    /// Returns the value, in nanoseconds, that this share of the samples, 0 to 1, does not exceed, however few lie
    /// beyond: for charts and for estimates. 0 without a sample.
    pub fn value_ns(&self, share: f64) -> u64 {
        self.known().map_or(0, |histogram| histogram.value_at_quantile(share))
    }

    /// Returns the number of samples that are longer than `ns` for certain, beyond the precision of the histogram.
    pub fn count_above(&self, ns: u64) -> u64 {
        self.known().map_or(0, |histogram| histogram.len() - histogram.count_between(0, ns))
    }

    /// Returns the longest sample in nanoseconds.
    pub fn max_ns(&self) -> Option<u64> {
        self.known().map(Histogram::max)
    }

    /// Returns the shortest sample in nanoseconds.
    pub fn min_ns(&self) -> Option<u64> {
        self.known().map(Histogram::min)
    }

    /// Returns the arithmetic mean in nanoseconds.
    pub fn mean_ns(&self) -> Option<f64> {
        self.known().map(Histogram::mean)
    }

    /// Returns the standard deviation in nanoseconds, of the whole and not of a sample.
    pub fn deviation_ns(&self) -> Option<f64> {
        self.known().map(Histogram::stdev)
    }

    /// Returns the recorded durations, rising: the longest in nanoseconds that the histogram does not distinguish from
    /// the samples, and their number.
    pub fn recorded_ns(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let steps = self.known().into_iter().flat_map(Histogram::iter_recorded);
        steps.map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    /// Returns the layout of the histogram.
    pub fn layout(&self) -> Layout {
        let histogram = self.whole();
        let (buckets, counters) = (u64::from(histogram.buckets()), histogram.distinct_values() as u64);
        Layout {
            digits: usize::from(histogram.sigfig()),
            buckets,
            // The first bucket has all of its counters, each other one the upper half.
            sub_buckets: counters * 2 / (buckets + 1),
        }
    }

    /// Adds the samples of another distribution.
    ///
    /// # Errors
    /// If that one has a sample beyond the bounds of this one: it was read, and the suite did not write it.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let Some(other) = other.known() else { return Ok(()) };
        let histogram = self.histogram.get_or_insert_with(empty);
        histogram.add(other).context(|| "merging two distributions".to_owned())
    }

    /// Parses the output of [`Distribution::to_base64`].
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn from_base64(text: &str) -> Result<Self> {
        decode(text).map(|histogram| Self { histogram: Some(histogram) })
    }

    /// Returns the whole histogram in the HDR V2 deflate format, base64, which other HDR tools read too.
    pub fn to_base64(&self) -> String {
        encode(&self.whole())
    }
}

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(|histogram| Self { histogram: Some(histogram) })
    }
}

/// Reads a histogram as [`decode`] does.
pub(super) fn deserialize<'de, C: Counter, D: Deserializer<'de>>(deserializer: D) -> Result<Histogram<C>, D::Error> {
    decode(&String::deserialize(deserializer)?).map_err(|error| serde::de::Error::custom(error.what()))
}

/// Parses a histogram in the HDR V2 format, deflated or not, base64. Its header is checked before memory is allocated
/// for it.
///
/// # Errors
/// If the text is anything else, or larger than any that the suite writes.
pub(crate) fn decode<C: Counter>(text: &str) -> Result<Histogram<C>> {
    let damaged = |why: &str| Error::new(format!("reading an HDR histogram: {why}"));
    let reading = || "reading an HDR histogram".to_owned();
    if text.len() > MOST_BYTES {
        return Err(damaged("it is larger than any that the suite writes"));
    }
    let mut bytes = STANDARD.decode(text).context(reading)?;
    if bytes.starts_with(&DEFLATED) {
        let mut plain = Vec::new();
        let deflated = bytes.get(8..).unwrap_or_default();
        ZlibDecoder::new(deflated).take(MOST_BYTES as u64 + 1).read_to_end(&mut plain).context(reading)?;
        bytes = plain;
    }
    if bytes.len() > MOST_BYTES {
        return Err(damaged("it is larger than any that the suite writes"));
    }
    // The cookie, payload length, offset and digits, four bytes each; lowest and highest value and a ratio, eight each.
    let Some((header, payload)) = bytes.split_at_checked(40).filter(|(header, _)| header.starts_with(&PLAIN)) else {
        return Err(damaged("it has no V2 header"));
    };
    let word = |at: usize| header[at..at + 4].iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let long = |at: usize| word(at) << 32 | word(at + 4);
    if word(4) != payload.len() as u64 {
        return Err(damaged("its length does not match its header"));
    }
    if word(12) > MOST_DIGITS || long(16) == 0 || long(24) > MOST_VALUE {
        return Err(damaged("its bounds are not those that the suite writes"));
    }
    // A run of 2^63 empty buckets: hdrhistogram 7.6.0 negates that number, which overflows. No count has these bytes.
    if payload.windows(9).any(|item| item == [0xff; 9]) {
        return Err(damaged("it has more buckets than the suite writes"));
    }
    let histogram: Histogram<C> = HdrReader::new().deserialize(&mut &bytes[..]).context(reading)?;
    let counts = histogram.iter_recorded().map(|step| step.count_at_value().as_u64());
    let total = counts.into_iter().try_fold(0_u64, u64::checked_add).filter(|total| *total <= MOST_SAMPLES);
    total.map(|_| histogram).ok_or_else(|| damaged("it counts more samples than any run has"))
}

/// Returns a histogram of any counter width in the HDR V2 deflate format, base64.
pub(super) fn encode<C: Counter>(histogram: &Histogram<C>) -> String {
    let mut bytes = Vec::new();
    // Writing to memory cannot fail, and the largest histogram of the suite is far below the format's limits.
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("serializing to memory");
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u64) -> Distribution {
        let mut distribution = Distribution::default();
        (1..=count).for_each(|value| distribution.record(value * 1_000));
        distribution
    }

    #[test]
    fn a_quantile_needs_ten_samples_beyond_it() {
        for (quantile, needed) in
            [(Quantile::P50, 20), (Quantile::P95, 200), (Quantile::P99, 1_000), (Quantile::P999, 10_000)]
        {
            assert_eq!(quantile.samples_needed(), needed, "{quantile}");
            assert_eq!(of(needed - 1).quantile_ns(quantile), None, "{quantile}");
            assert!(of(needed).quantile_ns(quantile).is_some(), "{quantile}");
        }
    }

    #[test]
    fn the_maximum_of_enough_samples_bounds_a_quantile() {
        assert_eq!([Quantile::P95, Quantile::P99].map(Quantile::samples_needed_for_maximum), [59, 299]);
    }

    #[test]
    fn quantiles_are_exact_within_a_thousandth() {
        let distribution = of(10_000);
        for (quantile, exact) in [(Quantile::P50, 5e6), (Quantile::P95, 9.5e6), (Quantile::P999, 9.99e6)] {
            let value = distribution.quantile_ns(quantile).unwrap() as f64;
            assert!((value / exact - 1.0).abs() < 1.1e-3, "{quantile}: {value}");
        }
        assert_eq!(Quantile::P999.to_string(), "p99.9");
    }

    #[test]
    fn an_empty_distribution_has_no_mean_and_no_maximum() {
        let mut distribution = Distribution::default();
        assert_eq!((distribution.max_ns(), distribution.mean_ns()), (None, None));
        distribution.record(u64::MAX);
        assert!(distribution.max_ns().unwrap() >= MAX_NS);
    }

    #[test]
    fn an_encoded_distribution_decodes_to_itself() {
        let distribution = of(500);
        let read = Distribution::from_base64(&distribution.to_base64()).unwrap();
        assert_eq!(read.histogram, distribution.histogram);
        for damaged in ["", "x", "AAAA"] {
            Distribution::from_base64(damaged).unwrap_err();
        }
    }

    /// Makes a V2 histogram, plain and deflated, with these fields in its header.
    fn claiming(payload: u32, digits: u32, low: u64, high: u64, counts: &[u8]) -> [String; 2] {
        let mut plain = PLAIN.to_vec();
        for word in [payload, 0, digits] {
            plain.extend(word.to_be_bytes());
        }
        plain.extend(low.to_be_bytes());
        plain.extend(high.to_be_bytes());
        plain.extend(1_f64.to_be_bytes());
        plain.extend(counts);
        let mut deflated = DEFLATED.to_vec();
        let mut encoder = flate2::read::ZlibEncoder::new(&plain[..], flate2::Compression::fast());
        let mut body = Vec::new();
        encoder.read_to_end(&mut body).unwrap();
        deflated.extend((body.len() as u32).to_be_bytes());
        deflated.extend(body);
        [STANDARD.encode(plain), STANDARD.encode(deflated)]
    }

    #[test]
    fn histograms_with_false_headers_are_refused() {
        let refused = |made: [String; 2], message: &str| {
            for text in made {
                let error = Distribution::from_base64(&text).unwrap_err();
                assert!(error.what().contains(message), "{}", error.what());
            }
        };
        for text in claiming(1, 3, 1, MAX_NS, &[2]) {
            assert_eq!(Distribution::from_base64(&text).unwrap().count(), 1);
        }
        refused(claiming(u32::MAX, 3, 1, MAX_NS, &[2]), "its length");
        refused(claiming(1, 5, 1, MAX_NS, &[2]), "its bounds");
        refused(claiming(1, 3, 1, u64::MAX, &[2]), "its bounds");
        refused(claiming(1, 3, 0, MAX_NS, &[2]), "its bounds");
        refused(claiming(1, 3, 2, 1, &[2]), "reading");
        // Nine bytes of the format's variable-length encoding: 2^62 samples, twice.
        let most = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80];
        refused(claiming(18, 3, 1, MAX_NS, &[most, most].concat()), "more samples");
        refused(claiming(9, 3, 1, MAX_NS, &[0xff; 9]), "more buckets");
        let bomb = claiming(8 << 20, 3, 1, MAX_NS, &vec![0; 8 << 20]);
        refused(bomb, "larger than any");
    }
}
