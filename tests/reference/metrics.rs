//! Metrics for Prometheus.

use std::collections::BTreeMap;

use serde_json::json;

use crate::common::needs::needs;
use crate::server::{ADMIN, Server, VIEWER};

const PATH: &str = "/api/v1/metrics/prometheus";

/// Returns every metric by its name, after checking that each has its help and its type before it.
fn scrape(server: &Server) -> BTreeMap<String, u64> {
    let answer = server.exchange("GET", PATH, Some(VIEWER), "");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let lines: Vec<&str> = answer.body.lines().collect();
    let metrics = lines.chunks(3).map(|lines| {
        let (name, value) = lines[2].split_once(' ').expect("a value");
        assert!(lines[0].starts_with(&format!("# HELP {name} ")), "{lines:?}");
        assert!(lines[1].starts_with(&format!("# TYPE {name} ")), "{lines:?}");
        let name = name.strip_prefix("certctl_").expect("certctl's");
        (name.to_owned(), value.parse().expect("a number"))
    });
    metrics.collect()
}

#[test]
fn metrics_count_the_effects_of_requests() {
    for (behaviour, expiring) in [("as-built", 50), ("as-documented", 60)] {
        for server in Server::on_both(60, &["--behaviour", behaviour]) {
            let mut before = scrape(&server);
            let agents = before["agent_total"];
            assert!(agents > 0 && before["agent_online"] == agents, "{before:?}");
            assert_eq!((before["certificate_total"], before["certificate_expiring_soon"]), (60, expiring));
            assert_eq!(before["certificate_active"], 60 - expiring);
            for zero in ["certificate_expired", "certificate_revoked", "job_pending", "job_completed_total"] {
                assert_eq!(before.remove(zero), Some(0), "{zero}");
            }
            assert!(before.contains_key("uptime_seconds") && before.contains_key("notification_dead_total"));
            let ids = json!({"certificate_ids": ["cert-loadtest-bulk-00001", "cert-loadtest-bulk-00002"]});
            server.exchange("POST", "/api/v1/certificates/bulk-renew", Some(ADMIN), &ids.to_string());
            server.until_work(&json!({"audit_pending": 0}));
            let after = scrape(&server);
            assert_eq!((after["job_pending"], after["job_failed_total"]), (2, 0));
            assert_eq!(after["audit_chain_rows"], 3);
        }
    }
}

#[test]
fn a_scrape_reads_the_tables() {
    needs!(Postgresql);
    let server = Server::on_postgres(2, &[]);
    server
        .sql()
        .batch_execute(
            "UPDATE managed_certificates SET status = 'Revoked' WHERE id LIKE '%1';
            UPDATE managed_certificates SET expires_at = now() - interval '1 s' WHERE id LIKE '%2';
            UPDATE agents SET retired_at = now() WHERE id = 'ag-loadtest-00001';
            UPDATE agents SET last_heartbeat_at = now() - interval '6 min' WHERE id = 'ag-loadtest-00002';
            INSERT INTO jobs (id, type, certificate_id, status, scheduled_at)
                SELECT status, 'Renewal', 'cert-loadtest-bulk-00001', status, now() FROM unnest(ARRAY[
                    'Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running', 'Completed', 'Failed', 'Cancelled'])
                status;
            INSERT INTO notification_events (id, type, channel, recipient, message, status)
                VALUES ('n', 't', 'c', 'r', 'm', 'dead')",
        )
        .unwrap();
    let metrics = scrape(&server);
    for (name, value) in [
        ("certificate_revoked", 1),
        ("certificate_expired", 1),
        ("certificate_active", 0),
        ("agent_total", 4_999),
        ("agent_online", 4_998),
        ("job_pending", 4),
        ("job_completed_total", 1),
        ("job_failed_total", 1),
        ("notification_dead_total", 1),
    ] {
        assert_eq!(metrics[name], value, "{name}");
    }
    let cost = server.statements(|client| _ = client.exchange("GET", PATH, Some(VIEWER), ""));
    let (row, mappings) = ("SELECT managed_certificates", "SELECT certificate_target_mappings");
    let (agents, jobs, notifications) = ("SELECT agents", "SELECT jobs", "SELECT notification_events");
    assert_eq!(cost, ["SELECT actor_roles", row, row, mappings, agents, jobs, notifications, "INSERT audit_events"]);
}
