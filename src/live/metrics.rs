//! The figures of a run while it goes on, in the text format of OpenMetrics.

use super::view::View;
use crate::load::progress::Stage;
use crate::measure::buckets::BucketCounts;
use crate::report::export::openmetrics::{Exposition, FamilyKind};
use crate::report::machine_use::owners;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The exponents of the histograms' bounds: 16 µs to 134 s, each twice the one before. Each ends one of the counted
/// buckets too.
const EXPONENTS: std::ops::RangeInclusive<u32> = 4..=27;
const STAGES: [Stage; 4] = [Stage::Opening, Stage::WarmUp, Stage::Measuring, Stage::Draining];

/// Renders the latest second.
pub fn text(view: &View) -> String {
    let mut page = Exposition::default();
    let labels = [("scenario", &*view.scenario)];
    page.family(FamilyKind::Gauge, "certctl_bench_run_info", "The run, always 1.").sample(&labels, 1.0);
    let Some(now) = view.seconds.back() else { return page.finish() };
    let help = "The stage of the run: 1 for the one that it is in, 0 for the others.";
    let mut stages = page.family(FamilyKind::Gauge, "certctl_bench_stage", help);
    for stage in STAGES {
        stages.sample(&[("stage", stage.label())], f64::from(u8::from(stage == now.stage)));
    }
    let help = "Arrivals that are over, warm-up included.";
    let mut arrivals = page.family(FamilyKind::Counter, "certctl_bench_arrivals", help);
    for (outcome, count) in [("ok", now.counts.ok), ("not_ok", now.counts.not_ok), ("unsent", now.counts.unsent)] {
        arrivals.sample(&[("outcome", outcome)], count as f64);
    }
    page.family(FamilyKind::Gauge, "certctl_bench_connections", "Connections that are open.")
        .sample(&[], now.counts.open as f64);
    let help = "Response time of right answers, warm-up included.";
    histogram(&mut page, "certctl_bench_live_response_seconds", help, &now.counts.response);
    let help = "Schedule lag; in a closed workload, that of the generator's timer.";
    histogram(&mut page, "certctl_bench_live_lag_seconds", help, &now.counts.lag);
    let mut processors = page.family(FamilyKind::Gauge, "certctl_bench_processors", "Processors, by who used them.");
    for (owner, cpus) in now.machine.iter().flat_map(|(cpu, _)| owners(cpu)) {
        if let Some(cpus) = cpus {
            processors.sample(&[("owner", &owner.replace(' ', "_").to_lowercase())], cpus);
        }
    }
    let help = "Backends of the database, by state and type of wait.";
    let mut backends = page.family(FamilyKind::Gauge, "certctl_bench_database_backends", help);
    for (state, count) in now.backends.iter().flatten() {
        backends.sample(&[("state", state)], *count as f64);
    }
    page.finish()
}

fn histogram(page: &mut Exposition, name: &str, help: &str, counts: &BucketCounts) {
    let limits: Vec<u64> = EXPONENTS.map(|exponent| 1 << exponent).collect();
    let below = counts.below_us(&limits);
    let buckets = limits.iter().map(|us| *us as f64 / 1e6).zip(below);
    page.family(FamilyKind::Histogram, name, help).buckets(&[], buckets, counts.sum_us() / 1e6, counts.total());
}
