//! The layers that every request passes: probes, headers, keys, permissions, limits; and the heartbeat.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Answer;
use crate::common::needs::needs;
use crate::common::process::until;
use crate::server::{ADMIN, Server, VIEWER, command};

const HEARTBEAT: &str = "/api/v1/agents/ag-loadtest-00001/heartbeat";

fn in_memory() -> Server {
    Server::in_memory(&["--agents", "20"])
}

#[test]
fn the_server_announces_itself_and_answers_probes() {
    let server = in_memory();
    assert_eq!(server.announced["store"], "in-memory");
    assert_eq!(server.announced["behaviour"], "as-built");
    assert_eq!(server.announced["version"], env!("CARGO_PKG_VERSION"));
    let mut client = server.connect();
    let health = client.exchange("GET", "/health", None, "");
    assert_eq!(health.shape(), (200, "application/json", "{\"status\":\"healthy\"}\n"));
    assert_eq!(health.header("access-control-allow-origin"), Some("*"));
    let ready = client.exchange("GET", "/ready", None, "");
    assert_eq!(ready.shape(), (200, "application/json", "{\"db\":\"reachable\",\"status\":\"ready\"}\n"));
    let info = client.exchange("GET", "/api/v1/auth/info", None, "");
    assert_eq!(info.json(), json!({"auth_type": "api-key", "oidc_providers": [], "required": true}));
    assert_eq!(client.exchange("POST", "/health", None, "").status, 405);
    let tls = &client.reader.get_ref().conn;
    assert_eq!(tls.alpn_protocol(), Some(b"http/1.1".as_slice()));
    assert_eq!(tls.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let suite = tls.negotiated_cipher_suite().map(|suite| suite.suite());
    assert_eq!(suite, Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256));
}

#[test]
fn every_answer_carries_certctls_headers() {
    let server = in_memory();
    let mut client = server.connect();
    let first = client.exchange("GET", "/healthz", None, "");
    let second = client.exchange("GET", "/healthz", Some(ADMIN), "");
    assert_eq!((first.status, second.status), (401, 404));
    for answer in [&first, &second] {
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(answer.header("date").is_some() && answer.header("strict-transport-security").is_some());
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    let id = first.header("x-request-id").expect("an id");
    assert_eq!((id.len(), &id[14..15]), (36, "4"));
    assert_ne!(Some(id), second.header("x-request-id"));
}

#[test]
fn auth_check_lists_permissions() {
    let server = in_memory();
    let mut client = server.connect();
    for (token, user, role, permissions) in [(ADMIN, "loadtest", "r-admin", 82), (VIEWER, "viewer", "r-viewer", 19)] {
        let answer = client.exchange("GET", "/api/v1/auth/check", Some(token), "");
        // Go announces no length for a body beyond 2 KiB.
        assert_eq!(answer.header("content-length").is_none(), permissions == 82);
        let check = answer.json();
        assert_eq!(check["status"], "authenticated");
        assert_eq!((&check["user"], &check["roles"]), (&json!(user), &json!([role])));
        assert_eq!(check["admin"], json!(role == "r-admin"));
        let held = check["effective_permissions"].as_array().expect("a list");
        assert_eq!(held.len(), permissions);
        let heartbeat = json!({"permission": "agent.heartbeat", "scope_type": "global"});
        assert_eq!(held.contains(&heartbeat), role == "r-admin");
    }
}

#[test]
fn requests_without_permission_are_refused_as_in_certctl() {
    let server = in_memory();
    let mut client = server.connect();
    let text = "text/plain; charset=utf-8";
    let missing = client.exchange("POST", HEARTBEAT, None, "{}");
    assert_eq!(missing.shape(), (401, text, "{\"error\":\"Authorization header required\"}\n"));
    assert_eq!(missing.header("www-authenticate"), Some("Bearer realm=\"certctl\""));
    let unknown = client.exchange("POST", HEARTBEAT, Some("wrong"), "{}");
    assert_eq!(unknown.shape(), (401, text, "{\"error\":\"Invalid API key\"}\n"));
    assert_eq!(unknown.header("www-authenticate"), None);
    let scheme = client.send("POST", HEARTBEAT, &[("Authorization", "Basic abc")], "{}");
    let expected = "{\"error\":\"Invalid Authorization header format, expected: Bearer <token>\"}\n";
    assert_eq!(scheme.shape(), (401, text, expected));
    let viewer = client.exchange("POST", HEARTBEAT, Some(VIEWER), "{}");
    let expected = (403, "application/json; charset=utf-8", "{\"error\":\"Insufficient permissions\"}");
    assert_eq!(viewer.shape(), expected);
    let method = client.exchange("GET", HEARTBEAT, Some(ADMIN), "");
    assert_eq!(method.shape(), (405, text, "Method Not Allowed\n"));
    assert_eq!(method.header("allow"), Some("POST"));
    let nothing = client.exchange("GET", "/api/v1/nope", Some(ADMIN), "");
    assert_eq!(nothing.shape(), (404, text, "404 page not found\n"));
    let untidy = client.exchange("POST", "/api/v1/agents//heartbeat", Some(ADMIN), "{}");
    assert_eq!((untidy.status, untidy.header("location")), (307, Some("/api/v1/agents/heartbeat")));
}

#[test]
fn a_heartbeat_updates_the_agent() {
    let server = in_memory();
    let mut client = server.connect();
    let agent = "/api/v1/agents/ag-loadtest-00001";
    let before = client.exchange("GET", agent, Some(VIEWER), "").json();
    assert_eq!((&before["os"], &before["status"]), (&json!("darwin"), &json!("Online")));
    let body = json!({"version": "9.9.9", "hostname": "", "os": "linux"}).to_string();
    let beat = client.exchange("POST", HEARTBEAT, Some(ADMIN), &body);
    assert_eq!(beat.shape(), (200, "application/json", "{\"status\":\"heartbeat_recorded\"}\n"));
    let after = client.exchange("GET", agent, Some(ADMIN), "").json();
    assert_eq!((&after["version"], &after["os"]), (&json!("9.9.9"), &json!("linux")));
    assert_eq!(after["hostname"], before["hostname"]);
    assert_ne!(after["last_heartbeat_at"], before["last_heartbeat_at"]);
    for undecodable in ["", "{oops", "[]"] {
        assert_eq!(client.exchange("POST", HEARTBEAT, Some(ADMIN), undecodable).status, 200);
    }
    server.until_work(&json!({"heartbeats": 4, "audit_rows": 6}));
}

#[test]
fn unknown_agent_follows_the_behaviour() {
    let path = "/api/v1/agents/ag-nope/heartbeat";
    for (behaviour, status, error, message) in [
        ("as-built", 500, "Internal Server Error", "Failed to record heartbeat"),
        ("as-documented", 404, "Not Found", "Agent not found"),
    ] {
        let server = Server::in_memory(&["--agents", "1", "--behaviour", behaviour]);
        assert_eq!(server.announced["behaviour"], behaviour);
        let answer = server.exchange("POST", path, Some(ADMIN), "{}");
        let id = answer.header("x-request-id").expect("an id").to_owned();
        assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")));
        assert_eq!(answer.json(), json!({"error": error, "message": message, "request_id": id}));
    }
}

#[test]
fn the_rate_limiter_refuses_after_its_burst() {
    let server = Server::in_memory(&["--agents", "1", "--rate-limit"]);
    let mut client = server.connect();
    let start = Instant::now();
    // Until it limits; on a machine that is slower than 50/s it never would.
    let mut answers: Vec<Answer> = Vec::new();
    while !answers.iter().any(|answer| answer.status == 429) {
        if start.elapsed() > Duration::from_secs(60) {
            needs!(else "this machine is too slow for the limit of 50 requests/s");
        }
        answers.extend((0..400).map(|_| client.exchange("POST", HEARTBEAT, Some(ADMIN), "{}")));
    }
    let allowed = answers.iter().filter(|answer| answer.status == 200).count();
    let refilled = (start.elapsed().as_secs_f64() * 50.0).ceil();
    assert!(allowed >= 100 && (allowed as f64) <= 101.0 + refilled, "{allowed} allowed, {refilled} refilled");
    let refused = answers.iter().find(|answer| answer.status == 429).expect("a refusal");
    let expected = (429, "text/plain; charset=utf-8", "{\"error\":\"Rate limit exceeded\"}\n");
    assert_eq!(refused.shape(), expected);
    assert_eq!(refused.header("retry-after"), Some("1"));
    // The probes have a bucket of their own.
    assert_eq!(client.exchange("GET", "/health", None, "").status, 200);
}

#[test]
fn a_silent_new_connection_closes_and_an_idle_one_stays() {
    let server = in_memory();
    let (mut silent, mut idle) = (server.connect(), server.connect());
    silent.reader.get_mut().flush().expect("shakes hands");
    assert_eq!(idle.exchange("GET", "/health", None, "").status, 200);
    // Reading ends with TLS's close, not with an error.
    assert_eq!(silent.reader.read(&mut [0; 1]).expect("a clean end"), 0);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(idle.exchange("GET", "/health", None, "").status, 200);
}

#[test]
fn the_server_stops_when_standard_input_ends() {
    let mut server = in_memory();
    let mut client = server.connect();
    assert_eq!(client.exchange("POST", HEARTBEAT, Some(ADMIN), "{}").status, 200);
    drop(server.child.stdin.take());
    let mut status = None;
    until("the server ends", || {
        status = server.child.try_wait().expect("a child of ours");
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

#[test]
fn usage_errors_are_refused_with_a_hint() {
    let refused = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().expect("runs");
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, message) = refused(&mut command(&["--in-memory", "--listen", "0.0.0.0:0"]));
    assert_eq!(code, Some(2));
    assert!(message.contains("0.0.0.0 is not a loopback address"), "{message}");
    assert_eq!(refused(&mut command(&[])).0, Some(2));
    assert_eq!(refused(&mut command(&["--in-memory", "--database", "postgres://x"])).0, Some(2));
    let (code, message) = refused(command(&["--in-memory"]).env_remove("CERTCTL_REFERENCE_TOKEN"));
    assert_eq!((code, message.lines().count()), (Some(1), 1));
    assert!(message.contains("CERTCTL_REFERENCE_TOKEN is not set"), "{message}");
    let unreachable = "postgres://u:secret-password@127.0.0.1:1/db";
    let (code, message) = refused(&mut command(&["--database", unreachable]));
    assert_eq!((code, message.lines().count()), (Some(1), 1));
    assert!(message.contains("@127.0.0.1:1/db: error connecting") && !message.contains("secret-password"), "{message}");
}

#[test]
fn a_delay_applies_to_requests_but_not_to_probes() {
    const DELAY: Duration = Duration::from_millis(300);
    let server = Server::in_memory(&["--agents", "1", "--delay", "300ms"]);
    let mut client = server.connect();
    let started = Instant::now();
    assert_eq!(client.exchange("POST", HEARTBEAT, Some(ADMIN), "{}").status, 200);
    assert!(started.elapsed() >= DELAY);
    // The quickest of several: a busy machine may hold one back, too.
    let quickest = (0..20).map(|_| {
        let started = Instant::now();
        assert_eq!(client.exchange("GET", "/health", None, "").status, 200);
        started.elapsed()
    });
    assert!(quickest.min() < Some(DELAY));
    let refused = command(&["--in-memory", "--delay", "long"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("write it as 2ms"));
}
