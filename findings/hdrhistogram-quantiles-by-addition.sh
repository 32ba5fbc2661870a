#!/usr/bin/env bash
# The crate hdrhistogram 7.6.0: `iter_quantiles` finds the levels of a percentile distribution by adding up their distance,
# 0.1 + 0.1 + 0.1 > 0.3. A level that the samples meet exactly is then stated with the next sample's value, other than the
# crate's own `value_at_quantile`, and other than Java's HdrHistogram, whose levels are percents: the lines of two tools
# differ for the same histogram.
#
# expected  of the samples 1 to 10, the value at the level 0.3 is the third, 3, whichever way it is read
# seen      value_at_quantile(0.3) is 3; iter_quantiles has 4 there, with the level 0.30000000000000004
#
# Takes some 30 s: it builds the crate with cargo, which takes it from its registry. Ends with 1 if the crate does otherwise.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'MANIFEST'
[package]
name = "quantiles"
version = "0.0.0"
edition = "2021"

[dependencies]
hdrhistogram = { version = "=7.6.0", default-features = false }
MANIFEST
cat >src/main.rs <<'PROGRAM'
use hdrhistogram::Histogram;

fn main() {
    let mut samples = Histogram::<u64>::new_with_bounds(1, 1_000, 3).unwrap();
    (1..=10).for_each(|value| samples.record(value).unwrap());
    let asked = samples.value_at_quantile(0.3);
    let step = samples.iter_quantiles(5).find(|step| (step.quantile_iterated_to() - 0.3).abs() < 1e-9).unwrap();
    println!("value_at_quantile(0.3) {asked}");
    println!("iter_quantiles: level {}, value {}", step.quantile_iterated_to(), step.value_iterated_to());
    std::process::exit(i32::from((asked, step.value_iterated_to()) != (3, 4)));
}
PROGRAM
cargo --version
echo "hdrhistogram 7.6.0"
CARGO_TARGET_DIR=$work/target cargo run --quiet && code=0 || code=$?
if [ "$code" = 0 ]; then echo "seen as described"; else echo "otherwise than described" >&2; fi
exit "$code"
