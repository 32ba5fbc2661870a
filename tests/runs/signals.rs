//! Signals: a run may be stopped at any moment. It ends soon, with its measurements on disk, and leaves nothing behind.
//!
//! In every case here the stage would last for minutes by itself, so that the signal ends it however fast the machine
//! is.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::common::bench::{Bench, Finished, Running};
use crate::common::needs::needs;
use crate::common::peer::{Peer, Request, Step, answer, certctl};
use crate::common::process::{descendants, until, write_script};
use crate::common::summary::{reasons, results};
use certctl_bench::provision::postgres::find;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::Signal;

/// The signals that end a run.
const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// A fleet of two, so that connections are opened at once.
const LITTLE: &str = "--agents 2 --rate 20/s --max-lag 2s";

/// Waits until `reached`, sends the signal, and asserts that the run ends with nothing left of it.
#[track_caller]
fn stop(mut running: Running, signal: Signal, stage: &str, reached: impl Fn(&Running) -> bool) -> Finished {
    until(stage, || {
        assert!(running.ended().is_none(), "{stage}: ended early: {}", running.stderr());
        reached(&running)
    });
    let (pid, started) = (running.pid(), descendants(running.pid()));
    running.signal(signal);
    until(&format!("{stage}: {signal:?} ends the run"), || running.ended().is_some());
    until(&format!("{stage}: everything that was started is gone"), || !started.iter().any(|process| process.runs()));
    until(&format!("{stage}: temporary folders are gone"), || folders_of(pid).is_empty());
    running.finish()
}

/// Returns the temporary folders of a run.
fn folders_of(pid: u32) -> Vec<PathBuf> {
    let of_run = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("certctl-bench-") && name.contains(&format!("-{pid}-"))
    };
    let entries = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    entries.map(|entry| entry.path()).filter(of_run).collect()
}

/// Asserts that every signal ends a run that has measured nothing, in this stage.
#[track_caller]
fn ends_with_nothing(stage: &str, start: impl Fn() -> Running, reached: impl Fn(&Running) -> bool) {
    for signal in SIGNALS {
        let finished = stop(start(), signal, stage, &reached).exits(1);
        assert!(
            finished.stderr.contains("stopped before anything was measured")
                || finished.stderr.contains("nothing was measured"),
            "{stage}: {}",
            finished.stderr
        );
        assert_eq!((finished.json, finished.text), (None, None), "{stage}");
    }
    assert_eq!(stop(start(), Signal::KILL, stage, &reached).signal, Some(Signal::KILL.as_raw()));
}

/// Asserts that every signal ends a run that has measured something, and that this is on disk.
#[track_caller]
fn ends_with_a_part(stage: &str, start: impl Fn() -> Running, reached: impl Fn(&Running) -> bool) {
    for signal in SIGNALS {
        let finished = stop(start(), signal, stage, &reached).exits(5);
        let summary = finished.summary();
        assert!(reasons(&summary).contains("stopped"), "{stage}: {}", reasons(&summary));
        assert_eq!(results(&summary)["arrivals"]["partial"], true, "{stage}");
        assert!(finished.text.is_some() && finished.stdout.contains("PARTIAL"), "{stage}: {}", finished.stdout);
    }
    let killed = stop(start(), Signal::KILL, stage, &reached);
    assert_eq!((killed.signal, killed.json), (Some(Signal::KILL.as_raw()), None));
}

fn stderr_contains(what: &'static str) -> impl Fn(&Running) -> bool {
    move |running| running.stderr().contains(what)
}

/// Returns a peer that falls silent on requests that fit, and the number of those that it has had.
fn mute(fits: impl Fn(&Request) -> bool + Send + Sync + 'static) -> (Peer, Arc<AtomicU64>) {
    let requests = Arc::new(AtomicU64::new(0));
    let seen = requests.clone();
    let peer = Peer::start(move |request| {
        if fits(request) {
            seen.fetch_add(1, Ordering::SeqCst);
            return vec![Step::Silence];
        }
        certctl(request)
    });
    (peer, requests)
}

/// Makes a folder of PostgreSQL's programs, with an `initdb` that never ends.
fn installation(folder: &Path) -> String {
    let bin = find().expect("PostgreSQL").bin;
    for entry in fs::read_dir(bin).unwrap().flatten().filter(|entry| entry.file_name() != "initdb") {
        symlink(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    write_script(&folder.join("initdb"), "exec sleep 600");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn a_signal_ends_the_start_of_a_private_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    let bin = installation(folder.path());
    let start = || Bench::new(LITTLE).measured().env("CERTCTL_BENCH_PG_BIN", &bin).start_without_load();
    ends_with_nothing("initdb", start, |running| {
        descendants(running.pid()).iter().any(|process| process.name.starts_with("sleep"))
    });
}

#[test]
fn a_signal_ends_the_preflight() {
    let (peer, requests) = mute(|request| request.path == "/health");
    let before = AtomicU64::new(0);
    let start = || {
        before.store(requests.load(Ordering::SeqCst), Ordering::SeqCst);
        Bench::at(&peer, LITTLE).start_without_load()
    };
    ends_with_nothing("preflight", start, |_| requests.load(Ordering::SeqCst) > before.load(Ordering::SeqCst));
}

#[test]
fn a_signal_ends_a_criterion_loop() {
    let heartbeats = Arc::new(AtomicU64::new(0));
    let seen = heartbeats.clone();
    let peer = Peer::start(move |request| {
        if request.is_heartbeat() {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        certctl(request)
    });
    let before = AtomicU64::new(0);
    let start = || {
        before.store(heartbeats.load(Ordering::SeqCst), Ordering::SeqCst);
        Bench::new(&format!("{LITTLE} --bench --measurement-time 600")).towards_peer(&peer).start()
    };
    // A heartbeat of the run before may be counted late.
    let loops = |running: &Running| {
        running.stdout().contains("Criterion: ") && heartbeats.load(Ordering::SeqCst) > before.load(Ordering::SeqCst)
    };
    ends_with_nothing("Criterion's loop", start, loops);
}

#[test]
fn a_signal_ends_the_opening_of_connections() {
    let peer = Peer::start(certctl);
    let start = || Bench::at(&peer, "--agents 600 --rate 20/s --connect-rate 1/s").start_without_load();
    ends_with_nothing("opening", start, stderr_contains("opening "));
}

#[test]
fn a_signal_ends_the_opening_to_a_silent_peer() {
    // The preflight's last request is for an agent; after that there are no more answers.
    let (silent, greetings) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (falls, greeted) = (silent.clone(), greetings.clone());
    let peer = Peer::start(move |request| {
        if falls.load(Ordering::SeqCst) {
            greeted.fetch_add(1, Ordering::SeqCst);
            return vec![Step::Silence];
        }
        falls.fetch_or(request.path.ends_with("00002/heartbeat"), Ordering::SeqCst);
        certctl(request)
    });
    let start = || {
        silent.store(false, Ordering::SeqCst);
        greetings.store(0, Ordering::SeqCst);
        Bench::at(&peer, &format!("{LITTLE} --timeout 10m")).start_without_load()
    };
    ends_with_nothing("opening, silence", start, |_| greetings.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_signal_ends_the_warm_up() {
    let peer = Peer::start(certctl);
    let start = || Bench::at(&peer, &format!("{LITTLE} --warm-up 10m")).start();
    ends_with_a_part("warm-up", start, stderr_contains("warm-up "));
}

#[test]
fn a_signal_ends_the_window() {
    let peer = Peer::start(certctl);
    let start = || Bench::at(&peer, &format!("{LITTLE} --warm-up 0s --duration 10m")).start();
    ends_with_a_part("window", start, stderr_contains("measuring "));
}

#[test]
fn a_signal_ends_the_drain() {
    let (peer, _) = mute(Request::is_heartbeat);
    let start = || Bench::at(&peer, &format!("{LITTLE} --warm-up 0s --duration 500ms --timeout 10m")).start();
    ends_with_a_part("drain", start, stderr_contains("draining "));
}

/// The measurements are written, and the system's silence is reported beside them.
#[test]
fn a_signal_ends_the_wait_for_evidence() {
    let cluster = certctl_bench::provision::postgres::Cluster::start(&find().expect("PostgreSQL"), &[]).unwrap();
    cluster.create_database("certctl").unwrap();
    let url = cluster.url("certctl");
    Bench::new("").smoke().database(&url).run().exits(0);
    for signal in SIGNALS {
        // The second reading of the metrics comes after the window.
        let readings = Arc::new(AtomicU64::new(0));
        let seen = readings.clone();
        let peer = Peer::start(move |request| match request.path.as_str() {
            "/api/v1/metrics/prometheus" if seen.fetch_add(1, Ordering::SeqCst) == 1 => vec![Step::Silence],
            "/api/v1/metrics/prometheus" => answer(200, "text/plain", "certctl_uptime_seconds 1800\n"),
            // No side effect that the database would have to show.
            _ if request.is_heartbeat() => answer(503, "text/plain", "busy"),
            _ => certctl(request),
        });
        let arguments = format!("{LITTLE} --warm-up 0s --duration 500ms");
        let running = Bench::at(&peer, &arguments).database(&url).start();
        let finished = stop(running, signal, "evidence", |_| readings.load(Ordering::SeqCst) == 2).exits(3);
        let summary = finished.summary();
        assert_eq!(results(&summary)["arrivals"]["scheduled"], 10);
        let metrics = summary["evidence"][0]["metrics"].to_string();
        assert!(metrics.contains("no complete answer when the run was stopped"), "{metrics}");
    }
}

/// Everything is on disk by then, and the output is not read.
#[test]
fn a_signal_ends_a_blocked_report() {
    let peer = Peer::start(certctl);
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    assert_eq!(fcntl_setpipe_size(&writer, 4_096), Ok(4_096));
    // All but a few bytes are taken.
    writer.write_all(&[b' '; 4_000]).unwrap();
    let mut bench = Bench::at(&peer, &format!("{LITTLE} --warm-up 0s --duration 500ms"));
    bench.command.stdout(writer.try_clone().unwrap());
    let running = bench.start();
    drop(writer);
    // It blocks when it prints its heading, or at the end.
    let finished = stop(running, Signal::TERM, "report", |running| {
        let blocked = fs::read_to_string(format!("/proc/{}/wchan", running.pid())).unwrap_or_default();
        blocked.contains("pipe")
    });
    assert!(matches!(finished.code, Some(1 | 5)), "{:?}: {}", finished.code, finished.stderr);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).unwrap();
    assert!(printed.len() <= 4_096);
}

/// A run that is started by `nohup` is to outlive the terminal.
#[test]
fn a_run_that_ignores_hangups_continues() {
    let peer = Peer::start(certctl);
    let mut bench = Bench::at(&peer, &format!("{LITTLE} --warm-up 0s --duration 10m"));
    // SAFETY: the closure makes one async-signal-safe system call and does not allocate.
    unsafe {
        bench.command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut running = bench.start();
    running.wait_until_measuring();
    running.signal(Signal::HUP);
    // It has had time to act on the signal.
    let heartbeats = peer.connections();
    std::thread::sleep(Duration::from_millis(200));
    assert!(running.ended().is_none() && peer.connections() == heartbeats, "{}", running.stderr());
    let finished = stop(running, Signal::INT, "window", |_| true).exits(5);
    assert!(reasons(&finished.summary()).contains("stopped"));
}

#[test]
fn inherited_signal_settings_have_no_effect() {
    needs!(Postgresql);
    let mut bench = Bench::new(&format!("{LITTLE} --warm-up 0s --duration 10m")).measured();
    // SAFETY: the closure makes async-signal-safe calls and does not allocate.
    unsafe {
        bench.command.pre_exec(|| {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            Ok(())
        });
    }
    let mut running = bench.start();
    running.wait_until_measuring();
    let summary = stop(running, Signal::TERM, "window", |_| true).exits(5).summary();
    assert!(reasons(&summary).contains("stopped"));
    assert_eq!(summary["system"]["store"]["kind"], "postgresql", "{}", summary["system"]);
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    for first in [Signal::HUP, Signal::INT] {
        let peer = Peer::start(certctl);
        let mut running = Bench::at(&peer, &format!("{LITTLE} --warm-up 0s --duration 10m")).start();
        running.wait_until_measuring();
        running.interrupt_twice(first);
    }
}
