//! `certctl-bench duet` from its front door.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::bench::{Bench, Finished};
use crate::common::needs::needs;
use crate::common::peer::TOKEN;
use crate::common::process::{descendants, until, write_script};
use crate::common::reference::Reference;
use crate::common::stand_in::{REPORT, StandIn};

const REFERENCE: &str = env!("CARGO_BIN_EXE_certctl-reference");
/// Few arrivals, however slow the machine is.
const LOAD: &str = "--agents 30 --connections 30 --rate 40/s --duration 1s --warm-up 100ms";

fn duet(arguments: &str) -> Bench {
    Bench::of(Path::new(env!("CARGO_BIN_EXE_certctl-bench")), &format!("duet {arguments}"))
}

/// Returns a duet of two servers of this build.
fn of_references(arguments: &str) -> Bench {
    duet(&format!("--base {REFERENCE} --head {REFERENCE} {arguments}"))
}

fn json(done: &Finished) -> Value {
    serde_json::from_str(done.json.as_ref().expect("a duet.json")).unwrap()
}

/// Returns a measure of the system or of the workload.
fn measure<'a>(json: &'a Value, name: &str) -> &'a Value {
    json["measures"].as_array().unwrap().iter().find(|one| one["measure"] == name).unwrap()
}

#[test]
fn a_head_that_answers_late_has_regressed() {
    needs!(Postgresql);
    let kept = tempfile::tempdir().unwrap();
    let [path, results, summary] = ["comment.md", "results", "summary.md"].map(|name| kept.path().join(name));
    // Long beside whatever a busy machine adds to an answer; only a doubling counts.
    let arguments = format!(
        "--blocks 4 --threshold 100% --alpha 20% --head-env CERTCTL_REFERENCE_DELAY=100ms --markdown {} -- {LOAD}",
        path.display()
    );
    let mut duet = of_references(&arguments);
    // In a job of GitHub Actions, where a verdict is an annotation, and its report a part of the job's summary.
    duet.command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    duet.command.env("CERTCTL_BENCH_OUTPUT", &results);
    let done = duet.run().exits(4);
    let json: Value = serde_json::from_str(&fs::read_to_string(results.join("duet.json")).unwrap()).unwrap();
    assert_eq!((&json["verdict"], &json["exit_code"]), (&"regressed".into(), &4.into()));
    assert_eq!(
        (&json["invalid"], &json["missing"]),
        (&Value::Array(Vec::new()), &Value::Array(Vec::new())),
        "{json:#}"
    );
    let p50 = measure(&json, "response_p50_us");
    assert_eq!((&p50["verdict"], &p50["of"]), (&"regressed".into(), &"agent_storm".into()));
    assert!(p50["values"]["head"].as_f64().unwrap() >= 100e3, "{p50}");
    // The same work, so that the same counts show on both sides, whatever the pace.
    for (cost, value) in [("sql_calls", 4.0), ("sql_rows", 85.0)] {
        let cost = measure(&json, cost);
        assert_eq!(cost["verdict"], "unchanged", "{cost}");
        for side in ["base", "head"] {
            assert!((cost["values"][side].as_f64().unwrap() - value).abs() < 1e-9, "{cost}");
        }
    }
    for name in ["shared_blocks", "answer_bytes"] {
        assert!(measure(&json, name)["values"]["head"].as_f64().unwrap() > 0.0, "{name}");
    }
    // Neither has a value on every machine: CPU time is counted in ticks, of which a block may need none, and blocks
    // after a checkpoint are left out of the bytes of WAL.
    for name in ["wal_bytes", "cpu_postgresql_us"] {
        let cost = measure(&json, name);
        assert!(cost["values"]["head"].as_f64().is_none_or(|value| value > 0.0), "{cost}");
    }
    // Ports and order of start are exchanged.
    let blocks = json["blocks"].as_array().unwrap();
    let first: Vec<&str> = blocks.iter().map(|block| block["first"].as_str().unwrap()).collect();
    assert_eq!(first, ["base", "head", "base", "head"]);
    let ports: Vec<[u64; 2]> =
        blocks.iter().map(|block| ["base", "head"].map(|side| block["ports"][side].as_u64().unwrap())).collect();
    let [a, b] = ports[0];
    assert_eq!(ports, [[a, b], [a, b], [b, a], [b, a]]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("### agent_storm: regressed\n\nthe head is worse: agent_storm response_p50_us by "),
        "{text}"
    );
    assert!(done.stdout.contains("\nverdict      regressed: the head is worse: "), "{}", done.stdout);
    assert_eq!(fs::read_to_string(&summary).unwrap(), text);
    let errors: Vec<_> = done.stderr.lines().filter(|line| line.starts_with("::error ")).collect();
    let [error] = errors[..] else { panic!("one error: {}", done.stderr) };
    let start = "::error title=duet of agent_storm%3A regressed::the head is worse: agent_storm response_p50_us by +";
    assert!(error.starts_with(start), "{error}");
    // The page begins with the verdict, draws each measure beside what counts, and is the last line.
    let report = results.join("report.html");
    assert_eq!(done.stdout.lines().last(), Some(&*format!("report       {}", report.display())));
    let page = fs::read_to_string(report).unwrap();
    let [verdict, figure, table, blocks, disturbed] = [
        "<div class=\"verdict bad\"><p><strong>regressed</strong>: the head is worse: ",
        "<figcaption>Changes from base to head</figcaption>",
        "<caption>Measures</caption>",
        "<figcaption>Change of the response time, block by block",
        "<h2>What disturbed the run</h2>",
    ]
    .map(|part| page.find(part).unwrap_or_else(|| panic!("no {part}: {page}")));
    assert!(verdict < figure && figure < table && table < blocks && blocks < disturbed, "{page}");
    // A fleet that answers a hundred times as late does not hide what a per cent is.
    assert!(page.contains("; ±100% count.") && page.contains("sql_calls: unchanged +0.0%"), "{page}");
    assert!(json["blocks"].as_array().unwrap().iter().all(|block| block["others"].is_f64()), "{json:#}");
}

#[test]
fn two_that_run_already_are_compared_in_place() {
    let (base, head) = (Reference::start(&[]), Reference::start(&[]));
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("ca.pem");
    let both = [base.ca_file(), head.ca_file()].map(|file| fs::read_to_string(file).unwrap()).concat();
    fs::write(&authorities, both).unwrap();
    let both =
        format!("--base {} --head {} --token {TOKEN} --ca-file {}", base.base(), head.base(), authorities.display());
    let done = duet(&format!("{both} --blocks 2 --threshold 1000% -- {LOAD}")).run();
    let json = json(&done);
    // Outside of a job nothing is annotated.
    assert!(!done.stderr.lines().any(|line| line.starts_with("::")), "{}", done.stderr);
    // Two blocks seldom decide, and a tenfold difference is none of equal servers.
    assert!(["unchanged", "indistinct"].contains(&json["verdict"].as_str().unwrap()), "{json:#}");
    done.exits(0);
    assert_eq!(json["blocks"][0]["ports"]["base"], 0);
    assert_eq!(measure(&json, "errors_share")["values"]["head"], 0.0);
    // Nobody counts what happens behind them, and the report says so.
    assert!(json["notes"].to_string().contains("no database of the systems is known"), "{}", json["notes"]);
    assert!(!json["measures"].as_array().unwrap().iter().any(|one| one["measure"] == "sql_calls"));
    // The rows that the load asks for are looked for.
    let done = duet(&format!("{both} --bench api_tier -- --certificates 20000")).run().exits(1);
    assert!(done.stderr.contains("certificate 20000 of those to renew is not seeded"), "{}", done.stderr);
}

#[test]
fn a_stopped_duet_keeps_its_blocks_and_concludes_nothing() {
    needs!(Postgresql);
    let mut running = of_references(&format!("--blocks 100 -- {LOAD}")).start();
    let pid = running.pid();
    until("the first block is played", || running.stdout().contains("block 1/100"));
    // Two servers, two clusters, and what these start.
    let mut started = Vec::new();
    until("the second block's systems are there", || {
        started = descendants(pid);
        started.len() >= 8
    });
    running.signal(Signal::INT);
    let done = running.finish().exits(5);
    let json = json(&done);
    assert_eq!(json["verdict"], "invalid");
    assert!(json["invalid"].as_array().unwrap().contains(&"the duet was stopped".into()), "{json:#}");
    assert!(!json["blocks"].as_array().unwrap().is_empty());
    until("all that it started has ended", || !started.iter().any(|process| process.runs()));
}

#[test]
fn what_cannot_be_a_duet_is_refused_with_the_fix() {
    let server = Reference::start(&[]);
    let url = server.base();
    let script = tempfile::tempdir().unwrap();
    let script = script.path().join("server");
    write_script(&script, "");
    let script = script.display();
    for (arguments, message) in [
        (format!("--base {REFERENCE}"), "--head"),
        (format!("--base {REFERENCE} --head {url} --token x"), "one side runs already"),
        (format!("--base {REFERENCE} --head /nowhere/server"), "--head /nowhere/server: No such file"),
        (format!("--base {script} --head {script}"), "of the binary's commit: --base-migrations FOLDER"),
        (format!("--base {script} --head {REFERENCE}"), "one side is a certctl-server, the other a reference"),
        (format!("--base {url} --head {url}"), "each side would have the other's load too"),
        (
            format!(
                "--base {url} --head https://localhost:1 --base-database postgres://d --head-database postgres://d"
            ),
            "--base-database and --head-database are the same",
        ),
        (format!("--base {url} --head {url} --token x --head-env A=b"), "--head-env does not apply"),
        (
            format!("--base {url} --head {url} --head-migrations m"),
            "--head-migrations applies only to a certctl-server",
        ),
        (format!("--base {REFERENCE} --head {REFERENCE} --head-env A"), "--head-env needs NAME=VALUE"),
        (format!("--base {REFERENCE} --head {REFERENCE} --base-database postgres://x"), "applies only to a running"),
        (format!("--base {REFERENCE} --head {REFERENCE} --token x"), "--token applies only to systems that run"),
        (format!("--base {REFERENCE} --head {REFERENCE} --ca-file x"), "--ca-file applies only to systems that run"),
        (format!("--base {REFERENCE} --head {REFERENCE} --insecure"), "--insecure applies only to systems that run"),
        (
            format!("--base {REFERENCE} --head {REFERENCE} --allow-foreign-rows"),
            "--allow-foreign-rows applies only to systems that run",
        ),
        (format!("--base {REFERENCE} --head {REFERENCE} --allow-remote"), "hint: leave it out, or give two URLs"),
        (format!("--base {REFERENCE} --head {REFERENCE} --share-network"), "applies only to a certctl-server"),
        (format!("--base {REFERENCE} --head {REFERENCE} --threshold 2"), "write it with %, as 2% or 200%"),
        (
            format!("--base {REFERENCE} --head {REFERENCE} --bench connector_tier"),
            "no bench target of that name has a duet\nhint: give one of acme_burst, acme_flow, agent_storm, api_tier, \
             bulk_renewal\n",
        ),
        (format!("--base {REFERENCE} --head {REFERENCE} --bench acme_burst"), "give a rate after `--`"),
        (format!("--base {REFERENCE} --head {REFERENCE} --blocks 1"), "1 is not in 2..=100"),
        (format!("--base {REFERENCE} --head {REFERENCE} --alpha 0%"), "must be above 0%"),
        (format!("--base {REFERENCE} --head {REFERENCE} -- --rate never"), "the flags after `--`"),
        (format!("--base {REFERENCE} --head {REFERENCE} -- --max-other-cpu 5%"), "has no effect in a duet"),
        (format!("--base {REFERENCE} --head {REFERENCE} -- --fleet real --rate 1/s"), "--rate applies only to"),
    ] {
        let refused = duet(&arguments).refused(2);
        assert!(refused.stderr.contains(message), "{arguments}: {}", refused.stderr);
    }
}

#[test]
fn a_server_that_does_not_start_is_an_error_that_names_it() {
    let mut duet = of_references(&format!("--head-env CERTCTL_REFERENCE_DELAY=soon -- {LOAD}"));
    // Access that the environment has for other runs is no conflict.
    duet.command.env("CERTCTL_BENCH_TOKEN", TOKEN).env("CERTCTL_BENCH_ALLOW_REMOTE", "true");
    let done: Finished = duet.run().exits(1);
    assert!(done.stderr.contains("the reference server") && done.stderr.contains("soon"), "{}", done.stderr);
}

#[test]
fn two_binaries_of_certctl_are_started_for_each_block() {
    needs!(Postgresql, Namespace);
    let (base, head) = (StandIn::new(), StandIn::new());
    let report = head.report();
    let arguments = format!(
        "--base {} --head {} --head-env {REPORT}={} --blocks 2 --threshold 1000% -- {LOAD}",
        base.program().display(),
        head.program().display(),
        report.display()
    );
    let done = duet(&arguments).run();
    let json = json(&done);
    // So few answers decide nothing about WAL.
    assert_eq!(json["invalid"], Value::Array(Vec::new()), "{json:#}");
    for (side, stand_in) in [("base", &base), ("head", &head)] {
        let system = &json["systems"][side];
        assert_eq!(system["settings"]["network"], "loopback alone");
        assert_eq!(system["binary_sha256"], stand_in.sha256().as_str());
    }
    assert_eq!(json["systems"]["head"]["settings"]["certctl"][REPORT], report.to_str().unwrap());
    assert_eq!(json["systems"]["base"]["settings"]["certctl"][REPORT], Value::Null);
    let blocks = json["blocks"].as_array().unwrap();
    // Each server listened where it was told to.
    let port = blocks[1]["ports"]["head"].to_string();
    assert!(fs::read_to_string(&report).unwrap().contains(&format!("\nCERTCTL_SERVER_PORT={port}\n")));
    let calls = measure(&json, "sql_calls");
    assert_eq!((&calls["values"]["base"], &calls["verdict"]), (&calls["values"]["head"], &"unchanged".into()));
}
