//! The history of runs: many at once, series, and the trend as text and as a page.

use std::thread;

use certctl_bench::baseline::Judgement;
use certctl_bench::history::History;
use certctl_bench::history::store::KeptRun;
use certctl_bench::history::trend::{ReadRun, Trend, TrendChoice};
use certctl_bench::report::trend as report;
use certctl_bench::summary::{Summary, Verdict};

use super::html::{assert_fits, assert_well_formed};
use crate::common::runs::Made;

/// Returns a made-up run of a commit of its own, whose times scatter a little.
fn made(number: u64, slowness: f64) -> Summary {
    let scatter = 1.0 + 0.005 * (number * 7 % 5) as f64;
    let mut summary = Made { number, slowness: slowness * scatter, ..Made::default() }.summary();
    summary.about.machine.commit = format!("{:012x}", number * 0x0123_4567_89ab);
    summary
}

fn read(summary: &Summary) -> ReadRun {
    ReadRun::of(KeptRun::of(summary, &summary.to_json().unwrap()), summary)
}

fn choice(measure: &str, series: usize) -> TrendChoice {
    TrendChoice { measure: measure.to_owned(), workload: None, series }
}

/// Returns 26 runs, the newest first: slower by a fifth from the tenth on, faster again from the nineteenth on; the
/// fifth is invalid, and the last two are of another machine.
fn runs() -> Vec<ReadRun> {
    let each = (1..=26).map(|number| {
        let mut summary = made(number, if (10..19).contains(&number) { 1.2 } else { 1.0 });
        if number == 5 {
            summary.verdict = Verdict::Invalid;
            summary.invalid.push("the generator was <late>".to_owned());
        }
        if number > 22 {
            summary.about.system.version = "0.2.0".to_owned();
        }
        if number < 3 {
            summary.about.machine.cpu_model = "Another CPU".to_owned();
            summary.about.machine.cores = 64;
        }
        read(&summary)
    });
    let mut runs: Vec<ReadRun> = each.collect();
    runs.reverse();
    runs
}

fn trend() -> Trend {
    Trend::of(runs(), vec!["the run 0123 has summary schema 3".to_owned()], &choice("p99", 1)).unwrap()
}

#[test]
fn a_trend_is_rendered_as_text() {
    let text = report::text(&trend());
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_known_shift_is_reported_with_its_size() {
    let trend = trend();
    let [slower, faster] = &trend.changes[..] else { panic!("{:?}", trend.changes) };
    let commit = |place: usize| trend.runs[place].kept.finished_at[14..16].to_owned();
    assert_eq!(
        [slower, faster].map(|one| (commit(one.between.0), commit(one.between.1))),
        [("09".to_owned(), "10".to_owned()), ("18".to_owned(), "19".to_owned())]
    );
    assert_eq!((slower.verdict, faster.verdict), (Judgement::Regressed, Judgement::Improved));
    // Of the 2.065 ms of p99, 1.99 take a fifth longer; the rest is sending, receiving and lag.
    let expected = 1.99 * 0.2 / 2.065;
    for (change, expected) in [(slower, expected), (faster, 1.0 / (1.0 + expected) - 1.0)] {
        let ((low, high), change) = (change.interval.unwrap(), change.change.unwrap());
        assert!(low < expected && expected < high && high - low < 0.03, "{low} {expected} {high}");
        assert!((change - expected).abs() < 0.01, "{change}");
    }
    // An invalid run has a place, and no part in it.
    let void: Vec<_> = trend.runs.iter().filter(|run| run.left_out.is_some()).collect();
    assert!(void.len() == 1 && void[0].value.is_some(), "{void:?}");
    assert_eq!((trend.runs.len(), trend.counted().len()), (24, 23));
}

#[test]
fn runs_that_cannot_be_compared_are_no_series() {
    let trend = trend();
    assert!(matches!(&trend.others[..], [other] if other.number == 2 && other.runs == 2), "{:?}", trend.others);
    let differences = trend.others[0].differences.join("\n");
    assert!(differences.contains("processor: Another CPU against Some CPU"), "{differences}");
    assert!(differences.contains("cores: 64 against 2"), "{differences}");
    // The second series is that of the other machine, beside the first.
    let second = Trend::of(runs(), Vec::new(), &choice("p99", 2)).unwrap();
    assert_eq!((second.runs.len(), second.others[0].number, second.others[0].runs), (2, 1, 24));
    // Counts are comparable between machines.
    let counts = Trend::of(runs(), Vec::new(), &choice("database/sql_calls_per_answer", 1)).unwrap();
    assert_eq!((counts.runs.len(), counts.others.len(), counts.changes.len()), (26, 0, 0));
    // Another load, or another kind of system, is another series for counts too.
    let mut others = [made(1, 1.0), made(2, 1.0), made(3, 1.0)];
    others[1].workloads[0].plan.rng_seed += 1;
    others[2].about.system.behaviour = certctl_bench::system::Behaviour::AsDocumented;
    let series = Trend::of(others.iter().map(read).collect(), Vec::new(), &choice("database/sql_calls_per_answer", 1));
    let series = series.unwrap();
    assert_eq!((series.runs.len(), series.others.len()), (1, 2));
    assert!(series.others[0].differences[0].contains("rng_seed"), "{:?}", series.others);
}

#[test]
fn the_page_of_a_trend_is_well_formed_and_fits() {
    let page = report::html(&trend());
    assert_well_formed(&page);
    for part in [
        "2 change points among 23 runs",
        "the generator was &lt;late&gt;",
        "change point</li>",
        "a run that does not count</li>",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    for loading in ["src=", "url(", "@import", "<script", "href=\"http"] {
        assert!(!page.contains(loading), "{loading}");
    }
    // A single run has a page too, and so has one that does not count.
    for number in [26, 5] {
        let few = Trend::of(vec![runs().remove(26 - number)], Vec::new(), &choice("p99", 1)).unwrap();
        assert_well_formed(&report::html(&few));
        assert!(report::text(&few).contains("none among "), "{}", report::text(&few));
    }
    assert_fits(&page, 1);
}

#[test]
fn runs_that_end_at_once_are_all_kept() {
    const RUNS: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/folder/runs.sqlite");
    let summaries: Vec<Summary> = (1..=RUNS).map(|number| made(number, 1.0)).collect();
    thread::scope(|scope| {
        for summary in &summaries {
            scope.spawn(|| assert!(History::create(&file).unwrap().add(summary).unwrap().1));
        }
    });
    let history = History::open(&file).unwrap();
    let kept = history.list(None, 100).unwrap();
    assert_eq!((kept.len() as u64, history.count(Some("agent_storm")).unwrap() as u64), (RUNS, RUNS));
    // Each is read back to its last digit.
    for (run, summary) in kept.iter().rev().zip(&summaries) {
        assert_eq!(history.json(&run.id).unwrap(), summary.to_json().unwrap());
        assert_eq!(*run, KeptRun::of(summary, &summary.to_json().unwrap()));
    }
}

#[test]
fn a_run_keeps_its_own_id() {
    let id_of = |run_id: Option<&str>| {
        let mut summary = made(1, 1.0);
        summary.run_id = run_id.map(str::to_owned);
        KeptRun::of(&summary, &summary.to_json().unwrap()).id
    };
    let own = "0123456789abcdef0123456789abcdef";
    assert_eq!(id_of(Some(own)), own);
    // Others have a hash in its place: of a name that a user gave, of all that an older run says.
    let ids = [id_of(None), id_of(Some("nightly")), id_of(Some("x; DROP TABLE runs"))];
    for id in &ids {
        assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()) && id != own, "{id}");
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[1] == id_of(Some("nightly")));
}
