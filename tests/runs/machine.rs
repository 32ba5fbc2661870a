//! CPU use of the machine while a run was measured, and the machine's limits: from the front door.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::bench::{Bench, program};
use crate::common::needs::needs;
use crate::common::process::write_script;
use crate::common::summary::{assert_schema, reasons};
use crate::common::turn::Turn;
use certctl_bench::provision::postgres::{Cluster, find};
use rustix::process::{Gid, Resource, Rlimit, Uid, geteuid, setrlimit};
use rustix::thread::{set_thread_gid, set_thread_uid};
use serde_json::Value;

/// A short run that waits for no database.
const SHORT: &str = "--in-memory --duration 2s --warm-up 1s --agents 50 --rate 100/s";

/// Processes that use all the CPU that they get, under a name of their own, while no other workload runs.
struct Neighbours {
    loops: Vec<Child>,
    _folder: tempfile::TempDir,
    _turn: Turn,
}

impl Neighbours {
    /// Enough of them to fill the machine, and to be among the three that use most beside a dozen other busy processes.
    fn start() -> Self {
        let turn = Turn::take_alone();
        let count = 2 * std::thread::available_parallelism().unwrap().get() + 12;
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("<b>neighbour");
        // Ends by itself in case nothing else ends it.
        let text = "end=$(($(date +%s) + 120))\nwhile [ $(date +%s) -lt $end ]; do\n\
                    n=0; while [ $n -lt 500000 ]; do n=$((n + 1)); done\ndone";
        write_script(&script, text);
        let start = |_| Command::new(&script).stdin(Stdio::null()).spawn().unwrap();
        Self { loops: (0..count).map(start).collect(), _folder: folder, _turn: turn }
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for one in &mut self.loops {
            let _ = one.kill();
            let _ = one.wait();
        }
    }
}

fn used(summary: &Value) -> &Value {
    assert_schema(summary);
    let all = summary["machine_use"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    &all[0]
}

#[test]
fn a_run_reports_the_cpu_use_of_the_machine() {
    needs!(Postgresql);
    let finished = Bench::new("--duration 4s --warm-up 1s --agents 50 --rate 100/s").measured().run();
    let summary = finished.summary();
    let used = used(&summary);
    let mean = |name: &str| used["mean"][name].as_f64().unwrap_or_else(|| panic!("{name}: {used}"));
    assert!(mean("generator") > 0.0 && mean("system") > 0.0 && mean("postgresql") > 0.0, "{used}");
    assert!(used["system_is"].as_str().unwrap().starts_with("certctl-referen (pid "), "{used}");
    assert!(used["postgresql_is"].as_str().unwrap().starts_with("postgres (pid "), "{used}");
    assert!(used["measured_s"].as_f64().unwrap() > 0.0 && used["taken_share"].is_f64(), "{used}");
    let samples = used["timeline"].as_array().unwrap();
    let at: Vec<f64> = samples.iter().map(|sample| sample["at_s"].as_f64().unwrap()).collect();
    assert!(at.is_sorted() && at.iter().any(|at| *at >= 0.0), "{used}");
    // All shares together are the whole.
    let all =
        ["generator", "system", "postgresql", "others", "interrupts", "steal", "idle"].map(mean).iter().sum::<f64>();
    assert!(all > used["cpus"].as_f64().unwrap() * 0.9, "{used}");
    for row in ["machine use  of ", "others and steal took "] {
        assert!(finished.stdout.contains(row) && finished.text.as_ref().unwrap().contains(row), "{}", finished.stdout);
    }
}

#[test]
fn a_foreign_postgresql_counts_among_the_others() {
    needs!(Postgresql);
    let _neighbour = Cluster::start(&find().unwrap(), &[]).unwrap();
    let summary = Bench::new(SHORT).measured().run().summary();
    let used = used(&summary);
    assert_eq!(
        (&used["postgresql_is"], used["mean"]["postgresql"].as_f64()),
        (&"none seen on this machine".into(), None)
    );
}

#[test]
fn cpu_use_of_other_processes_invalidates_a_run() {
    let _neighbours = Neighbours::start();
    let bench = Bench::new(SHORT).measured().env("CERTCTL_BENCH_MAX_OTHER_CPU", "0%");
    let finished = bench.run().invalid_or_breached();
    let summary = finished.summary();
    let found = used(&summary);
    let top: Vec<&str> =
        found["top_others"].as_array().unwrap().iter().map(|other| other["name"].as_str().unwrap()).collect();
    assert!(top.contains(&"<b>neighbour"), "{top:?}");
    let reasons = reasons(&summary);
    assert!(reasons.contains("% of the CPU that the run left free (bound 0%)"), "{reasons}");
    // The use is reported, and not judged where judgement is switched off.
    let finished = Bench::new(SHORT).measured().run();
    assert_eq!(used(&finished.summary())["doubtful"], Value::Null);
}

#[test]
fn a_process_name_is_escaped_in_reports() {
    let _neighbours = Neighbours::start();
    let bench = Bench::new(SHORT).measured().env("CERTCTL_BENCH_MAX_OTHER_CPU", "0%");
    let folder = bench.folder().to_owned();
    let mut running = bench.start();
    while running.ended().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let report = |format: &str| {
        let (mut command, file) = (Command::new(env!("CARGO_BIN_EXE_certctl-bench")), folder.join(format));
        command.args(["report", "--format", format, "--output"]).arg(&file).arg(folder.join("results"));
        assert!(command.status().unwrap().success());
        fs::read_to_string(file).unwrap()
    };
    for text in [report("html"), report("markdown")] {
        assert!(!text.contains("<b>neighbour") && text.contains("&lt;b&gt;neighbour"), "{text}");
    }
    assert!(report("html").contains("Use of the machine") && report("html").contains(">others</li>"));
}

/// A control group of version 1 or 2 with these limits, where this kernel and user allow one.
struct Group {
    folders: Vec<PathBuf>,
}

impl Group {
    fn make(limits: &[(&str, &str, &str)]) -> Option<Self> {
        let mut group = Self { folders: Vec::new() };
        for (controller, file, value) in limits {
            let roots = [PathBuf::from("/sys/fs/cgroup").join(controller), PathBuf::from("/sys/fs/cgroup")];
            let name = format!("certctl-bench-test-{}", std::process::id());
            let folder = roots.iter().map(|root| root.join(&name)).find(|folder| {
                let made = folder.parent().is_some_and(|root| root.join("cgroup.procs").exists());
                made && (fs::create_dir(folder).is_ok() || folder.exists()) && folder.join(file).exists()
            })?;
            if !group.folders.contains(&folder) {
                group.folders.push(folder.clone());
            }
            fs::write(folder.join(file), value).ok()?;
        }
        Some(group)
    }

    /// Makes the program start within the group.
    fn hold(&self, command: &mut Command) {
        let files: Vec<_> = self.folders.iter().map(|folder| folder.join("cgroup.procs")).collect();
        // SAFETY: the child is single-threaded between fork and exec here, and only writes its number to files.
        unsafe {
            command.pre_exec(move || files.iter().try_for_each(|file| fs::write(file, "0")));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Processes that have just ended may hold it for a moment.
            for _ in 0..100 {
                if fs::remove_dir(folder).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

#[test]
fn cgroup_limits_are_named_and_invalidate_a_run() {
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    // A fifth of a processor, and used up by a single stretch of a millisecond: beside whatever neighbours.
    let limits: &[_] = match v2 {
        true => &[("cpu", "cpu.max", "1000 5000"), ("memory", "memory.max", "1073741824")],
        false => &[
            ("cpu", "cpu.cfs_quota_us", "1000"),
            ("cpu", "cpu.cfs_period_us", "5000"),
            ("memory", "memory.limit_in_bytes", "1073741824"),
        ],
    };
    let Some(group) = Group::make(limits) else {
        needs!(else "no control group with a CPU quota can be made here");
    };
    let mut bench = Bench::new("--in-memory --duration 2s --warm-up 0s --agents 20 --rate 1000/s").measured();
    bench.command.env("CERTCTL_BENCH_MAX_OTHER_CPU", "99%");
    group.hold(&mut bench.command);
    let finished = bench.run();
    let summary = finished.summary();
    assert!(finished.stdout.contains("1.0 GiB (limit of the control group), CPU quota 0.20"), "{}", finished.stdout);
    assert_eq!(
        (&summary["machine"]["cpu_quota"], &summary["machine"]["memory_bytes"]),
        (&0.2.into(), &(1u64 << 30).into())
    );
    let used = used(&summary);
    assert_eq!(used["cpu_quota"], 0.2);
    assert!(used["throttled"].as_u64() > Some(0) && used["stopped_s"].as_f64() > Some(0.0), "{used}");
    let reasons = reasons(&summary);
    assert!(reasons.contains("the CPU quota of the control group stopped"), "{reasons}");
}

#[test]
fn a_thread_limit_is_named_without_a_panic() {
    for target in ["agent_storm", "handshake"] {
        let mut command = Command::new(program(target));
        command.args(["--bench", "--mode", "sustained"].iter().take(if target == "handshake" { 1 } else { 3 }));
        command.env("CERTCTL_BENCH_OUTPUT", "/nonexistent").stdin(Stdio::null());
        // SAFETY: plain system calls between fork and exec. Limits do not bind root, so it becomes a user that runs
        // nothing else.
        unsafe {
            command.pre_exec(|| {
                if geteuid().is_root() {
                    const NOBODYS: u32 = 64_321;
                    set_thread_gid(Gid::from_raw(NOBODYS))?;
                    set_thread_uid(Uid::from_raw(NOBODYS))?;
                }
                Ok(setrlimit(Resource::Nproc, Rlimit { current: Some(1), maximum: Some(1) })?)
            });
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("(RLIMIT_NPROC): 1") && text.contains("ulimit -u") && !text.contains("panicked"),
            "{text}"
        );
    }
}
