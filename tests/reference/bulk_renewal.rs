//! Renewing many certificates at once.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::common::needs::needs;
use crate::server::{ADMIN, Server, VIEWER};

const PATH: &str = "/api/v1/certificates/bulk-renew";

fn renew(server: &Server, body: &Value) -> Answer {
    server.exchange("POST", PATH, Some(ADMIN), &body.to_string())
}

/// Returns the numbers matched, enqueued, skipped and failed.
fn totals(answer: &Answer) -> [u64; 4] {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    let totals = ["matched", "enqueued", "skipped", "failed"];
    let totals = totals.map(|total| json[format!("total_{total}")].as_u64().expect("a total"));
    assert_eq!(json["enqueued_jobs"].as_array().map_or(0, Vec::len) as u64, totals[1]);
    totals
}

fn status(server: &Server, id: &str) -> Value {
    server.exchange("GET", &format!("/api/v1/certificates/{id}"), Some(ADMIN), "").json()["status"].take()
}

fn id(n: u32) -> String {
    format!("cert-loadtest-bulk-{n:05}")
}

#[test]
fn criteria_match_the_fifty_oldest_or_all() {
    let criteria = json!({"team_id": "t-platform", "issuer_id": "iss-local", "owner_id": ""});
    for (behaviour, reached) in [("as-built", 50), ("as-documented", 80)] {
        for server in Server::on_both(80, &["--behaviour", behaviour]) {
            let first = renew(&server, &criteria);
            assert_eq!(totals(&first), [reached, reached, 0, 0]);
            let job = &first.json()["enqueued_jobs"][0];
            assert_eq!(job["certificate_id"], id(1));
            assert!(job["job_id"].as_str().expect("an id").starts_with("job-"));
            let again = renew(&server, &criteria);
            let expected = format!(
                "{{\"total_matched\":{reached},\"total_enqueued\":0,\"total_skipped\":{reached},\"total_failed\":0}}\n"
            );
            assert_eq!(again.body, expected);
            assert_eq!(status(&server, &id(50)), "RenewalInProgress");
            assert_eq!(status(&server, &id(51)) == "RenewalInProgress", behaviour == "as-documented");
            assert_eq!(totals(&renew(&server, &json!({"owner_id": "nobody"}))), [0, 0, 0, 0]);
            let work = server.work();
            assert_eq!((&work["renewals_enqueued"], &work["renewals_skipped"]), (&json!(reached), &json!(reached)));
        }
    }
}

#[test]
fn ids_are_renewed_in_order_and_unknown_ids_dropped() {
    for server in Server::on_both(60, &[]) {
        let ids = json!({"certificate_ids": [id(59), "nope", id(2)]});
        let answer = renew(&server, &ids);
        assert_eq!(totals(&answer), [2, 2, 0, 0]);
        let jobs = answer.json()["enqueued_jobs"].take();
        assert_eq!((&jobs[0]["certificate_id"], &jobs[1]["certificate_id"]), (&json!(id(59)), &json!(id(2))));
        assert_eq!(totals(&renew(&server, &ids)), [2, 0, 2, 0]);
        assert_eq!(totals(&renew(&server, &json!({"certificate_ids": ["nope"]}))), [0, 0, 0, 0]);
        // All rows are read before the first is written.
        assert_eq!(totals(&renew(&server, &json!({"certificate_ids": [id(3), id(3)]}))), [2, 2, 0, 0]);
        // Of ids beside criteria, only those among the fifty oldest.
        let both = json!({"team_id": "t-platform", "certificate_ids": [id(50), id(51)]});
        assert_eq!(totals(&renew(&server, &both)), [1, 1, 0, 0]);
    }
}

#[test]
fn closed_certificates_are_skipped_and_unissued_ones_issued() {
    for server in Server::on_both(0, &[]) {
        let states = ["Archived", "Revoked", "Expired", "RenewalInProgress", "archived", "Failed"];
        for state in states {
            let expiry = if state == "Failed" { Value::Null } else { json!("2031-01-01T00:00:00Z") };
            let body = json!({
                "id": state, "name": format!("{state}.test"), "common_name": "a.b", "owner_id": "o-alice",
                "team_id": "t-platform", "issuer_id": "iss-local", "renewal_policy_id": "rp-standard",
                "status": state, "expires_at": expiry,
            });
            let made = server.exchange("POST", "/api/v1/certificates", Some(ADMIN), &body.to_string());
            assert_eq!(made.status, 201);
        }
        assert_eq!(totals(&renew(&server, &json!({"certificate_ids": states}))), [6, 2, 4, 0]);
        assert_eq!(server.work()["renewals_skipped"], 4);
        if server.announced["store"] != "in-memory" {
            let kind = |id: &str| -> String {
                server.sql().query_one("SELECT type FROM jobs WHERE certificate_id = $1", &[&id]).unwrap().get(0)
            };
            assert_eq!((kind("archived"), kind("Failed")), ("Renewal".to_owned(), "Issuance".to_owned()));
        }
    }
}

#[test]
fn requests_without_criteria_are_refused() {
    let server = Server::in_memory(&["--certificates", "1"]);
    for empty in ["{}", "null", r#"{"certificate_ids":[]}"#, r#"{"team_id":""}"#] {
        let (status, message) = server.exchange("POST", PATH, Some(ADMIN), empty).failure();
        assert!(status == 400 && message.starts_with("Give at least one of"), "{message}");
    }
    for undecodable in ["", "{oops", "[]", r#"{"certificate_ids":"x"}"#] {
        let refused = server.exchange("POST", PATH, Some(ADMIN), undecodable).failure();
        assert_eq!(refused, (400, "Invalid request body".to_owned()));
    }
    assert_eq!(server.exchange("POST", PATH, Some(VIEWER), "{}").status, 403);
    let shown = server.exchange("GET", PATH, Some(ADMIN), "");
    assert_eq!(shown.failure(), (404, "Certificate not found".to_owned()));
}

#[test]
fn ten_thousand_ids_fit_and_a_larger_body_is_refused() {
    let server = Server::in_memory(&[]);
    let ids: Vec<String> = (1..=10_000).map(id).collect();
    let renewed = renew(&server, &json!({"certificate_ids": ids}));
    assert_eq!(totals(&renewed), [10_000, 10_000, 0, 0]);
    assert_eq!(server.work()["renewals_enqueued"], 10_000);
    let padded = |bytes: usize| {
        let body = json!({"team_id": "t-platform", "certificate_ids": ["x"]}).to_string();
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    assert_eq!(server.exchange("POST", PATH, Some(ADMIN), &padded(1 << 20)).status, 200);
    let refused = server.exchange("POST", PATH, Some(ADMIN), &padded((1 << 20) + 1)).failure();
    assert_eq!(refused, (400, "Invalid request body".to_owned()));
}

#[test]
fn rows_and_statements_match_certctl() {
    needs!(Postgresql);
    let server = Server::on_postgres(60, &[]);
    let (gate, audit, insert) = ("SELECT actor_roles", "INSERT audit_events", "INSERT jobs");
    let (row, mappings) = ("SELECT managed_certificates", "SELECT certificate_target_mappings");
    let update = "UPDATE managed_certificates";
    let cost =
        |body: &Value| server.statements(|client| _ = client.exchange("POST", PATH, Some(ADMIN), &body.to_string()));

    let ids = json!({"certificate_ids": [id(1), "nope", id(2)]});
    let both_read = [gate, row, mappings, row, row, mappings];
    assert_eq!(cost(&ids), [both_read.as_slice(), &[update, insert, update, insert, audit, audit]].concat());
    assert_eq!(cost(&ids), [both_read.as_slice(), &[audit, audit]].concat());
    let criteria = json!({"team_id": "t-platform", "certificate_ids": [id(3)]});
    assert_eq!(cost(&criteria), [gate, row, row, mappings, update, insert, audit, audit]);
    assert_eq!(cost(&json!({"owner_id": "nobody"})), [gate, row, row, audit, audit]);
    assert_eq!(cost(&json!({})), [gate, audit]);

    let job = "SELECT count(*) FROM jobs WHERE type = 'Renewal' AND status = 'AwaitingCSR' AND attempts = 0
        AND max_attempts = 3 AND scheduled_at = created_at AND target_id IS NULL AND agent_id IS NULL
        AND last_error IS NULL AND started_at IS NULL AND completed_at IS NULL AND verification_status = 'pending'";
    assert_eq!(server.sql_number(job), 3);
    let written_back = "SELECT count(*) FROM managed_certificates WHERE status = 'RenewalInProgress'
        AND environment = 'loadtest' AND sans = ARRAY[name::text] AND tags = '{}' AND renewal_policy_id = 'rp-standard'
        AND updated_at = (SELECT min(updated_at) FROM managed_certificates)";
    assert_eq!(server.sql_number(written_back), 3);

    let sql = "SELECT actor, resource_type, resource_id, details::text FROM audit_events
        WHERE action = 'bulk_renewal_initiated' ORDER BY timestamp";
    let rows = server.sql().query(sql, &[]).unwrap();
    let details: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row.get(3)).unwrap()).collect();
    let named: [String; 3] = [0, 1, 2].map(|column| rows[0].get(column));
    assert_eq!((rows.len(), named), (4, ["loadtest", "certificate", "bulk"].map(str::to_owned)));
    let totals = |matched: u32, enqueued: u32, skipped: u32| {
        json!({
            "total_matched": matched, "total_enqueued": enqueued, "total_skipped": skipped, "total_failed": 0,
            "certificate_ids": format!("{},nope,{}", id(1), id(2)),
        })
    };
    assert_eq!(details[..2], [totals(2, 2, 0), totals(2, 0, 2)]);
    assert_eq!((&details[2]["team_id"], &details[3]["owner_id"]), (&json!("t-platform"), &json!("nobody")));
}
