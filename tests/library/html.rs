//! A report as HTML: well formed, self-contained, and in a browser neither too wide nor with words over one another.

use std::collections::HashSet;

use crate::common::browser::Browser;
use crate::common::made_up::{group, stalled, summary};
use crate::common::needs::needs;
use certctl_bench::report::html;
use certctl_bench::report::runs::ScenarioRuns;

/// Returns base and head of one scenario, with a warm-up and a stall, and another scenario by itself.
fn groups() -> [ScenarioRuns; 2] {
    let alone = group([("", summary(stalled(3), 2_000))]);
    let pair = group([("base", summary(stalled(1), 2_000)), ("head", summary(stalled(2), 1_999))]);
    [pair, ScenarioRuns { scenario: "another".to_owned(), ..alone }]
}

/// Panics unless every tag is closed by its own, names are unique, and every reference has its target.
pub fn assert_well_formed(page: &str) {
    let page = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let (mut open, mut ids, mut referred) = (Vec::new(), HashSet::new(), Vec::new());
    for part in page.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("a tag without an end: {part}"));
        assert!(!text.contains('>') || open.last() == Some(&"style"), "a stray >: {text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let (name, attributes) = tag.split_once(|letter: char| letter.is_whitespace()).unwrap_or((tag, ""));
        if !tag.ends_with('/') {
            open.push(name);
        }
        // Attributes stand at every second place between quotes.
        let mut seen = HashSet::new();
        for pair in attributes.split('"').collect::<Vec<_>>().chunks_exact(2) {
            let attribute = pair[0].trim().trim_end_matches('=');
            assert!(seen.insert(attribute), "{attribute} twice: {tag}");
            match attribute {
                "id" => assert!(ids.insert(pair[1]), "two of {}", pair[1]),
                "aria-labelledby" => referred.extend(pair[1].split(' ')),
                "href" if pair[1].starts_with('#') => referred.push(&pair[1][1..]),
                _ => {}
            }
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    assert!(referred.iter().all(|id| ids.contains(id)), "{referred:?} of {ids:?}");
}

#[test]
fn a_page_is_well_formed_and_loads_no_resource() {
    let page = html::report(&groups()).unwrap();
    assert_well_formed(&page);
    assert!(page.contains("<html lang=\"en\">") && page.contains("prefers-color-scheme:dark"));
    for loading in ["src=", "url(", "@import", "<script", "<link rel=\"stylesheet", "href=\"http"] {
        assert!(!page.contains(loading), "{loading}");
    }
    // Verdicts come before anything else, and no placeholder's colour is left.
    let first = |what: &str| page.find(what).unwrap_or_else(|| panic!("no {what}"));
    assert!(first("class=\"verdict") < first("<table") && first("<table") < first("<figure"));
    assert!(!page.contains("=\"#0"));
}

#[test]
fn foreign_text_in_a_page_is_escaped() {
    let mut summary = summary(stalled(1), 2_000);
    let hostile = "</style><script>alert(1)</script>\"'&";
    summary.about.title = hostile.to_owned();
    summary.about.scenario = hostile.into();
    summary.about.system.version = hostile.to_owned();
    summary.workloads[0].plan.name = hostile.into();
    summary.invalid.push(hostile.to_owned());
    let page = html::report(&[ScenarioRuns { scenario: hostile.to_owned(), ..group([("base", summary)]) }]).unwrap();
    assert_well_formed(&page);
    assert!(!page.contains("<script"));
}

/// Asserts that a page with so many figures is shown whole: not wider than its window, and with all words readable.
#[track_caller]
pub fn assert_fits(page: &str, figures: usize) {
    needs!(Browser);
    let browser = Browser::find().unwrap();
    for (width, ground) in [(375, "light"), (1_280, "light"), (1_280, "dark")] {
        let seen = browser.look(page, width, ground);
        assert_eq!((&seen["width"], &seen["ground"]), (&width.into(), &ground.into()), "{seen:#}");
        assert!(seen["needs"].as_u64() <= Some(width.into()), "wider than its window: {seen:#}");
        assert_eq!(seen["figures"], figures, "{seen:#}");
        for fault in ["blank", "cut_off", "overlapping", "faint", "loaded", "errors"] {
            assert_eq!(seen[fault].as_array().map(Vec::len), Some(0), "{fault} at {width} pixels, {ground}: {seen:#}");
        }
    }
}

#[test]
fn a_browser_shows_the_page_without_overflow() {
    needs!(Browser);
    let page = html::report(&groups()).unwrap();
    // Two figures a workload, one of them of three charts; and the phases of requests and of connections. One scenario
    // has two runs, the other one.
    assert_fits(&page, 12);
    // The probe detects what it is to detect.
    let wide = "<pre style=\"width:2000px;color:#ddd\">x</pre><svg role=\"img\" viewBox=\"0 0 9 9\"><text x=\"8\">aaaa</text></svg>";
    let broken = page.replace("<main>", &format!("<main>{wide}<img src=\"https://localhost:9/x.png\"/>"));
    let seen = Browser::find().unwrap().look(&broken, 375, "light");
    assert!(seen["needs"].as_u64() > Some(1_000), "{seen:#}");
    for fault in ["cut_off", "faint", "errors"] {
        assert_ne!(seen[fault].as_array().map(Vec::len), Some(0), "{fault}: {seen:#}");
    }
}
