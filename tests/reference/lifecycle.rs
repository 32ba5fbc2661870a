//! The life of a certificate after its renewal was accepted: signed, fetched, deployed, reported.

use certctl_bench::servers::hex;
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use webpki::EndEntityCert;

use crate::common::needs::needs;
use crate::issuing::{
    certificate, certificate_id, get, issue, map_targets, poll, post, servers, signing_request, submit, verified_chain,
    versions,
};
use crate::server::{ADMIN, Server, VIEWER};

fn renew(server: &Server, n: u32) -> (u16, Value) {
    let answer = post(server, &format!("/api/v1/certificates/{}/renew", certificate_id(n)), &json!({}));
    (answer.status, answer.json())
}

#[test]
fn a_renewal_leads_to_a_reported_deployment() {
    for server in servers(2, &[]) {
        assert_eq!(renew(&server, 1), (202, json!({"status": "renewal_triggered"})));
        assert_eq!(certificate(&server, 1)["status"], "RenewalInProgress");
        let (status, refusal) = renew(&server, 1);
        assert_eq!((status, &refusal["message"]), (409, &json!("certificate renewal already in progress")));

        // Handed out at every poll of the agent that has a target, until the request arrives.
        let [first, second] = [poll(&server, 1), poll(&server, 1)];
        assert_eq!((first.len(), &first), (1, &second));
        assert_eq!((&first[0]["type"], &first[0]["status"]), (&json!("Renewal"), &json!("AwaitingCSR")));
        assert_eq!(first[0]["common_name"], "loadtest-bulk-00001.example.test");
        assert_eq!(poll(&server, 2), [] as [Value; 0]);
        let renewal = first[0]["id"].as_str().expect("an id").to_owned();

        assert_eq!(submit(&server, 1).shape(), (202, "application/json", "{\"status\":\"csr_signed\"}\n"));
        let job = get(&server, &format!("/api/v1/jobs/{renewal}")).json();
        assert_eq!((&job["status"], &job["verification_status"]), (&json!("Completed"), &json!("")));
        let version = versions(&server, 1).swap_remove(0);
        let renewed = certificate(&server, 1);
        assert_eq!((&renewed["status"], &renewed["expires_at"]), (&json!("Active"), &version["not_after"]));
        assert_eq!((&version["key_algorithm"], &version["key_size"]), (&json!("ECDSA"), &json!(256)));

        // Claimed once.
        let deployments = poll(&server, 1);
        assert_eq!(deployments.len(), 1);
        let deployment = &deployments[0];
        assert_eq!((&deployment["type"], &deployment["status"]), (&json!("Deployment"), &json!("Running")));
        assert_eq!(
            (&deployment["target_id"], &deployment["target_type"]),
            (&json!("tgt-loadtest-00001"), &json!("NGINX"))
        );
        assert_eq!(deployment["target_config"]["cert_path"], "/etc/nginx/tls/loadtest-00001.crt");
        assert_eq!(poll(&server, 1), [] as [Value; 0]);

        let path = format!("/api/v1/agents/ag-loadtest-00001/certificates/{}", certificate_id(1));
        let fetched = get(&server, &path).json();
        let [leaf, _] = verified_chain(fetched["certificate_pem"].as_str().expect("PEM"));
        assert_eq!(version["fingerprint_sha256"], hex(&Sha256::digest(&leaf)));
        let parsed = EndEntityCert::try_from(&leaf).expect("parses");
        assert_eq!(version["serial_number"], format!("{:0>40}", hex(parsed.serial())));
        for name in ["agent.example.test", "loadtest-bulk-00001.example.test"] {
            parsed.verify_is_valid_for_subject_name(&name.try_into().expect("a name")).expect(name);
        }

        let id = deployment["id"].as_str().expect("an id");
        let report = format!("/api/v1/agents/ag-loadtest-00001/jobs/{id}/status");
        let reported = post(&server, &report, &json!({"status": "Completed"}));
        assert_eq!(reported.shape(), (200, "application/json", "{\"status\":\"updated\"}\n"));
        assert_eq!(get(&server, &format!("/api/v1/jobs/{id}")).json()["status"], "Completed");
        let verification = json!({
            "target_id": "tgt-loadtest-00001", "expected_fingerprint": "a", "actual_fingerprint": "a", "verified": true,
        });
        let verified = post(&server, &format!("/api/v1/jobs/{id}/verify"), &verification).json();
        assert_eq!((&verified["job_id"], &verified["verified"]), (&json!(id), &json!(true)));
        server.until_work(&json!({
            "renewals_enqueued": 1, "csrs_signed": 1, "deployments_claimed": 1, "deployments_completed": 1,
            "statuses_reported": 1, "certificates_fetched": 1, "jobs_signed": 0,
        }));
        if server.has_database() {
            let actions = "SELECT string_agg(action || ' ' || actor_type, ', ' ORDER BY timestamp)
                FROM audit_events WHERE resource_type <> 'api'";
            let actions: String = server.sql().query_one(actions, &[]).unwrap().get(0);
            let expected = "renewal_triggered User, renewal_job_completed System, csr_submitted Agent, \
                certificate_retrieved Agent, job_status_reported Agent, job_verification_success Agent";
            assert_eq!(actions, expected);
        }
    }
}

#[test]
fn a_forced_renewal_ignores_the_one_under_way() {
    for server in servers(1, &[]) {
        let path = format!("/api/v1/certificates/{}/renew", certificate_id(1));
        assert_eq!(post(&server, &path, &json!({})).status, 202);
        assert_eq!(post(&server, &format!("{path}?force=true"), &json!({})).status, 202);
        let headers = [("Authorization", &*format!("Bearer {ADMIN}")), ("Content-Type", "application/json")];
        assert_eq!(server.connect().send("POST", &path, &headers, "{\"force\":true}").status, 202);
        assert_eq!(poll(&server, 1).len(), 3);
    }
}

#[test]
fn a_request_without_a_job_is_signed_and_deployed_nowhere() {
    for server in servers(1, &[]) {
        let first = issue(&server, 1);
        let second = issue(&server, 1);
        assert_ne!(first["serial_number"], second["serial_number"]);
        assert_eq!(versions(&server, 1).len(), 2);
        assert_eq!(poll(&server, 1), [] as [Value; 0]);
        let body = json!({"csr_pem": signing_request(&KeyPair::generate().unwrap())});
        let accepted = post(&server, "/api/v1/agents/ag-loadtest-00001/csr", &body);
        assert_eq!(accepted.shape(), (202, "application/json", "{\"status\":\"csr_accepted\"}\n"));
        let page = format!("/api/v1/certificates/{}/versions?per_page=1&page=", certificate_id(1));
        assert_eq!(get(&server, &format!("{page}2")).json()["data"][0]["id"], first["id"]);
        assert_eq!(
            get(&server, &format!("{page}3")).json(),
            json!({"data": null, "total": 2, "page": 3, "per_page": 1})
        );
        server.until_work(&json!({"csrs_signed": 2}));
    }
}

#[test]
fn a_key_that_the_profile_rejects_fails_the_job() {
    for server in servers(0, &[]) {
        let new = json!({
            "id": "cert-p", "name": "p", "common_name": "p.example.test", "owner_id": "o-alice",
            "team_id": "t-platform", "issuer_id": "iss-local", "renewal_policy_id": "rp-standard",
            "certificate_profile_id": "prof-standard-tls", "expires_at": "2031-01-01T00:00:00Z",
        });
        assert_eq!(post(&server, "/api/v1/certificates", &new).status, 201);
        let ids = json!({"certificate_ids": ["cert-p"]});
        let renewed = post(&server, "/api/v1/certificates/bulk-renew", &ids).json();
        let job = renewed["enqueued_jobs"][0]["job_id"].as_str().expect("an id").to_owned();
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let body = json!({"csr_pem": signing_request(&key), "certificate_id": "cert-p"});
        let refused = post(&server, "/api/v1/agents/ag-loadtest-00001/csr", &body).failure();
        assert_eq!(refused, (500, "Failed to submit CSR".to_owned()));
        let job = get(&server, &format!("/api/v1/jobs/{job}")).json();
        assert_eq!(job["status"], "Failed");
        let error = job["last_error"].as_str().expect("an error");
        assert!(error.starts_with("CSR validation failed: CSR key (Ed25519 256-bit)"), "{error}");
    }
}

#[test]
fn unknown_rows_follow_the_behaviour_and_bad_bodies_are_400() {
    let csr = |agent: &str| format!("/api/v1/agents/{agent}/csr");
    let pem = signing_request(&KeyPair::generate().unwrap());
    for (behaviour, expected) in [("as-built", 500), ("as-documented", 404)] {
        for server in servers(1, &["--behaviour", behaviour]) {
            let known = json!({"csr_pem": pem, "certificate_id": certificate_id(1)});
            let unknown = json!({"csr_pem": pem, "certificate_id": "nope"});
            let verification =
                json!({"target_id": "t", "expected_fingerprint": "a", "actual_fingerprint": "b", "verified": false});
            for (path, body) in [
                (csr("nope"), &known),
                (csr("ag-loadtest-00001"), &unknown),
                ("/api/v1/agents/ag-loadtest-00001/jobs/nope/status".to_owned(), &json!({"status": "Completed"})),
                ("/api/v1/jobs/nope/verify".to_owned(), &verification),
                ("/api/v1/certificates/nope/renew".to_owned(), &json!({})),
            ] {
                assert_eq!(post(&server, &path, body).failure().0, expected, "{behaviour} {path}");
            }
            let versions = get(&server, "/api/v1/certificates/nope/versions");
            assert_eq!(versions.status, if behaviour == "as-built" { 200 } else { 404 });
            for missing in ["/api/v1/jobs/nope", "/api/v1/agents/ag-loadtest-00001/certificates/nope"] {
                assert_eq!(get(&server, missing).failure().0, 404, "{missing}");
            }
            let agent = csr("ag-loadtest-00001");
            for (path, body) in [
                (&*agent, "{"),
                (&*agent, "{}"),
                (&*agent, "{\"csr_pem\":\"x\"}"),
                ("/api/v1/agents/a/jobs/j/status", "{}"),
                ("/api/v1/jobs/j/verify", "{\"target_id\":\"t\"}"),
            ] {
                assert_eq!(server.exchange("POST", path, Some(ADMIN), body).failure().0, 400, "{path} {body}");
                assert_eq!(server.exchange("POST", path, Some(VIEWER), body).status, 403, "{path}");
            }
        }
    }
}

#[test]
fn a_signing_request_costs_the_same_statements_as_in_certctl() {
    needs!(Postgresql);
    let server = Server::on_postgres(1, &[]);
    map_targets(&server);
    assert_eq!(renew(&server, 1).0, 202);
    let (gate, audit, owner) = ("SELECT actor_roles", "INSERT audit_events", "SELECT owners");
    let (row, mappings) = ("SELECT managed_certificates", "SELECT certificate_target_mappings");
    let (jobs, update_job, insert_job) = ("SELECT jobs", "UPDATE jobs", "INSERT jobs");
    let (insert, update) = ("INSERT certificate_versions", "UPDATE managed_certificates");
    let (notify, sent) = ("INSERT notification_events", "UPDATE notification_events");
    let body = json!({"csr_pem": signing_request(&KeyPair::generate().unwrap()), "certificate_id": certificate_id(1)});
    let cost = server.statements(|client| {
        _ = client.exchange("POST", "/api/v1/agents/ag-loadtest-00001/csr", Some(ADMIN), &body.to_string());
    });
    let agent = "SELECT agents";
    let expected = [
        gate,
        agent,
        row,
        mappings,
        jobs,
        update_job,
        insert,
        update,
        update_job,
        "SELECT deployment_targets",
        insert_job,
        owner,
        notify,
        sent,
        audit,
        audit,
        audit,
    ];
    assert_eq!(cost, expected);
    let path = format!("/api/v1/agents/ag-loadtest-00001/certificates/{}", certificate_id(1));
    let fetch = server.statements(|client| _ = client.exchange("GET", &path, Some(ADMIN), ""));
    assert_eq!(fetch, [gate, agent, "SELECT certificate_versions", audit, audit]);
}
