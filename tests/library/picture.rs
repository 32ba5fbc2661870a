//! Runs as one picture: a file that needs nothing else, light and dark, in which foreign text is only text.

use crate::common::browser::Browser;
use crate::common::made_up::{group, stalled, summary};
use crate::common::needs::needs;
use crate::html::assert_well_formed;
use certctl_bench::report::picture::svg;
use certctl_bench::report::runs::ScenarioRuns;

#[test]
fn a_picture_is_whole_and_needs_no_other_file() {
    let picture = svg(&group([("", summary(stalled(1), 2_000))])).unwrap().unwrap();
    assert_well_formed(&format!("<!DOCTYPE html>\n{picture}"));
    assert!(picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\""));
    assert!(picture.contains("prefers-color-scheme:dark") && picture.contains(".dashed{"));
    for part in ["Latency by percentile", "Latency over time", "Rate over time", "class=\"f-stall\"", "slowest"] {
        assert!(picture.contains(part), "no {part}");
    }
    for loading in ["href", "src=", "url(", "@import", "<script", "<image", "<foreignObject"] {
        assert!(!picture.contains(loading), "{loading}");
    }
    // Each class has a colour.
    for class in picture.split("class=\"").skip(1).flat_map(|rest| rest.split('"').next().unwrap().split(' ')) {
        assert!(picture.contains(&format!(".{class}{{")), "no rule of {class}");
    }
}

#[test]
fn foreign_text_in_a_picture_is_escaped() {
    let hostile = "</style><script>alert(1)</script>\"'&";
    let mut summary = summary(stalled(1), 2_000);
    summary.workloads[0].plan.name = hostile.into();
    let group = ScenarioRuns { scenario: hostile.to_owned(), ..group([(hostile, summary)]) };
    let picture = svg(&group).unwrap().unwrap();
    assert_well_formed(&format!("<!DOCTYPE html>\n{picture}"));
    assert!(!picture.contains("<script") && picture.contains("alert(1)"));
}

#[test]
fn a_run_that_measured_nothing_has_no_picture() {
    let mut summary = summary(stalled(1), 2_000);
    summary.workloads[0].results = None;
    assert_eq!(svg(&group([("", summary)])).unwrap(), None);
}

#[test]
fn a_browser_shows_the_picture_in_light_and_dark() {
    needs!(Browser);
    let browser = Browser::find().unwrap();
    let picture = svg(&group([("", summary(stalled(1), 2_000))])).unwrap().unwrap();
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta name=\"color-scheme\" content=\"light dark\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\
         <style>@media (prefers-color-scheme:dark){{body{{background:#0d1117}}}}</style></head>\
         <body><main>{picture}</main></body></html>"
    );
    for ground in ["light", "dark"] {
        let seen = browser.look(&page, 1_280, ground);
        for fault in ["blank", "cut_off", "overlapping", "faint", "loaded", "errors"] {
            assert_eq!(seen[fault].as_array().map(Vec::len), Some(0), "{fault}, {ground}: {seen:#}");
        }
    }
}
