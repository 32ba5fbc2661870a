//! The preflight: one line states the fault of the system, one gives a hint, and the exit code is 1.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::bench::Bench;
use crate::common::needs::needs;
use crate::common::openssl::Server;
use crate::common::peer::{Peer, Request, Step, TOKEN, answer, certctl, json};
use crate::common::reference::{Reference, VIEWER_TOKEN};
use crate::common::summary::outcome;
use certctl_bench::inspect::preflight::{self, Findings};
use certctl_bench::provision::pki::{Authority, KeyType, Purpose};
use certctl_bench::provision::postgres::find;
use certctl_bench::scenario::need::Need;
use certctl_bench::system::{Certctl, Token};
use certctl_bench::wire::tls::Trust;
use tempfile::TempDir;

/// A small load, in case that it is let through.
const BRIEF: &str = "--rate 100/s --duration 500ms --warm-up 0s --agents 10 --connections 2";

const NOT_CERTCTL: &str =
    "point CERTCTL_BASE at certctl's own HTTPS address, not at a proxy, dashboard or other service";
const STRANGER: &str = "the file of --ca-file is of another authority: give the certificate of the one that signed the \
                        server's (or accept any with --insecure)";
const WRONG_NAME: &str = "write a name that its certificate is for in CERTCTL_BASE (or accept any with --insecure)";
const EXPIRED: &str = "have it serve a certificate that is valid now, check that this machine's clock is right (or \
                       accept any with --insecure)";

/// Asserts that the run ends with 1 before it begins, and prints these two lines alone. `what` may leave a part open
/// with `…`, for a library's words.
#[track_caller]
fn assert_refused(bench: Bench, what: &str, hint: &str) {
    let finished = bench.refused(1);
    assert_eq!((finished.stdout.as_str(), &finished.json), ("", &None));
    let messages = finished.messages();
    let lines: Vec<&str> = messages.lines().collect();
    let [error, fix] = lines[..] else { panic!("not two lines: {}", finished.stderr) };
    let error = error.strip_prefix("error: ").unwrap();
    match what.split_once('…') {
        Some((begin, end)) => assert!(error.starts_with(begin) && error.ends_with(end), "{error}"),
        None => assert_eq!(error, what),
    }
    assert_eq!(fix, format!("hint: {hint}"));
}

/// Asserts that a certctl that answers one path otherwise is refused so; `{base}` stands for its base URL.
#[track_caller]
fn assert_answer_refused(path: &'static str, reply: fn(&Request) -> Vec<Step>, what: &str, hint: &str) {
    let peer = Peer::start(move |request| if request.path == path { reply(request) } else { certctl(request) });
    assert_refused(Bench::at(&peer, BRIEF), &what.replace("{base}", &peer.base()), hint);
}

#[test]
fn a_sound_system_passes_the_preflight() {
    let peer = Peer::start(certctl);
    let summary = Bench::at(&peer, BRIEF).run().invalid_or_breached().summary();
    assert_eq!((outcome(&summary, "ok"), &summary["system"]["version"]), (50, &"9.8.7 (abc1234)".into()));
}

#[test]
fn an_unreachable_system_is_refused() {
    // Nothing listens on a port that was free a moment ago.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let peer = Peer::start(certctl);
    assert_refused(
        Bench::at_base(&format!("https://{address}"), &peer.ca_file(), BRIEF),
        &format!("https://{address} is not reachable at {address}: Connection refused (os error 111)"),
        "start certctl there, or correct CERTCTL_BASE",
    );
    let finished = Bench::at_base("https://no-such-host.invalid", &peer.ca_file(), BRIEF).refused(1);
    assert!(finished.stderr.contains("looking up no-such-host.invalid: "), "{}", finished.stderr);
}

#[test]
fn a_server_without_tls_is_refused() {
    // It answers as a web server without TLS.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let _ =
                std::io::Write::write_all(&mut connection, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let peer = Peer::start(certctl);
    assert_refused(
        Bench::at_base(&format!("https://{address}"), &peer.ca_file(), BRIEF),
        &format!(
            "https://{address}: the TLS handshake failed: the peer does not speak TLS: its answer begins with \
             `HTTP/1.1 400 Bad Request`"
        ),
        "check that CERTCTL_BASE is the address of certctl's HTTPS port",
    );
}

#[test]
fn a_silent_tls_handshake_times_out() {
    // Its backlog takes the connection, and no handshake follows.
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = mute.local_addr().unwrap();
    let peer = Peer::start(certctl);
    assert_refused(
        Bench::at_base(&format!("https://{address}"), &peer.ca_file(), BRIEF),
        &format!("https://{address}: the TLS handshake failed: no answer within 10s"),
        "check that CERTCTL_BASE is the address of certctl's HTTPS port",
    );
}

#[test]
fn a_missing_answer_times_out() {
    let peer = Peer::start(|_| vec![Step::Silence]);
    let what = format!("GET /health at {}: no complete answer within 10s", peer.base());
    assert_refused(Bench::at(&peer, BRIEF), &what, "check that CERTCTL_BASE is certctl, and check its log");
}

#[test]
fn a_slow_server_is_named_while_waiting() {
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let base = format!("https://{}", mute.local_addr().unwrap());
    let peer = Peer::start(certctl);
    // It is given up after 10 s at the earliest.
    let finished = Bench::at_base(&base, &peer.ca_file(), BRIEF).refused(1);
    assert!(finished.stderr.contains(&format!("still waiting for the answers of {base}: ")), "{}", finished.stderr);
}

/// 128 answers of a second each would take more than two minutes; a limiter of 50/s cannot be met at one a second.
#[test]
fn a_slow_server_ends_the_rate_limiter_probe() {
    let requests = Arc::new(AtomicU64::new(0));
    let seen = requests.clone();
    let peer = Peer::start(move |request| match request.path.as_str() {
        // The first is the check of its health; connections of the workload send one each as well.
        "/health" if seen.fetch_add(1, Ordering::SeqCst) < 64 => {
            [Step::Wait(Duration::from_secs(1))].into_iter().chain(certctl(request)).collect()
        }
        _ => certctl(request),
    });
    assert!(Bench::at(&peer, BRIEF).run().json.is_some());
    assert!(requests.load(Ordering::SeqCst) < 32, "{requests:?}");
}

#[test]
fn an_untrusted_certificate_is_refused() {
    let (peer, other) = (Peer::start(certctl), Peer::start(certctl));
    assert_refused(
        Bench::at_base(&peer.base(), &other.ca_file(), BRIEF),
        &format!("{}: the server's certificate is not trusted: invalid peer certificate: …", peer.base()),
        STRANGER,
    );
    let peer = Peer::with_certificate(
        |leaf| leaf.subject_alt_names = vec![rcgen::SanType::DnsName("elsewhere.example".try_into().unwrap())],
        certctl,
    );
    assert_refused(
        Bench::at(&peer, BRIEF),
        &format!(
            "{}: the server's certificate is not trusted: invalid peer certificate: certificate not valid for …",
            peer.base()
        ),
        WRONG_NAME,
    );
    let peer = Peer::with_certificate(|leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1), certctl);
    assert_refused(
        Bench::at(&peer, BRIEF),
        &format!(
            "{}: the server's certificate is not trusted: invalid peer certificate: certificate expired…",
            peer.base()
        ),
        EXPIRED,
    );
    let peer = Peer::with_certificate(|leaf| leaf.not_before = rcgen::date_time_ymd(4_000, 1, 1), certctl);
    assert_refused(
        Bench::at(&peer, BRIEF),
        &format!(
            "{}: the server's certificate is not trusted: invalid peer certificate: certificate not valid yet…",
            peer.base()
        ),
        EXPIRED,
    );
}

#[test]
fn insecure_runs_with_a_warning() {
    let peer = Peer::with_certificate(|leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1), certctl);
    let mut bench = Bench::at(&peer, BRIEF);
    bench.command.env_remove("CERTCTL_CA_FILE").arg("--insecure");
    let finished = bench.run().invalid_or_breached();
    let warning = "WARNING: --insecure: the server's certificate is not verified, and may be that of an impostor\n";
    assert!(finished.stderr.starts_with(warning), "{}", finished.stderr);
    assert!(finished.stdout.contains("certificate NOT VERIFIED (--insecure)"), "{}", finished.stdout);
    let summary = finished.summary();
    assert_eq!(summary["system"]["trust"], "certificate NOT VERIFIED (--insecure)");
    assert_eq!(outcome(&summary, "ok"), 50);
}

/// A figure names its system, also where the user started that system.
#[test]
fn a_running_reference_server_is_recognised() {
    let reference = Reference::start(&["--agents", "10"]);
    let summary = Bench::at_reference(&reference, BRIEF).run().invalid_or_breached().summary();
    assert_eq!((&summary["system"]["kind"], &summary["system"]["version"]), (&"reference".into(), &"0.1.0".into()));
    assert_eq!(summary["work"][0]["found"], summary["work"][0]["claimed"]);
}

#[test]
fn a_running_reference_server_reports_its_behaviour() {
    for behaviour in ["as-built", "as-documented"] {
        let reference = Reference::start(&["--agents", "10", "--behaviour", behaviour]);
        let summary = Bench::at_reference(&reference, BRIEF).run().invalid_or_breached().summary();
        assert_eq!(summary["system"]["behaviour"], behaviour);
    }
}

#[test]
fn in_memory_is_refused_for_a_running_certctl() {
    let peer = Peer::start(certctl);
    let refused = Bench::at(&peer, "--in-memory").refused(2);
    assert_eq!(
        refused.messages(),
        format!(
            "error: --in-memory applies only to the reference server, but CERTCTL_BASE names a running certctl, {}\n\
             hint: leave out --in-memory, or unset CERTCTL_BASE to have a reference server started\n",
            peer.base()
        )
    );
}

#[test]
fn a_password_in_a_system_url_is_never_shown() {
    for base in ["http://u:secret@h", "u:secret@h", "https://u:secret@h", "https://u:secret@h/api", "https://u:secret@"]
    {
        for arguments in ["", "--in-memory"] {
            let refused = Bench::new(&format!("--bench {arguments}")).env("CERTCTL_BASE", base).refused(2);
            assert!(refused.everything().iter().all(|text| !text.contains("secret")), "{base}: {}", refused.stderr);
        }
    }
}

#[test]
fn answers_of_another_api_are_refused() {
    let html: fn(&Request) -> Vec<Step> = |_| answer(200, "text/html", "<!DOCTYPE html><title>Dashboard</title>");
    let wrong: fn(&Request) -> Vec<Step> = |_| json(200, "{\"state\":\"green\"}");
    let text: fn(&Request) -> Vec<Step> = |_| answer(404, "text/plain", "nothing here");
    for path in
        ["/health", "/ready", "/api/v1/version", "/api/v1/auth/check", "/api/v1/agents/ag-loadtest-00010/heartbeat"]
    {
        let what = format!("{{base}}{path} answers 200 with HTML instead of JSON: this is not certctl's API");
        assert_answer_refused(path, html, &what, NOT_CERTCTL);
    }
    for path in ["/health", "/ready", "/api/v1/auth/check", "/api/v1/agents/ag-loadtest-00001/heartbeat"] {
        let what = format!("{{base}}{path} answers 200 with the wrong JSON: this is not certctl's API");
        assert_answer_refused(path, wrong, &what, NOT_CERTCTL);
    }
    let what = "{base}/health answers 404 with something that is not JSON: this is not certctl's API";
    assert_answer_refused("/health", text, what, NOT_CERTCTL);
    // JSON under another content type is none.
    let what = "{base}/health answers 200 with something that is not JSON: this is not certctl's API";
    assert_answer_refused("/health", |_| answer(200, "text/plain", "{\"status\":\"healthy\"}"), what, NOT_CERTCTL);
}

#[test]
fn broken_answers_are_refused() {
    let hint = "check that CERTCTL_BASE is certctl, and check its log";
    for (reply, why) in [
        (
            (|_| vec![Step::Close]) as fn(&Request) -> Vec<Step>,
            "closed: the peer closed the connection without a response",
        ),
        (|_| vec![Step::Send(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())], "protocol: malformed HTTP/1.1 response: …"),
    ] {
        assert_answer_refused("/health", reply, &format!("GET /health at {{base}}: {why}"), hint);
    }
}

#[test]
fn an_unreachable_database_is_refused() {
    assert_answer_refused(
        "/ready",
        |_| json(503, "{\"status\":\"not_ready\",\"error\":\"connection refused\"}"),
        "{base}: certctl does not reach its database: connection refused",
        "start PostgreSQL, or correct certctl's CERTCTL_DATABASE_URL",
    );
}

#[test]
fn an_unknown_token_is_refused() {
    let reference = Reference::start(&["--agents", "10"]);
    let mut bench = Bench::at_reference(&reference, BRIEF);
    bench.command.env("CERTCTL_TOKEN", "recognisable-wrong-token");
    assert_refused(
        bench,
        &format!("{}: the token is not known: Invalid API key", reference.base()),
        "set CERTCTL_TOKEN to a key of certctl's CERTCTL_API_KEYS_NAMED (name:key:admin)",
    );
}

#[test]
fn a_token_without_the_permission_is_refused() {
    let hint = "use an admin key: CERTCTL_API_KEYS_NAMED=name:key:admin (any other key is read-only), or grant r-agent";
    let reference = Reference::start(&["--agents", "10"]);
    let mut bench = Bench::at_reference(&reference, BRIEF);
    bench.command.env("CERTCTL_TOKEN", VIEWER_TOKEN);
    let what = format!("{}: the token of \"viewer\" lacks the permission agent.heartbeat", reference.base());
    assert_refused(bench, &what, hint);
}

#[test]
fn an_active_rate_limiter_is_refused() {
    let hint = "start certctl with CERTCTL_RATE_LIMIT_ENABLED=false";
    let what = "certctl's rate limiter is on and would answer most requests with 429";
    let limited: fn(&Request) -> Vec<Step> = |_| answer(429, "text/plain", "{\"error\":\"Rate limit exceeded\"}\n");
    // One that lets a hundred pass at once, as certctl does, and refills no faster than this machine sends.
    let requests = AtomicU64::new(0);
    let peer = Peer::start(move |request| match requests.fetch_add(1, Ordering::SeqCst) {
        0..100 => certctl(request),
        _ => limited(request),
    });
    assert_refused(Bench::at(&peer, BRIEF), &format!("{}: {what}", peer.base()), hint);
    // Also one that is empty already.
    for path in ["/health", "/api/v1/auth/check", "/api/v1/agents/ag-loadtest-00001/heartbeat"] {
        assert_answer_refused(path, limited, &format!("{{base}}: {what}"), hint);
    }
}

#[test]
fn missing_agents_are_refused() {
    let hint = "run `certctl-bench seed --agents 5000 --database URL` with the URL of certctl's own database, or lower \
                --agents";
    for (behaviour, reply) in
        [("as-built", "500: Failed to record heartbeat"), ("as-documented", "404: Agent not found")]
    {
        let reference = Reference::start(&["--agents", "9", "--behaviour", behaviour]);
        let what = format!("{}: agent 10 of the fleet is not seeded ({reply}); agents 1 to 9 are", reference.base());
        assert_refused(Bench::at_reference(&reference, BRIEF), &what, hint);
    }
    assert_answer_refused(
        "/api/v1/agents/ag-loadtest-00010/heartbeat",
        |_| json(410, "{\"error\":\"Gone\"}"),
        "{base}: agent 10 of the seeded fleet is retired",
        "UPDATE agents SET retired_at = NULL WHERE id LIKE 'ag-loadtest-%'",
    );
}

/// Inspects a certctl that answers one path otherwise.
fn inspect(needs: &[Need], path: &'static str, reply: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Found {
    let peer = Peer::start(move |request| if request.path == path { reply(request) } else { certctl(request) });
    let trust = Trust::from_file(&peer.ca_file()).unwrap();
    let certctl = Certctl::external(peer.base().parse().unwrap(), trust, Token::new(TOKEN.to_owned()), None);
    Found { base: peer.base(), findings: preflight::inspect(&certctl, needs).map_err(|error| error.to_string()) }
}

struct Found {
    base: String,
    findings: Result<Findings, String>,
}

impl Found {
    /// Asserts the fault and its hint; `{base}` stands for the base URL.
    #[track_caller]
    fn refused(self, what: &str, hint: &str) {
        let expected = format!("{}\nhint: {hint}", what.replace("{base}", &self.base));
        assert_eq!(self.findings.map(|_| ()), Err(expected));
    }
}

#[test]
fn needs_are_checked_in_order() {
    let heartbeat = "/api/v1/agents/ag-loadtest-00001/heartbeat";
    let gone = |_: &Request| json(410, "{}");
    let needs = [Need::Permission("agent.heartbeat"), Need::Agent(1), Need::Permission("cert.issue")];
    let retired = "UPDATE agents SET retired_at = NULL WHERE id LIKE 'ag-loadtest-%'";
    inspect(&needs, heartbeat, gone).refused("{base}: agent 1 of the seeded fleet is retired", retired);
    let hint =
        "use an admin key: CERTCTL_API_KEYS_NAMED=name:key:admin (any other key is read-only), or grant r-operator";
    inspect(&needs, "", gone).refused("{base}: the token of \"u\" lacks the permission cert.issue", hint);
    // Checks that no scenario needs are left out.
    assert!(inspect(&needs[..1], heartbeat, gone).findings.unwrap().acme.is_none());
}

#[test]
fn missing_certificates_are_refused() {
    let need = [Need::Certificate(10_000)];
    let path = "/api/v1/certificates/cert-loadtest-bulk-10000";
    inspect(&need, path, |_| json(200, "{\"id\":\"cert-loadtest-bulk-10000\"}")).findings.unwrap();
    let hint = "run `certctl-bench seed --database URL` with the URL of certctl's own database";
    for status in [404, 500] {
        inspect(&need, path, move |_| json(status, "{\"message\":\"Certificate not found\"}")).refused(
            &format!("{{base}}: certificate 10000 of those to renew is not seeded ({status}: Certificate not found)"),
            hint,
        );
    }
    let hint = "use an admin key: CERTCTL_API_KEYS_NAMED=name:key:admin (any other key is read-only), or grant r-agent \
                or r-operator";
    inspect(&need, path, |_| json(403, "{}"))
        .refused("{base}: the token of \"?\" lacks the permission cert.read", hint);
    inspect(&need, path, |_| json(200, "{\"id\":\"another\"}")).refused(
        "{base}/api/v1/certificates/cert-loadtest-bulk-10000 answers 200 with the wrong JSON: this is not certctl's API",
        NOT_CERTCTL,
    );
}

#[test]
fn already_renewed_certificates_are_refused() {
    let path = "/api/v1/certificates/cert-loadtest-bulk-00001";
    let answer = |status: &'static str| {
        move |_: &Request| json(200, &format!("{{\"id\":\"cert-loadtest-bulk-00001\",\"status\":\"{status}\"}}"))
    };
    inspect(&[Need::Renewable(1)], path, answer("Active")).findings.unwrap();
    inspect(&[Need::Renewable(1)], path, answer("RenewalInProgress")).refused(
        "{base}: certificate 1 of those to renew is in renewal already, from an earlier run",
        "run `certctl-bench seed --reset --database URL`, or give this run the --database",
    );
}

const DIRECTORY: &str = "/acme/profile/prof-standard-tls/directory";

const FIELDS: &str = r#"{"newNonce":"BASE/n","newAccount":"BASE/a","newOrder":"BASE/o","renewalInfo":"BASE/r"}"#;

/// Returns an ACME server's answer of these fields, where `BASE` stands for its base URL.
fn directory(request: &Request, fields: &str) -> Vec<Step> {
    let body = fields.replace("BASE", &format!("https://{}", request.host));
    let head = "HTTP/1.1 200 x\r\nContent-Type: application/json\r\nReplay-Nonce: abc\r\n";
    vec![Step::Send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into())]
}

fn acme(bearer: bool) -> [Need; 1] {
    [Need::Acme { directory: DIRECTORY.to_owned(), bearer, renewal_info: false }]
}

#[test]
fn an_acme_directory_is_read_with_and_without_the_token() {
    let found = inspect(&acme(true), DIRECTORY, |request| {
        assert_eq!(request.token.as_deref(), Some(TOKEN));
        // A nonce is required in answers to POST alone (RFC 8555, section 6.5).
        json(200, &FIELDS.replace("BASE", &format!("https://{}", request.host)))
    });
    let found = found.findings.unwrap().acme.unwrap();
    let paths = [&found.directory, &found.new_nonce, found.renewal_info.as_ref().unwrap()];
    assert_eq!(paths, [DIRECTORY, "/n", "/r"]);
    // Signed requests repeat the whole URLs.
    for (url, path) in [(found.new_account, "/a"), (found.new_order, "/o")] {
        assert!(url.starts_with("https://") && url.ends_with(path), "{url}");
    }
    let found = inspect(&acme(false), DIRECTORY, |request| {
        assert_eq!(request.token, None);
        directory(request, &FIELDS.replace("renewalInfo", "other"))
    });
    assert_eq!(found.findings.unwrap().acme.unwrap().renewal_info, None);
    // The whole URL means the same, and another host's is refused before any request.
    let directory_url = format!("https://elsewhere.example{DIRECTORY}");
    let needs = [Need::Acme { directory: directory_url, bearer: true, renewal_info: false }];
    let error = inspect(&needs, "", certctl).findings.map(|_| ()).unwrap_err();
    assert!(error.contains("is not on the system under test"), "{error}");
}

#[test]
fn a_missing_acme_directory_is_refused() {
    let refused = |bearer, reply: fn(&Request) -> Vec<Step>, what: &str, hint: &str| {
        inspect(&acme(bearer), DIRECTORY, reply).refused(&format!("{{base}}{DIRECTORY}{what}"), hint);
    };
    refused(
        true,
        |_| answer(200, "text/html; charset=utf-8", "<!DOCTYPE html><title>certctl</title>"),
        " is a page of certctl's dashboard, which hides its ACME server",
        "run certctl from a folder without web/, so that it serves only its API",
    );
    refused(
        false,
        |_| answer(401, "text/plain", "{\"error\":\"Authorization header required\"}\n"),
        ": ACME requires one of certctl's API keys (Authorization header required)",
        "leave out --no-bearer: certctl requires the token for ACME too",
    );
    let unknown = "name a row of certificate_profiles with --profile, such as prof-standard-tls (certctl's seeds have no \
                   prof-test)";
    let problem: fn(&Request) -> Vec<Step> = |_| {
        let body = r#"{"type":"urn:ietf:params:acme:error:serverInternal","detail":"ACME server error","status":500}"#;
        answer(500, "application/problem+json", body)
    };
    refused(true, problem, ": the ACME profile is not known (500: ACME server error)", unknown);
    let problem: fn(&Request) -> Vec<Step> = |_| answer(404, "application/problem+json", "{\"detail\":\"no profile\"}");
    refused(true, problem, ": the ACME profile is not known (404: no profile)", unknown);
    refused(
        true,
        |_| answer(403, "application/problem+json", r#"{"type":"urn:ietf:params:acme:error:userActionRequired"}"#),
        ": certctl has no default ACME profile",
        "name one with --profile, or start certctl with CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID",
    );
    refused(
        true,
        |_| answer(404, "text/plain", "404 page not found\n"),
        ": there is no ACME server (404)",
        "correct CERTCTL_ACME_DIRECTORY, such as /acme/profile/prof-standard-tls/directory",
    );
    let other: fn(&Request) -> Vec<Step> = |_| json(503, "{\"error\":\"busy\"}");
    refused(true, other, " answers 503 instead of an ACME directory: busy", "check certctl's log");
    inspect(&acme(true), DIRECTORY, |_| answer(429, "text/plain", "{\"error\":\"Rate limit exceeded\"}\n")).refused(
        "{base}: certctl's rate limiter is on and would answer most requests with 429",
        "start certctl with CERTCTL_RATE_LIMIT_ENABLED=false",
    );
}

#[test]
fn an_invalid_acme_directory_is_refused() {
    let hint = "name the directory of certctl's ACME server, such as /acme/profile/prof-standard-tls/directory";
    let refused = |reply: fn(&Request) -> Vec<Step>, what: &str| {
        let what = format!("{{base}}{DIRECTORY} is not an ACME directory: {what}");
        inspect(&acme(true), DIRECTORY, reply).refused(&what, hint);
    };
    refused(|_| answer(200, "text/plain", FIELDS), "it is not JSON");
    refused(|request| directory(request, "{}"), "it has no newNonce");
    refused(|request| directory(request, &FIELDS.replace("newOrder", "x")), "it has no newOrder");
    refused(
        |request| directory(request, &FIELDS.replace("BASE/r", "https://elsewhere.example/r")),
        "its renewalInfo is on another server: https://elsewhere.example/r",
    );
}

#[test]
fn flags_override_the_old_variable_names() {
    let (peer, mute) = (Peer::start(certctl), Peer::start(|_| vec![Step::Close]));
    let mut bench = Bench::at(&mute, BRIEF);
    bench.command.args(["--target", &peer.base(), "--ca-file"]).arg(peer.ca_file()).args(["--token", TOKEN]);
    bench.command.env("CERTCTL_TOKEN", "wrong");
    assert_eq!(outcome(&bench.run().invalid_or_breached().summary(), "ok"), 50);
}

#[test]
fn a_wrong_postgresql_folder_is_a_usage_error() {
    needs!(Postgresql);
    assert!(find().is_ok(), "these tests need PostgreSQL");
    let mut bench = Bench::new("--bench");
    bench.command.env("CERTCTL_BENCH_PG_BIN", "/nonexistent");
    let finished = bench.refused(2);
    assert!(finished.stderr.contains("CERTCTL_BENCH_PG_BIN=/nonexistent: no `postgres` in it"), "{}", finished.stderr);
}

#[test]
fn the_loaded_address_is_named() {
    // Nothing listens on ::1, which localhost may resolve to first.
    let peer = Peer::start(certctl);
    let base = format!("https://localhost:{}", peer.address().port());
    let finished = Bench::at_base(&base, &peer.ca_file(), BRIEF).run().invalid_or_breached();
    assert_eq!(finished.summary()["system"]["address"], peer.address().to_string());
    assert!(finished.stdout.contains(&format!("at {base} ({})", peer.address())), "{}", finished.stdout);
    // A URL with an address needs no other.
    let summary = Bench::at(&peer, BRIEF).run().invalid_or_breached().summary();
    assert!(summary["system"].get("address").is_none());
}

/// Starts an OpenSSL server at 127.0.0.1 with a certificate of its own, made with these arguments: `own.pem` in the
/// folder.
fn with_own_certificate(arguments: &str) -> (Server, TempDir) {
    let root = Authority::root(KeyType::EcdsaP256).unwrap();
    let identity = root.issue(KeyType::EcdsaP256, Purpose::Server, &["127.0.0.1"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (key, pem) = (path("own-key.pem"), path("own.pem"));
    let request = format!("req -x509 -nodes -subj /CN=x -days 9 -keyout {key} -out {pem} {arguments}");
    let made = Command::new("openssl")
        .args(request.split(' '))
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let server = Server::start(&identity, &["-cipher", "ALL:@SECLEVEL=0", "-cert", &pem, "-key", &key]);
    (server, folder)
}

#[test]
fn refused_certificates_name_the_flaw_and_the_fix() {
    needs!(Openssl);
    let cannot = "the server's certificate cannot be used: its RSA key has 1024 bits, and at least 2048 are required";
    let larger = "have it serve a certificate with an RSA key of 2048 bits or more, or an ECDSA key, and one signed by such \
                  a key";
    let server = "-newkey rsa:2048 -addext basicConstraints=critical,CA:FALSE";
    for (arguments, what, hint) in [
        ("-newkey rsa:1024".to_owned(), cannot, larger),
        ("-newkey rsa:1024 -addext basicConstraints=critical,CA:FALSE".to_owned(), cannot, larger),
        (
            format!("{server} -addext 1.2.3.4=critical,DER:0500"),
            "the server's certificate is not trusted: invalid peer certificate: it has a critical extension that this \
             suite does not know, so that it may not be used",
            "have it serve a certificate without it, or one that does not mark it critical (or accept any with --insecure)",
        ),
        (
            format!("{server} -addext extendedKeyUsage=clientAuth"),
            "the server's certificate is not trusted: invalid peer certificate: certificate does not allow extended key …",
            "have it serve a certificate whose extended key usage has serverAuth (or accept any with --insecure)",
        ),
    ] {
        let (server, folder) = with_own_certificate(&arguments);
        let ca_file = folder.path().join("own.pem");
        let base = format!("https://{}", server.address);
        assert_refused(Bench::at_base(&base, &ca_file, BRIEF), &format!("{base}: {what}"), hint);
        if what == cannot {
            // Verifying nothing does not help.
            let mut bench = Bench::at_base(&base, &ca_file, BRIEF);
            bench.command.env_remove("CERTCTL_CA_FILE").arg("--insecure");
            let refused = bench.refused(1).stderr;
            assert!(refused.ends_with(&format!("{base}: {what}\nhint: {hint}\n")), "{refused}");
        }
    }
}

#[test]
fn a_handshake_failure_hints_at_ciphers_and_server_name() {
    needs!(Openssl);
    let root = Authority::root(KeyType::Rsa2048).unwrap();
    let identity = root.issue(KeyType::Rsa2048, Purpose::Server, &["localhost", "127.0.0.1"]).unwrap();
    let server = Server::start(&identity, &["-tls1_2", "-cipher", "AES128-SHA"]);
    let ca_file = server.folder().join("root.pem");
    std::fs::write(&ca_file, root.pem()).unwrap();
    let common = "have it accept a cipher suite, group and key that this suite supports: TLS 1.3, or 1.2 with ECDHE \
                  and AES-GCM or ChaCha20; X25519, P-256 or P-384; a certificate with an RSA, ECDSA (P-256, P-384, \
                  P-521) or Ed25519 key";
    let alert = "the TLS handshake failed: received fatal alert: HandshakeFailure";
    let address = server.address;
    assert_refused(
        Bench::at_base(&format!("https://{address}"), &ca_file, BRIEF),
        &format!("https://{address}: {alert}; no server name was sent, since the URL has an address"),
        &format!(
            "{common}; or write https://NAME:PORT in CERTCTL_BASE, with a name that the server knows (a line in /etc/hosts \
             gives an address a name)"
        ),
    );
}

#[test]
fn a_missing_server_name_is_named_in_the_hint() {
    // As HAProxy does with strict-sni: a fatal alert, unrecognized_name.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut connection, &[21, 3, 3, 0, 2, 2, 112]);
            // Until the client closes.
            let _ = std::io::copy(&mut connection, &mut std::io::sink());
        }
    });
    let peer = Peer::start(certctl);
    assert_refused(
        Bench::at_base(&format!("https://{address}"), &peer.ca_file(), BRIEF),
        &format!(
            "https://{address}: the TLS handshake failed: received fatal alert: UnrecognisedName; no server name was sent, \
             since the URL has an address"
        ),
        "write https://NAME:PORT in CERTCTL_BASE, with a name that the server knows (a line in /etc/hosts gives an \
         address a name)",
    );
}
