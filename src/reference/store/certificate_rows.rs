//! Certificates, as rows and as the JSON that certctl answers, and the lists of them.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::SystemTime;

use serde::Serialize;

use super::StoreError;
use crate::clock;

pub const ACTIVE: &str = "Active";
pub const REVOKED: &str = "Revoked";
/// The status that a renewal under way leaves.
pub const RENEWAL_IN_PROGRESS: &str = "RenewalInProgress";

/// The operations that requests about certificates need of a store.
pub trait CertificateStore {
    /// Inserts a certificate; the error distinguishes a duplicate and an unknown reference from other failures.
    fn insert_certificate(&self, new: &Certificate) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the certificate of this id: one statement for its row, and a second for its targets.
    fn certificate(&self, id: &str) -> impl Future<Output = Result<Option<Certificate>, StoreError>> + Send;
    /// Returns a page of certificates: a COUNT, the page, and unless that is empty a third statement for all targets.
    fn certificates(&self, page: &Page) -> impl Future<Output = Result<Listing, StoreError>> + Send;
    /// Writes all fields that may change over the certificate of its id; false when there is none.
    fn update_certificate(&self, changed: &Certificate) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// A row of the table of certificates. The order of the fields is that of certctl's JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    pub id: String,
    pub name: String,
    pub common_name: String,
    pub sans: Option<Vec<String>>,
    pub environment: String,
    pub owner_id: String,
    pub team_id: String,
    pub issuer_id: String,
    /// From a table of their own; never inserted with the certificate.
    pub target_ids: Option<Vec<String>>,
    pub renewal_policy_id: String,
    #[serde(rename = "certificate_profile_id", skip_serializing_if = "Option::is_none")]
    pub profile_id: Option<String>,
    pub status: String,
    #[serde(serialize_with = "clock::serialize")]
    pub expires_at: SystemTime,
    pub tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "clock::serialize_optional")]
    pub last_renewal_at: Option<SystemTime>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "clock::serialize_optional")]
    pub last_deployment_at: Option<SystemTime>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "clock::serialize_optional")]
    pub revoked_at: Option<SystemTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<String>,
    #[serde(serialize_with = "clock::serialize")]
    pub created_at: SystemTime,
    #[serde(serialize_with = "clock::serialize")]
    pub updated_at: SystemTime,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// A selection of certificates, their order, and their number.
#[derive(Debug, Default)]
pub struct Page {
    /// Only those with these values.
    pub filter: Vec<(Field, String)>,
    pub order: Order,
    pub descending: bool,
    /// Only those after this one, by creation and id; the order must be that of creation.
    pub after: Option<(SystemTime, String)>,
    pub offset: Option<i64>,
    /// No limit when none is given.
    pub limit: Option<i64>,
}

/// A page, and the number of certificates on all pages.
#[derive(Debug)]
pub struct Listing {
    pub certificates: Vec<Certificate>,
    pub total: u64,
}

/// The fields by which certificates can be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Status,
    Environment,
    Owner,
    Team,
    Issuer,
    Profile,
    /// The agent of one of its targets.
    Agent,
}

impl Field {
    /// Every field with its name in requests.
    pub const ALL: [(Self, &str); 7] = [
        (Self::Status, "status"),
        (Self::Environment, "environment"),
        (Self::Owner, "owner_id"),
        (Self::Team, "team_id"),
        (Self::Issuer, "issuer_id"),
        (Self::Profile, "profile_id"),
        (Self::Agent, "agent_id"),
    ];
}

/// The fields by which certificates can be ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Created,
    Updated,
    Expiry,
    CommonName,
    Name,
    Status,
    Environment,
}

impl Order {
    /// Returns the order of this name in requests; creation for an unknown name.
    pub fn by_name(name: &str) -> Self {
        match name {
            "updatedAt" => Self::Updated,
            "notAfter" | "expiresAt" => Self::Expiry,
            "commonName" => Self::CommonName,
            "name" => Self::Name,
            "status" => Self::Status,
            "environment" => Self::Environment,
            _ => Self::Created,
        }
    }
}
