//! The reader of HDR histograms: whatever the bytes, an error or quantiles in order, in bounded memory.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certctl_bench::measure::{Distribution, Quantile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(distribution) = Distribution::from_base64(&STANDARD.encode(data)) else { return };
    let [middle, tail] = [Quantile::P50, Quantile::P99].map(|quantile| distribution.value_ns(quantile.fraction()));
    assert!(middle <= tail && tail <= distribution.max_ns().unwrap_or_default());
});
