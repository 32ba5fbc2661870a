//! Load leaves this machine only if that is allowed, and no smoke run loads a system that happens to be in the
//! environment.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::common::bench::{Bench, clean};
use crate::common::peer::{Peer, TOKEN, certctl};
use crate::common::process::until;

const HINT: &str = "\nhint: add --allow-remote if you are allowed to load it (CERTCTL_BENCH_ALLOW_REMOTE=true)\n";

/// An address that is not assigned (RFC 5737): a run that were let through would reach nothing.
const NOBODY: &str = "192.0.2.1";

#[test]
fn remote_load_is_refused_before_anything_is_sent() {
    let target = format!("--bench --target https://{NOBODY}:8443");
    let mapped = format!("--bench --target https://[::ffff:{NOBODY}]:8443");
    let database = format!("--bench --database postgres://u:geheim@{NOBODY}/certctl");
    let both = format!("--bench --target https://127.0.0.1:1 --database postgres://u:geheim@{NOBODY}/certctl");
    let by_address = format!("--bench --database postgres://u:geheim@localhost/certctl?hostaddr={NOBODY}");
    let nginx = format!("--bench --nginx https://{NOBODY}");
    for (bench, arguments) in [
        ("agent_storm", target.as_str()),
        ("agent_storm", &mapped),
        ("agent_storm", &database),
        ("bulk_renewal", &both),
        ("agent_storm", &by_address),
        ("api_tier", &target),
        ("acme_flow", &target),
        ("acme_burst", &target),
        ("acme_enroll", &target),
        ("deploy_loop", &target),
        ("connector_tier", &nginx),
        // A smoke run too.
        ("agent_storm", target.trim_start_matches("--bench ")),
        ("connector_tier", nginx.trim_start_matches("--bench ")),
    ] {
        let refused = Bench::named(bench, arguments).refused(2);
        let is_refused =
            refused.stderr.contains(" is not on this machine's loopback") && refused.stderr.ends_with(HINT);
        assert!(is_refused, "{bench} {arguments}: {}", refused.stderr);
        assert!(refused.stderr.contains(NOBODY) && !refused.stderr.contains("geheim"), "{}", refused.stderr);
        assert_eq!((refused.stdout.as_str(), refused.json), ("", None));
    }
    let refused = Bench::new("--bench").env("CERTCTL_BASE", &format!("https://{NOBODY}:8443")).refused(2);
    assert!(refused.stderr.ends_with(HINT), "{}", refused.stderr);
}

#[test]
fn a_remote_database_is_not_seeded() {
    for flags in [&[][..], &["--reset"], &["--clean"]] {
        let mut seed = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
        let url = format!("postgres://u:geheim@{NOBODY}/certctl");
        let output = seed.args(["seed", "--database", &url]).args(flags).stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.ends_with(HINT) && !stderr.contains("geheim"), "{stderr}");
    }
}

#[test]
fn every_spelling_of_loopback_needs_no_permission() {
    for base in ["https://127.9.8.7:1", "https://[::ffff:127.0.0.1]:1", "https://localhost:1"] {
        let finished = Bench::new(&format!("--bench --target {base}")).refused(1);
        assert!(finished.stderr.contains(" is not reachable at "), "{}", finished.stderr);
    }
}

#[test]
fn allowed_remote_load_is_announced_and_can_be_cancelled() {
    let announcement = [
        "--allow-remote: load for another machine starts in 5 s; press Ctrl-C to cancel:".to_owned(),
        format!("  to https://{NOBODY}:8443 at {NOBODY}"),
        "  bulk_renewal, enqueue: 20.0 arrivals/s for up to 35 s over 7 connections".to_owned(),
    ];
    let arguments = format!("--target https://{NOBODY}:8443 --allow-remote --rate 20/s --warm-up 5s --duration 30s");
    // A machine may be too slow to stop the run within the five seconds.
    for _ in 0..50 {
        let mut bench = Bench::named("bulk_renewal", &arguments).arguments("--connections 7").measured();
        // In a network of its own, where nothing is reached, whatever the result of the test.
        // SAFETY: the closure makes one async-signal-safe system call and does not allocate.
        unsafe {
            bench.command.pre_exec(|| {
                // Without root the address is still not assigned.
                let _ = unshare_unsafe(UnshareFlags::NEWNET);
                Ok(())
            });
        }
        let mut running = bench.start();
        until("the load is announced", || running.ended().is_some() || running.stderr().contains(&announcement[2]));
        if running.ended().is_none() {
            running.signal(Signal::INT);
        }
        let finished = running.finish().exits(1);
        let messages = finished.messages();
        let lines: Vec<_> = messages.lines().collect();
        assert_eq!(lines[..3], announcement, "{}", finished.stderr);
        if lines[3..] == ["error: stopped before anything was measured"] {
            return;
        }
        assert!(finished.stderr.contains("is not reachable"), "{}", finished.stderr);
    }
    panic!("no machine is so slow");
}

/// Runs every bench target as `cargo test --all-targets` does, with the old and the new names exported.
#[test]
fn a_smoke_run_does_not_load_a_system_of_the_environment() {
    let requests = Arc::new(AtomicU64::new(0));
    let seen = requests.clone();
    let peer = Peer::start(move |request| {
        seen.fetch_add(1, Ordering::SeqCst);
        certctl(request)
    });
    // Nothing listens there: a run that used it would fail.
    let database = "postgres://u:p@127.0.0.1:1/certctl";
    let (base, ca_file) = (peer.base(), peer.ca_file());
    let of_certctl = ["CERTCTL_BASE", "CERTCTL_BENCH_TARGET"];
    let of_connectors = [
        "NGINX_TARGET_URL",
        "APACHE_TARGET_URL",
        "HAPROXY_TARGET_URL",
        "F5_TARGET_URL",
        "CERTCTL_BENCH_NGINX",
        "CERTCTL_BENCH_APACHE",
        "CERTCTL_BENCH_HAPROXY",
        "CERTCTL_BENCH_F5",
    ];
    for bench in [
        "agent_storm",
        "api_tier",
        "bulk_renewal",
        "acme_flow",
        "acme_burst",
        "acme_enroll",
        "connector_tier",
        "deploy_loop",
    ] {
        let in_memory = if bench == "connector_tier" { "" } else { "--in-memory" };
        let mut smoke = Bench::named(bench, in_memory).env("CERTCTL_BENCH_DATABASE", database);
        for name in of_certctl.iter().chain(&of_connectors) {
            smoke = smoke.env(name, &base);
        }
        smoke = smoke.env("CERTCTL_TOKEN", TOKEN).env("CERTCTL_ACME_DIRECTORY", &format!("{base}/acme/directory"));
        smoke.command.env("CERTCTL_CA_FILE", &ca_file).env("CERTCTL_BENCH_DIRECTORY", format!("{base}/directory"));
        let finished = smoke.smoke().run();
        let names = if bench == "connector_tier" { of_connectors[0] } else { of_certctl[0] };
        let ignored =
            finished.stderr.lines().find(|line| line.contains(" ignored: a smoke run uses a system that it starts"));
        assert!(ignored.is_some_and(|line| line.contains(names)), "{bench}: {}", finished.stderr);
        assert_eq!(requests.load(Ordering::SeqCst), 0, "{bench} loads what the environment names");
        // Where no daemon is installed nothing can be shown to work.
        assert!(matches!(finished.code, Some(0)) || bench == "connector_tier", "{bench}: {}", finished.stderr);
    }
    // The command line can name it.
    Bench::new("").smoke().towards_peer(&peer).run();
    assert!(requests.load(Ordering::SeqCst) > 0);
}
