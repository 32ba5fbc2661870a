//! Runs of several processes and of several machines: shards, parts, and their merge.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use certctl_bench::provision::network::enter_loopback;
use rustix::process::{Resource, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::bench::{Bench, Finished};
use crate::common::needs::needs;
use crate::common::peer::{Peer, certctl};
use crate::common::process::{limit, send, until};
use crate::common::reference::Reference;
use crate::common::summary::{observed, outcome, reasons, results};
use crate::common::turn::Turn;

/// A fleet that any number of shards up to eight can share.
const FLEET: &str = "--agents 40 --rate 200/s --duration 1s --warm-up 500ms --connect-rate 1000/s";

/// Starts a peer that notes the path of each heartbeat.
fn noting() -> (Peer, Arc<Mutex<Vec<String>>>) {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = noted.clone();
    let peer = Peer::start(move |request| {
        if request.is_heartbeat() {
            notes.lock().unwrap().push(request.path.clone());
        }
        certctl(request)
    });
    (peer, noted)
}

fn sorted(noted: &Mutex<Vec<String>>) -> Vec<String> {
    let mut noted = std::mem::take(&mut *noted.lock().unwrap());
    noted.sort();
    noted
}

/// Returns what a summary says about each shard.
fn shards(summary: &Value) -> &Vec<Value> {
    summary["shards"]["shards"].as_array().unwrap()
}

#[test]
fn shard_processes_send_the_requests_of_one_run() {
    let (peer, noted) = noting();
    let run = |processes: u64| {
        let flags = format!("{FLEET} --generator-processes {processes}");
        let done = Bench::at(&peer, &flags).run().worked();
        (done.summary(), sorted(&noted))
    };
    let (whole, requests) = run(1);
    assert_eq!((requests.len(), &whole["shards"]), (300, &Value::Null));
    for processes in [2, 4] {
        let (summary, union) = run(processes);
        assert!(union == requests, "{processes}: {} requests, not {}", union.len(), requests.len());
        assert_eq!((outcome(&summary, "ok"), results(&summary)["arrivals"]["scheduled"].as_u64()), (200, Some(200)));
        let scheduled: Vec<u64> = shards(&summary).iter().map(|one| one["scheduled"].as_u64().unwrap()).collect();
        assert_eq!((scheduled.len() as u64, scheduled.iter().sum::<u64>()), (processes, 200));
        assert!(scheduled.iter().all(|count| *count > 0), "{scheduled:?}");
        assert_eq!(summary["shards"]["clocks"]["basis"], "one-clock");
        let plan = |summary: &Value| summary["workloads"][0]["plan"].clone();
        assert_eq!(plan(&summary), plan(&whole));
    }
}

#[test]
fn side_effects_of_shard_processes_are_counted_together() {
    let server = Reference::start(&[]);
    for (target, flags, workloads) in [
        ("agent_storm", "--fleet restart --agents 40 --restart-within 1s --duration 2s", 1),
        ("agent_storm", "--agents 40 --rate 100/s --duration 1s --generator-threads 2", 1),
        ("api_tier", "--issuance-rate 40/s --list-rate 40/s --duration 1s", 2),
        ("bulk_renewal", "--rate 20/s --duration 1s --batch-size 3", 1),
    ] {
        let done = Bench::named(target, &format!("{flags} --generator-processes 3")).measured();
        let summary = done.towards_reference(&server).run().worked().summary();
        let all = summary["workloads"].as_array().unwrap();
        assert_eq!((all.len(), shards(&summary).len()), (workloads, 3));
        for work in all.iter().map(|one| one["results"]["work"].as_array().unwrap()) {
            assert!(work[0]["claimed"].as_u64() > Some(0), "{target}: {work:?}");
            assert!(work.iter().all(|one| one["claimed"] == one["found"]), "{target}: {work:?}");
        }
        if flags.contains("restart") {
            let back = observed(results(&summary), "agents back");
            assert_eq!((&back["count"], &back["of"]), (&json!(40), &json!(40)));
        }
    }
}

#[test]
fn a_descriptor_limit_is_met_by_several_processes() {
    let server = Reference::start(&[]);
    let mut bench = Bench::at_reference(&server, "--agents 300 --rate 300/s --duration 1s");
    limit(&mut bench.command, Resource::Nofile, Some(200), Some(200));
    let summary = bench.run().worked().summary();
    // 136 connections a process.
    assert_eq!((shards(&summary).len(), outcome(&summary, "ok")), (3, 300));
    let opened = &results(&summary)["opening"]["tls"]["count"];
    assert_eq!(opened, 300);
}

#[test]
fn a_killed_shard_process_is_named_and_ends_the_run() {
    let server = Reference::start(&[]);
    let flags = FLEET.replace("--duration 1s", "--duration 60s") + " --generator-processes 3";
    let mut running = Bench::at_reference(&server, &flags).start();
    running.wait_until_measuring();
    let shards = running.started(&["agent_storm"]);
    let of_run: Vec<_> = shards.iter().filter(|process| process.name.starts_with("agent_storm")).collect();
    assert_eq!(of_run.len(), 3);
    send(of_run[1].pid, Signal::KILL);
    let done = running.finish().exits(5);
    let (summary, reasons) = (done.summary(), reasons(&done.summary()));
    assert!(reasons.contains("of 3 (counted from 0): it ended before its load did"), "{reasons}");
    assert!(reasons.contains("SIGKILL"), "{reasons}");
    // What the others measured is kept.
    assert_eq!(self::shards(&summary).len(), 2);
    until("no shard is left", || !of_run.iter().any(|process| process.runs()));
}

#[test]
fn a_workload_that_needs_one_process_says_so() {
    for target in ["acme_burst", "acme_flow", "acme_enroll", "connector_tier", "deploy_loop", "job_drain", "revocation"]
    {
        let done = Bench::named(target, "--generator-processes 2").measured().refused(2);
        assert!(done.stderr.starts_with("error: --generator-processes 2: "), "{target}: {}", done.stderr);
    }
    let wrong = Bench::new("--generator-processes 0").measured().refused(2);
    assert!(wrong.stderr.contains("give auto, or a number from 1 to"), "{}", wrong.stderr);
}

/// Returns the program with the verbs, without a load.
fn verb(arguments: &str) -> Bench {
    Bench::of(Path::new(env!("CARGO_BIN_EXE_certctl-bench")), arguments)
}

/// Returns a time so far from now, as text.
fn at(offset_s: i64) -> String {
    let span = Duration::from_secs(offset_s.unsigned_abs());
    let now = SystemTime::now();
    let time = if offset_s < 0 { now - span } else { now + span };
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Starts a shard of a fleet at a server.
fn shard(server: &Reference, index: u64, count: u64, start: &str, parts: &Path, more: &str) -> Bench {
    let parts = parts.display();
    let arguments = format!("shard --index {index} --count {count} --start {start} --parts {parts} -- {FLEET} {more}");
    verb(&arguments).towards_reference(server)
}

/// Plays all shards of a run at once; returns the folder of their parts.
fn play(server: &Reference, count: u64, more: &str) -> TempDir {
    // Before the start is set: other tests may have the turn for minutes.
    let _turn = Turn::take();
    let (parts, start) = (tempfile::tempdir().unwrap(), at(1));
    let running: Vec<_> =
        (0..count).map(|index| shard(server, index, count, &start, parts.path(), more).start()).collect();
    for one in running {
        let done = one.finish().exits(0);
        assert!(done.stdout.contains("part-0000"), "{}", done.stdout);
    }
    parts
}

fn merge(parts: &[&Path]) -> Finished {
    let parts: Vec<String> = parts.iter().map(|path| path.display().to_string()).collect();
    verb(&format!("merge {}", parts.join(" "))).start_without_load().finish()
}

fn part(folder: &Path, index: u64) -> PathBuf {
    folder.join(format!("part-{index:05}.json"))
}

/// Changes a part, as JSON.
fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut part: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut part);
    fs::write(path, part.to_string()).unwrap();
}

#[test]
fn parts_of_several_machines_become_one_result() {
    let server = Reference::start(&[]);
    let parts = play(&server, 3, "");
    let done = merge(&[parts.path()]).worked();
    let summary = done.summary();
    assert_eq!((outcome(&summary, "ok"), shards(&summary).len()), (200, 3));
    assert_eq!(results(&summary)["arrivals"]["warm_up"], 100);
    assert_eq!(summary["system"]["base_url"], server.base());
    assert!(done.stdout.contains("\nshards       3 played, start 2"), "{}", done.stdout);
    // A shard whose window is over before it runs has observed nothing.
    for machine in summary["machine_use"].as_array().unwrap() {
        assert_eq!(machine["workloads"], json!(["agent_storm"]));
    }
    // Merged again, in another order and file by file: the same run.
    let files: Vec<PathBuf> = [2, 0, 1].map(|index| part(parts.path(), index)).into();
    let again = merge(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>()).worked().summary();
    for same in ["run_id", "workloads", "shards", "thresholds"] {
        assert_eq!(again[same], summary[same], "{same}");
    }
    // Its report is beside its results, as that of any run, and one of an earlier merge is set aside.
    let kept = tempfile::tempdir().unwrap();
    let report = kept.path().join("report.html");
    for is_first in [true, false] {
        let merge = verb(&format!("merge {}", parts.path().display()));
        let output = kept.path().to_str().unwrap();
        let done = merge.env("CERTCTL_BENCH_OUTPUT", output).start_without_load().finish();
        assert_eq!(done.stdout.lines().last(), Some(&*format!("report       {}", report.display())), "{}", done.stderr);
        let page = fs::read_to_string(&report).unwrap();
        assert!(page.contains("<h1>agent_storm</h1>") && page.contains("<h3>Who used the machine</h3>"), "{page}");
        assert_eq!(kept.path().join("previous-report.html").exists(), !is_first);
    }
}

#[track_caller]
fn refused(done: Finished, parts: &[&str]) {
    let done = done.exits(5);
    for part in parts {
        assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
    }
    assert!(done.stderr.contains("\nhint: ") && done.json.is_none(), "{}", done.stderr);
}

#[test]
fn a_part_that_is_missing_late_or_differs_is_named() {
    let server = Reference::start(&[]);
    let made = play(&server, 2, "");
    let copy = || {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..2 {
            fs::copy(part(made.path(), index), part(folder.path(), index)).unwrap();
        }
        folder
    };
    let changed = |with: &dyn Fn(&mut Value)| {
        let folder = copy();
        change(&part(folder.path(), 1), with);
        merge(&[folder.path()])
    };
    let one = merge(&[&part(made.path(), 1)]);
    refused(one, &["shard 0 of 2 (counted from 0) is missing"]);
    let (first, second) = (part(made.path(), 0), part(made.path(), 1));
    let twice = merge(&[&first, &first, &second]);
    refused(twice, &["part-00000.json: it is shard 0 of 2 again"]);
    let none = tempfile::tempdir().unwrap();
    refused(merge(&[none.path()]), &["merging parts: there is none"]);

    let folder = copy();
    let whole = fs::read(&second).unwrap();
    fs::write(part(folder.path(), 1), &whole[..whole.len() / 2]).unwrap();
    let cut = merge(&[folder.path()]);
    refused(cut, &["part-00001.json: it was cut off", "shard 1 of 2 (counted from 0) is missing"]);

    refused(changed(&|part| part["part_version"] = json!(99)), &["its part_version is 99, not 1"]);
    refused(changed(&|part| part["run_id"] = json!("other")), &["its run id is other, that of "]);
    refused(changed(&|part| part["fingerprint"] = json!("0f")), &["its workload fingerprint is 0f"]);
    refused(changed(&|part| part["about"]["machine"]["commit"] = json!("abc")), &["its commit of the suite is abc"]);
    refused(changed(&|part| part["suite_version"] = json!("9.9.9")), &["its suite version is 9.9.9"]);
    refused(changed(&|part| part["start_ns"] = json!(1)), &["its start is 1970-01-01T00:00:00"]);
    refused(changed(&|part| part["shard"]["count"] = json!(3)), &["its number of shards is 3"]);
    let counts = changed(&|part| part["workloads"][0]["measurement"]["started"] = json!(1_000_000));
    refused(counts, &["its counts contradict one another"]);
    // All parts agree, but this version plans another workload from their flags.
    let folder = copy();
    for index in 0..2 {
        change(&part(folder.path(), index), |part| part["fingerprint"] = json!("0f"));
    }
    refused(merge(&[folder.path()]), &["of fingerprint ", ", not 0f"]);

    // A late one is there, and makes the run invalid.
    let folder = copy();
    change(&part(folder.path(), 1), |part| {
        part["workloads"] = json!([]);
        part["ended"] = json!({ "late": { "secs": 3, "nanos": 0 } });
    });
    let reasons = reasons(&merge(&[folder.path()]).exits(5).summary());
    assert!(reasons.contains("shard 1 of 2 (counted from 0): it was ready 3.000 s after"), "{reasons}");
}

#[test]
fn a_late_shard_sends_nothing_and_is_named() {
    let (peer, noted) = noting();
    let parts = tempfile::tempdir().unwrap();
    let start = at(-200);
    for index in 0..2 {
        let arguments = format!(
            "shard --index {index} --count 2 --start {start} --parts {} -- {FLEET} --max-lag 90s",
            parts.path().display()
        );
        let late = verb(&arguments).towards_peer(&peer).refused(5);
        let message = format!("error: shard {index} of 2 was ready ");
        assert!(
            late.stderr.contains(&message) && late.stderr.contains("\nhint: give a later --start"),
            "{}",
            late.stderr
        );
    }
    assert_eq!(sorted(&noted), Vec::<String>::new());
    let refused = merge(&[parts.path()]).exits(5);
    for index in 0..2 {
        let named = format!("shard {index} of 2 (counted from 0): it was ready ");
        assert!(refused.stderr.contains(&named), "{}", refused.stderr);
    }
}

/// Answers as shard 0 does when others measure its clock, by a clock that is so far ahead.
fn clock_ahead_by(ahead: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            while stream.read_exact(&mut [0]).is_ok() {
                let ahead = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
                let time = (ahead.as_nanos() as u64).to_be_bytes();
                // A shard that has given up asks again.
                let _ = stream.write_all(&[time; 2].concat());
            }
        }
    });
    address
}

#[test]
fn a_shard_begins_by_the_clock_of_shard_0() {
    let server = Reference::start(&[]);
    let parts = tempfile::tempdir().unwrap();
    let ahead = Duration::from_secs(3_600);
    let peer = clock_ahead_by(ahead);
    let arguments = |start: &str| {
        let parts = parts.path().display();
        format!("shard --index 1 --count 2 --start {start} --parts {parts} --clock-peer {peer} -- {FLEET}")
    };
    let turn = Turn::take();
    // Now, by that clock: by its own, the shard would wait for an hour.
    let start = at(3_601);
    verb(&arguments(&start)).towards_reference(&server).run().exits(0);
    drop(turn);
    let (own, other) = (part(parts.path(), 1), part(parts.path(), 0));
    fs::copy(&own, &other).unwrap();
    change(&other, |part| {
        part["shard"]["index"] = json!(0);
        part["clock"] = json!({ "boot": "another", "kernel": null, "measured": null });
    });
    let summary = merge(&[parts.path()]).summary();
    let clocks = &summary["shards"]["clocks"];
    assert_eq!(
        (&clocks["basis"], &summary["shards"]["start"]),
        (&json!("measured"), &json!(start.replace('Z', ".000000Z")))
    );
    // The peer reads this machine's clock too.
    let [offset, apart] = ["offset_ms", "apart_ms"].map(|name| clocks[name].as_f64().unwrap());
    assert!((offset - ahead.as_secs_f64() * 1e3).abs() <= apart, "{clocks}");
}

#[test]
fn shard_0_answers_with_its_clock() {
    let server = Reference::start(&[]);
    let parts = tempfile::tempdir().unwrap();
    // An address at which nothing else listens.
    let peer = TcpListener::bind("127.9.8.7:0").unwrap().local_addr().unwrap();
    let start = at(3_600);
    let mut running = [1, 0].map(|index| {
        let parts = parts.path().display();
        let place = format!("shard --index {index} --count 2 --start {start} --parts {parts} --clock-peer {peer}");
        verb(&format!("{place} -- {FLEET}")).towards_reference(&server).start_without_load()
    });
    // Each has compared its clock by then.
    until("both wait for the start", || {
        running.iter_mut().all(|one| {
            assert!(one.ended().is_none(), "{}", one.stderr());
            one.stderr().contains("waiting 35")
        })
    });
    for mut one in running {
        one.signal(Signal::INT);
        let ended = one.finish().exits(1);
        assert!(ended.stderr.contains("error: stopped before anything was measured"), "{}", ended.stderr);
    }
}

#[test]
fn a_shard_takes_what_kubernetes_gives_a_pod() {
    let server = Reference::start(&[]);
    let parts = tempfile::tempdir().unwrap();
    let turn = Turn::take();
    let start = at(1);
    let pods: Vec<_> = (0..2)
        .map(|index: u64| {
            let bench = verb("shard")
                .env("JOB_COMPLETION_INDEX", &index.to_string())
                .env("CERTCTL_BENCH_NAME", "agent_storm")
                .env("CERTCTL_BENCH_SHARD_COUNT", "2")
                .env("CERTCTL_BENCH_START", &start)
                .env("CERTCTL_BENCH_PARTS", parts.path().to_str().unwrap())
                .env("CERTCTL_BENCH_RUN_ID", "a-job")
                .env("CERTCTL_BENCH_AGENTS", "40")
                .env("CERTCTL_BENCH_RATE", "200/s")
                .env("CERTCTL_BENCH_DURATION", "1s");
            bench.towards_reference(&server).start()
        })
        .collect();
    pods.into_iter().for_each(|pod| drop(pod.finish().exits(0)));
    drop(turn);
    // The merge needs none of these: the parts say what was planned.
    let merged = verb(&format!("merge --wait 60s --count 2 --start {start} {}", parts.path().display()));
    let summary = merged.start_without_load().finish().worked().summary();
    assert_eq!((&summary["run_id"], outcome(&summary, "ok")), (&json!("a-job"), 200));
    let other = verb(&format!("merge --start {} {}", at(0), parts.path().display())).start_without_load().finish();
    refused(other, &["it is of another run, which started at 2"]);
    let waited = verb(&format!("merge --wait 10ms --count 3 {}", parts.path().display())).start_without_load().finish();
    assert!(waited.stderr.contains("waiting for parts: 2 of 3 are there"), "{}", waited.stderr);
}

#[test]
fn a_shard_without_a_place_or_a_system_is_refused() {
    let parts = tempfile::tempdir().unwrap();
    let refused = |index: u64, more: &str| {
        let arguments =
            format!("shard --index {index} --count 2 --start {} --parts {} {more}", at(60), parts.path().display());
        verb(&arguments).refused(2).stderr
    };
    assert!(refused(2, "").contains("error: there is no shard 2 of 2\nhint: indexes count from 0"));
    assert!(
        refused(0, "").contains("a shard loads a system that runs already, and none is named\nhint: give --target")
    );
    assert!(refused(0, "-- --target https://127.0.0.1:1 --database postgres://h/d").contains("error: --database: "));
    assert!(refused(0, "-- --output here").contains("error: --output has no effect on a shard"));
    assert!(refused(0, "-- --no-such").contains("the flags after `--`: unexpected argument '--no-such'"));
    assert!(refused(0, "--bench no_such").contains("error: there is no bench target no_such\nhint: give one of "));
    assert!(refused(0, "--bench job_drain").contains("error: job_drain: one process follows"));
    assert!(!part(parts.path(), 0).exists());
}

#[test]
fn processes_have_addresses_of_their_own_when_ports_run_short() {
    needs!(Namespace);
    let mut bench = Bench::new("--bench --mode sustained --in-memory --agents 250 --rate 250/s --duration 1s");
    // A network of its own, with 100 ports.
    let enter = || {
        enter_loopback().map_err(|error| io::Error::other(error.to_string()))?;
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40099")
    };
    // SAFETY: the closure makes system calls; what it allocates is freed by the exec.
    unsafe { bench.command.pre_exec(enter) };
    let summary = bench.run().worked().summary();
    assert_eq!((shards(&summary).len(), outcome(&summary, "ok")), (3, 250));
    assert_eq!(results(&summary)["opening"]["tls"]["count"], 250);
}
