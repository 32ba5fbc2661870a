//! Waits that have an end: locks that are never released, servers that are stopped, and nothing that outlives a run.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use certctl_bench::provision::postgres::Cluster;
use certctl_bench::seed::{self, SeedOptions};
use postgres::{Client, NoTls};
use rustix::process::Signal;
use serde_json::Value;

use super::sessions::{output_of, program};
use crate::common::bench::{Bench, Running};
use crate::common::needs::needs;
use crate::common::postgresql::{migrated, newest};
use crate::common::process::{send, until};
use crate::common::summary::{reasons, results};

/// A workload that is over soon. Its schedule lag is not the subject of these tests.
const LOAD: &str = "--bench --mode sustained --agents 20 --connections 5 --rate 20/s --duration 3s --warm-up 0s \
                    --max-lag 1900ms --timeout 2s";

/// Starts a run on a private PostgreSQL of its own; returns it once it measures, with its server processes.
fn measuring() -> (Running, Vec<u32>) {
    let mut bench = Bench::new(LOAD);
    bench.command.env("CERTCTL_BENCH_PG_BIN", newest().unwrap().bin);
    let mut running = bench.start();
    running.wait_until_measuring();
    let servers = running.started(&["postgres"]);
    let pids = servers.iter().filter(|process| process.name.starts_with("postgres"));
    (running, pids.map(|process| process.pid).collect())
}

/// Sends a signal to processes that the test started.
fn signal(pids: &[u32], signal: Signal) {
    for &pid in pids {
        send(pid, signal);
    }
}

#[test]
fn a_frozen_database_costs_no_measurement() {
    let Ok(_) = newest() else { needs!(else &newest().unwrap_err()) };
    let (mut running, servers) = measuring();
    signal(&servers, Signal::STOP);
    // On disk while the database does not answer yet.
    running.wait_until_measured();
    let summary = running.folder().join("results/summary.json");
    let kept: Value = serde_json::from_str(&fs::read_to_string(&summary).unwrap()).unwrap();
    assert!(reasons(&kept).contains("the run ended before the database had answered"), "{}", reasons(&kept));
    assert_eq!(results(&kept)["arrivals"]["scheduled"], 60);
    let finished = running.finish();
    let reasons = reasons(&finished.summary());
    assert!(
        reasons.contains("could not be counted") && reasons.contains("the server did not answer within "),
        "{reasons}"
    );
    assert!(matches!(finished.code, Some(3 | 5)), "{finished:?}");
    assert!(finished.stdout.contains("not checked: see why the run is invalid"), "{}", finished.stdout);
}

#[test]
fn a_signal_ends_a_run_with_a_frozen_database() {
    let Ok(_) = newest() else { needs!(else &newest().unwrap_err()) };
    let (mut running, servers) = measuring();
    signal(&servers, Signal::STOP);
    running.wait_until_measured();
    running.signal(Signal::INT);
    let finished = running.finish();
    assert!(finished.signal.is_none() && matches!(finished.code, Some(3 | 5)), "{finished:?}");
    let reasons = reasons(&finished.summary());
    assert!(reasons.contains("could not be counted: "), "{reasons}");
}

/// Returns a session that locks a table and never releases it.
fn forgetful(url: &str, table: &str) -> Client {
    let mut holder = Client::connect(&format!("{url}&application_name=forgetful"), NoTls).unwrap();
    holder.batch_execute(&format!("BEGIN; LOCK TABLE {table} /* 'a secret' */")).unwrap();
    holder
}

#[test]
fn the_holder_of_a_lock_is_named() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let (_cluster, url) = migrated(&installation, &[]);
    seed::apply(&url, &SeedOptions::default(), &mut Vec::new()).unwrap();
    let mut holder = forgetful(&url, "agents");
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    let (code, text) = output_of(&mut program(&["seed", "--reset", "--database", &url]));
    let who = format!("for a lock held by pid {pid} (application forgetful, user postgres, idle in transaction, ");
    assert!(code == Some(1) && text.contains(&who) && !text.contains("secret"), "{text}");
}

#[test]
fn a_lock_during_the_window_costs_no_measurement() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let cluster = Cluster::start(&installation, &[]).unwrap();
    cluster.create_database("certctl").unwrap();
    let url = cluster.url("certctl");
    let mut running = Bench::new(LOAD).env("CERTCTL_BENCH_DATABASE", &url).start();
    running.wait_until_measuring();
    let _holder = forgetful(&url, "audit_events");
    running.wait_until_measured();
    let finished = running.finish();
    let reasons = reasons(&finished.summary());
    assert!(reasons.contains("for a lock held by pid ") && reasons.contains("(application forgetful, "), "{reasons}");
    assert!(matches!(finished.code, Some(3 | 5)), "{finished:?}");
}

#[test]
fn a_signal_ends_the_wait_for_a_lock() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let cluster = Cluster::start(&installation, &[]).unwrap();
    cluster.create_database("certctl").unwrap();
    let url = cluster.url("certctl");
    // The run makes the tables, so that a lock on one can be held.
    Bench::new(&format!("{LOAD} --duration 1s")).env("CERTCTL_BENCH_DATABASE", &url).run();
    let _holder = forgetful(&url, "agents");
    // Another session: within a transaction, activity is that of its first query.
    let mut observer = Client::connect(&url, NoTls).unwrap();
    let mut running = Bench::new(LOAD).env("CERTCTL_BENCH_DATABASE", &url).start();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE application_name LIKE 'certctl-bench %' AND wait_event_type = 'Lock'";
    until("it waits for the lock", || observer.query_one(sql, &[]).unwrap().get::<_, i64>(0) > 0);
    running.signal(Signal::INT);
    let finished = running.finish();
    assert!(finished.code == Some(1) && finished.stderr.contains("stopped "), "{finished:?}");
    assert_eq!(finished.json, None);
}

#[test]
fn a_silent_listener_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for sslmode in ["disable", "require"] {
        let url = format!("postgres://u:p@127.0.0.1:{port}/d?connect_timeout=1&sslmode={sslmode}");
        let (code, text) = output_of(&mut program(&["seed", "--database", &url]));
        assert!(code == Some(1) && text.contains("the server did not answer within 1 s"), "{text}");
        assert!(text.contains("check that host and port are PostgreSQL's"), "{text}");
    }
}

/// Counts the System V segments of a creator.
fn segments(creator: u32) -> usize {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    table.lines().skip(1).filter(|line| line.split_whitespace().nth(4) == Some(&creator.to_string())).count()
}

#[test]
fn a_killed_postmaster_leaves_no_shared_memory() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let cluster = Cluster::start(&installation, &[]).unwrap();
    let (pid, folder) = (cluster.pid().unwrap(), cluster.folder().to_owned());
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let files: BTreeSet<&str> = maps.lines().filter_map(|line| line.find("/dev/shm").map(|at| &line[at..])).collect();
    assert_eq!(files, BTreeSet::new());
    assert_eq!(segments(pid), 1);
    // It still serves, and starts itself anew when one of its processes is killed.
    let mut session = Client::connect(&cluster.url("postgres"), NoTls).unwrap();
    assert_eq!(session.query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0), 1);
    signal(&[pid], Signal::KILL);
    until("the segment is gone", || segments(pid) == 0);
    drop(cluster);
    assert!(!folder.exists());
}

#[test]
fn a_frozen_cluster_is_stopped() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let mut cluster = Cluster::start(&installation, &[]).unwrap();
    let (pid, folder) = (cluster.pid().unwrap(), cluster.folder().to_owned());
    let mut family: Vec<u32> = crate::common::process::descendants(pid).iter().map(|process| process.pid).collect();
    family.push(pid);
    signal(&family, Signal::STOP);
    cluster.stop().unwrap();
    assert!(!folder.exists() && segments(pid) == 0);
}
