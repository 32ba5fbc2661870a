//! The batch: certificates that certctl signs for a run, to be revoked in it. A revocation cannot be undone, so that
//! every run has certificates of its own.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;

use super::ISSUER;
use crate::scenario::issuance;
use crate::status::{IssuerCertificate, Serial, serial_of};

/// The permission to submit signing requests, as agents do.
pub const CSR_PERMISSION: &str = "agent.job.poll";
/// The agent of the seeded fleet that submits them.
const AGENT: &str = "ag-loadtest-00001";
/// The stated validity of the certificates until they are signed: certctl's renewal scan looks 31 days ahead.
const VALID_FOR: Duration = Duration::from_secs(90 * 86_400);
/// The begin of the certificates' names, by which they are found again and removed.
pub const NAME_PREFIX: &str = "loadtest-revoke-";

/// The certificates of a run.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The run, which its certificates' names tell from others: letters, digits and hyphens.
    pub run: String,
    /// Their issuer.
    pub issuer: IssuerCertificate,
    /// The certificates.
    pub certificates: Vec<BatchCertificate>,
}

/// One certificate of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchCertificate {
    /// certctl's id.
    pub id: String,
    /// Its serial number.
    pub serial: Serial,
}

impl Batch {
    /// Returns the beginning of the names of all certificates of a run.
    pub fn prefix(run: &str) -> String {
        format!("{NAME_PREFIX}{run}-")
    }

    /// Returns the name of a certificate, counted from 1.
    pub fn name(run: &str, number: u64) -> String {
        format!("{}{number:05}.example.test", Self::prefix(run))
    }

    /// Returns the id under which a certificate is posted.
    fn id(run: &str, number: u64) -> String {
        format!("cert-{}{number:05}", Self::prefix(run))
    }
}

/// The requests that make one certificate of a batch, in their order.
pub struct Making {
    id: String,
    name: String,
}

impl Making {
    /// Makes the requests for a certificate of a run, counted from 1.
    pub fn new(run: &str, number: u64) -> Self {
        Self { id: Batch::id(run, number), name: Batch::name(run, number) }
    }

    /// Returns path and body of the POST that puts the certificate under management. The answer is a 201.
    pub fn posting(&self) -> (&'static str, String) {
        let expires_at = humantime::format_rfc3339_seconds(SystemTime::now() + VALID_FOR).to_string();
        let body = json!({
            "id": self.id, "name": self.name, "common_name": self.name, "sans": [self.name],
            "environment": "loadtest", "issuer_id": ISSUER, "owner_id": "o-alice", "team_id": "t-platform",
            "renewal_policy_id": "rp-standard", "expires_at": expires_at, "tags": {"source": "certctl-bench"},
        });
        (issuance::PATH, body.to_string())
    }

    /// Returns path and body of the POST that has it signed. The answer is a 202.
    pub fn signing(&self, csr_pem: &str) -> (String, String) {
        (format!("/api/v1/agents/{AGENT}/csr"), json!({"csr_pem": csr_pem, "certificate_id": self.id}).to_string())
    }

    /// Returns the path of the GET that shows it. The answer is a 200.
    pub fn showing(&self) -> String {
        format!("{}/{}/versions", issuance::PATH, self.id)
    }

    /// Reads the certificate and its issuer in the answer to [`Self::showing`].
    ///
    /// # Errors
    /// If the answer is not one, in words.
    pub fn shown(&self, body: &[u8]) -> Result<(BatchCertificate, IssuerCertificate), String> {
        let versions: Versions<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let [version] = &versions.data[..] else { return Err(format!("it has {} versions", versions.data.len())) };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(version.pem_chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("its chain is not PEM: {error}"))?;
        let [leaf, issuer, ..] = &chain[..] else { return Err("its chain lacks the issuer's certificate".to_owned()) };
        let issuer = IssuerCertificate::from_der(issuer).map_err(|flaw| format!("its issuer's certificate: {flaw}"))?;
        issuer.verify(leaf).map_err(|flaw| format!("its certificate, by that of its issuer: {flaw}"))?;
        match (Serial::from_hex(&version.serial_number), serial_of(leaf)) {
            (Some(stated), Some(serial)) if stated == serial => {
                Ok((BatchCertificate { id: self.id.clone(), serial }, issuer))
            }
            _ => Err("its serial number is not that of its certificate".to_owned()),
        }
    }
}

#[derive(Deserialize)]
struct Versions<'a> {
    #[serde(borrow)]
    data: Vec<VersionRow<'a>>,
}

#[derive(Deserialize)]
struct VersionRow<'a> {
    #[serde(borrow)]
    serial_number: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    pem_chain: std::borrow::Cow<'a, str>,
}
