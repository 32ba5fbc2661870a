//! The tests' own tools: skipping, and turns.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::needs::needs;
use crate::common::turn::{SEATS, Turn};

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
fn few_tests_have_a_turn_at_once_and_one_alone() {
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..8 {
            let (inside, most) = (&inside, &most);
            scope.spawn(move || {
                for _ in 0..5 {
                    let alone = number % 4 == 0;
                    let _turn = if alone { Turn::take_alone() } else { Turn::take() };
                    // A test may run several workloads at once.
                    let _another = Turn::take();
                    let now_inside = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(!alone || now_inside == 1, "{now_inside} at once");
                    most.fetch_max(now_inside, Ordering::SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    let most = most.load(Ordering::SeqCst);
    assert!((1..=SEATS).contains(&most), "{most} at once");
}
