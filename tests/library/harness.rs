//! The tests' own tools: skipping, and turns.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::needs::needs;
use crate::common::turn::Turn;

#[test]
fn nginx_is_found_or_the_test_is_skipped() {
    needs!(Nginx);
}

#[test]
fn a_missing_program_skips_its_test_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("skipped");
    std::fs::write(&list, "").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness::nginx_is_found_or_the_test_is_skipped"])
        // Empty, the variable leaves the daemon out.
        .env("CERTCTL_BENCH_NGINX_BIN", "")
        .env("CERTCTL_BENCH_SKIPPED", &list)
        .output()
        .unwrap();
    assert!(output.status.success());
    let line = "library harness::nginx_is_found_or_the_test_is_skipped: nginx left out, since CERTCTL_BENCH_NGINX_BIN is empty\n";
    assert_eq!(std::fs::read_to_string(&list).unwrap(), line);
    // The test runner does not hide it.
    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("skipped: {line}"));
}

#[test]
fn turns_of_two_tests_never_overlap() {
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let _turn = Turn::take();
                    // A test may run several workloads at once.
                    let _another = Turn::take();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 1);
}
