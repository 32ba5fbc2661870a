//! Certificates in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use super::target_memory::{Targets, deployment_target_id};
use super::{ISSUER, MemoryStore, OWNER, POLICIES, PROFILES, TEAM};
use crate::store::certificate_rows::{Certificate, CertificateStore, Field, Listing, Order, Page};
use crate::store::{StoreError, Violation};

/// The most certificates: with more a long run would fill the memory.
const MAX_CERTIFICATES: usize = 1_000_000;
const HOUR: Duration = Duration::from_secs(3_600);
/// The time after the first hour over which the seed's certificates expire.
const EXPIRY_SPREAD: Duration = Duration::from_secs(30 * 86_400 - 3_600);

/// The table of certificates.
#[derive(Default)]
pub struct Table {
    /// In the order in which certctl lists them.
    rows: BTreeMap<(SystemTime, String), Certificate>,
    created_by_id: HashMap<String, SystemTime>,
    names: HashSet<String>,
}

impl Table {
    /// Returns a table of so many certificates as `seed/01_bulk_renewal_certs.sql` has them, as
    /// `seed/03_deploy_loop.sql` has them, and as `seed/04_job_drain.sql` has them.
    pub fn seeded([certificates, deployments, drain]: [u32; 3], now: SystemTime, targets: &Targets) -> Self {
        let mut table = Self::default();
        for n in 1..=deployments {
            table.add(certificate_to_deploy(n, now));
        }
        for n in 1..=certificates {
            let target_ids = Some(targets.of_certificate(n).into_iter().collect());
            table.add(Certificate { target_ids, ..seeded_certificate(n, certificates, now) });
        }
        for n in 1..=drain {
            let target_ids = Some(targets.of_drained(n).into_iter().collect());
            table.add(Certificate { target_ids, ..drained_certificate(n, now) });
        }
        table
    }

    fn add(&mut self, certificate: Certificate) {
        self.names.insert(certificate.name.clone());
        self.created_by_id.insert(certificate.id.clone(), certificate.created_at);
        self.rows.insert((certificate.created_at, certificate.id.clone()), certificate);
    }

    pub fn get(&self, id: &str) -> Option<&Certificate> {
        let created_at = *self.created_by_id.get(id)?;
        self.rows.get(&(created_at, id.to_owned()))
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Certificate> {
        let created_at = *self.created_by_id.get(id)?;
        self.rows.get_mut(&(created_at, id.to_owned()))
    }

    /// Refuses a certificate that the database would refuse, and one for which there is no room.
    fn refuse(&self, new: &Certificate) -> Result<(), StoreError> {
        if self.names.contains(&new.name) || self.created_by_id.contains_key(&new.id) {
            return Err(StoreError::violation_of(Violation::Duplicate, "a certificate of this id or name exists"));
        }
        let known = new.owner_id == OWNER
            && new.team_id == TEAM
            && new.issuer_id == ISSUER
            && POLICIES.contains(&new.renewal_policy_id.as_str())
            && new.profile_id.as_ref().is_none_or(|id| PROFILES.contains(&id.as_str()));
        if !known {
            return Err(StoreError::violation_of(Violation::UnknownReference, "a row referred to does not exist"));
        }
        if self.rows.len() >= MAX_CERTIFICATES {
            return Err(StoreError::because("no room in memory for more certificates"));
        }
        Ok(())
    }
}

impl CertificateStore for MemoryStore {
    async fn insert_certificate(&self, new: &Certificate) -> Result<(), StoreError> {
        // A poisoned table is whole all the same: nothing between its updates can panic.
        let mut table = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
        table.refuse(new)?;
        // As from the database: a row has no targets until something maps one.
        table.add(Certificate { target_ids: Some(Vec::new()), ..new.clone() });
        Ok(())
    }

    async fn certificate(&self, id: &str) -> Result<Option<Certificate>, StoreError> {
        let table = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        Ok(table.get(id).cloned())
    }

    async fn certificates(&self, page: &Page) -> Result<Listing, StoreError> {
        let table = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        let selected = |row: &&Certificate| page.filter.iter().all(|(field, value)| self.has(row, *field, value));
        let mut rows: Vec<&Certificate> = table.rows.values().filter(selected).collect();
        let total = rows.len() as u64;
        rows.sort_by(|left, right| key(left, page.order).cmp(&key(right, page.order)));
        if page.descending {
            rows.reverse();
        }
        if let Some((created_at, id)) = &page.after {
            rows.retain(|row| (row.created_at, &row.id) > (*created_at, id));
        }
        let amount = |number: i64| usize::try_from(number).unwrap_or(0);
        let (offset, limit) = (page.offset.map_or(0, amount), page.limit.map_or(usize::MAX, amount));
        let certificates = rows.into_iter().skip(offset).take(limit).cloned().collect();
        Ok(Listing { certificates, total })
    }

    async fn update_certificate(&self, changed: &Certificate) -> Result<bool, StoreError> {
        let mut table = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
        let Some(row) = table.get_mut(&changed.id) else { return Ok(false) };
        row.clone_from(changed);
        Ok(true)
    }
}

impl MemoryStore {
    fn has(&self, certificate: &Certificate, field: Field, value: &str) -> bool {
        match field {
            Field::Status => certificate.status == value,
            Field::Environment => certificate.environment == value,
            Field::Owner => certificate.owner_id == value,
            Field::Team => certificate.team_id == value,
            Field::Issuer => certificate.issuer_id == value,
            Field::Profile => certificate.profile_id.as_deref() == Some(value),
            Field::Agent => self.targets.agents_of(certificate).any(|agent_id| agent_id == value),
        }
    }
}

/// Returns the key by which certificates are compared: a time, or a text.
fn key(certificate: &Certificate, order: Order) -> (Option<SystemTime>, &str) {
    match order {
        Order::Created => (Some(certificate.created_at), ""),
        Order::Updated => (Some(certificate.updated_at), ""),
        Order::Expiry => (Some(certificate.expires_at), ""),
        Order::CommonName => (None, &certificate.common_name),
        Order::Name => (None, &certificate.name),
        Order::Status => (None, &certificate.status),
        Order::Environment => (None, &certificate.environment),
    }
}

/// Returns certificate `n` of a job drain: out of reach of a renewal scan, and older than all others.
fn drained_certificate(n: u32, now: SystemTime) -> Certificate {
    let after = Duration::from_secs(n.into());
    let certificate = certificate_of(("loadtest-drain", "job-drain"), n, now - 48 * HOUR - after);
    Certificate { expires_at: now + 40 * 24 * HOUR + after, ..certificate }
}

/// Returns certificate `n` of `all`.
fn seeded_certificate(n: u32, all: u32, now: SystemTime) -> Certificate {
    let created_at = now - Duration::from_secs(u64::from(all - n) + 1);
    // 7919 is prime, so that each place in time is taken once, and those that expire soon are not the oldest.
    let place = u64::from(n) * 7_919 % u64::from(all) + 1;
    let expires_at = now + HOUR + EXPIRY_SPREAD.mul_f64(place as f64 / f64::from(all));
    let batch = ("loadtest-bulk", "bulk-renewal");
    Certificate { expires_at, ..certificate_of(batch, n, created_at) }
}

/// Returns certificate `n` of those that agents deploy.
fn certificate_to_deploy(n: u32, now: SystemTime) -> Certificate {
    let created_at = now - Duration::from_micros(u64::from(n));
    let certificate = certificate_of(("loadtest-deploy", "deploy-loop"), n, created_at);
    let target_ids = Some(vec![deployment_target_id(n)]);
    Certificate { expires_at: now + 80 * 24 * HOUR, target_ids, ..certificate }
}

/// Returns certificate `n` of a seed whose names begin so and whose batch is called so. It expires when it was created.
fn certificate_of((start, batch): (&str, &str), n: u32, created_at: SystemTime) -> Certificate {
    let host = format!("{start}-{n:05}.example.test");
    Certificate {
        id: format!("cert-{start}-{n:05}"),
        name: host.clone(),
        common_name: host.clone(),
        sans: Some(vec![host]),
        environment: "loadtest".to_owned(),
        owner_id: OWNER.to_owned(),
        team_id: TEAM.to_owned(),
        issuer_id: ISSUER.to_owned(),
        target_ids: Some(Vec::new()),
        renewal_policy_id: "rp-standard".to_owned(),
        profile_id: None,
        status: "Active".to_owned(),
        expires_at: created_at,
        tags: tags(batch),
        last_renewal_at: None,
        last_deployment_at: None,
        revoked_at: None,
        revocation_reason: None,
        created_at,
        updated_at: created_at,
        source: String::new(),
    }
}

/// Returns the tags of a seed's certificates.
fn tags(batch: &str) -> BTreeMap<String, String> {
    [("source", "certctl-bench"), ("batch", batch)].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_spreads_expiry_over_thirty_days() {
        let now = SystemTime::now();
        let rows: Vec<Certificate> =
            Table::seeded([10_000, 0, 0], now, &Targets::default()).rows.into_values().collect();
        assert_eq!((rows.len(), rows[0].id.as_str()), (10_000, "cert-loadtest-bulk-00001"));
        let expiries: HashSet<SystemTime> = rows.iter().map(|row| row.expires_at).collect();
        assert_eq!(expiries.len(), 10_000);
        let (first, last) = (expiries.iter().min().copied(), expiries.iter().max().copied());
        assert!(first > Some(now + HOUR) && last <= Some(now + 30 * 24 * HOUR), "{first:?} to {last:?}");
        assert!(rows.iter().all(|row| row.created_at < now));
    }
}
