//! The checks for certctl's background loops, which could disturb a run: they count the rows that the loops would
//! process. Also of the seeded rows, which some of the loops change.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Finding, Report, SEED, Severity};
use crate::database::DatabaseClient;
use crate::error::{Context, Result};
use crate::scenario::agent_storm::SEEDED_AGENTS;
use crate::scenario::bulk_renewal::SEEDED_CERTIFICATES;
use crate::system::certctl_binary::DAY;

/// The default interval of certctl's renewal scan, in minutes.
const RENEWAL_SCAN_MIN: f64 = 60.0;

/// A check that counts rows which disturb a run, or spoil it.
struct RowCheck {
    table: &'static str,
    sql: &'static str,
    /// The setting with the interval of the loop that it is about.
    interval: Option<&'static str>,
    /// The highest count that does no harm.
    bearable: i64,
    good: &'static str,
    /// The finding for a higher count; the second argument is the time since certctl's start, in seconds.
    bad: fn(i64, Option<f64>) -> Finding,
}

const LOOKS: [RowCheck; 9] = [
    RowCheck {
        table: "agents",
        sql: "SELECT count(*) FROM agents WHERE id ~ '^ag-loadtest-[0-9]{5}$' AND retired_at IS NOT NULL",
        interval: None,
        bearable: 0,
        good: "no seeded agent is retired",
        bad: |retired, _| {
            let hint = "UPDATE agents SET retired_at = NULL WHERE id LIKE 'ag-loadtest-%'";
            Finding::fail(format!("seeded agents that are retired: {retired}"), hint)
        },
    },
    RowCheck {
        table: "managed_certificates",
        sql: "SELECT count(*) FROM managed_certificates \
              WHERE id ~ '^cert-loadtest-(bulk|drain)-[0-9]{5}$' AND status = 'RenewalInProgress'",
        interval: None,
        bearable: 0,
        good: "no seeded certificate is in renewal",
        bad: |in_renewal, _| {
            let hint = "run `certctl-bench seed --reset --database URL` to put them back";
            Finding::warn(
                format!("seeded certificates that are in renewal, so that it cannot be started: {in_renewal}"),
                hint,
            )
        },
    },
    RowCheck {
        table: "certificate_target_mappings",
        sql: "SELECT count(*) FROM managed_certificates AS certificate WHERE id ~ '^cert-loadtest-drain-[0-9]{5}$' \
              AND NOT EXISTS (SELECT FROM certificate_target_mappings AS mapping \
              JOIN deployment_targets AS target ON target.id = mapping.target_id \
              JOIN agents AS agent ON agent.id = target.agent_id \
              WHERE mapping.certificate_id = certificate.id AND agent.id ~ '^ag-loadtest-[0-9]{5}$')",
        interval: None,
        bearable: 0,
        good: "every certificate of a job drain maps to an agent of the fleet",
        bad: |unmapped, _| {
            let hint = "run `certctl-bench seed --reset --database URL`, or job_drain with that database: it maps them";
            Finding::warn(
                format!(
                    "certificates of a job drain that map to no agent of the fleet, so that none renews them: {unmapped}"
                ),
                hint,
            )
        },
    },
    RowCheck {
        table: "managed_certificates",
        sql: "SELECT count(*) FROM managed_certificates WHERE expires_at < now() + interval '31 days' \
              AND status NOT IN ('Archived', 'Revoked', 'Expired', 'Failed', 'RenewalInProgress')",
        interval: Some("CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL"),
        bearable: 0,
        good: "renewal scan: no certificate is due",
        bad: renewal_scan,
    },
    RowCheck {
        table: "managed_certificates",
        sql: "SELECT count(*) FROM managed_certificates WHERE expires_at < now()",
        interval: Some("CERTCTL_SHORT_LIVED_EXPIRY_CHECK_INTERVAL"),
        // The cost of reading so many is not noticeable.
        bearable: 1_000,
        good: "short-lived expiry: it reads few rows",
        bad: |expired, _| {
            let hint = "start certctl with CERTCTL_SHORT_LIVED_EXPIRY_CHECK_INTERVAL=24h, or on a fresh database";
            Finding::warn(
                format!("short-lived expiry: every 30 s it reads the {expired} certificates that expired"),
                hint,
            )
        },
    },
    RowCheck {
        table: "jobs",
        sql: "SELECT count(*) FROM jobs WHERE status = 'Pending'",
        interval: Some("CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL"),
        bearable: 0,
        good: "job processor: nothing is pending",
        bad: |pending, _| {
            let hint = "let it finish, or start certctl with CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL=24h";
            Finding::warn(format!("job processor: within 30 s it works on {pending} pending jobs"), hint)
        },
    },
    RowCheck {
        table: "agents",
        sql: "SELECT count(*) FROM agents WHERE status = 'Online' AND retired_at IS NULL \
              AND last_heartbeat_at < now() - interval '2 minutes'",
        interval: Some("CERTCTL_SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL"),
        bearable: 0,
        good: "agent health sweep: no agent is silent",
        bad: |silent, _| {
            let hint = "wait for it, or start certctl with CERTCTL_SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL=24h";
            Finding::warn(
                format!("agent health sweep: within 2 min it puts {silent} silent agents Offline, one by one"),
                hint,
            )
        },
    },
    RowCheck {
        table: "network_scan_targets",
        sql: "SELECT count(*) FROM network_scan_targets WHERE enabled",
        interval: None,
        bearable: 0,
        good: "network scan: no target is enabled",
        bad: |enabled, _| {
            let hint = "UPDATE network_scan_targets SET enabled = false, and start certctl again";
            Finding::fail(format!("network scan: certctl dials the networks of {enabled} enabled targets"), hint)
        },
    },
    RowCheck {
        table: "issuers",
        sql: "SELECT count(*) FROM issuers WHERE enabled AND id <> 'iss-local'",
        interval: None,
        bearable: 0,
        good: "no issuer but iss-local is enabled",
        bad: |enabled, _| {
            let hint = "UPDATE issuers SET enabled = false WHERE id <> 'iss-local', and start certctl again";
            Finding::warn(format!("issuers besides iss-local that certctl may call: {enabled}"), hint)
        },
    },
];

fn renewal_scan(due: i64, uptime_s: Option<f64>) -> Finding {
    let next = uptime_s.map_or_else(String::new, |uptime_s| {
        let left_min = RENEWAL_SCAN_MIN - (uptime_s / 60.0) % RENEWAL_SCAN_MIN;
        format!(", next in about {left_min:.0} min unless its interval was changed")
    });
    Finding::warn(
        format!(
            "renewal scan (hourly{next}): it processes {due} certificates, ten statements or more each, and leaves \
             them in renewal"
        ),
        "start certctl with CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL=24h, and seed certificates after its start",
    )
}

/// Checks for everything that would disturb a run. `uptime_s` is the time since certctl's start; `settings` are those
/// that differ from its defaults, as far as they are known.
pub fn examine(
    client: &mut DatabaseClient,
    uptime_s: Option<f64>,
    settings: Option<&Map<String, Value>>,
    report: Report<'_>,
) {
    let mut missing = BTreeSet::new();
    for (table, needed, sql) in
        [("agents", SEEDED_AGENTS, AGENTS), ("managed_certificates", SEEDED_CERTIFICATES, CERTIFICATES)]
    {
        report_or_note_missing(client, table, &mut missing, report, |client| seeded(client, table, needed, sql));
    }
    for look in &LOOKS {
        if let Some(name) = look.interval.filter(|name| settings.is_some_and(|all| all.get(*name) == Some(&DAY.into())))
        {
            let (loop_name, _) = look.good.split_once(':').unwrap_or((look.good, ""));
            report(Finding::ok(format!("{loop_name}: no turn of it comes in a run, since {name} is {DAY}")));
            continue;
        }
        report_or_note_missing(client, look.table, &mut missing, report, |client| {
            let row = client.query_one(look.sql, &[]).context(|| format!("counting rows of {}", look.table))?;
            let count: i64 = row.get(0);
            Ok(Finding::unless(count <= look.bearable, || (look.bad)(count, uptime_s), look.good))
        });
    }
    if !missing.is_empty() {
        let names = missing.into_iter().collect::<Vec<_>>().join(", ");
        let hint = "give --database the URL of certctl's own database, after certctl has been started on it once";
        report(Finding::fail(format!("the database lacks tables of certctl: {names}"), hint));
    }
}

/// Checks that `table` holds the `needed` rows of its seed.
fn seeded(client: &mut DatabaseClient, table: &str, needed: u64, sql: &str) -> Result<Finding> {
    let row = client.query_one(sql, &[]).context(|| format!("counting the seeded rows of {table}"))?;
    let (seeded, ready, is): (i64, i64, String) = (row.get(0), row.get(1), row.get(2));
    let what = format!("seeded rows of {table}: {seeded}");
    Ok(Finding::unless(
        seeded.unsigned_abs() >= needed,
        || Finding::fail(format!("{what} of the {needed} that scenarios need"), SEED),
        format!("{what}, {ready} of them {is}"),
    ))
}

const AGENTS: &str = "SELECT count(*), count(*) FILTER (WHERE status = 'Online'), 'Online' \
                             FROM agents WHERE id ~ '^ag-loadtest-[0-9]{5}$'";
const CERTIFICATES: &str = "SELECT count(*), count(*) FILTER (WHERE status <> 'RenewalInProgress'), \
                                   'not in renewal' \
                                   FROM managed_certificates WHERE id ~ '^cert-loadtest-bulk-[0-9]{5}$'";

/// Reports the finding of `look` in `table`, or adds the table to `missing`.
fn report_or_note_missing(
    client: &mut DatabaseClient,
    table: &'static str,
    missing: &mut BTreeSet<&'static str>,
    report: &mut dyn FnMut(Finding),
    look: impl FnOnce(&mut DatabaseClient) -> Result<Finding>,
) {
    let there = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])
        .context(|| format!("looking for the table {table}"))
        .map(|row| row.get::<_, bool>(0));
    match there {
        Ok(false) => {
            missing.insert(table);
        }
        Ok(true) => report(look(client).unwrap_or_else(|error| Finding::of(Severity::Warn, &error))),
        Err(error) => report(Finding::of(Severity::Warn, &error)),
    }
}
