//! A run as metrics of OpenTelemetry: an `ExportMetricsServiceRequest` of OTLP 1, in protobuf, as a collector takes it
//! at `/v1/metrics`. Latencies are exponential histograms, made of the whole HDR histograms of the run.

use std::time::{Duration, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use crate::error::{Context as _, Result};
use crate::measure::Distribution;
use crate::summary::facts::{DistributionFacts, Unit};
use crate::summary::{Summary, WorkloadResults};

/// The scale of the histograms: 32 buckets for each doubling, so that a value is kept to within 1.1%.
const SCALE: i32 = 5;

/// Renders the request. Its metrics cover the measured window; times of it are as good as the summary's, which has its
/// end to the second.
///
/// # Errors
/// If a histogram of the summary is damaged, or its time is none.
pub fn render(summary: &Summary) -> Result<Vec<u8>> {
    let ended = humantime::parse_rfc3339(&summary.finished_at).context(|| "reading the time of the run".to_owned())?;
    let ended = ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut latencies: Vec<(&str, &str, Vec<ExponentialHistogramDataPoint>)> = vec![
        ("certctl_bench.response_time", "From the intended start to the last byte, of right answers.", Vec::new()),
        ("certctl_bench.service_time", "From the actual start to the last byte, of right answers.", Vec::new()),
        ("certctl_bench.schedule_lag", "From the intended to the actual start.", Vec::new()),
    ];
    // Apart from those of whole workloads: a reader that adds points up would count each request twice.
    let mut of_steps: Vec<(&str, &str, Vec<ExponentialHistogramDataPoint>)> = vec![
        ("certctl_bench.step.response_time", "Of one step: from the intended start to the last byte.", Vec::new()),
        ("certctl_bench.step.service_time", "Of one step: from the actual start to the last byte.", Vec::new()),
    ];
    let (mut arrivals, mut shares) = (Vec::new(), Vec::new());
    for (plan, results) in summary.measured() {
        let span = Span::of(ended, results);
        let workload = [("workload", &*plan.name)];
        let latency = &results.latency;
        for (facts, (.., points)) in
            [&latency.response, &latency.service, &latency.schedule_lag].iter().zip(&mut latencies)
        {
            points.extend(span.histogram(facts, &workload)?);
        }
        for step in &results.steps {
            let attributes = [workload[0], ("step", &step.name)];
            for (facts, (.., points)) in [&step.response, &step.service].iter().zip(&mut of_steps) {
                points.extend(span.histogram(facts, &attributes)?);
            }
        }
        for entry in &results.outcomes {
            let count = number_data_point::Value::AsInt(entry.count.cast_signed());
            arrivals.push(span.number(count, &[workload[0], ("outcome", &entry.outcome.to_string())]));
        }
        let unsent = number_data_point::Value::AsInt(results.arrivals.unsent.cast_signed());
        arrivals.push(span.number(unsent, &[workload[0], ("outcome", "unsent")]));
        if let Some(share) = results.error_share {
            shares.push(span.number(number_data_point::Value::AsDouble(share), &workload));
        }
    }
    let mut metrics = Vec::new();
    for (name, description, points) in latencies.into_iter().chain(of_steps) {
        let data = ExponentialHistogram { data_points: points, aggregation_temporality: DELTA };
        metrics.push(metric(name, description, "s", metric::Data::ExponentialHistogram(data)));
    }
    let sum = Sum { data_points: arrivals, aggregation_temporality: DELTA, is_monotonic: true };
    metrics.push(metric("certctl_bench.arrivals", "Arrivals of the window.", "{arrival}", metric::Data::Sum(sum)));
    let text = "Arrivals without the right answer, as a share of those scheduled.";
    metrics.push(metric("certctl_bench.error_share", text, "1", gauge(shares)));
    let at = Span { began: ended, ended };
    for (name, text, of) in [
        ("certctl_bench.threshold.measured", "The measured value of a threshold: seconds, or a share.", true),
        ("certctl_bench.threshold.limit", "Its limit.", false),
    ] {
        let points = summary.thresholds.iter().filter_map(|threshold| {
            let value = if of { threshold.measured? } else { threshold.limit };
            let value = if threshold.unit == Unit::Ms { value / 1e3 } else { value };
            Some(at.number(number_data_point::Value::AsDouble(value), &[("threshold", &threshold.title())]))
        });
        metrics.push(metric(name, text, "", gauge(points.collect())));
    }
    let cpu = number_data_point::Value::AsDouble(summary.generator.window_cpu_s);
    let text = "CPU time of the generator in the window.";
    metrics.push(metric("certctl_bench.generator.cpu_time", text, "s", gauge(vec![at.number(cpu, &[])])));
    metrics.retain(|metric| !is_empty(metric));
    let scope = InstrumentationScope {
        name: "certctl-bench".to_owned(),
        version: summary.suite_version.to_string(),
        ..InstrumentationScope::default()
    };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let resource = Resource { attributes: attributes(&described(summary)), ..Resource::default() };
    let resource_metrics = ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() };
    Ok(ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }.encode_to_vec())
}

const DELTA: i32 = AggregationTemporality::Delta as i32;

/// Describes the run: attributes of the resource, which all metrics share.
fn described(summary: &Summary) -> Vec<(&'static str, String)> {
    let about = &summary.about;
    let mut facts = vec![
        ("service.name", "certctl-bench".to_owned()),
        ("service.version", summary.suite_version.to_string()),
        ("certctl_bench.scenario", about.scenario.to_string()),
        ("certctl_bench.verdict", summary.verdict.to_string()),
        ("certctl_bench.system.kind", about.system.kind.label().to_owned()),
        ("certctl_bench.system.version", about.system.version.clone()),
        ("certctl_bench.commit", about.machine.commit.clone()),
        ("host.cpu.model.name", about.machine.cpu_model.clone()),
    ];
    facts.extend(summary.run_id.clone().map(|id| ("service.instance.id", id)));
    facts
}

fn attributes(pairs: &[(impl AsRef<str>, impl AsRef<str>)]) -> Vec<KeyValue> {
    let value = |text: &str| AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) };
    let each = pairs.iter().map(|(key, text)| KeyValue {
        key: key.as_ref().to_owned(),
        value: Some(value(text.as_ref())),
        ..KeyValue::default()
    });
    each.collect()
}

fn metric(name: &str, description: &str, unit: &str, data: metric::Data) -> Metric {
    let [name, description, unit] = [name, description, unit].map(str::to_owned);
    Metric { name, description, unit, data: Some(data), ..Metric::default() }
}

fn gauge(points: Vec<NumberDataPoint>) -> metric::Data {
    metric::Data::Gauge(Gauge { data_points: points })
}

fn is_empty(metric: &Metric) -> bool {
    match &metric.data {
        Some(metric::Data::ExponentialHistogram(histogram)) => histogram.data_points.is_empty(),
        Some(metric::Data::Gauge(gauge)) => gauge.data_points.is_empty(),
        Some(metric::Data::Sum(sum)) => sum.data_points.is_empty(),
        _ => true,
    }
}

/// The time that data points cover, from the beginning of 1970.
struct Span {
    began: Duration,
    ended: Duration,
}

impl Span {
    fn of(ended: Duration, results: &WorkloadResults) -> Self {
        let window = Duration::try_from_secs_f64(results.arrivals.measured_s).unwrap_or_default();
        Self { began: ended.saturating_sub(window), ended }
    }

    fn nanoseconds(&self) -> [u64; 2] {
        [self.began, self.ended].map(|at| at.as_nanos().try_into().unwrap_or(u64::MAX))
    }

    fn number(&self, value: number_data_point::Value, pairs: &[(&str, &str)]) -> NumberDataPoint {
        let [start_time_unix_nano, time_unix_nano] = self.nanoseconds();
        let (attributes, value) = (attributes(pairs), Some(value));
        NumberDataPoint { attributes, start_time_unix_nano, time_unix_nano, value, ..NumberDataPoint::default() }
    }

    /// Returns a distribution as a point; `None` without a sample.
    fn histogram(
        &self,
        facts: &DistributionFacts,
        pairs: &[(&str, &str)],
    ) -> Result<Option<ExponentialHistogramDataPoint>> {
        let Some(text) = &facts.hdr_ns else { return Ok(None) };
        let distribution = Distribution::from_base64(text)?;
        let [start_time_unix_nano, time_unix_nano] = self.nanoseconds();
        let (zero_count, positive) = buckets(&distribution);
        Ok(Some(ExponentialHistogramDataPoint {
            attributes: attributes(pairs),
            start_time_unix_nano,
            time_unix_nano,
            count: distribution.count(),
            sum: facts.mean_us.map(|mean_us| mean_us / 1e6 * distribution.count() as f64),
            scale: SCALE,
            zero_count,
            positive: Some(positive),
            min: distribution.min_ns().map(|ns| ns as f64 / 1e9),
            max: distribution.max_ns().map(|ns| ns as f64 / 1e9),
            ..ExponentialHistogramDataPoint::default()
        }))
    }
}

/// Returns the number of samples of 0, and the buckets of all others, in seconds: bucket `index` holds the values above
/// `base^(offset + index)` up to the next power, with base 2^(2^-scale) (OTLP, `ExponentialHistogramDataPoint`).
fn buckets(distribution: &Distribution) -> (u64, Buckets) {
    let (mut zero, mut counts) = (0, std::collections::BTreeMap::<i32, u64>::new());
    for (ns, count) in distribution.recorded_ns() {
        if ns == 0 {
            zero += count;
            continue;
        }
        let power = (ns as f64 / 1e9).log2() * f64::from(1 << SCALE);
        *counts.entry(power.ceil() as i32 - 1).or_default() += count;
    }
    let (Some((first, _)), Some((last, _))) = (counts.first_key_value(), counts.last_key_value()) else {
        return (zero, Buckets::default());
    };
    let (offset, last) = (*first, *last);
    let bucket_counts = (offset..=last).map(|index| counts.get(&index).copied().unwrap_or(0)).collect();
    (zero, Buckets { offset, bucket_counts })
}
