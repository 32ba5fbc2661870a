//! The job processor: keys made by the server, and what it takes from agents.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::needs::needs;
use crate::common::process::PATIENCE;
use crate::issuing::{certificate, certificate_id, map_targets, poll, post, servers, verified_chain, versions};
use crate::server::Server;

fn renew(server: &Server, numbers: &[u32]) {
    let ids: Vec<String> = numbers.iter().map(|n| certificate_id(*n)).collect();
    let renewed = post(server, "/api/v1/certificates/bulk-renew", &json!({"certificate_ids": ids}));
    assert_eq!(renewed.json()["total_enqueued"], numbers.len());
}

/// Waits until a query counts so many rows.
fn until_rows(server: &Server, sql: &str, count: i64) {
    let deadline = Instant::now() + PATIENCE;
    while server.sql_number(sql) != count {
        assert!(Instant::now() < deadline, "{sql}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_server_signs_with_keys_of_its_own() {
    let arguments = ["--keygen", "server", "--job-interval", "50ms", "--behaviour", "as-documented"];
    for server in servers(3, &arguments) {
        assert_eq!(server.announced["settings"]["keygen"], "server");
        renew(&server, &[1, 2, 3]);
        server.until_work(&json!({"jobs_signed": 3, "csrs_signed": 0}));
        for n in 1..=3 {
            let version = versions(&server, n).swap_remove(0);
            assert_eq!((&version["key_algorithm"], &version["key_size"]), (&json!("RSA"), &json!(2_048)));
            let key = version["csr_pem"].as_str().expect("a key");
            assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "{key}");
            verified_chain(version["pem_chain"].as_str().expect("PEM"));
            assert_eq!(certificate(&server, n)["status"], "Active");
        }
        // As documented, deployments stay for their agents; they follow the signatures at some distance.
        let deadline = Instant::now() + PATIENCE;
        let mut deployments = 0;
        while deployments < 3 {
            let handed_out: Vec<Value> = [1, 2].into_iter().flat_map(|agent| poll(&server, agent)).collect();
            assert!(handed_out.iter().all(|job| job["type"] == "Deployment"), "{handed_out:?}");
            deployments += handed_out.len();
            assert!(Instant::now() < deadline, "{deployments} of 3 deployments");
        }
    }
}

#[test]
fn as_built_deployments_are_taken_from_their_agents() {
    needs!(Postgresql);
    let server = Server::on_postgres(1, &["--keygen", "server", "--job-interval", "50ms"]);
    map_targets(&server);
    renew(&server, &[1]);
    until_rows(&server, "SELECT count(*) FROM jobs WHERE type = 'Deployment' AND status = 'Running'", 1);
    assert_eq!(poll(&server, 1), [] as [Value; 0]);
}

#[test]
fn without_keys_of_its_own_the_processor_hands_jobs_to_agents() {
    needs!(Postgresql);
    let server = Server::on_postgres(2, &["--job-interval", "50ms"]);
    map_targets(&server);
    server
        .sql()
        .batch_execute(
            "UPDATE agents SET last_heartbeat_at = now() - interval '6 min' WHERE id = 'ag-loadtest-00002';
            INSERT INTO jobs (id, type, certificate_id, target_id, status, scheduled_at) VALUES
                ('r', 'Renewal', 'cert-loadtest-bulk-00001', NULL, 'Pending', now()),
                ('online', 'Deployment', 'cert-loadtest-bulk-00001', 'tgt-loadtest-00001', 'Pending', now()),
                ('offline', 'Deployment', 'cert-loadtest-bulk-00002', 'tgt-loadtest-00002', 'Pending', now())",
        )
        .unwrap();
    until_rows(&server, "SELECT count(*) FROM jobs WHERE id = 'r' AND status = 'AwaitingCSR'", 1);
    let offline =
        "SELECT count(*) FROM jobs WHERE id = 'offline' AND status = 'Failed' AND last_error = 'agent is offline'";
    until_rows(&server, offline, 1);
    let dispatched = "SELECT count(*) FROM audit_events WHERE action = 'deployment_job_dispatched'
        AND details->>'job_id' = 'online'";
    until_rows(&server, dispatched, 1);
    until_rows(&server, "SELECT count(*) FROM notification_events WHERE type = 'DeploymentFailure'", 1);
    assert_eq!(certificate(&server, 1)["status"], "RenewalInProgress");
}
