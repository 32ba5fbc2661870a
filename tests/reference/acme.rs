//! ACME's unsigned requests.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Answer;
use crate::common::needs::needs;
use crate::server::{ADMIN, Server, VIEWER};

const PROFILE: &str = "/acme/profile/prof-standard-tls";

fn get(server: &Server, path: &str) -> Answer {
    server.exchange("GET", path, Some(VIEWER), "")
}

/// Returns status, kind and detail of a problem, which must carry no nonce, as certctl's.
pub fn problem(answer: &Answer) -> (u16, String, String) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.body);
    for absent in ["replay-nonce", "cache-control", "retry-after"] {
        assert_eq!(answer.header(absent), None);
    }
    let json = answer.json();
    assert_eq!(json["status"], answer.status);
    let kind = json["type"].as_str().and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:"));
    (answer.status, kind.expect("a kind").to_owned(), json["detail"].as_str().expect("a detail").to_owned())
}

pub fn expect(status: u16, kind: &str, detail: &str) -> (u16, String, String) {
    (status, kind.to_owned(), detail.to_owned())
}

#[test]
fn the_directory_names_urls_of_the_requested_host() {
    for server in Server::on_both(0, &[]) {
        let bearer = format!("Bearer {ADMIN}");
        let mut client = server.connect();
        let path = format!("{PROFILE}/directory");
        let answer = client.send("GET", &path, &[("Authorization", &bearer)], "");
        let base = format!("https://localhost{PROFILE}");
        let expected = format!(
            "{{\"newNonce\":\"{base}/new-nonce\",\"newAccount\":\"{base}/new-account\",\
             \"newOrder\":\"{base}/new-order\",\"revokeCert\":\"{base}/revoke-cert\",\
             \"keyChange\":\"{base}/key-change\",\"renewalInfo\":\"{base}/renewal-info\"}}\n"
        );
        assert_eq!(answer.shape(), (200, "application/json", expected.as_str()));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=0, no-cache"));
        assert_eq!(answer.header("replay-nonce").map(str::len), Some(43));
        let head = client.send("HEAD", &path, &[("Authorization", &bearer)], "");
        assert_eq!(head.header("content-length"), Some(expected.len().to_string().as_str()));
        let post = client.send("POST", &path, &[("Authorization", &bearer)], "{}");
        assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
        server.until_work(&json!({"nonces_issued": 2, "audit_rows": 3}));
    }
}

#[test]
fn each_nonce_is_new_and_remembered() {
    for server in Server::on_both(0, &[]) {
        let path = format!("{PROFILE}/new-nonce");
        let mut nonces = BTreeSet::new();
        for (method, status) in [("HEAD", 200), ("GET", 204)] {
            let answer = server.exchange(method, &path, Some(VIEWER), "");
            assert_eq!((answer.status, answer.body.as_str()), (status, ""));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!((answer.header("content-type"), answer.header("content-length")), (None, None));
            nonces.insert(answer.header("replay-nonce").expect("a nonce").to_owned());
        }
        assert_eq!(nonces.len(), 2);
        server.until_work(&json!({"nonces_issued": 2, "audit_rows": 2}));
        if server.announced["store"] != "in-memory" {
            let names: Vec<&str> = nonces.iter().map(String::as_str).collect();
            let sql = "SELECT count(*) FROM acme_nonces WHERE nonce = ANY ($1) AND NOT used
                AND expires_at - issued_at BETWEEN interval '4 minutes' AND interval '6 minutes'";
            let found: i64 = server.sql().query_one(sql, &[&names]).unwrap().get(0);
            assert_eq!(found, 2);
        }
    }
}

#[test]
fn renewal_info_distinguishes_malformed_and_unknown_ids() {
    for server in Server::on_both(0, &[]) {
        for malformed in ["aaaa", "a.b.c", "a!.bbb", "aaaa.", ".bbbb"] {
            let answer = get(&server, &format!("{PROFILE}/renewal-info/{malformed}"));
            let body = "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"ARI cert-id is malformed\",\
                        \"status\":400}\n";
            assert_eq!((problem(&answer).0, answer.body.as_str()), (400, body), "{malformed}");
        }
        let unknown = get(&server, &format!("{PROFILE}/renewal-info/aaaa.bbbb"));
        assert_eq!(problem(&unknown), expect(404, "malformed", "resource not found"));
        let empty = get(&server, &format!("{PROFILE}/renewal-info/"));
        assert_eq!(empty.shape(), (404, "text/plain; charset=utf-8", "404 page not found\n"));
    }
}

#[test]
fn renewal_info_of_an_issued_certificate_is_a_window() {
    needs!(Postgresql);
    let server = Server::on_postgres(1, &[]);
    let version = "INSERT INTO certificate_versions
            (id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain)
        VALUES ('v', 'cert-loadtest-bulk-00001', '6db6db', now() - interval '70 days', now(), 'f', '');
        UPDATE managed_certificates SET expires_at = '2035-03-31T00:00:00Z'";
    server.sql().batch_execute(version).unwrap();
    let answer = get(&server, &format!("{PROFILE}/renewal-info/aaaa.bbbb"));
    assert_eq!((answer.header("retry-after"), answer.header("cache-control")), (Some("21600"), Some("no-store")));
    // The policy renews within 30 days.
    let window = json!({"suggestedWindow": {"start": "2035-03-01T00:00:00Z", "end": "2035-03-16T00:00:00Z"}});
    assert_eq!((answer.status, answer.json()), (200, window));
}

#[test]
fn profiles_and_keys_follow_the_behaviour() {
    let unknown = "/acme/profile/prof-nope/directory";
    for server in Server::on_both(0, &[]) {
        assert_eq!(problem(&get(&server, unknown)), expect(500, "serverInternal", "ACME server error"));
        let missing = server.exchange("GET", &format!("{PROFILE}/directory"), None, "");
        assert_eq!((missing.status, missing.header("content-type")), (401, Some("text/plain; charset=utf-8")));
        for short in ["/acme/directory", "/acme/new-nonce", "/acme/renewal-info/x"] {
            let (status, kind, _) = problem(&get(&server, short));
            assert_eq!((status, kind.as_str()), (403, "userActionRequired"));
        }
        server.until_work(&json!({"nonces_issued": 0, "audit_rows": 4}));
    }
    for server in Server::on_both(0, &["--behaviour", "as-documented"]) {
        assert_eq!(problem(&get(&server, unknown)), expect(404, "userActionRequired", "profile not found"));
        let mut client = server.connect();
        let open = client.exchange("GET", &format!("{PROFILE}/directory"), None, "");
        assert_eq!((open.status, open.json()["newNonce"].is_string()), (200, true));
        assert_eq!(client.exchange("POST", &format!("{PROFILE}/directory"), None, "").status, 405);
        assert_eq!(client.exchange("GET", "/acme/nope", None, "").status, 404);
        assert_eq!(client.exchange("GET", "/api/v1/certificates", None, "").status, 401);
        // Requests without a key leave no audit row.
        let work = server.work();
        let counts: Vec<&Value> = ["nonces_issued", "audit_rows", "audit_pending"].map(|name| &work[name]).to_vec();
        assert_eq!(counts, [1, 0, 0]);
    }
}

#[test]
fn the_rate_limiter_refuses_in_plain_text() {
    let server = Server::in_memory(&["--certificates", "0", "--rate-limit"]);
    let mut client = server.connect();
    let refused = (0..400).map(|_| client.exchange("GET", &format!("{PROFILE}/directory"), Some(ADMIN), ""));
    let refused = refused.into_iter().find(|answer| answer.status == 429).expect("a refusal");
    let expected = (429, "text/plain; charset=utf-8", "{\"error\":\"Rate limit exceeded\"}\n");
    assert_eq!((refused.shape(), refused.header("retry-after")), (expected, Some("1")));
}

#[test]
fn acme_requests_cost_the_same_statements_as_in_certctl() {
    needs!(Postgresql);
    let server = Server::on_postgres(0, &[]);
    let cost = |path: &str| server.statements(|client| _ = client.exchange("GET", path, Some(VIEWER), ""));
    let (profile, nonce, audit) = ("SELECT certificate_profiles", "INSERT acme_nonces", "INSERT audit_events");
    assert_eq!(cost(&format!("{PROFILE}/directory")), [profile, nonce, audit]);
    assert_eq!(cost(&format!("{PROFILE}/new-nonce")), [profile, nonce, audit]);
    assert_eq!(cost(&format!("{PROFILE}/renewal-info/aaaa")), [profile, audit]);
    let version = "SELECT managed_certificates";
    assert_eq!(cost(&format!("{PROFILE}/renewal-info/aaaa.bbbb")), [profile, version, audit]);
    assert_eq!(cost("/acme/directory"), [audit]);
}
