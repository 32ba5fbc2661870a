//! `certctl-bench report`, from its front door.

use std::fs::{read_to_string, write};
use std::path::Path;
use std::process::{Command, Output};

use crate::common::made_up::{measurement, stalled, summary};
use crate::common::summary::{assert_schema, results};
use certctl_bench::measure::Outcome;
use certctl_bench::summary::Summary;
use tempfile::TempDir;

fn report(folder: &Path, arguments: &str) -> Output {
    let arguments = arguments.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_certctl-bench"))
        .arg("report")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Returns a folder with the runs `base` and `head`, each in a folder of its own.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), "base", &summary(stalled(1), 2_000));
    save(folder.path(), "head", &summary(stalled(2), 2_000));
    folder
}

fn save(folder: &Path, name: &str, summary: &Summary) {
    let folder = folder.join(name);
    std::fs::create_dir(&folder).unwrap();
    certctl_bench::report::result_files::save(summary, &folder).unwrap();
}

/// Asserts that the report is refused as a wrong use, with these words.
#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
}

fn stdout_of(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_summary_with_a_warm_up_follows_its_schema() {
    let folder = folder();
    let text = read_to_string(folder.path().join("base/summary.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_schema(&value);
    let warm_up = results(&value)["warm_up_timeline"].as_array().unwrap();
    assert_eq!(warm_up.iter().map(|second| second["ok"].as_u64().unwrap()).collect::<Vec<_>>(), [200; 5]);
    let read: Summary = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), value);
}

#[test]
fn the_text_report_equals_the_output_of_the_run() {
    let folder = folder();
    let printed = read_to_string(folder.path().join("base/summary.txt")).unwrap();
    assert_eq!(stdout_of(report(folder.path(), "base")), printed);
    assert_eq!(stdout_of(report(folder.path(), "base/summary.json")), printed);
    let both = stdout_of(report(folder.path(), "base head"));
    assert!(both.contains("base: base\n") && both.contains("head: head\n"), "{both}");
}

#[test]
fn markdown_and_html_show_base_and_head_together() {
    let folder = folder();
    let text = stdout_of(report(folder.path(), "base head --format markdown"));
    assert_eq!(text.matches("### agent_storm").count(), 1);
    assert!(text.contains("| agent_storm | base | 2000 |") && text.contains("| agent_storm | head | 2000 |"), "{text}");
    assert_eq!(stdout_of(report(folder.path(), "base head --format html --output r.html")), "");
    let page = read_to_string(folder.path().join("r.html")).unwrap();
    assert!(page.contains("base: response time") && page.contains("head: response time"));
    // The stall and the warm-up are shaded, and named in words.
    assert!(page.contains("class=\"f-stall\"") && page.contains("class=\"f-warm-up\""));
    assert!(page.contains("stalled in second"), "{page}");
}

#[test]
fn unreportable_inputs_are_named_with_a_hint() {
    let folder = folder();
    let at = folder.path();
    assert_refused(&report(at, ""), &["<RUN>"]);
    assert_refused(&report(at, "absent"), &["reading absent", "hint: "]);
    write(at.join("foreign.json"), "{\"a\": 1}").unwrap();
    assert_refused(
        &report(at, "base foreign.json"),
        &["foreign.json", "neither a run's summary nor a baseline", "hint: "],
    );
    write(at.join("text.json"), "certctl").unwrap();
    assert_refused(&report(at, "text.json"), &["reading text.json", "hint: "]);
    let text = read_to_string(at.join("base/summary.json")).unwrap();
    write(at.join("old.json"), text.replacen("\"schema_version\": 4", "\"schema_version\": 3", 1)).unwrap();
    let old = report(at, "old.json");
    let stderr = String::from_utf8_lossy(&old.stderr).into_owned();
    assert_eq!(old.status.code(), Some(5), "as compare has it: {stderr}");
    assert!(
        stderr.contains("old.json has summary schema 3; this version of the suite reads 4\nhint: measure again"),
        "{stderr}"
    );
    assert_refused(&report(at, "base --format html"), &["--output"]);
    assert_refused(&report(at, "base --format html --output absent/r.html"), &["writing absent/r.html", "hint: "]);
    assert_refused(&report(at, "base base base base base"), &["5 runs of agent_storm", "hint: "]);
}

#[test]
fn a_damaged_histogram_is_named() {
    let folder = folder();
    let mut summary = summary(measurement(|_| Outcome::Ok), 2_000);
    summary.workloads[0].results.as_mut().unwrap().latency.response.hdr_ns = Some("AAAA".to_owned());
    save(folder.path(), "damaged", &summary);
    for format in ["text", "markdown", "html"] {
        let output = report(folder.path(), &format!("damaged --format {format} --output r"));
        let message =
            "damaged/summary.json is damaged: workloads[0].results.latency.response.hdr_ns: reading an HDR histogram";
        assert_refused(&output, &[message, "hint: "]);
    }
}

#[test]
fn a_password_in_a_summary_is_not_reported() {
    let folder = folder();
    let mut summary = summary(measurement(|_| Outcome::Ok), 2_000);
    summary.about.system.base_url = "https://user:hunter2@h:1".to_owned();
    save(folder.path(), "open", &summary);
    for format in ["text", "markdown", "html"] {
        stdout_of(report(folder.path(), &format!("open --format {format} --output r")));
        let report = read_to_string(folder.path().join("r")).unwrap();
        assert!(report.contains("h:1") && !report.contains("user") && !report.contains("hunter2"), "{report}");
    }
}
