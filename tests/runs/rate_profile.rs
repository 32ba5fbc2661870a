//! Rates that vary over the window, from the front door of the bench targets that know them.

use std::fs;
use std::path::Path;
use std::process::Command;

use certctl_bench::summary::{Summary, consistency};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::common::bench::Bench;
use crate::common::peer::TOKEN;
use crate::common::reference::Reference;
use crate::common::summary::{assert_schema, measured, outcome, results};

/// A side effect of `connector_tier` at the mock of an F5.
const HANDSHAKES: &str = "handshakes, warm-up included";

/// Returns one field of each segment of a workload.
fn column<'v>(results: &'v Value, field: &str) -> Vec<&'v Value> {
    results["segments"].as_array().unwrap().iter().map(|segment| &segment[field]).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Asserts that the summary is refused, once the value at this place is another.
#[track_caller]
fn assert_contradicts(summary: &Value, field: &str, value: Value, message: &str) {
    let mut spoilt = summary.clone();
    *spoilt.pointer_mut(field).unwrap() = value;
    let why = consistency::fields(&Summary::deserialize(&spoilt).unwrap()).unwrap_err();
    assert!(why.contains(message), "{field}: {why}");
}

#[test]
fn each_step_of_a_rate_has_its_results() {
    let arguments = "--in-memory --agents 50 --rate-profile step:50/s,150/s,10/s --duration 3s --warm-up 500ms";
    let finished = Bench::new(arguments).measured().run().worked();
    let summary = finished.summary();
    assert_schema(&summary);
    let (plan, results) = (&summary["workloads"][0]["plan"], results(&summary));
    assert_eq!((&plan["arrivals"], &plan["rate_per_s"]), (&"constant".into(), &json!(70.0)));
    assert_eq!(plan["rate_profile"], "step:50/s,150/s,10/s");
    // The warm-up has the first rate.
    assert_eq!((&results["arrivals"]["warm_up"], &results["arrivals"]["scheduled"]), (&25.into(), &210.into()));
    assert_eq!(column(results, "begin_s"), [&json!(0.0), &json!(1.0), &json!(2.0)]);
    assert_eq!(column(results, "to_per_s"), [&json!(50.0), &json!(150.0), &json!(10.0)]);
    for field in ["scheduled", "started", "achieved_per_s"] {
        let counts: Vec<f64> = column(results, field).into_iter().map(|count| count.as_f64().unwrap()).collect();
        assert_eq!(counts, [50.0, 150.0, 10.0], "{field}");
    }
    assert_eq!(column(results, "errors"), [&json!(0); 3]);
    let stated = |field: &str| -> Vec<bool> {
        column(results, "response").into_iter().map(|response| !response[field].is_null()).collect()
    };
    assert_eq!((stated("p50_us"), stated("p95_us")), (vec![true, true, false], vec![false; 3]));
    let head = "window, s  planned/s  scheduled  sent  errors   ok/s  p50 ms  p95 ms  p99 ms\n";
    let text = finished.text.as_ref().unwrap();
    assert!(text.contains(head) && text.contains("\n0 to 1     50                50    50       0   50.0"), "{text}");
    assert!(
        text.contains("\n2 to 3     10                10    10       0   10.0       –       –       –\n"),
        "{text}"
    );
    assert!(text.contains("open, constant step:50/s,150/s,10/s (mean 70/s), 50 connections"), "{text}");

    let parts = "/workloads/0/results/segments";
    for (field, value, message) in [
        ("/1/scheduled", json!(149), "segments[1]: of 149 scheduled, 150 were started"),
        ("/1/errors", json!(1), "segments[1]: of 150 scheduled, 150 were started, 150 answered right and 1 not"),
        ("/1/achieved_per_s", json!(151.0), "segments[1].achieved_per_s: it is not 150 in 1 s"),
        ("/1/begin_s", json!(1.5), "segments[1]: from 1.5 to 2 s, after one up to 1 s"),
        ("/2/end_s", json!(2.5), "segments: they end at 2.5 s, the window at 3 s"),
        ("/2/measured_s", json!(0.5), "segments[2].achieved_per_s: it is not 10 in 0.5 s"),
    ] {
        assert_contradicts(&summary, &format!("{parts}{field}"), value, message);
    }
    let mut more = summary.pointer(&format!("{parts}/2")).unwrap().clone();
    (more["scheduled"], more["errors"]) = (json!(11), json!(1));
    assert_contradicts(&summary, &format!("{parts}/2"), more, "segments.scheduled: together it is 211, of 210");
    assert_contradicts(&summary, parts, json!([]), "there are 0, and the rate profile is step:50/s,150/s,10/s");
    assert_contradicts(
        &summary,
        "/workloads/0/plan/rate_profile",
        Value::Null,
        "there are 3, and the rate profile is none",
    );
    let mut short = summary.clone();
    for field in ["measured_s", "achieved_per_s"] {
        let factor = if field == "measured_s" { 0.5 } else { 2.0 };
        let place = short.pointer_mut(&format!("{parts}/2/{field}")).unwrap();
        *place = json!(place.as_f64().unwrap() * factor);
    }
    let why = consistency::fields(&Summary::deserialize(&short).unwrap()).unwrap_err();
    assert!(why.contains("segments: they have 2.5 s, of 3 s measured"), "{why}");

    assert_reported(finished.json.as_ref().unwrap());
}

/// Asserts that Markdown and HTML show the segments too.
#[track_caller]
fn assert_reported(summary: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("summary.json"), summary).unwrap();
    let report = |format: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-bench"));
        command.args(["report", "summary.json", "--format", format, "--output", "out"]).current_dir(folder.path());
        assert!(command.status().unwrap().success());
        fs::read_to_string(folder.path().join("out")).unwrap()
    };
    let markdown = report("markdown");
    let head = "| window, s | planned/s | scheduled | sent | errors | ok/s | p50 ms | p95 ms | p99 ms |\n";
    assert!(markdown.contains("**Segments of agent\\_storm**\n") || markdown.contains("**Segments of agent_storm**\n"));
    assert!(
        markdown.contains(head) && markdown.contains("\n| 2 to 3 | 10 | 10 | 10 | 0 | 10.0 | – | – | – |\n"),
        "{markdown}"
    );
    let page = report("html");
    assert!(page.contains("<caption>Segments of agent_storm</caption>") && page.contains(">2 to 3</th>"));
}

#[test]
fn connections_to_a_daemon_vary() {
    for own in ["--workload handshake", "--workload rotation --rotate-every 700ms"] {
        let load = "--only f5 --rate-profile step:20/s,60/s,10/s --duration 3s --warm-up 0s";
        let finished = Bench::named("connector_tier", &format!("{own} {load}")).measured().run().worked();
        let summary = finished.summary();
        assert_schema(&summary);
        let results = results(&summary);
        for field in ["scheduled", "started"] {
            assert_eq!(column(results, field), [&json!(20), &json!(60), &json!(10)], "{own}");
        }
        assert_eq!((outcome(&summary, "ok"), column(results, "errors")), (90, vec![&json!(0); 3]), "{own}");
        // Each is a connection of its own, by the daemon's count too.
        let handshakes = results["work"].as_array().unwrap().iter().find(|one| one["name"] == HANDSHAKES).unwrap();
        assert_eq!((&handshakes["claimed"], &handshakes["found"]), (&json!(90), &json!(90)), "{own}");
        // Descriptors for the highest rate: 60/s, for a second each, and six standard deviations more.
        let needed = "200 connections, and 107 that wait for their peer to close, need 371 file descriptors";
        assert!(finished.stderr.contains(needed), "{}", finished.stderr);
    }
}

#[test]
fn only_the_named_workload_of_several_varies() {
    let arguments = "--in-memory --list-rate-profile ramp:20/s-100/s";
    let summary = Bench::named("api_tier", arguments).smoke().run().exits(0).summary();
    assert_schema(&summary);
    let [(_, posts), (_, lists)] = measured(&summary)[..] else { panic!("{summary:#}") };
    assert_eq!(posts.get("segments"), None);
    // A ramp is cut into five. Jittered arrivals are within two of the integral.
    let planned = [28.0, 44.0, 60.0, 76.0, 92.0].map(|per_s| per_s * 0.2);
    assert_eq!(lists["segments"].as_array().unwrap().len(), 5);
    for (found, planned) in column(lists, "scheduled").into_iter().zip(planned) {
        assert!((number(found) as f64 - planned).abs() <= 2.0, "{found} of {planned}");
    }
    assert_eq!(column(lists, "from_per_s")[0], &json!(20.0));
    assert_eq!(column(lists, "to_per_s")[4], &json!(100.0));
}

#[test]
fn a_smoke_run_brings_a_profile_of_minutes_forward() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("morning.txt");
    fs::write(&path, "0 10/s   # night\n60 10/s\n60 50/s\n120 20/s\n").unwrap();
    let arguments = format!("--in-memory --rate-profile file:{}", path.display());
    let summary = Bench::named("bulk_renewal", &arguments).smoke().run().exits(0).summary();
    let results = results(&summary);
    // A second in place of two minutes: 5 arrivals, then half a second of 50/s down to 20/s.
    assert_eq!(column(results, "scheduled").into_iter().map(number).collect::<Vec<_>>(), [5, 18]);
    assert_eq!(column(results, "end_s"), [&json!(0.5), &json!(1.0)]);
    let profile = summary["workloads"][0]["plan"]["rate_profile"].as_str().unwrap();
    assert!(profile.starts_with("file of 4 points, SHA-256 "), "{profile}");
}

#[test]
fn a_duet_shares_a_rate_that_varies() {
    let (base, head) = (Reference::start(&[]), Reference::start(&[]));
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("ca.pem");
    let both = [base.ca_file(), head.ca_file()].map(|file| fs::read_to_string(file).unwrap()).concat();
    fs::write(&authorities, both).unwrap();
    let arguments = format!(
        "duet --base {} --head {} --token {TOKEN} --ca-file {} --blocks 2 --threshold 1000% -- --agents 30 \
         --connections 30 --rate-profile spike:40/s,140/s@400ms+200ms --duration 1s --warm-up 100ms",
        base.base(),
        head.base(),
        authorities.display()
    );
    let done = Bench::of(Path::new(env!("CARGO_BIN_EXE_certctl-bench")), &arguments).run().exits(0);
    let json: Value = serde_json::from_str(done.json.as_ref().unwrap()).unwrap();
    let plan = &json["plans"][0];
    assert_eq!((&plan["rate_profile"], &plan["rate_per_s"]), (&"spike:40/s,140/s@400ms+200ms".into(), &json!(60.0)));
    for side in ["base", "head"] {
        let measures = json["measures"].as_array().unwrap();
        let errors = measures.iter().find(|one| one["measure"] == "errors_share").unwrap();
        assert_eq!(errors["values"][side], 0.0);
    }
}

#[test]
fn a_rate_profile_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        format!("--rate-profile file:{}", folder.path().join(name).display())
    };
    let faulty = file("faulty", "0 10/s\n30 fast\n");
    let long = file("long", "0 10/s\n45 20/s\n");
    let large = file("large", &"# nothing\n".repeat(7_000));
    let missing = format!("--rate-profile file:{}", folder.path().join("missing").display());
    for (target, flags, parts) in [
        ("agent_storm", "--rate 5/s --rate-profile ramp:1/s-2/s", &["--rate <RATE>", "--rate-profile <PROFILE>"][..]),
        ("bulk_renewal", "--rate 5/s --rate-profile ramp:1/s-2/s", &["--rate <RATE>", "--rate-profile <PROFILE>"]),
        ("acme_flow", "--rate 5/s --rate-profile ramp:1/s-2/s", &["--rate <RATE>", "--rate-profile <PROFILE>"]),
        (
            "api_tier",
            "--list-rate 5/s --list-rate-profile ramp:1/s-2/s",
            &["--list-rate <LIST_RATE>", "--list-rate-profile <PROFILE>"],
        ),
        ("api_tier", "--rate-profile ramp:1/s-2/s", &["unexpected argument '--rate-profile'"]),
        ("agent_storm", "--rate-profile ramp:1/s", &["--rate-profile", "write a ramp as ramp:10/s-100/s"]),
        (
            "agent_storm",
            "--fleet real --rate-profile ramp:1/s-2/s",
            &["--rate-profile applies only to --fleet contract"],
        ),
        ("agent_storm", "--fleet restart --rate-profile ramp:1/s-2/s", &["applies only to --fleet contract"]),
        (
            "bulk_renewal",
            "--workload sweep --rate-profile ramp:1/s-2/s",
            &["--rate-profile does not apply to --workload sweep"],
        ),
        (
            "connector_tier",
            "--workload f5-deploy --rate-profile ramp:1/s-2/s",
            &["--rate-profile does not apply to --workload f5-deploy"],
        ),
        (
            "acme_flow",
            "--rate-profile ramp:1/s-2/s --think-time 1s",
            &["--think-time does not apply to an open workload"],
        ),
        (
            "acme_burst",
            "--rate-profile spike:1/s,2/s@20s+11s",
            &["the rate profile spike:1/s,2/s@20s+11s reaches to 31s, but the window ends after 30s", "--duration 31s"],
        ),
        ("agent_storm", &long, &["/long reaches to 45s, but the window ends after 30s", "give --duration 45s or more"]),
        ("agent_storm", &faulty, &["/faulty: line 2: `fast`: write a rate as", "hint: give a second and a rate"]),
        ("agent_storm", &large, &["reading the rate profile ", "/large: "]),
        ("agent_storm", &missing, &["reading the rate profile ", "/missing: No such file"]),
        (
            "bulk_renewal",
            "--rate-profile step:50/s,100/s --duration 100s --warm-up 0s",
            &["7500 requests of 6 certificates exceed the 10000 seeded", "give --batch-size 1 or less"],
        ),
        (
            "bulk_renewal",
            "--rate-profile step:900/s,100/s --duration 100s --warm-up 0s",
            &["at least 10001 requests", "hint: lower --rate-profile or --duration"],
        ),
    ] {
        let refused = Bench::named(target, flags).measured().refused(2);
        assert!(parts.iter().all(|part| refused.stderr.contains(part)), "{target} {flags}: {}", refused.stderr);
        assert_eq!(refused.json, None, "{target} {flags}");
    }
}
