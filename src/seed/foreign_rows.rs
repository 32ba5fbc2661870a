//! The protection of foreign rows: a database that holds any is not for load tests.

use super::clean::ACME_ISSUED;
use super::connection::{connect, exists, failed, redact_url};
use super::{elsewhere, require_writable};
use crate::database::DatabaseClient;
use crate::error::{Error, Result};

/// The most ids of foreign rows in an error.
const EXAMPLES: usize = 3;

/// The agents of certctl's demo seed.
#[rustfmt::skip]
const DEMO_AGENTS: [&str; 13] = [
    "ag-data-prod", "ag-edge-01", "ag-iis-prod", "ag-k8s-prod", "ag-lb-prod", "ag-mac-dev", "ag-web-prod",
    "ag-web-staging", "agent-demo-1", "cloud-aws-sm", "cloud-azure-kv", "cloud-gcp-sm", "server-scanner",
];

/// The certificates of certctl's demo seed.
#[rustfmt::skip]
const DEMO_CERTIFICATES: [&str; 32] = [
    "mc-admin-prod", "mc-api-dev", "mc-api-prod", "mc-api-stg", "mc-auth-prod", "mc-blog-prod", "mc-cdn-prod",
    "mc-ci-prod", "mc-compromised", "mc-consul-prod", "mc-dash-prod", "mc-data-prod", "mc-docs-prod", "mc-edge-eu",
    "mc-grafana-prod", "mc-grpc-prod", "mc-k8s-ingress", "mc-legacy-prod", "mc-mail-prod", "mc-old-api", "mc-pay-prod",
    "mc-pay-stg", "mc-search-prod", "mc-shop-prod", "mc-smime-bob", "mc-status-prod", "mc-vault-prod", "mc-vpn-prod",
    "mc-web-prod", "mc-web-stg", "mc-wiki-prod", "mc-wildcard-prod",
];

/// Reports whether a certificate is from this suite's seeds or certctl's demo seed, or was posted by a run; `source` is
/// the value of its tag `source`.
pub fn is_own_certificate(id: &str, name: &str, source: &str) -> bool {
    let of = |batch: &str| id.starts_with(&format!("cert-{batch}")) && name.starts_with(batch);
    let seeded = of("loadtest-bulk-") || of("loadtest-deploy-") || of("loadtest-drain-");
    let posted = ["loadtest-api-", "loadtest-revoke-"].iter().any(|start| name.starts_with(start));
    let posted = posted && source == "certctl-bench";
    seeded || posted || DEMO_CERTIFICATES.contains(&id)
}

/// Fails if the database holds foreign rows, which a caller must not write to. The database may have no tables yet.
pub fn refuse_foreign(url: &str) -> Result<()> {
    let (mut client, shown) = (connect(url)?, redact_url(url));
    require_writable(&mut client, &shown)?;
    require_schema(&mut client, &shown)?;
    refuse_other_tables(&mut client, &shown)
        .and_then(|()| refuse_foreign_rows(&mut client, &shown))
        .map_err(|error| error.with_hint("give the URL of an empty one"))
}

/// Fails if this role cannot create tables in the database, because no schema of its search path exists.
fn require_schema(client: &mut DatabaseClient, shown: &str) -> Result<()> {
    let row = client.query_one("SELECT current_schema() IS NULL, current_setting('search_path')", &[]);
    let row = row.map_err(|error| failed("looking for the schema of new tables", &error))?;
    if !row.get::<_, bool>(0) {
        return Ok(());
    }
    let path: String = row.get(1);
    let what = format!("opening {shown}: this role's search_path is {path}, which names no existing schema");
    Err(Error::new(what).with_hint(elsewhere(client, "managed_certificates").unwrap_or_else(|| {
        "ALTER ROLE … (or DATABASE …) RESET search_path, or add options=-csearch_path%3Dpublic to the URL".to_owned()
    })))
}

/// Fails if the database has tables, but none of certctl's: it serves another purpose.
fn refuse_other_tables(client: &mut DatabaseClient, shown: &str) -> Result<()> {
    if exists(client, "managed_certificates")? {
        return Ok(());
    }
    let sql = "SELECT c.oid::regclass::text, count(*) OVER () FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
               AND d.deptype = 'e') ORDER BY 1 LIMIT 1";
    let row = client.query_opt(sql, &[]);
    match row.map_err(|error| failed("looking for tables of others", &error))? {
        None => Ok(()),
        Some(row) => Err(Error::new(format!(
            "refusing to make tables in {shown}: it holds {} tables (such as {}), none of them certctl's",
            row.get::<_, i64>(1),
            row.get::<_, String>(0)
        ))),
    }
}

/// Fails if the database holds foreign rows: load tests change, renew and revoke rows that they find.
pub(super) fn refuse_foreign_rows(client: &mut DatabaseClient, shown: &str) -> Result<()> {
    let mut foreign = Vec::new();
    for (table, ours, demo) in [
        ("agents", "id LIKE 'ag-loadtest-%'", DEMO_AGENTS.as_slice()),
        ("managed_certificates", &format!("(name LIKE 'loadtest-%' OR {ACME_ISSUED})"), DEMO_CERTIFICATES.as_slice()),
    ] {
        if !exists(client, table)? {
            continue;
        }
        let rows = client
            .query(
                &format!(
                    "SELECT id, count(*) OVER () FROM {table} WHERE NOT {ours} AND id <> ALL ($1) ORDER BY id LIMIT {EXAMPLES}"
                ),
                &[&demo],
            )
            .map_err(|error| failed(&format!("looking for rows of others in {table}"), &error))?;
        if let Some(first) = rows.first() {
            let ids: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            foreign.push(format!("{} in {table} (such as {})", first.get::<_, i64>(1), ids.join(", ")));
        }
    }
    if foreign.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "refusing to write to {shown}: it does not look like a database for load tests; rows that neither certctl's demo \
         seed nor this suite made: {}",
        foreign.join(", ")
    ))
    .with_hint("give the URL of a load-test database, or --allow-foreign-rows if this is one"))
}

#[cfg(test)]
mod tests {
    use super::is_own_certificate;

    #[test]
    fn certificates_of_every_seed_are_own() {
        for batch in ["bulk", "deploy", "drain"] {
            let (id, name) = (format!("cert-loadtest-{batch}-00001"), format!("loadtest-{batch}-00001.example.test"));
            assert!(is_own_certificate(&id, &name, "certctl-bench"), "{id}");
            assert!(!is_own_certificate(&id, "www.example.com", "certctl-bench"), "{id}");
        }
    }
}
