//! Restoring between runs: the seeded rows go back to their first state.

use certctl_bench::database::DatabaseClient;
use certctl_bench::seed::{SeedOptions, refresh_certificates, refresh_fleet, reset};

use super::{agent, certificate, fleet, job, migrated, one, seed};
use crate::common::needs::needs;

#[test]
fn refreshing_restores_only_seeded_agents() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    agent(&mut client, "ag-web-prod", "web-prod");
    client.batch_execute("UPDATE agents SET status = 'Offline', last_heartbeat_at = '2020-01-01'").unwrap();
    let error = refresh_fleet(&mut client, 1).unwrap_err().to_string();
    assert!(error.contains("0 of the 1") && error.contains("certctl-bench seed"), "{error}");

    seed(&url, &SeedOptions::default());
    let fresh = fleet(&mut client);
    client
        .batch_execute(
            "UPDATE agents SET status = 'Offline', last_heartbeat_at = '2020-01-01', os = 'plan9', architecture = 'vax',
             hostname = 'h', ip_address = '', version = '0', retired_at = now(), retired_reason = 'r'
             WHERE id LIKE 'ag-loadtest-%'",
        )
        .unwrap();
    assert_eq!(online(&mut client), 0);

    assert_eq!(refresh_fleet(&mut client, 5000).unwrap(), 5000);
    assert_eq!(online(&mut client), 5000);
    assert_eq!(fleet(&mut client), fresh);
    let spread = "SELECT min(last_heartbeat_at) > now() - interval '90 s' AND max(last_heartbeat_at) <= now()
                  AND count(DISTINCT last_heartbeat_at) = 5000 FROM agents WHERE id LIKE 'ag-loadtest-%'";
    assert!(one::<bool>(&mut client, spread));
    let other = "SELECT status || ' ' || (last_heartbeat_at = '2020-01-01') FROM agents WHERE id = 'ag-web-prod'";
    assert_eq!(one::<String>(&mut client, other), "Offline true");

    let error = refresh_fleet(&mut client, 5001).unwrap_err().to_string();
    assert!(error.contains("5000 of the 5001"), "{error}");
    // The connection is unchanged: the table that hid the real one is gone.
    assert_eq!(refresh_fleet(&mut client, 5000).unwrap(), 5000);
}

#[test]
fn refreshing_undoes_only_renewals_of_seeded_certificates() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    certificate(&mut client, "mc-api-prod", "api-production");
    certificate(&mut client, "mc-12345", "loadtest-by-the-api");
    let others = ["mc-api-prod", "mc-12345"];
    let error = refresh_certificates(&mut client, 1).unwrap_err().to_string();
    assert!(error.contains("0 of the 1") && error.contains("certctl-bench seed"), "{error}");

    seed(&url, &SeedOptions::default());
    let fresh = lasting(&mut client);
    client
        .batch_execute(
            "UPDATE managed_certificates SET status = 'RenewalInProgress', last_renewal_at = now();
             UPDATE managed_certificates SET common_name = 'cn', sans = '{}', environment = '', tags = '{}',
                 renewal_policy_id = 'rp-default', certificate_profile_id = 'prof-standard-tls', expires_at = '0001-01-01',
                 last_deployment_at = now(), revoked_at = now(), revocation_reason = 'r', source = 's',
                 created_at = now(), updated_at = now() WHERE id = 'cert-loadtest-bulk-00042'",
        )
        .unwrap();
    for id in ["cert-loadtest-bulk-00001", "cert-loadtest-bulk-10000", "cert-loadtest-bulk-10000"].iter().chain(&others)
    {
        job(&mut client, id);
    }

    let error = refresh_certificates(&mut client, 10_001).unwrap_err().to_string();
    assert!(error.contains("10000 of the 10001") && error.contains("fewer certificates"), "{error}");
    assert_eq!(active(&mut client), 0, "a refusal must change nothing");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM jobs"), 5);

    let before: String = one(&mut client, "SELECT now()::text");
    assert_eq!(refresh_certificates(&mut client, 10_000).unwrap(), 10_000);
    assert_eq!(active(&mut client), 10_000);
    assert_eq!(lasting(&mut client), fresh);
    let times = format!(
        "SELECT count(DISTINCT expires_at) = 10000 AND count(DISTINCT created_at) = 10000
             AND min(expires_at) > timestamptz '{before}' + interval '1 hour'
             AND max(created_at) > timestamptz '{before}' - interval '1 s'
         FROM managed_certificates WHERE id LIKE 'cert-loadtest-%'"
    );
    assert!(one::<bool>(&mut client, &times));
    let left = "SELECT string_agg(certificate_id || ' ' || certificate.status, ', ' ORDER BY certificate_id DESC)
                FROM jobs JOIN managed_certificates AS certificate ON certificate.id = certificate_id";
    assert_eq!(one::<String>(&mut client, left), "mc-api-prod RenewalInProgress, mc-12345 RenewalInProgress");
    let vacuumed =
        "SELECT count(last_vacuum) FROM pg_stat_user_tables WHERE relname IN ('jobs', 'managed_certificates')";
    assert_eq!(one::<i64>(&mut client, vacuumed), 2);

    // The connection is unchanged: the table that hid the real one is gone.
    assert_eq!(refresh_certificates(&mut client, 10_000).unwrap(), 10_000);
}

#[test]
fn foreign_rows_with_a_seed_id_are_kept() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    certificate(&mut client, "cert-loadtest-bulk-00008", "loadtest-by-the-api");
    agent(&mut client, "ag-loadtest-00008", "by-hand");
    seed(&url, &SeedOptions::default());
    job(&mut client, "cert-loadtest-bulk-00008");
    assert_eq!(refresh_certificates(&mut client, 9_999).unwrap(), 9_999);
    assert_eq!(refresh_fleet(&mut client, 4_999).unwrap(), 4_999);
    let kept = "SELECT certificate.name || ' ' || agent.name || ' ' || (SELECT count(*) FROM jobs)
                FROM managed_certificates AS certificate, agents AS agent
                WHERE certificate.id = 'cert-loadtest-bulk-00008' AND agent.id = 'ag-loadtest-00008'";
    assert_eq!(one::<String>(&mut client, kept), "loadtest-by-the-api by-hand 1");
}

#[test]
fn a_reset_covers_the_existing_rows() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    let done =
        |client: &mut DatabaseClient| reset(client).unwrap().tables.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        done(&mut client),
        ["managed_certificates: nothing to do", "jobs: nothing to do", "agents: nothing to do"]
    );

    seed(&url, &SeedOptions::default());
    client.batch_execute("DELETE FROM agents WHERE id > 'ag-loadtest-00100'").unwrap();
    job(&mut client, "cert-loadtest-bulk-00001");
    assert_eq!(done(&mut client), ["managed_certificates: 10000 put back", "jobs: 1 removed", "agents: 100 put back"]);
}

fn online(client: &mut DatabaseClient) -> i64 {
    one(client, "SELECT count(*) FROM agents WHERE id LIKE 'ag-loadtest-%' AND status = 'Online'")
}

fn active(client: &mut DatabaseClient) -> i64 {
    one(client, "SELECT count(*) FROM managed_certificates WHERE id LIKE 'cert-loadtest-%' AND status = 'Active'")
}

/// Returns every seeded certificate without its times.
fn lasting(client: &mut DatabaseClient) -> Vec<String> {
    let sql = "SELECT (to_jsonb(row) - ARRAY['expires_at', 'created_at', 'updated_at'])::text
               FROM managed_certificates AS row WHERE id LIKE 'cert-loadtest-%' ORDER BY id";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}
