//! `handshake` from its front door: ids, loops, counts, and servers that are not part of this suite.
//!
//! These tests need the program `openssl`, and are skipped without.

use std::fs::read_to_string;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use certctl_bench::handshake::against::{self, Rival};
use certctl_bench::handshake::keyring::Keyring;
use certctl_bench::provision::pki::{Authority, KeyType, Purpose};
use serde_json::Value;

use crate::common::bench::{Bench, Finished};
use crate::common::needs::needs;
use crate::common::openssl::Server;
use crate::common::process::until;

fn bench(arguments: &str) -> Bench {
    Bench::named("handshake", arguments)
}

/// Returns the ids that Criterion or `--list` names.
fn listed(arguments: &str) -> Vec<String> {
    let finished = bench(arguments).run().exits(0);
    let ids = finished.stdout.lines().map(|line| line.strip_suffix(": benchmark").unwrap().to_owned());
    ids.collect()
}

/// `openssl s_server` with an ECDSA P-256 certificate for localhost.
struct OpenSsl(Server);

impl OpenSsl {
    fn start(flags: &str) -> Self {
        let authority = Authority::root(KeyType::EcdsaP256).unwrap();
        let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &["localhost"]).unwrap();
        let server = Server::start(&identity, &flags.split_whitespace().collect::<Vec<_>>());
        std::fs::write(server.folder().join("ca.pem"), authority.pem()).unwrap();
        Self(server)
    }

    fn ca_file(&self) -> PathBuf {
        self.0.folder().join("ca.pem")
    }

    fn bench(&self, arguments: &str) -> Bench {
        let mut bench = bench(arguments);
        bench.command.env("CERTCTL_BENCH_PEER", format!("https://localhost:{}", self.0.address.port()));
        bench.command.env("CERTCTL_BENCH_CA_FILE", self.ca_file());
        bench
    }
}

/// Returns true if Criterion, in its test mode, ran this loop to its end.
fn tested(finished: &Finished, id: &str) -> bool {
    finished.stdout.contains(&format!("Testing {id}\nSuccess"))
}

#[test]
fn a_filter_lists_cases_beyond_the_default_slice() {
    let ids = listed("--list");
    for id in [
        "handshake/client/tls13/ecdsa-p256/x25519/full/no-client-auth",
        "handshake/server/tls13/rsa-4096/x25519/full/no-client-auth",
        "handshake/both/tls13/ecdsa-p256/x25519/resumed/no-client-auth",
        "handshake/rustls-loopback/tls13/x25519/full",
        "handshake/throughput/1-thread/tls13/ecdsa-p256/x25519/full/no-client-auth",
    ] {
        assert!(ids.contains(&id.to_owned()), "{id} in {ids:#?}");
    }
    let rare = "handshake/server/tls12/rsa-4096/p256/full/client-auth";
    assert!(!ids.contains(&rare.to_owned()));
    assert_eq!(listed("--list server/tls12/rsa-4096/p256/full/client-auth"), [rare]);
    assert!(listed("--list --matrix full").contains(&rare.to_owned()));
    assert_eq!(listed("--list --matrix default server/tls12/rsa-4096"), [""; 0]);
}

#[test]
fn a_run_without_bench_runs_the_default_slice_once() {
    let finished = bench("").run().exits(0);
    for id in listed("--list") {
        assert!(tested(&finished, &id), "{id} in {}", finished.stdout);
    }
}

#[test]
fn counts_are_written_beside_the_criterion_results() {
    let bench = bench("--bench --quick --noplot handshake/client/tls1[23]/ed25519/x25519/.*/no-client-auth");
    let (file, saved) = (bench.folder().join("results/counts.json"), bench.folder().join("criterion"));
    let mut running = bench.start();
    // Its folder is removed with the value that `finish` consumes.
    until("the program has ended", || running.ended().is_some());
    let text = read_to_string(file).unwrap();
    let saved = saved.join("handshake_client/tls13_ed25519_x25519_resumed_no-client-auth/base/estimates.json");
    assert!(saved.exists(), "{}", saved.display());
    let finished = running.finish().exits(0);
    assert!(finished.stdout.contains("elem/s"), "{}", finished.stdout);

    let counts: Value = serde_json::from_str(&text).unwrap();
    // Values sort their keys: written again, they are unchanged only if they were sorted.
    assert_eq!(text, serde_json::to_string_pretty(&counts).unwrap() + "\n");
    assert_eq!(counts["schema_version"], 1);
    let cases = counts["cases"].as_object().unwrap();
    let labels: Vec<&str> = cases.keys().map(String::as_str).collect();
    assert_eq!(
        labels,
        [
            "tls12/ed25519/x25519/full/no-client-auth",
            "tls12/ed25519/x25519/resumed/no-client-auth",
            "tls13/ed25519/x25519/full/no-client-auth",
            "tls13/ed25519/x25519/resumed/no-client-auth",
        ]
    );
    for (label, case) in cases {
        for key in ["client_to_server_bytes_max", "client_to_server_bytes_min", "server_to_client_bytes_max"] {
            assert!(case[key].as_u64().unwrap() > 0, "{label} {key}: {case}");
        }
        assert!(label.contains(case["kind"].as_str().unwrap()), "{label}: {case}");
        let instructions = &case["client_instructions_median"];
        assert_eq!(instructions.is_null(), counts["instructions_unavailable"].is_string(), "{label}: {counts}");
    }
    let round_trips: Vec<_> = cases.values().map(|case| case["round_trips"].as_u64().unwrap()).collect();
    assert_eq!(round_trips, [2, 1, 1, 1]);
}

#[test]
fn a_run_is_compared_with_a_saved_baseline() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let mut bench = bench(&format!("{arguments} --bench --noplot --sample-size 10 --measurement-time 0.1 --exact"));
        bench.command.args(["--warm-up-time", "0.1", "handshake/both/tls12/ed25519/p256/full/client-auth"]);
        bench.command.env("CRITERION_HOME", home.path());
        bench.run().exits(0)
    };
    let first = run("--save-baseline before");
    assert!(!first.stdout.contains("change:"), "{}", first.stdout);
    let second = run("--baseline before");
    assert!(second.stdout.contains("change:"), "{}", second.stdout);
}

/// Criterion itself panics at some of these values.
#[test]
fn criterion_values_out_of_range_are_refused() {
    for (flag, value) in [
        ("--sample-size", "9"),
        ("--nresamples", "0"),
        ("--warm-up-time", "0"),
        ("--measurement-time", "NaN"),
        ("--profile-time", "0.5"),
        ("--confidence-level", "1"),
        ("--significance-level", "0"),
        ("--color", "blue"),
    ] {
        let refused = bench(&format!("--bench {flag} {value}")).run().exits(2);
        assert!(
            refused.stderr.starts_with(&format!("error: invalid value '{value}' for '{flag}")),
            "{}",
            refused.stderr
        );
    }
    let profiled =
        bench("--bench --quick --noplot --profile-time 1 --exact handshake/both/tls12/ed25519/p256/full/client-auth");
    assert!(profiled.run().exits(0).stderr.contains("Profiling for 1.0000 s"));
}

#[test]
fn every_handshake_that_openssl_supports_runs() {
    needs!(Openssl);
    let server = OpenSsl::start("-groups X25519:P-256");
    let finished = server.bench("handshake/peer").run().exits(0);
    for offer in [
        "tls13/x25519/full",
        "tls13/x25519/resumed",
        "tls13/p256/full",
        "tls13/p256/resumed",
        "tls12/x25519/full",
        "tls12/x25519/resumed",
        "tls12/p256/full",
    ] {
        assert!(tested(&finished, &format!("handshake/peer/{offer}")), "{offer} in {}", finished.stdout);
    }
    let skipped =
        "skipped: handshake/peer/tls13/x25519mlkem768/full: the server refused it with the alert HandshakeFailure";
    assert!(finished.stdout.contains(skipped), "{}", finished.stdout);
}

#[test]
fn a_server_without_tickets_fails_the_resumed_loop() {
    needs!(Openssl);
    let server = OpenSsl::start("-num_tickets 0");
    let finished = server.bench("handshake/peer/tls13/x25519/resumed").run().exits(1);
    let expected = "expected resumed TLS1.3 X25519, had full TLS1.3 X25519\nhint: let the server issue session tickets";
    assert!(finished.stderr.contains(expected), "{}", finished.stderr);
}

#[test]
fn a_server_that_refuses_the_offer_fails_the_loop() {
    needs!(Openssl);
    let server = OpenSsl::start("-tls1_2");
    let finished = server.bench("handshake/peer/tls13/x25519/full").run().exits(1);
    assert!(finished.stderr.contains("refused it with the alert ProtocolVersion"), "{}", finished.stderr);
}

#[test]
fn a_server_of_another_authority_fails_its_loops() {
    needs!(Openssl);
    let (server, other) = (OpenSsl::start(""), OpenSsl::start(""));
    let mut bench = server.bench("handshake/peer/tls13/x25519/full");
    bench.command.env("CERTCTL_BENCH_CA_FILE", other.ca_file());
    let finished = bench.run().exits(1);
    assert!(finished.stderr.contains("invalid peer certificate"), "{}", finished.stderr);
}

#[test]
fn an_argument_that_is_not_utf_8_is_a_usage_error() {
    let mut bench = bench("--bench handshake/client/tls13/ed25519/x25519/full/no-client-auth --output");
    bench.command.arg(std::ffi::OsStr::from_bytes(b"/nonexistent/\xff"));
    let stderr = bench.run().exits(2).stderr;
    assert!(stderr.contains("is not UTF-8") && stderr.contains("hint: give a path"), "{stderr}");
}

#[test]
fn wrong_flags_are_usage_errors() {
    assert!(bench("--bench (").run().exits(2).stderr.contains("the filter is not a regular expression"));
    assert!(bench("--matrix half").run().exits(2).stderr.contains("[possible values: default, full]"));
    let missing = bench("--peer https://localhost:1 --ca-file /nonexistent.pem").run().exits(2);
    assert!(missing.stderr.contains("CA file /nonexistent.pem"), "{}", missing.stderr);
}

#[test]
fn a_round_measures_openssl_and_the_suite() {
    needs!(Openssl);
    let mut heard = 0;
    let rivals = [Rival::Openssl];
    let rounds = against::take_turns(&mut Keyring::new().unwrap(), &rivals, 1, 1, &mut |_| heard += 1).unwrap();
    assert_eq!((rounds.len(), heard), (1, 1));
    assert!(rounds[0].ours_ms > 0.0 && rounds[0].theirs_ms[0] > 0.0, "{rounds:?}");
}
