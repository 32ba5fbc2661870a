//! Files that are named on command lines: an output stays what it was, and an input is read within bounds.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::common::bench::Bench;
use crate::common::process::limit;
use crate::common::runs::Made;
use crate::common::summary::results;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Resource;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with the summaries `base` and `head`.
struct Shelf(TempDir);

impl Shelf {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Made::default().save(&folder.path().join("base"));
        Made { number: 2, ..Made::default() }.save(&folder.path().join("head"));
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-bench"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null()).env_remove("CERTCTL_BENCH_THRESHOLD");
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text_of(&output.stderr));
        output
    }

    #[track_caller]
    fn compare(&self, json: &str) -> Output {
        self.run(&["compare", "base", "head", "--json", json], 0)
    }

    /// Asserts that nothing half written is in the folder.
    #[track_caller]
    fn is_clean(&self) {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap_or_default()).collect();
        assert!(!names.iter().any(|name| name.contains("part")), "{names:?}");
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_comparison(bytes: &[u8]) {
    let value: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(value["exit_code"], 0);
}

fn make_fifo(path: &Path) {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
}

#[test]
fn device_pipe_and_socket_outputs_are_not_replaced() {
    let shelf = Shelf::new();
    shelf.compare("/dev/null");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let full = shelf.run(&["compare", "base", "head", "--json", "/dev/full"], 1);
    assert!(text_of(&full.stderr).contains("writing /dev/full: No space left"), "{}", text_of(&full.stderr));

    make_fifo(&shelf.path("fifo"));
    let fifo = shelf.path("fifo");
    let reader = thread::spawn(move || fs::read(fifo).unwrap());
    shelf.compare("fifo");
    assert_comparison(&reader.join().unwrap());
    assert!(fs::metadata(shelf.path("fifo")).unwrap().file_type().is_fifo());

    let listener = UnixListener::bind(shelf.path("socket")).unwrap();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes
    });
    shelf.compare("socket");
    assert_comparison(&reader.join().unwrap());

    let output = shelf.compare("/dev/stdout");
    let text = text_of(&output.stdout);
    assert_comparison(&text.as_bytes()[text.find("\n{").unwrap()..]);
    shelf.is_clean();
}

#[test]
fn a_pipe_without_a_peer_is_not_waited_for() {
    let shelf = Shelf::new();
    make_fifo(&shelf.path("fifo"));
    let unread = shelf.run(&["compare", "base", "head", "--json", "fifo"], 1);
    assert!(text_of(&unread.stderr).contains("no process opened it for reading"), "{}", text_of(&unread.stderr));
    // A device that is ready, has nothing, and does not end.
    let silent = shelf.run(&["compare", "/dev/ptmx", "head"], 2);
    assert!(
        text_of(&silent.stderr).contains("it sent neither data nor an end of file for 10 s"),
        "{}",
        text_of(&silent.stderr)
    );
    let unwritten = shelf.run(&["compare", "fifo", "head"], 2);
    assert!(text_of(&unwritten.stderr).contains("no process opened it for writing"), "{}", text_of(&unwritten.stderr));
    // One that has a writer is a file like any other.
    let (fifo, summary) = (shelf.path("fifo"), shelf.path("base/summary.json"));
    let writer = thread::spawn(move || fs::copy(summary, fifo).unwrap());
    shelf.run(&["compare", "fifo", "head"], 0);
    writer.join().unwrap();
}

#[test]
fn links_are_followed_and_permissions_kept() {
    let shelf = Shelf::new();
    fs::write(shelf.path("real.json"), "old").unwrap();
    fs::set_permissions(shelf.path("real.json"), Permissions::from_mode(0o640)).unwrap();
    symlink("real.json", shelf.path("link")).unwrap();
    symlink("new.json", shelf.path("dangling")).unwrap();
    shelf.compare("link");
    shelf.compare("dangling");
    for (link, file) in [("link", "real.json"), ("dangling", "new.json")] {
        assert!(fs::symlink_metadata(shelf.path(link)).unwrap().is_symlink());
        assert_comparison(&fs::read(shelf.path(file)).unwrap());
    }
    assert_eq!(fs::metadata(shelf.path("real.json")).unwrap().mode() & 0o7777, 0o640);
    symlink("round", shelf.path("round")).unwrap();
    shelf.run(&["compare", "base", "head", "--json", "round"], 1);
    // The longest name that a file can have leaves no room for a longer one beside it.
    let longest = "x".repeat(255);
    shelf.compare(&longest);
    assert_comparison(&fs::read(shelf.path(&longest)).unwrap());
    shelf.is_clean();
}

#[test]
fn a_full_disk_keeps_the_old_output() {
    let shelf = Shelf::new();
    fs::write(shelf.path("out.json"), "old").unwrap();
    let mut command = shelf.command(&["compare", "base", "head", "--json", "out.json"]);
    limit(&mut command, Resource::Fsize, Some(1_000), Some(1_000));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text_of(&output.stderr));
    assert!(text_of(&output.stderr).contains("writing out.json: File too large"), "{}", text_of(&output.stderr));
    assert!(text_of(&output.stdout).contains("verdict"), "what was compared is not lost");
    assert_eq!(fs::read(shelf.path("out.json")).unwrap(), b"old");
    shelf.is_clean();
}

#[test]
fn an_output_that_is_an_input_is_refused() {
    let shelf = Shelf::new();
    let before = fs::read(shelf.path("base/summary.json")).unwrap();
    symlink("base/summary.json", shelf.path("link")).unwrap();
    for arguments in [
        &["compare", "base", "head", "--json", "base/summary.json"][..],
        &["compare", "base", "head", "--json", "link"],
        &["report", "base", "--output", "base/summary.json"],
    ] {
        let refused = shelf.run(arguments, 2);
        assert!(text_of(&refused.stderr).contains("an input and an output"), "{}", text_of(&refused.stderr));
    }
    assert_eq!(fs::read(shelf.path("base/summary.json")).unwrap(), before);
    shelf.run(&["compare", "base", "head", "--json", "no/such/folder/x"], 2);
    shelf.run(&["compare", "base", "head", "--json", "base"], 2);
}

#[test]
fn an_endless_or_malformed_input_is_refused() {
    let shelf = Shelf::new();
    let refused = |name: &str, message: &str| {
        let output = shelf.run(&["compare", name, "head"], 2);
        assert!(text_of(&output.stderr).contains(message), "{name}: {}", text_of(&output.stderr));
    };
    refused("/dev/zero", "holds more than");
    refused("/dev/null", "EOF");
    let summary = fs::read_to_string(shelf.path("base/summary.json")).unwrap();
    let numbers = format!("{{\"schema_version\": 4, \"results\": [{}1]}}", "1,".repeat(10 << 20));
    for (name, text, message) in [
        ("numbers", numbers.as_str(), "holds more than 8388608 values"),
        ("deep", &format!("{{\"schema_version\": {}", "[".repeat(100_000)), "recursion limit"),
        ("cut", &summary[..summary.len() / 2], "EOF"),
        ("twice", &summary.replacen('{', "{\"exit_code\": 0,", 1), "the key \"exit_code\" twice"),
        ("infinite", &summary.replacen("\"exit_code\": 0", "\"exit_code\": 1e999", 1), "out of range"),
        ("nan", &summary.replacen("\"exit_code\": 0", "\"exit_code\": NaN", 1), "expected value"),
        ("array", "[1, 2]", "an array, not an object"),
    ] {
        fs::write(shelf.path(name), text).unwrap();
        refused(name, message);
    }
    fs::write(shelf.path("latin"), b"{\"a\": \"\xe4\"}").unwrap();
    refused("latin", "not UTF-8");
    let newer = summary.replacen("\"schema_version\": ", "\"schema_version\": 9", 1);
    fs::write(shelf.path("newer"), newer).unwrap();
    let newer = shelf.run(&["compare", "newer", "head"], 5);
    assert!(text_of(&newer.stderr).contains("newer than this suite"), "{}", text_of(&newer.stderr));
    // Additions by editors and other systems are no fault.
    fs::write(shelf.path("marked"), format!("\u{feff}{}", summary.replace('\n', "\r\n"))).unwrap();
    shelf.run(&["compare", "marked", "head"], 0);
}

#[test]
fn a_summary_that_contradicts_itself_is_refused() {
    let shelf = Shelf::new();
    let text = fs::read_to_string(shelf.path("base/summary.json")).unwrap();
    let sound: Value = serde_json::from_str(&text).unwrap();
    let slow = Made { slowness: 2.0, ..Made::default() }.summary();
    let other = slow.measured().next().unwrap().1.latency.response.hdr_ns.clone();
    let workload = sound["workloads"][0].clone();
    for (field, value, message) in [
        ("/run_id", json!(""), "run_id: it is empty"),
        ("/finished_at", json!("yesterday"), "finished_at: \"yesterday\" is not a time"),
        ("/finished_at", json!("9999-99-99T99:99:99Z"), "is not a time"),
        ("/workloads", json!([workload, workload]), "workloads[1].plan.name: agent_storm stands there twice"),
        (
            "/workloads/0/results/arrivals/scheduled",
            json!(0),
            "workloads[0].results.arrivals: of 0 scheduled, 2400 were started",
        ),
        (
            "/workloads/0/results/outcomes/0/count",
            json!(7),
            "workloads[0].results.outcomes: they are 7, of 2400 arrivals",
        ),
        (
            "/workloads/0/results/outcomes/0/outcome",
            json!("failed (500)"),
            "workloads[0].results.error_share: it is 0, but outcomes give 1",
        ),
        ("/workloads/0/results/error_share", json!(7.5), "workloads[0].results.error_share: it is 7.5"),
        ("/error_share", json!(-1), "error_share: it is -1"),
        ("/workloads/0/results/latency/response/count", json!(10), "holds 2400 samples, not the 10 of count"),
        ("/workloads/0/results/latency/response/count", json!(1_u64 << 63), "no figure of a run is as large as 9.2"),
        ("/workloads/0/results/latency/response/p50_us", json!(-1.0), "response.p50_us: it is -1, less than"),
        ("/workloads/0/results/latency/response/p50_us", json!(9e9), "response.p90_us: it is "),
        (
            "/workloads/0/results/latency/response/p50_us",
            json!(1400.0),
            "response.p50_us: it is 1400, but hdr_ns holds",
        ),
        (
            "/workloads/0/results/latency/response/max_us",
            json!(1e308),
            "workloads[0].results.latency.response.max_us: no figure",
        ),
        ("/workloads/0/results/latency/response/hdr_ns", json!(other), "response.min_us: it is "),
        ("/workloads/0/results/latency/response/hdr_ns", json!("AAAA"), "response.hdr_ns: reading an HDR histogram"),
        ("/workloads/0/results/timeline/0/hdr_us", json!("AAAA"), "timeline[0].hdr_us: reading an HDR histogram"),
        ("/workloads/0/results/latency/dial/p50_us", json!(1.0), "latency.dial.p50_us: it is 1, without a sample"),
        (
            "/workloads/0/results/latency/service",
            results(&sound)["latency"]["dial"].clone(),
            "latency.service.count: it is 0",
        ),
        ("/evidence/0/arrivals", json!(4_800), "evidence[0].arrivals: they are 4800, but 2400 were sent"),
        (
            "/evidence/0/statements/most_called",
            json!([{ "outline": "SELECT agents", "calls": 99_999, "rows": 0, "execution_ms": 1.0, "wal_bytes": 0,
                "wal_records": 0, "wal_full_page_images": 0, "shared_blocks_hit": 0, "shared_blocks_read": 0,
                "shared_blocks_dirtied": 0 }]),
            "evidence[0].statements.total.calls: it is 12000, but those of most_called are 99999",
        ),
        ("/evidence/0/statements/per_arrival/calls", json!(-5.0), "statements.per_arrival.calls: it is -5"),
        ("/thresholds/0/limit", json!(-1), "thresholds[0].limit: it is -1"),
        ("/thresholds/0/measured", Value::Null, "thresholds[0].passed: nothing was measured"),
        ("/thresholds/0/measured", json!(501), "thresholds[0].passed: 501 is not below 500"),
        ("/thresholds/0/passed", json!(false), "thresholds[0].passed: "),
        ("/breaches", json!(["x"]), "verdict: it is pass, but a threshold was breached"),
        ("/invalid", json!(["x"]), "verdict: it is pass, but invalid has reasons"),
        ("/exit_code", json!(3), "exit_code: it is 3, but that of the verdict pass is 0"),
        ("/verdict", json!("invalid"), "exit_code: it is 0, but that of the verdict invalid is 5"),
    ] {
        let mut spoilt = sound.clone();
        match spoilt.pointer_mut(field) {
            Some(place) => *place = value,
            None => spoilt[&field[1..]] = value,
        }
        fs::write(shelf.path("spoilt"), spoilt.to_string()).unwrap();
        for arguments in [&["compare", "spoilt", "head"][..], &["report", "spoilt"]] {
            let output = shelf.run(arguments, 2);
            let stderr = text_of(&output.stderr);
            assert!(stderr.contains("spoilt is damaged: ") && stderr.contains(message), "{field}: {stderr}");
        }
    }
    // For results that had to be kept elsewhere, the exit code shows it.
    let kept = text.replacen("\"exit_code\": 0", "\"exit_code\": 1", 1);
    fs::write(shelf.path("kept"), kept).unwrap();
    shelf.run(&["report", "kept"], 0);
    let mut worthless = sound;
    (worthless["verdict"], worthless["exit_code"]) = (json!("invalid"), json!(5));
    fs::write(shelf.path("worthless"), worthless.to_string()).unwrap();
    let refused = shelf.run(&["report", "worthless"], 2);
    assert!(text_of(&refused.stderr).contains("invalid: the verdict has no reason"), "{}", text_of(&refused.stderr));
}

#[test]
fn unusual_paths_are_printed_on_one_line() {
    let shelf = Shelf::new();
    let output = shelf.run(&["compare", "no\n\u{1b}[31msuch", "head"], 2);
    assert!(text_of(&output.stderr).contains("reading no\\n\\u{1b}[31msuch: "), "{}", text_of(&output.stderr));
    let name = std::ffi::OsStr::from_bytes(b"out-\xff.json");
    let output = shelf.command(&["compare", "base", "head", "--json"]).arg(name).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output.stderr));
    assert_comparison(&fs::read(shelf.0.path().join(name)).unwrap());
}

#[test]
fn an_unwritable_folder_is_refused_before_the_window() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let path = folder.path().join("file/results");
    let bench = Bench::new("--in-memory --agents 5").smoke().env("CERTCTL_BENCH_OUTPUT", path.to_str().unwrap());
    let refused = bench.run().exits(1);
    assert!(refused.stderr.contains("results cannot be written to the folder "), "{}", refused.stderr);
    assert!(refused.stderr.contains(": Not a directory"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("measuring"), "{}", refused.stderr);
}

#[test]
fn an_unwritable_folder_has_a_matching_hint() {
    let folder = tempfile::tempdir().unwrap();
    for (path, hint) in [
        (Path::new("/dev/null").to_owned(), "name a folder: there is a file of that name"),
        (folder.path().join("x".repeat(300)), "a shorter name"),
        (Path::new("/proc/results").to_owned(), "a folder that this user can write"),
    ] {
        let error = certctl_bench::files::claim(&path).unwrap_err();
        assert!(error.hint().unwrap().contains(hint), "{error}");
    }
}

#[test]
fn a_folder_takes_one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let held = certctl_bench::files::claim(folder.path()).unwrap();
    let again = certctl_bench::files::claim(folder.path()).unwrap_err();
    assert!(again.what().contains("another run writes its results"), "{}", again.what());
    drop(held);
    certctl_bench::files::claim(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a probe leaves nothing");
}
