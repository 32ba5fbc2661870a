//! The reader of HDR histograms: whatever the bytes, an error or buckets in order, in bounded memory.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certctl_bench::baseline::histogram::Histogram;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(histogram) = Histogram::from_base64(&STANDARD.encode(data)) else { return };
    assert!(histogram.buckets.iter().all(|(bucket, count)| bucket.low < bucket.high && *count > 0));
    assert!(histogram.buckets.is_sorted_by_key(|(bucket, _)| *bucket));
    if histogram.buckets.iter().try_fold(0_u64, |sum, (_, count)| sum.checked_add(*count)).is_some() {
        let _ = (histogram.count(), histogram.ln_error(0.5), histogram.ln_error(0.99));
    }
});
