//! The figures of a run while it goes on, in the text format of OpenMetrics 1.0, which Prometheus reads.

use std::fmt::Write as _;

use super::view::View;
use crate::load::progress::Stage;
use crate::measure::buckets::BucketCounts;
use crate::report::machine_use::owners;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The upper ends of the histograms' buckets, in microseconds: each is one of [`BucketCounts`] too.
const LIMITS_US: [u64; 24] = [
    16,
    32,
    64,
    128,
    256,
    512,
    1_024,
    2_048,
    4_096,
    8_192,
    16_384,
    32_768,
    65_536,
    131_072,
    262_144,
    524_288,
    1_048_576,
    2_097_152,
    4_194_304,
    8_388_608,
    16_777_216,
    33_554_432,
    67_108_864,
    134_217_728,
];
const STAGES: [Stage; 4] = [Stage::Opening, Stage::WarmUp, Stage::Measuring, Stage::Draining];

/// Renders the latest second.
pub fn text(view: &View) -> String {
    let mut text = String::new();
    head(&mut text, "run", "info", "The bench target that runs.");
    let _ = writeln!(text, "certctl_bench_run_info{{scenario=\"{}\"}} 1", escaped(&view.scenario));
    let Some(now) = view.seconds.back() else { return text + "# EOF\n" };
    head(&mut text, "stage", "stateset", "The stage of the run.");
    for stage in STAGES {
        let (label, is) = (stage.label(), u8::from(stage == now.stage));
        let _ = writeln!(text, "certctl_bench_stage{{certctl_bench_stage=\"{label}\"}} {is}");
    }
    head(&mut text, "answers", "counter", "Arrivals that are over, warm-up included.");
    for (outcome, count) in [("ok", now.counts.ok), ("not_ok", now.counts.not_ok), ("unsent", now.counts.unsent)] {
        let _ = writeln!(text, "certctl_bench_answers_total{{outcome=\"{outcome}\"}} {count}");
    }
    head(&mut text, "connections", "gauge", "Connections that are open.");
    let _ = writeln!(text, "certctl_bench_connections {}", now.counts.open);
    histogram(&mut text, "response_seconds", "Response time of right answers.", &now.counts.response);
    histogram(&mut text, "lag_seconds", "Schedule lag; of users, that of the generator's timer.", &now.counts.lag);
    if let Some((cpu, _)) = &now.machine {
        head(&mut text, "processors", "gauge", "Processors in use, by who used them.");
        for (owner, cpus) in owners(cpu) {
            let Some(cpus) = cpus else { continue };
            let owner = owner.replace(' ', "_").to_lowercase();
            let _ = writeln!(text, "certctl_bench_processors{{owner=\"{owner}\"}} {cpus}");
        }
    }
    if let Some(backends) = &now.backends {
        head(&mut text, "database_backends", "gauge", "Backends of the database, by state and type of wait.");
        for (state, count) in backends {
            let _ = writeln!(text, "certctl_bench_database_backends{{state=\"{}\"}} {count}", escaped(state));
        }
    }
    text + "# EOF\n"
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# TYPE certctl_bench_{name} {kind}");
    if let Some(unit) = name.rsplit_once('_').map(|(_, unit)| unit).filter(|unit| *unit == "seconds") {
        let _ = writeln!(text, "# UNIT certctl_bench_{name} {unit}");
    }
    let _ = writeln!(text, "# HELP certctl_bench_{name} {help}");
}

fn histogram(text: &mut String, name: &str, help: &str, counts: &BucketCounts) {
    head(text, name, "histogram", help);
    for (limit, count) in LIMITS_US.iter().zip(counts.below_us(&LIMITS_US)) {
        let _ = writeln!(text, "certctl_bench_{name}_bucket{{le=\"{}\"}} {count}", *limit as f64 / 1e6);
    }
    let total = counts.total();
    let _ = writeln!(text, "certctl_bench_{name}_bucket{{le=\"+Inf\"}} {total}");
    let _ = writeln!(text, "certctl_bench_{name}_count {total}");
}

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
