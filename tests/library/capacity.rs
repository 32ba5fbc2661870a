//! The result of a search for the capacity: golden tests of its text, Markdown and page, and its JSON.

use certctl_bench::capacity::point::{LockWaits, MeasuredPoint, PointCpu};
use certctl_bench::capacity::search::{PointVerdict, SearchSettings, SearchStep, next, unfinished};
use certctl_bench::capacity::translation::{ArrivalMeaning, ArrivalUnit};
use certctl_bench::capacity::{Capacity, PointBounds, SCHEMA_VERSION};
use certctl_bench::measure::Outcome;
use certctl_bench::report::capacity as report;

use super::html::assert_well_formed;
use crate::common::made_up::{about, measurement, summary};

/// Searches at a made-up system whose heartbeats keep their thresholds up to this rate, and whose generator measures
/// nothing beyond another.
fn searched(capacity_per_s: f64, measurable_per_s: f64) -> Capacity {
    let search = SearchSettings {
        from_per_s: 167.0,
        factor: 1.5,
        precision: 0.1,
        floor_per_s: 1.0,
        ceiling_per_s: 1e6,
        most_points: 40,
    };
    let about = about();
    let mut capacity = Capacity {
        schema_version: SCHEMA_VERSION,
        suite_version: "0.1.0".to_owned(),
        scenario: "agent_storm".to_owned(),
        finished_at: "2026-01-01T00:00:00Z".to_owned(),
        conclusion: unfinished(&[]),
        exit_code: 5,
        why: None,
        unit: ArrivalUnit::new("heartbeats", ArrivalMeaning::Heartbeat),
        translations: Vec::new(),
        first_limit: None,
        notes: vec!["point 1, doubtful: <others> took 30%".to_owned()],
        search,
        point_bounds: PointBounds { least_s: 10.0, most_s: 300.0, search_s: 3_600.0 },
        system: about.system,
        machine: about.machine,
        plans: Vec::new(),
        points: Vec::new(),
    };
    let outcome = |is_within| {
        move |index: u64| if is_within || !index.is_multiple_of(9) { Outcome::Ok } else { Outcome::Refused }
    };
    loop {
        let per_s = match next(&search, &capacity.tried()) {
            SearchStep::Done(conclusion) => {
                capacity.conclude(conclusion, None);
                return capacity;
            }
            SearchStep::Measure(per_s) => per_s,
        };
        let is_within = per_s <= capacity_per_s;
        let summary = summary(measurement(outcome(is_within)), 2_000);
        let mut point = MeasuredPoint::of(capacity.points.len() + 1, per_s, &summary);
        point.verdict = if is_within { PointVerdict::Within } else { PointVerdict::Breached };
        point.reasons.clear();
        if per_s > measurable_per_s {
            point.verdict = PointVerdict::Invalid;
            point.by_generator = true;
            point.reasons = vec!["the generator's thread ran for 97% of the window: it was the bottleneck".to_owned()];
        }
        let system = per_s / 150.0;
        let (postgresql, generator, others) = (Some(0.0), 0.1, 0.05);
        let idle = (2.0 - system - generator - others).max(0.0);
        point.cpu = Some(PointCpu { cpus: 2, system: Some(system), postgresql, generator, others, idle });
        point.lock_waits = Some(LockWaits { mean: per_s / 100.0, max: (per_s / 50.0) as u64, samples: 10 });
        capacity.points.push(point);
    }
}

#[test]
fn a_capacity_is_rendered_as_text() {
    insta::assert_snapshot!(report::text(&searched(260.0, 1e6)));
}

#[test]
fn a_capacity_is_rendered_as_markdown() {
    insta::assert_snapshot!(report::markdown(&searched(260.0, 1e6)));
}

#[test]
fn the_generators_limit_is_not_the_capacity() {
    let capacity = searched(1e6, 300.0);
    let text = report::text(&capacity);
    assert_eq!(capacity.exit_code, 5);
    assert!(capacity.first_limit.is_none(), "{text}");
    assert!(
        text.contains("the generator, not the system, was the limit: the generator's thread ran for 97%"),
        "{text}"
    );
}

#[test]
fn a_page_draws_the_curve_and_is_well_formed() {
    let capacity = searched(260.0, 1e6);
    let page = report::html(&capacity);
    assert_well_formed(&page);
    for part in [
        "Response time by rate; Errors by rate; Processors by rate; Waits for locks by rate",
        "heartbeats per second",
        "bound of response time p95",
        "&lt;others&gt; took 30%",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    // The part that the search drew, without the style that all pages share.
    let (_, body) = page.split_once("<main>").unwrap();
    insta::assert_snapshot!(body);
}

#[test]
fn a_capacity_as_json_is_read_to_itself() {
    for capacity in [searched(260.0, 1e6), searched(1e6, 300.0), searched(0.5, 1e6)] {
        let json = capacity.to_json().unwrap();
        let read: Capacity = serde_json::from_str(&json).unwrap();
        assert_eq!(read.to_json().unwrap(), json);
    }
}
