//! Revocation, and what relying parties learn of it.

use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_cert::ext::pkix::CrlReason;
use x509_ocsp::{CertStatus, OcspResponseStatus};

use crate::common::needs::needs;
use crate::common::process::PATIENCE;
use crate::issuing::{certificate, certificate_id, issue, post, servers, verified_chain};
use crate::relying_party::{self, CRL, OCSP, nonces, response_status, revoked_serials, status, verified};
use crate::server::{ADMIN, Server, VIEWER};

const BULK: &str = "/api/v1/certificates/bulk-revoke";

fn authority(version: &Value) -> CertificateDer<'static> {
    let [_, authority] = verified_chain(version["pem_chain"].as_str().expect("PEM"));
    authority
}

fn serial(version: &Value) -> &str {
    version["serial_number"].as_str().expect("a serial number")
}

fn crl(server: &Server) -> crate::client::Answer {
    server.exchange("GET", CRL, None, "")
}

#[test]
fn a_revoked_certificate_is_no_longer_good() {
    for server in servers(2, &["--behaviour", "as-documented"]) {
        let version = issue(&server, 1);
        let ca = authority(&version);
        let both = || {
            let by_get = relying_party::get(&server, serial(&version));
            assert_eq!(by_get.header("cache-control"), Some("max-age=3600"));
            [status(&by_get, &ca), status(&relying_party::post(&server, &version, None), &ca)]
        };
        assert_eq!(both(), [CertStatus::good(); 2]);
        // The second answer was a kept one.
        server.until_work(&json!({"ocsp_answers": 2, "ocsp_signed": 1}));

        let path = format!("/api/v1/certificates/{}/revoke", certificate_id(1));
        let headers = [("Authorization", &*format!("Bearer {ADMIN}")), ("Content-Type", "application/json")];
        let revoke = |body: &str| server.connect().send("POST", &path, &headers, body);
        assert_eq!(revoke("{\"reason\":\"boredom\"}").failure().1, "invalid revocation reason: boredom");
        let revoked = revoke("{\"reason\":\"keyCompromise\"}");
        assert_eq!(revoked.shape(), (200, "application/json", "{\"status\":\"revoked\"}\n"));
        assert_eq!(revoke("{}").failure(), (400, "certificate is already revoked".to_owned()));
        let row = certificate(&server, 1);
        assert_eq!((&row["status"], &row["revocation_reason"]), (&json!("Revoked"), &json!("keyCompromise")));
        for status in both() {
            let CertStatus::Revoked(info) = status else { panic!("{status:?}") };
            assert_eq!(info.revocation_reason, Some(CrlReason::KeyCompromise));
        }

        let list = crl(&server);
        assert_eq!(revoked_serials(&list, &ca), [serial(&version)]);
        let tag = list.header("etag").expect("a tag").to_owned();
        assert!(tag.starts_with("W/\"") && tag.len() == 36, "{tag}");
        assert_eq!(list.header("cache-control"), Some("public, max-age=3600, must-revalidate"));
        let again = server.connect().send("GET", CRL, &[("If-None-Match", &tag)], "");
        assert_eq!((again.status, again.bytes.len(), again.header("etag")), (304, 0, Some(&*tag)));
        server.until_work(&json!({"revocations": 1, "crl_answers": 2}));
    }
}

#[test]
fn a_list_of_certificates_is_revoked_where_it_can_be() {
    for server in servers(3, &[]) {
        issue(&server, 1);
        issue(&server, 3);
        let ids = json!([certificate_id(1), certificate_id(2), "nope", certificate_id(3)]);
        for (body, message) in [
            (json!({"certificate_ids": ids}), "Revocation reason is required"),
            (json!({"filter": {"certificate_ids": ids}}), "Revocation reason is required"),
            (json!({"certificate_ids": ids, "reason": "x"}), "Invalid revocation reason: x"),
        ] {
            assert_eq!(post(&server, BULK, &body).failure(), (400, message.to_owned()));
        }
        assert_eq!(post(&server, BULK, &json!({"reason": "superseded"})).failure().0, 400);
        let body = json!({"certificate_ids": ids, "reason": "superseded"});
        assert_eq!(server.exchange("POST", BULK, Some(VIEWER), &body.to_string()).status, 403);
        let mut revoked = post(&server, BULK, &body).json();
        // The second was never issued.
        let error = revoked["errors"][0]["error"].take();
        assert!(error.as_str().is_some_and(|text| text.starts_with("failed to get certificate version")), "{error}");
        let totals = |revoked: u32, skipped: u32| {
            json!({
                "total_matched": 3, "total_revoked": revoked, "total_skipped": skipped, "total_failed": 1,
                "errors": [{"certificate_id": certificate_id(2), "error": null}],
            })
        };
        assert_eq!(revoked, totals(2, 0));
        let mut again = post(&server, BULK, &body).json();
        again["errors"][0]["error"].take();
        assert_eq!(again, totals(0, 2));
        server.until_work(&json!({"revocations": 2}));
    }
}

#[test]
fn crl_is_kept_until_its_interval_ends() {
    for server in servers(1, &[]) {
        let version = issue(&server, 1);
        assert_eq!(revoked_serials(&crl(&server), &authority(&version)), [] as [&str; 0]);
        post(&server, BULK, &json!({"certificate_ids": [certificate_id(1)], "reason": "superseded"}));
        assert_eq!(
            revoked_serials(&crl(&server), &authority(&version)),
            [] as [&str; 0],
            "a revocation does not drop the list"
        );
        let by_ocsp = status(&relying_party::get(&server, serial(&version)), &authority(&version));
        assert!(matches!(by_ocsp, CertStatus::Revoked(_)), "{by_ocsp:?}");
    }
    for server in servers(1, &["--crl-interval", "50ms"]) {
        let version = issue(&server, 1);
        assert_eq!(crl(&server).status, 200);
        post(&server, BULK, &json!({"certificate_ids": [certificate_id(1)], "reason": "superseded"}));
        let deadline = Instant::now() + PATIENCE;
        while revoked_serials(&crl(&server), &authority(&version)) != [serial(&version)] {
            assert!(Instant::now() < deadline, "the list was not made again");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_serial_number_with_leading_zeros_follows_the_behaviour() {
    for (behaviour, expected) in [("as-built", CertStatus::unknown()), ("as-documented", CertStatus::good())] {
        for server in servers(1, &["--behaviour", behaviour]) {
            // One in eight begins with a zero digit.
            let zero = |version: &Value| serial(version).starts_with('0');
            let version = (0..1_000).map(|_| issue(&server, 1)).find(zero).expect("one of a thousand");
            let ca = authority(&version);
            assert_eq!(status(&relying_party::post(&server, &version, None), &ca), expected, "{behaviour}");
            assert_eq!(status(&relying_party::get(&server, serial(&version)), &ca), CertStatus::good());
        }
    }
}

#[test]
fn a_nonce_comes_back_where_the_behaviour_puts_it() {
    for (behaviour, place) in [("as-built", 0), ("as-documented", 1)] {
        for server in servers(1, &["--behaviour", behaviour]) {
            let version = issue(&server, 1);
            for _ in 0..2 {
                let answer = relying_party::post(&server, &version, Some(b"nonce"));
                let mut found = nonces(&verified(&answer, &authority(&version)));
                assert_eq!(found[place].take().as_deref(), Some(b"nonce".as_slice()), "{behaviour}");
                assert_eq!(found, [None, None]);
            }
            server.until_work(&json!({"ocsp_signed": 2}));
            for bad in [&[][..], &[7; 33]] {
                let answer = relying_party::post(&server, &version, Some(bad));
                assert_eq!((answer.status, response_status(&answer)), (200, OcspResponseStatus::Unauthorized));
            }
        }
    }
}

#[test]
fn odd_requests_of_relying_parties_are_refused_as_in_certctl() {
    for server in servers(1, &[]) {
        let version = issue(&server, 1);
        let ca = authority(&version);
        let unknown = "ff".repeat(20);
        for serial in [&*unknown, "1", "not-hex"] {
            assert_eq!(status(&relying_party::get(&server, serial), &ca), CertStatus::unknown(), "{serial}");
        }
        let mut client = server.connect();
        let typed = |kind| [("Content-Type", kind)];
        let body = relying_party::request(&version, None);
        assert_eq!(client.send("POST", OCSP, &typed("application/json"), &body).status, 415);
        assert_eq!(client.send("POST", OCSP, &typed("application/OCSP-Request; x"), &body).status, 200);
        assert_eq!(client.send("POST", OCSP, &[], &body).status, 200);
        let malformed = client.send("POST", OCSP, &[], "x");
        assert_eq!((malformed.status, &malformed.json()["request_id"]), (400, &Value::Null));
        for path in ["/.well-known/pki/crl/nope", "/.well-known/pki/ocsp/nope/00"] {
            let answer = client.send("GET", path, &[], "");
            assert_eq!((answer.status, &answer.json()["message"]), (404, &json!("issuer not found: nope")), "{path}");
        }
        assert_eq!(client.send("GET", OCSP, &[], "").header("allow"), Some("POST"));
        assert_eq!(client.send("POST", CRL, &[], "").header("allow"), Some("GET, HEAD"));
        assert_eq!(client.send("HEAD", CRL, &[], "").status, 405);
        assert_eq!(client.send("GET", "/.well-known/pki/", &[], "").status, 404);
    }
}

#[test]
fn beyond_the_limit_the_answer_is_200_and_unauthorized() {
    for server in servers(0, &["--ocsp-limit", "2"]) {
        // On a machine so slow that a minute passes between two of them, more requests are within the limit.
        let mut served = 0;
        let limited = loop {
            let answer = relying_party::get(&server, "0a");
            assert_eq!(answer.status, 200);
            if response_status(&answer) == OcspResponseStatus::Unauthorized {
                break answer;
            }
            assert_eq!(
                (response_status(&answer), answer.header("retry-after")),
                (OcspResponseStatus::Successful, None)
            );
            served += 1;
            assert!(served < 100, "nothing is limited");
        };
        assert_eq!(limited.header("retry-after"), Some("60"));
        assert!(served >= 2, "limited after {served}");
        server.until_work(&json!({"ocsp_answers": served, "ocsp_limited": 1, "audit_rows": 0}));
    }
    for server in servers(0, &["--ocsp-limit", "0"]) {
        let mut client = server.connect();
        let path = format!("{OCSP}/0a");
        let limited = (0..1_001).filter(|_| client.send("GET", &path, &[], "").bytes.len() < 6).count();
        assert_eq!(limited, 0);
    }
}

#[test]
fn revocation_and_ocsp_cost_the_same_statements_as_in_certctl() {
    needs!(Postgresql);
    let server = Server::on_postgres(1, &[]);
    let version = issue(&server, 1);
    let ask = |server: &Server| {
        let path = format!("{OCSP}/{}", serial(&version));
        server.statements(|client| _ = client.send("GET", &path, &[], ""))
    };
    let (cache, put) = ("SELECT ocsp_response_cache", "INSERT ocsp_response_cache");
    let (revocation, responder) = ("SELECT certificate_revocations", "SELECT ocsp_responders");
    let (row, mappings) = ("SELECT managed_certificates", "SELECT certificate_target_mappings");
    let bootstrap = "INSERT ocsp_responders";
    assert_eq!(ask(&server), [cache, revocation, revocation, row, mappings, responder, bootstrap, put]);
    assert_eq!(ask(&server), [cache]);
    let body = json!({"certificate_ids": [certificate_id(1)], "reason": "superseded"}).to_string();
    let (gate, audit, owner) = ("SELECT actor_roles", "INSERT audit_events", "SELECT owners");
    let (notify, sent) = ("INSERT notification_events", "UPDATE notification_events");
    let cost = server.statements(|client| _ = client.exchange("POST", BULK, Some(ADMIN), &body));
    let expected = [
        gate,
        row,
        mappings,
        row,
        mappings,
        "SELECT certificate_versions",
        "START",
        "UPDATE managed_certificates",
        "INSERT certificate_revocations",
        audit,
        "COMMIT",
        revocation,
        "UPDATE certificate_revocations",
        "DELETE",
        owner,
        notify,
        owner,
        notify,
        sent,
        sent,
        audit,
        audit,
    ];
    assert_eq!(cost, expected);
    assert_eq!(ask(&server), [cache, revocation, row, mappings, revocation, responder, put]);
    let list = server.statements(|client| _ = client.send("GET", CRL, &[], ""));
    assert_eq!(
        list,
        ["SELECT crl_cache", revocation, row, mappings, "INSERT crl_cache", "INSERT crl_generation_events"]
    );
}
