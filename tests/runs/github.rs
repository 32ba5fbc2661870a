//! Runs in a job of GitHub Actions: annotations, the job's summary with its picture, and no command that a server or a
//! file has put in.

use std::fs::read_to_string;
use std::process::Command;

use crate::common::bench::{Bench, clean};
use crate::common::peer::{Peer, Request, TOKEN, answer, certctl, json};
use crate::common::runs::Made;

const BRIEF: &str = "--rate 100/s --duration 500ms --warm-up 0s --agents 10 --connections 2";

/// Returns the commands that a runner finds in a log: it looks at each line for `::NAME …::` at its start, or for
/// `##[NAME …]` anywhere.
fn commands(log: &str) -> Vec<&str> {
    log.split(['\n', '\r']).filter_map(command).collect()
}

fn command(line: &str) -> Option<&str> {
    let newer = line.trim_start().strip_prefix("::").and_then(|rest| Some(rest.split_once("::")?.0));
    newer.or_else(|| Some(line.split_once("##[")?.1.split_once(']')?.0))
}

fn in_job(mut bench: Bench) -> Bench {
    let summary = bench.folder().join("job.md");
    bench.command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", summary);
    bench
}

#[test]
fn an_error_is_an_annotation_once() {
    let run = |is_job: &str, file: &str| {
        let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
        let output = command.args(["report", file]).env("GITHUB_ACTIONS", is_job).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let plain = run("false", "100%,absent:x");
    assert!(plain.starts_with("error: reading 100%,absent:x: ") && plain.contains("\nhint: "), "{plain}");
    let escaped = plain.strip_prefix("error: ").unwrap().trim_end().replace('%', "%25").replace('\n', "%0A");
    assert_eq!(run("true", "100%,absent:x"), format!("::error title=certctl-bench::{escaped}\n"));
    // A name that would be a command of its own.
    let hostile = run("true", "a\n::add-mask::b\r##[add-mask]c");
    assert_eq!(commands(&hostile), ["error title=certctl-bench"], "{hostile}");
    // And clap's messages.
    let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    let output = command.args(["run", "--bogus"]).env("GITHUB_ACTIONS", "true").output().unwrap();
    let usage = String::from_utf8(output.stderr).unwrap();
    assert!(usage.starts_with("::error title=certctl-bench::unexpected argument '--bogus'"), "{usage}");
    assert_eq!(usage.lines().count(), 1, "{usage}");
}

#[test]
fn a_breach_is_annotated_and_summed_up_for_the_job() {
    let hostile = "x\n::add-mask::y ##[add-mask]z <svg onload=1>|`code` @all";
    let peer = Peer::start(move |request: &Request| match request.path.as_str() {
        "/api/v1/version" => json(200, &serde_json::json!({ "version": hostile }).to_string()),
        _ if request.is_heartbeat() => answer(500, "text/plain", hostile),
        _ => certctl(request),
    });
    let kept = tempfile::tempdir().unwrap();
    let output = kept.path().join("results");
    let mut bench = in_job(Bench::at(&peer, BRIEF));
    let report = kept.path().join("job.md");
    bench.command.env("CERTCTL_BENCH_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &report);
    let finished = bench.run().exits(3);
    assert_eq!(commands(&finished.stdout), [""; 0], "{}", finished.stdout);
    let annotations = commands(&finished.stderr);
    assert!(annotations.contains(&"error title=agent_storm%3A Threshold breached"), "{}", finished.stderr);
    let known = |command: &&str| {
        ["error title=agent_storm%3A ", "warning title=certctl-bench"].iter().any(|start| command.starts_with(start))
    };
    assert!(annotations.iter().all(known), "{annotations:?}");
    let report = read_to_string(report).unwrap();
    assert!(report.starts_with("### agent_storm\n\n**Threshold breached**: "), "{report}");
    assert!(report.contains("```text\nslowest") && report.contains("summary.svg"), "{report}");
    assert!(!report.contains("<svg") && !report.contains("@all"), "{report}");
    let picture = read_to_string(output.join("summary.svg")).unwrap();
    assert!(picture.starts_with("<svg xmlns=") && !picture.contains("onload"), "{picture}");
}

#[test]
fn a_comparison_is_annotated_and_summed_up_for_the_job() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=10 {
        let slowness = (if number > 5 { 1.25 } else { 1.0 }) * (1.0 + 0.004 * (number * 7 % 5) as f64);
        Made { number, slowness, ..Made::default() }.save(&folder.path().join(number.to_string()));
    }
    let compare = |sides: &str, is_job: bool, code| {
        let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
        command.arg("compare").args(sides.split(' ')).current_dir(folder.path());
        if is_job {
            command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", "job.md");
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{sides}");
        String::from_utf8(output.stderr).unwrap()
    };
    let worse = "--base 1 2 3 4 5 --head 6 7 8 9 10";
    assert_eq!(compare(worse, false, 4), "", "nothing outside of a job");
    let annotated = compare(worse, true, 4);
    assert_eq!(commands(&annotated), ["error title=comparison of agent_storm%3A regressed"], "{annotated}");
    assert!(annotated.contains(" measures became worse%0Aagent_storm/"), "{annotated}");
    // One that decides nothing is a warning, and one that is better is none.
    let undecided = compare("1 2", true, 0);
    assert_eq!(commands(&undecided), ["warning title=comparison of agent_storm%3A indistinct"], "{undecided}");
    assert_eq!(compare("--base 6 7 8 9 10 --head 1 2 3 4 5", true, 0), "");
    // Two sides that are one run cannot be compared.
    assert_eq!(commands(&compare("1 1", true, 5)), ["error title=comparison of agent_storm%3A incomparable"]);
    let summary = read_to_string(folder.path().join("job.md")).unwrap();
    let headings: Vec<_> = summary.lines().filter(|line| line.starts_with("### ")).collect();
    assert_eq!(
        headings,
        ["regressed", "indistinct", "improved", "incomparable"].map(|one| format!("### agent_storm: {one}"))
    );
}

#[test]
fn findings_of_doctor_that_fail_are_one_annotation() {
    let peer = Peer::start(|request: &Request| match request.path.as_str() {
        "/api/v1/version" => answer(200, "text/html", "<html></html>"),
        _ => certctl(request),
    });
    let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    command.args(["doctor", "--target", &peer.base(), "--token", TOKEN, "--ca-file"]).arg(peer.ca_file());
    let output = command.env("GITHUB_ACTIONS", "true").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), commands(&stderr)), (Some(1), vec!["error title=doctor"]), "{stderr}");
    assert!(stderr.contains("::fail  ") && stderr.contains("%0A      hint: "), "{stderr}");
}

#[test]
fn a_picture_of_an_earlier_run_is_set_aside() {
    let peer = Peer::start(certctl);
    let kept = tempfile::tempdir().unwrap();
    let picture = |name: &str| kept.path().join(name);
    let run = |is_job: bool| {
        let mut bench = if is_job { in_job(Bench::at(&peer, BRIEF)) } else { Bench::at(&peer, BRIEF) };
        bench.command.env("CERTCTL_BENCH_OUTPUT", kept.path());
        let done = bench.run();
        assert!(matches!(done.code, Some(0 | 3 | 5)), "{}", done.stderr);
    };
    run(true);
    let first = read_to_string(picture("summary.svg")).unwrap();
    // A run outside of a job draws none: no picture beside its results is of another run.
    run(false);
    assert!(!picture("summary.svg").exists());
    assert_eq!(read_to_string(picture("previous-summary.svg")).unwrap(), first);
}

#[test]
fn runs_of_a_step_are_appended_and_a_smoke_run_is_not() {
    let peer = Peer::start(certctl);
    let mut reports = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.md");
    std::fs::write(&file, "of another\n").unwrap();
    for bench in [Bench::at(&peer, BRIEF), Bench::at(&peer, BRIEF), Bench::new(BRIEF).smoke().towards_peer(&peer)] {
        let mut bench = in_job(bench);
        bench.command.env("GITHUB_STEP_SUMMARY", &file);
        bench.run().worked();
        reports.push(read_to_string(&file).unwrap());
    }
    assert!(reports[0].starts_with("of another\n### agent_storm\n"), "{}", reports[0]);
    assert!(reports[1].starts_with(&reports[0]) && reports[1].matches("### agent_storm\n").count() == 2);
    assert_eq!(reports[2], reports[1]);
    // A summary that cannot be written changes no verdict.
    let mut bench = in_job(Bench::at(&peer, BRIEF));
    bench.command.env("GITHUB_STEP_SUMMARY", folder.path());
    let done = bench.run().worked();
    assert!(done.stderr.contains("::warning title=certctl-bench::appending to the job's summary"), "{}", done.stderr);
}
