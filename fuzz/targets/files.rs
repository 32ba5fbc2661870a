//! The readers of baselines and summaries: a file of any content is refused or read, and what is read can be compared.

#![no_main]

use certctl_bench::baseline::compare::{self, CompareOptions};
use certctl_bench::baseline::file::Baseline;
use certctl_bench::baseline::side::Side;
use certctl_bench::summary::Summary;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let side = match Baseline::parse("fuzz", text) {
        Ok(baseline) => {
            let again = baseline.to_text().expect("what was read can be written");
            assert_eq!(Baseline::parse("again", &again).expect("and read again"), baseline);
            baseline.into_side()
        }
        Err(_) => {
            let Ok(summary) = serde_json::from_str::<Summary>(text) else { return };
            let Ok(side) = Side::of(&[("fuzz".to_owned(), summary)]) else { return };
            side
        }
    };
    let comparison = compare::run(&side, &side, CompareOptions { threshold: 0.05, counts_only: false });
    assert!(!comparison.to_string().is_empty());
});
