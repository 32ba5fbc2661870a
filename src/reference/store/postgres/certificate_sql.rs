//! Certificates in PostgreSQL.

use std::collections::HashMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row};

use super::PostgresStore;
use crate::store::StoreError;
use crate::store::certificate_rows::{Certificate, CertificateStore, Field, Listing, Order, Page};

type Parameter<'a> = &'a (dyn ToSql + Sync);

const COLUMNS: &str = "id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id,
    certificate_profile_id, status, expires_at, tags::text, last_renewal_at, last_deployment_at, revoked_at,
    revocation_reason, source, created_at, updated_at";

impl CertificateStore for PostgresStore {
    async fn insert_certificate(&self, new: &Certificate) -> Result<(), StoreError> {
        let sql = "INSERT INTO managed_certificates
                (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id,
                certificate_profile_id, status, expires_at, tags, last_renewal_at, last_deployment_at, revoked_at,
                revocation_reason, source, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text::jsonb, $14, $15, $16, $17, $18,
                $19, $20)
            RETURNING id";
        let Certificate { id, name, common_name, sans, environment, owner_id, team_id, issuer_id, .. } = new;
        let Certificate { renewal_policy_id, profile_id, status, expires_at, tags, .. } = new;
        let Certificate { last_renewal_at, last_deployment_at, revoked_at, revocation_reason, .. } = new;
        let Certificate { source, created_at, updated_at, .. } = new;
        let tags = serde_json::to_string(tags)?;
        let parameters: [Parameter<'_>; 20] = [
            id,
            name,
            common_name,
            sans,
            environment,
            owner_id,
            team_id,
            issuer_id,
            renewal_policy_id,
            profile_id,
            status,
            expires_at,
            &tags,
            last_renewal_at,
            last_deployment_at,
            revoked_at,
            revocation_reason,
            source,
            created_at,
            updated_at,
        ];
        self.pool.get().await?.query_one(sql, &parameters).await?;
        Ok(())
    }

    async fn certificate(&self, id: &str) -> Result<Option<Certificate>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM managed_certificates WHERE id = $1");
        let row = self.pool.get().await?.query_opt(&sql, &[&id]).await?;
        self.with_targets(row.as_ref()).await
    }

    async fn certificates(&self, page: &Page) -> Result<Listing, StoreError> {
        let (filter, mut parameters) = conditions(page);
        let total = self.count(&filter, &parameters).await?;
        let mut conditions = filter;
        let mut order = column_of(page.order).to_owned();
        if page.descending {
            order += " DESC";
        }
        if let Some((created_at, id)) = &page.after {
            let number = parameters.len();
            conditions.push(format!("(created_at, id) > (${}, ${})", number + 1, number + 2));
            parameters.extend([created_at as Parameter<'_>, id]);
            order += ", id";
        }
        let (clause, number) = (where_clause(&conditions), parameters.len());
        let mut sql =
            format!("SELECT {COLUMNS} FROM managed_certificates {clause} ORDER BY {order} LIMIT ${}", number + 1);
        parameters.push(&page.limit);
        if let Some(offset) = &page.offset {
            sql += &format!(" OFFSET ${}", number + 2);
            parameters.push(offset);
        }
        let rows = self.pool.get().await?.query(&sql, &parameters).await?;
        let mut certificates: Vec<Certificate> = rows.iter().map(certificate_of).collect::<Result<_, _>>()?;
        if !certificates.is_empty() {
            self.add_targets(&mut certificates).await?;
        }
        Ok(Listing { certificates, total })
    }

    async fn update_certificate(&self, changed: &Certificate) -> Result<bool, StoreError> {
        write_certificate(&**self.pool.get().await?, changed).await
    }
}

/// Writes a certificate over the one of its id, inside a transaction or not; false when there is none.
pub async fn write_certificate(client: &impl GenericClient, changed: &Certificate) -> Result<bool, StoreError> {
    let sql = "UPDATE managed_certificates SET (name, common_name, sans, environment, owner_id, team_id,
            issuer_id, certificate_profile_id, status, expires_at, tags, last_renewal_at, last_deployment_at,
            revoked_at, revocation_reason, source, updated_at)
        = ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12, $13, $14, $15, $16, $17)
        WHERE id = $18";
    let Certificate { id, name, common_name, sans, environment, owner_id, team_id, issuer_id, .. } = changed;
    let Certificate { profile_id, status, expires_at, tags, last_renewal_at, last_deployment_at, .. } = changed;
    let Certificate { revoked_at, revocation_reason, source, updated_at, .. } = changed;
    let tags = serde_json::to_string(tags)?;
    let parameters: [Parameter<'_>; 18] = [
        name,
        common_name,
        sans,
        environment,
        owner_id,
        team_id,
        issuer_id,
        profile_id,
        status,
        expires_at,
        &tags,
        last_renewal_at,
        last_deployment_at,
        revoked_at,
        revocation_reason,
        source,
        updated_at,
        id,
    ];
    Ok(client.execute(sql, &parameters).await? > 0)
}

impl PostgresStore {
    /// Reads a row, and the targets of its certificate.
    pub async fn with_targets(&self, row: Option<&Row>) -> Result<Option<Certificate>, StoreError> {
        let Some(mut certificate) = row.map(certificate_of).transpose()? else { return Ok(None) };
        let sql = "SELECT target_id FROM certificate_target_mappings WHERE certificate_id = $1 ORDER BY target_id";
        let targets = self.pool.get().await?.query(sql, &[&certificate.id]).await?;
        certificate.target_ids = Some(targets.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?);
        Ok(Some(certificate))
    }

    async fn count(&self, conditions: &[String], parameters: &[Parameter<'_>]) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM managed_certificates {}", where_clause(conditions));
        let client = self.pool.get().await?;
        let row = match parameters {
            // Without parameters certctl's driver takes one round trip only.
            [] => client.query_typed_one(&sql, &[]).await?,
            parameters => client.query_one(&sql, parameters).await?,
        };
        // A count is never negative.
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }

    async fn add_targets(&self, certificates: &mut [Certificate]) -> Result<(), StoreError> {
        let sql = "SELECT certificate_id, target_id FROM certificate_target_mappings
            WHERE certificate_id = ANY ($1) ORDER BY certificate_id, target_id";
        let ids: Vec<&str> = certificates.iter().map(|certificate| certificate.id.as_str()).collect();
        let mut targets: HashMap<String, Vec<String>> = HashMap::new();
        for row in self.pool.get().await?.query(sql, &[&ids]).await? {
            targets.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
        }
        for certificate in certificates {
            certificate.target_ids = Some(targets.remove(&certificate.id).unwrap_or_default());
        }
        Ok(())
    }
}

/// Returns the conditions of a page's filter, and their parameters.
fn conditions(page: &Page) -> (Vec<String>, Vec<Parameter<'_>>) {
    let condition = |(index, (field, _)): (usize, &(Field, String))| {
        let number = index + 1;
        match field {
            Field::Status => format!("status = ${number}"),
            Field::Environment => format!("environment = ${number}"),
            Field::Owner => format!("owner_id = ${number}"),
            Field::Team => format!("team_id = ${number}"),
            Field::Issuer => format!("issuer_id = ${number}"),
            Field::Profile => format!("certificate_profile_id = ${number}"),
            Field::Agent => format!(
                "id IN (SELECT DISTINCT mapping.certificate_id FROM deployment_targets target
                    JOIN certificate_target_mappings mapping ON mapping.target_id = target.id
                    WHERE target.agent_id = ${number})"
            ),
        }
    };
    let conditions = page.filter.iter().enumerate().map(condition).collect();
    (conditions, page.filter.iter().map(|(_, value)| value as Parameter<'_>).collect())
}

fn where_clause(conditions: &[String]) -> String {
    match conditions {
        [] => String::new(),
        conditions => format!("WHERE {}", conditions.join(" AND ")),
    }
}

fn column_of(order: Order) -> &'static str {
    match order {
        Order::Created => "created_at",
        Order::Updated => "updated_at",
        Order::Expiry => "expires_at",
        Order::CommonName => "common_name",
        Order::Name => "name",
        Order::Status => "status",
        Order::Environment => "environment",
    }
}

/// Reads a row; fails, like certctl, on one without an environment or an expiry.
fn certificate_of(row: &Row) -> Result<Certificate, StoreError> {
    Ok(Certificate {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        common_name: row.try_get(2)?,
        sans: row.try_get(3)?,
        environment: row.try_get(4)?,
        owner_id: row.try_get(5)?,
        team_id: row.try_get(6)?,
        issuer_id: row.try_get(7)?,
        target_ids: None,
        renewal_policy_id: row.try_get(8)?,
        profile_id: row.try_get(9)?,
        status: row.try_get(10)?,
        expires_at: row.try_get(11)?,
        tags: serde_json::from_str(row.try_get(12)?)?,
        last_renewal_at: row.try_get(13)?,
        last_deployment_at: row.try_get(14)?,
        revoked_at: row.try_get(15)?,
        revocation_reason: row.try_get(16)?,
        source: row.try_get(17)?,
        created_at: row.try_get(18)?,
        updated_at: row.try_get(19)?,
    })
}
