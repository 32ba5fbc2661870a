//! Standard output and error without a reader, or on a full disk.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::bench::program;
use crate::common::process::{PATIENCE, until};
use crate::common::runs::Made;
use rustix::fs::OFlags;
use tempfile::TempDir;

/// Returns the bench program with its results in a folder: a smoke run on rows in memory, of workload and loop.
fn bench(folder: &TempDir, target: &str, arguments: &str) -> Command {
    let mut command = Command::new(program(target));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CERTCTL_") {
            command.env_remove(name);
        }
    }
    command.args(arguments.split_whitespace()).env("CERTCTL_BENCH_OUTPUT", folder.path().join("results"));
    command.env("CRITERION_HOME", folder.path().join("criterion")).stdin(Stdio::null());
    command
}

fn verb(folder: &TempDir, arguments: &str) -> Command {
    Made::default().save(&folder.path().join("base"));
    Made { number: 2, ..Made::default() }.save(&folder.path().join("head"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-bench"));
    command.args(arguments.split_whitespace()).current_dir(folder.path()).stdin(Stdio::null());
    command
}

/// Returns a pipe whose reader is gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// Returns the exit code, within the patience of tests.
#[track_caller]
fn ends(mut child: Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_closed_standard_output_changes_no_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in ["compare base head", "report base", "report base --format markdown", "--help", "compare --help"] {
        let child = verb(&folder, arguments).stdout(closed()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{arguments}");
    }
}

#[test]
fn a_closed_standard_error_changes_no_exit_code_of_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (server, store) in
        [(env!("CARGO_BIN_EXE_certctl-reference"), &["--in-memory"][..]), (env!("CARGO_BIN_EXE_f5-mock"), &[])]
    {
        for (address, code) in [(&*taken, 1), ("nowhere", 2)] {
            let child = Command::new(server)
                .args(["--listen", address])
                .args(store)
                .stdout(Stdio::null())
                .stderr(closed())
                .spawn()
                .unwrap();
            assert_eq!(ends(child), Some(code), "{server} {address}");
        }
    }
}

#[test]
fn a_full_standard_output_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in ["compare base head", "report base", "--help"] {
        let child = verb(&folder, arguments).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {stderr}");
        assert!(stderr.contains("writing to standard output: No space left on device"), "{arguments}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments}: {stderr}");
    }
}

#[test]
fn a_run_with_closed_outputs_keeps_its_results() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = bench(&folder, "agent_storm", "--in-memory --agents 5");
    assert_eq!(ends(command.stdout(closed()).stderr(closed()).spawn().unwrap()), Some(0));
    let summary = fs::read_to_string(folder.path().join("results/smoke/summary.json")).unwrap();
    assert!(summary.contains("\"verdict\": \"smoke\""), "{summary}");

    // A full disk is not a reader that has seen enough.
    let mut command = bench(&folder, "agent_storm", "--in-memory --agents 5");
    assert_eq!(ends(command.stdout(full()).stderr(full()).spawn().unwrap()), Some(1));
}

#[test]
fn handshake_loops_survive_a_closed_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = bench(&folder, "handshake", "client/tls13/ecdsa-p256/x25519/full/no-client-auth");
    assert_eq!(ends(command.stdout(closed()).stderr(closed()).spawn().unwrap()), Some(0));
    assert!(folder.path().join("results/smoke/counts.json").exists());
}

#[test]
fn an_unread_standard_error_does_not_block_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    // The pipe is filled to the last byte, by a writer that does not block.
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut filler =
        OpenOptions::new().write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).unwrap();
    for size in [4_096, 1] {
        while filler.write(&vec![b'x'; size]).is_ok() {}
    }
    drop(filler);
    let mut command = bench(&folder, "agent_storm", "--mode sustained --in-memory --agents 5");
    assert_eq!(ends(command.stdout(Stdio::null()).stderr(writer).spawn().unwrap()), Some(0));
    assert!(folder.path().join("results/smoke/summary.json").exists());
}

#[test]
fn results_of_a_removed_folder_are_kept_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let [results, temporary, printed] = ["results", "temporary", "printed"].map(|name| folder.path().join(name));
    fs::create_dir(&temporary).unwrap();
    let mut command = bench(&folder, "agent_storm", "--mode sustained --in-memory --agents 5");
    let stdout = File::create(&printed).unwrap();
    let child = command.env("TMPDIR", &temporary).stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
    // The heading is printed once the folder has been tried, and a second and more before results are written.
    until("the run has begun", || fs::read_to_string(&printed).unwrap().contains("workload"));
    fs::rename(&results, folder.path().join("gone")).unwrap();
    fs::write(&results, "").unwrap();
    assert_eq!(ends(child), Some(1));
    let text = fs::read_to_string(&printed).unwrap();
    assert!(text.contains("(exit 1)"), "{text}");
    let kept = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.join("summary.json").exists()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let summary = fs::read_to_string(kept[0].join("summary.json")).unwrap();
    assert!(summary.contains("\"exit_code\": 1") && text.contains(kept[0].to_str().unwrap()), "{text}");
}
