//! Polling for work.

use serde_json::{Value, json};

use crate::common::needs::needs;
use crate::server::{ADMIN, Server, VIEWER};

const PATH: &str = "/api/v1/agents/ag-loadtest-00001/work";

fn poll(server: &Server) -> Value {
    let answer = server.exchange("GET", PATH, Some(ADMIN), "");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

#[test]
fn an_agent_without_work_gets_an_empty_list() {
    for server in Server::on_both(0, &[]) {
        let answer = server.exchange("GET", PATH, Some(ADMIN), "");
        assert_eq!(answer.shape(), (200, "application/json", "{\"count\":0,\"jobs\":[]}\n"));
        assert_eq!(server.exchange("GET", PATH, Some(VIEWER), "").status, 403);
        assert_eq!(server.exchange("HEAD", PATH, Some(ADMIN), "").status, 405);
        assert_eq!(server.exchange("POST", PATH, Some(ADMIN), "").header("allow"), Some("GET, HEAD"));
        server.until_work(&json!({"polls": 1, "audit_rows": 4}));
    }
}

#[test]
fn unknown_agent_follows_the_behaviour() {
    let path = "/api/v1/agents/ag-nope/work";
    for (behaviour, failure) in
        [("as-built", (500, "Failed to get pending work")), ("as-documented", (404, "Agent not found"))]
    {
        for server in Server::on_both(0, &["--behaviour", behaviour]) {
            let answer = server.exchange("GET", path, Some(ADMIN), "").failure();
            assert_eq!(answer, (failure.0, failure.1.to_owned()));
            assert_eq!(server.work()["polls"], 0);
        }
    }
}

#[test]
fn deployments_are_handed_out_once_and_renewals_every_time() {
    needs!(Postgresql);
    let server = Server::on_postgres(3, &[]);
    let mut sql = server.sql();
    sql.batch_execute(
        "INSERT INTO deployment_targets (id, name, type, agent_id, config) VALUES
            ('t-1', 'one', 'NGINX', 'ag-loadtest-00001', '{\"path\": \"/etc\"}'),
            ('t-2', 'two', 'Apache', 'ag-loadtest-00002', NULL);
        INSERT INTO certificate_target_mappings VALUES
            ('cert-loadtest-bulk-00001', 't-1'), ('cert-loadtest-bulk-00002', 't-2');
        INSERT INTO jobs (id, type, certificate_id, target_id, agent_id, status, scheduled_at, created_at) VALUES
            ('by-target', 'Deployment', 'cert-loadtest-bulk-00001', 't-1', NULL, 'Pending', now(), now()),
            ('assigned', 'Deployment', 'cert-loadtest-bulk-00001', NULL, 'ag-loadtest-00001', 'Pending', now(), now()),
            ('of-another', 'Deployment', 'cert-loadtest-bulk-00002', 't-2', NULL, 'Pending', now(), now()),
            ('ended', 'Deployment', 'cert-loadtest-bulk-00001', 't-1', NULL, 'Completed', now(), now())",
    )
    .unwrap();
    let ids = json!({"certificate_ids": ["cert-loadtest-bulk-00001", "cert-loadtest-bulk-00002"]});
    let renewed = server.exchange("POST", "/api/v1/certificates/bulk-renew", Some(ADMIN), &ids.to_string());
    assert_eq!(renewed.json()["total_enqueued"], 2);
    let certificate = "cert-loadtest-bulk-00001";
    let renewal = json!({
        "id": renewed.json()["enqueued_jobs"][0]["job_id"], "type": "Renewal",
        "certificate_id": certificate, "common_name": "loadtest-bulk-00001.example.test",
        "sans": ["loadtest-bulk-00001.example.test"], "status": "AwaitingCSR",
    });
    let deployment =
        |id: &str| json!({"id": id, "type": "Deployment", "certificate_id": certificate, "status": "Running"});
    let mut by_target = deployment("by-target");
    by_target["target_id"] = json!("t-1");
    by_target["target_type"] = json!("NGINX");
    by_target["target_config"] = json!({"path": "/etc"});
    assert_eq!(poll(&server), json!({"count": 3, "jobs": [deployment("assigned"), by_target, renewal]}));
    assert_eq!(poll(&server), json!({"count": 1, "jobs": [renewal]}));
    assert_eq!(server.sql_number("SELECT count(*) FROM jobs WHERE status = 'Running'"), 2);
    // A job that another poll holds is skipped, not waited for.
    let mut other = sql.transaction().unwrap();
    other.execute("SELECT FROM jobs WHERE status = 'AwaitingCSR' FOR UPDATE", &[]).unwrap();
    assert_eq!(poll(&server), json!({"count": 0, "jobs": []}));
}

#[test]
fn a_poll_costs_the_same_statements_as_in_certctl() {
    needs!(Postgresql);
    let server = Server::on_postgres(1, &[]);
    let cost = |path: &str| server.statements(|client| _ = client.exchange("GET", path, Some(ADMIN), ""));
    let (gate, agent, jobs, audit) = ("SELECT actor_roles", "SELECT agents", "SELECT jobs", "INSERT audit_events");
    assert_eq!(cost(PATH), [gate, agent, "START", jobs, jobs, jobs, "COMMIT", audit]);
    assert_eq!(cost("/api/v1/agents/ag-nope/work"), [gate, agent, audit]);
    server
        .sql()
        .batch_execute(
            "INSERT INTO deployment_targets (id, name, type, agent_id) VALUES ('t', 't', 'NGINX', 'ag-loadtest-00001');
            INSERT INTO certificate_target_mappings VALUES ('cert-loadtest-bulk-00001', 't');
            INSERT INTO jobs (id, type, certificate_id, target_id, status, scheduled_at) VALUES
                ('d', 'Deployment', 'cert-loadtest-bulk-00001', 't', 'Pending', now()),
                ('r', 'Renewal', 'cert-loadtest-bulk-00001', NULL, 'AwaitingCSR', now())",
        )
        .unwrap();
    let (update, target) = ("UPDATE jobs", "SELECT deployment_targets");
    let (row, mappings) = ("SELECT managed_certificates", "SELECT certificate_target_mappings");
    let expected = [gate, agent, "START", jobs, jobs, jobs, update, "COMMIT", target, row, mappings, audit];
    assert_eq!(cost(PATH), expected);
}
