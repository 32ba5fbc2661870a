//! The certificates of a job drain: seeded only where they are wanted, mapped, and put back with all that renewals
//! left.

use certctl_bench::database::DatabaseClient;
use certctl_bench::seed::{SeedOptions, Sizes, clean, refresh_drain};

use super::{agent, certificates, filled, migrated, one, rows, seed};
use crate::common::needs::needs;

const SIZES: Sizes = Sizes { agents: 60, certificates: 10, deployments: 0, drain: 130, drain_agents: 50 };

fn options(sizes: Sizes) -> SeedOptions {
    SeedOptions { sizes, ..SeedOptions::default() }
}

/// Returns the numbers of certificates that the busiest and the idlest of the agents have, and the number of agents.
fn dealt(client: &mut DatabaseClient) -> (i64, i64, i64) {
    let sql = "SELECT max(mapped), min(mapped), count(*) FROM (
                   SELECT count(*) AS mapped FROM certificate_target_mappings AS mapping
                   JOIN deployment_targets AS target ON target.id = mapping.target_id
                   WHERE target.agent_id LIKE 'ag-loadtest-%' GROUP BY target.agent_id) AS agents";
    let row = client.query_one(sql, &[]).unwrap();
    (row.get(0), row.get(1), row.get(2))
}

/// Inserts what a drain leaves behind: every certificate renewed, with a job, a version and a notification.
fn drained(client: &mut DatabaseClient) {
    client
        .batch_execute(
            "UPDATE managed_certificates SET status = 'RenewalInProgress', expires_at = now() + interval '90 days',
                 last_renewal_at = now() WHERE id LIKE 'cert-loadtest-drain-%';
             INSERT INTO jobs (id, type, certificate_id, status)
             SELECT 'job-' || id, 'Renewal', id, 'Completed' FROM managed_certificates WHERE id LIKE '%-drain-%';
             INSERT INTO certificate_versions
                 (id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain)
             SELECT 'v-' || id, id, id, now(), now(), id, '-' FROM managed_certificates WHERE id LIKE '%-drain-%';
             INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message)
             SELECT 'n-' || id, 't', id, 'c', 'r', 'm' FROM managed_certificates WHERE id LIKE '%-drain-%'",
        )
        .unwrap();
}

#[test]
fn certificates_of_a_drain_map_to_agents_in_turn() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    let (report, _) = seed(&url, &options(SIZES));
    let expected = [
        rows("managed_certificates", 0, 140),
        rows("agents", 0, 60),
        rows("deployment_targets", 0, 50),
        rows("certificate_target_mappings", 0, 130),
    ];
    assert_eq!(filled(&report), expected);
    assert_eq!(dealt(&mut client), (3, 2, 50));
    for holds in [
        // Certificate 51 is the first agent's again.
        "EXISTS (SELECT FROM certificate_target_mappings JOIN deployment_targets AS target ON target.id = target_id
            WHERE certificate_id = 'cert-loadtest-drain-00051' AND target.agent_id = 'ag-loadtest-00001')",
        // certctl's renewal scan looks 31 days ahead.
        "(SELECT min(expires_at) > now() + interval '39 days' AND count(DISTINCT expires_at) = 130
            FROM managed_certificates WHERE id LIKE 'cert-loadtest-drain-%' AND status = 'Active')",
    ] {
        assert!(one::<bool>(&mut client, &format!("SELECT {holds}")), "{holds}");
    }
    let (report, _) = seed(&url, &options(SIZES));
    assert!(filled(&report).iter().all(|table| table.before == table.after), "{:?}", report.tables);
}

#[test]
fn a_run_maps_a_drain_to_its_own_agents() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    seed(&url, &options(SIZES));
    // Somebody else's, which is mapped to a target of the fleet.
    agent(&mut client, "ag-web-prod", "web-prod");
    client
        .batch_execute(
            "INSERT INTO certificate_target_mappings VALUES ('cert-loadtest-bulk-00001', 'tgt-loadtest-drain-00050');
             INSERT INTO jobs (id, type, certificate_id, status)
             VALUES ('job-bulk', 'Renewal', 'cert-loadtest-bulk-00001', 'AwaitingCSR')",
        )
        .unwrap();
    let before = certificates(&mut client).len();
    drained(&mut client);
    assert_eq!(refresh_drain(&mut client, 120, Some(20)).unwrap(), 130);
    let sql = "DELETE FROM certificate_target_mappings WHERE certificate_id LIKE 'cert-loadtest-bulk-%'";
    assert_eq!(client.execute(sql, &[]).unwrap(), 1);
    assert_eq!((dealt(&mut client), certificates(&mut client).len()), ((7, 6, 20), before));
    for (table, left) in [("jobs", 1), ("certificate_versions", 0), ("notification_events", 0)] {
        assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM {table}")), left, "{table}");
    }
    let fresh = "SELECT count(*) FROM managed_certificates WHERE id LIKE 'cert-loadtest-drain-%' AND status = 'Active' \
                 AND last_renewal_at IS NULL AND expires_at < now() + interval '41 days'";
    assert_eq!(one::<i64>(&mut client, fresh), 130);
    // More agents than had targets: theirs are made.
    refresh_drain(&mut client, 130, Some(60)).unwrap();
    assert_eq!(dealt(&mut client), (3, 2, 60));
    let error = refresh_drain(&mut client, 131, Some(20)).unwrap_err().to_string();
    assert!(error.contains("only 130 of the 131") && error.contains("seed --drain 131"), "{error}");
    assert_eq!(dealt(&mut client), (3, 2, 60), "a failure changes nothing");
}

#[test]
fn cleaning_removes_what_a_drain_has_left() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    seed(&url, &options(SIZES));
    client
        .batch_execute("DELETE FROM certificate_target_mappings WHERE certificate_id > 'cert-loadtest-drain-00100'")
        .unwrap();
    drained(&mut client);
    let cleaned: Vec<String> = clean(&mut client).unwrap().tables.iter().map(ToString::to_string).collect();
    assert_eq!(
        cleaned,
        [
            "managed_certificates: 140 put back",
            "jobs: 130 removed",
            "certificate_versions: 130 removed",
            "notification_events: 130 removed",
            "agents: 60 put back"
        ]
    );
    // A reset does not know the next run's agents: it maps to all that have a target.
    assert_eq!(dealt(&mut client), (3, 2, 50));
}
