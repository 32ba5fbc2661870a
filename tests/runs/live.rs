//! The view of a run from the front door: its page, its metrics, its lines, and the report that is left.

use std::fs::{create_dir, read_dir, read_to_string};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::common::bench::{Bench, Running};
use crate::common::peer::{Peer, certctl};
use crate::common::process::until;

/// Returns the address of a line `KEY http://ADDRESS/…` of the output.
fn address(running: &mut Running, key: &str) -> String {
    let mut found = None;
    until(&format!("the address of the {key} is printed"), || {
        assert!(running.ended().is_none(), "ended early: {}", running.stderr());
        let stdout = running.stdout();
        let line = stdout.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix("http://"));
        found = line.and_then(|line| line.split('/').next()).map(str::to_owned);
        found.is_some()
    });
    found.unwrap()
}

fn ask(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    stream
}

fn read_all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_run_is_shown_while_it_goes_on_and_leaves_a_report() {
    let peer = Peer::start(certctl);
    let arguments = "--agents 20 --rate 50/s --duration 2s --dashboard --metrics 127.0.0.1:0";
    let mut running = Bench::at(&peer, arguments).start();
    let dashboard = address(&mut running, "dashboard");
    let metrics = address(&mut running, "metrics");
    let events = ask(&dashboard, "/events");
    let page = read_all(ask(&dashboard, "/"));
    assert!(page.contains("<h1>agent_storm</h1>") && page.contains("page.js"), "{page}");
    running.wait_until_measuring();
    let scraped = read_all(ask(&metrics, "/metrics"));
    assert!(scraped.contains("certctl_bench_run_info{scenario=\"agent_storm\"} 1\n"), "{scraped}");
    // The events end with the run.
    let events = read_all(events);
    let folder = running.folder().to_owned();
    let stdout_file = folder.join("stdout");
    // The folder is gone with the run.
    let report = {
        until("the run ends", || running.ended().is_some());
        read_to_string(folder.join("results/report.html")).unwrap()
    };
    let stdout = read_to_string(stdout_file).unwrap();
    assert_eq!(stdout.lines().last(), Some(&*format!("report       {}", folder.join("results/report.html").display())));
    let (parts, last) = events.rsplit_once("event: report\ndata: ").unwrap();
    assert_eq!(serde_json::from_str::<String>(last.trim_end()).unwrap(), report);
    let errors = "limit of errors (0.1%)</li>";
    assert!(parts.contains(errors), "the threshold on errors is no line: {parts}");
    assert!(report.contains("Errors over time</figcaption>") && report.contains(errors), "{report}");
    for question in ["What was slow, and when", "Where the time went", "Who used the machine"] {
        assert!(report.contains(&format!("<h3>{question}</h3>")), "{question}: {report}");
    }
    running.finish().worked();
}

#[test]
fn a_run_without_a_report_ends_with_its_results() {
    let peer = Peer::start(certctl);
    let mut running = Bench::at(&peer, "--agents 20 --rate 50/s --duration 5s").start();
    running.wait_until_measuring();
    let results = running.folder().join("results");
    create_dir(results.join("report.html")).unwrap();
    let done = running.finish().worked();
    assert!(done.stderr.contains("warning: there is no report: writing "), "{}", done.stderr);
    let last = format!("results      {}", results.join("summary.json").display());
    assert_eq!(done.stdout.lines().last(), Some(&*last));
}

/// Returns the CPU time that a process's thread of this name has used, in ticks of 10 ms.
fn ticks(pid: u32, thread: &str) -> u64 {
    let tasks = read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let task = tasks.filter(|task| read_to_string(task.join("comm")).is_ok_and(|name| name.trim_end() == thread));
    let stat = read_to_string(task.last().expect("the thread").join("stat")).unwrap();
    // The numbers after the name: utime and stime are the twelfth and the thirteenth.
    let numbers: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    numbers[11].parse::<u64>().unwrap() + numbers[12].parse::<u64>().unwrap()
}

#[test]
fn a_page_without_descriptors_waits_and_does_not_spin() {
    let peer = Peer::start(certctl);
    let mut running = Bench::at(&peer, "--agents 20 --rate 50/s --duration 5m --dashboard").start();
    let dashboard = address(&mut running, "dashboard");
    running.wait_until_measuring();
    let pid = running.pid();
    let set = |limit| prlimit(Pid::from_raw(pid as i32), Resource::Nofile, limit).unwrap();
    let open: Vec<_> = read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let free = (0..).find(|number: &u64| !open.iter().any(|name| *name == *number.to_string())).unwrap();
    let before = set(Rlimit { current: Some(free), ..getrlimit(Resource::Nofile) });
    // More clients than descriptors that a file, closed since then, may have left: the others stay in the queue.
    let waiting: Vec<_> = (0..12).map(|_| ask(&dashboard, "/events")).collect();
    let seconds = |running: &Running| running.stderr().matches("\nmeasuring ").count();
    let (begun, used) = (seconds(&running), ticks(pid, "live"));
    let started = std::time::Instant::now();
    until("three more seconds are measured", || seconds(&running) >= begun + 3);
    let (used, elapsed) = (ticks(pid, "live") - used, started.elapsed().as_millis() as u64 / 10);
    // One that spins takes nearly all of a processor that is free; one that waits, hardly anything.
    assert!(used * 2 < elapsed, "{used} of {elapsed} ticks");
    // Once there are descriptors again, they are served.
    set(before);
    for mut one in waiting {
        one.read_exact(&mut [0; 15]).unwrap();
    }
    running.signal(Signal::INT);
    running.finish();
}

#[test]
fn a_wide_table_keeps_its_columns() {
    let peer = Peer::start(certctl);
    let arguments = "--agents 20 --rate-profile ramp:40.125/s-60.875/s --duration 2s";
    let mut running = Bench::at(&peer, arguments).start();
    until("the run ends", || running.ended().is_some());
    let text = read_to_string(running.folder().join("results/summary.txt")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    // Words of a row that would not fit have a line of their own, and its numbers stand below their header.
    let header = lines.iter().position(|line| line.starts_with("window, s ")).expect("a header");
    for row in lines[header + 1..header + 11].chunks_exact(2) {
        assert!(row[0].contains(" to ") && row[0].split_whitespace().count() == 6, "{text}");
        assert_eq!(row[1].split_whitespace().count(), 7, "{text}");
        assert_eq!(row[1].chars().count(), lines[header].chars().count(), "{text}");
    }
}

#[test]
fn a_second_run_is_compared_with_the_first() {
    let peer = Peer::start(certctl);
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let bench = Bench::at(&peer, "--agents 20 --rate 50/s --duration 1s");
        let done = bench.env("CERTCTL_BENCH_OUTPUT", folder.path().to_str().unwrap()).run();
        assert!(matches!(done.code, Some(0 | 5)), "{} {}", done.stderr, done.stdout);
        read_to_string(folder.path().join("report.html")).unwrap()
    };
    assert!(!run().contains("Compared with"), "there is none before");
    let second = run();
    assert!(second.contains("<h3>Compared with</h3>"), "{second}");
    assert!(folder.path().join("previous-report.html").exists());
}

#[test]
fn a_log_has_a_line_each_second() {
    let peer = Peer::start(certctl);
    let done = Bench::at(&peer, "--agents 20 --rate 50/s --duration 3s").run().worked();
    let lines: Vec<_> = done.stderr.lines().filter(|line| line.starts_with("measuring  ")).collect();
    // However late a second is read, there is one at the beginning of the window, or after it.
    assert!(!lines.is_empty() && lines.len() <= 4, "{}", done.stderr);
    assert!(lines[0].contains("of 3 s") && lines[0].contains("answers/s, p50 "), "{}", lines[0]);
    assert!(!done.stderr.contains('\u{1b}'), "no colours in a log: {}", done.stderr);
}

#[test]
fn addresses_that_cannot_be_served_are_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (arguments, code, words) in [
        (format!("--dashboard {taken}"), 1, "listening for the page of the run (--dashboard)"),
        (format!("--metrics {taken}"), 1, "listening for metrics (--metrics)"),
        ("--dashboard 10.0.0.1:80".to_owned(), 2, "give a loopback address"),
        ("--dashboard here".to_owned(), 2, "write it as 127.0.0.1:5665"),
        ("--metrics here".to_owned(), 2, "invalid"),
    ] {
        let refused = Bench::new(&arguments).measured().refused(code);
        assert!(refused.stderr.contains(words), "{arguments}: {}", refused.stderr);
    }
}

#[test]
fn a_summary_fits_eighty_columns_and_answers_first() {
    let peer = Peer::start(certctl);
    let mut running = Bench::at(&peer, "--agents 20 --rate 50/s --duration 1s").start();
    until("the run ends", || running.ended().is_some());
    let text = read_to_string(running.folder().join("results/summary.txt")).unwrap();
    let printed = running.stdout();
    for line in text.lines().chain(printed.lines().filter(|line| !line.contains('/'))) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what}: {text}"));
    assert!(at("\nverdict ") < at("\nthreshold ") && at("\nthreshold ") < at("\nresponse time"), "{text}");
}

#[test]
fn the_report_is_opened_in_the_users_browser() {
    let peer = Peer::start(certctl);
    let folder = tempfile::tempdir().unwrap();
    let (browser, opened) = (folder.path().join("browser"), folder.path().join("opened"));
    crate::common::process::write_script(&browser, &format!("#!/bin/sh\necho \"$1\" >{}\n", opened.display()));
    let bench = Bench::at(&peer, "--agents 20 --rate 50/s --duration 1s --open");
    let results = bench.folder().join("results/report.html");
    bench.env("BROWSER", browser.to_str().unwrap()).run().worked();
    until("the browser is started", || {
        read_to_string(&opened).is_ok_and(|text| text.trim_end() == results.display().to_string())
    });
    // Without one the run is none the worse.
    let bench = Bench::at(&peer, "--agents 20 --rate 50/s --duration 1s --open");
    let done = bench.env("BROWSER", "/nonexistent/browser").run().worked();
    assert!(done.stderr.contains("warning: opening ") && done.stderr.contains("set BROWSER"), "{}", done.stderr);
}
