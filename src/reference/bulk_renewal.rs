//! The bulk renewal: an UPDATE and a new job for each certificate that matches, one after the other.

use std::collections::HashSet;
use std::time::SystemTime;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::Key;
use crate::body;
use crate::chain::ReceivedRequest;
use crate::clock::parse_rfc3339;
use crate::reply::{self, Reply};
use crate::store::certificate_rows::{Certificate, Field, Page, RENEWAL_IN_PROGRESS};
use crate::store::job_rows::NewJob;
use crate::store::{Store, StoreError};

/// The states of certificates that are skipped; certctl compares them exactly.
const SKIPPED: [&str; 4] = ["Archived", "Revoked", "Expired", RENEWAL_IN_PROGRESS];

/// The certificates to renew: those that fit all criteria and, if ids are given, are among them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Criteria {
    profile_id: Option<String>,
    owner_id: Option<String>,
    agent_id: Option<String>,
    issuer_id: Option<String>,
    team_id: Option<String>,
    certificate_ids: Option<Vec<String>>,
}

/// The result for these certificates.
#[derive(Default, Serialize)]
struct Outcome {
    total_matched: usize,
    total_enqueued: usize,
    total_skipped: usize,
    total_failed: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enqueued_jobs: Vec<Enqueued>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Failed>,
}

#[derive(Serialize)]
struct Enqueued {
    certificate_id: String,
    job_id: String,
}

#[derive(Serialize)]
struct Failed {
    certificate_id: String,
    error: String,
}

/// Renews the certificates of a request. All rows are read before the first is written, and nothing locks them
/// meanwhile.
pub async fn answer<S: Store>(app: &App<S>, key: &Key, request: &ReceivedRequest) -> Reply {
    let refuse = |status, message: &str| reply::failure(status, message, &request.id);
    let Some(criteria) = body::object::<Criteria>(&request.body) else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid request body");
    };
    let (filter, ids) = (criteria.filter(), criteria.certificate_ids.unwrap_or_default());
    if filter.is_empty() && ids.is_empty() {
        let message = "Give at least one of profile_id, owner_id, agent_id, issuer_id, team_id, certificate_ids";
        return refuse(StatusCode::BAD_REQUEST, message);
    }
    let mut details = audited(&filter, &ids);
    let matched = match resolve(app, filter, &ids).await {
        Ok(matched) => matched,
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("Bulk renewal failed: {error}")),
    };
    let outcome = renew(app, matched).await;
    details["total_matched"] = outcome.total_matched.into();
    details["total_enqueued"] = outcome.total_enqueued.into();
    details["total_skipped"] = outcome.total_skipped.into();
    details["total_failed"] = outcome.total_failed.into();
    app.audit.append(key.actor, "bulk_renewal_initiated", "bulk", details.to_string()).await;
    reply::json(StatusCode::OK, &outcome)
}

impl Criteria {
    /// Returns the criteria that are set.
    fn filter(&self) -> Vec<(Field, String)> {
        let fields = [
            (Field::Owner, &self.owner_id),
            (Field::Team, &self.team_id),
            (Field::Issuer, &self.issuer_id),
            (Field::Profile, &self.profile_id),
            (Field::Agent, &self.agent_id),
        ];
        let given = |(field, value): (Field, &Option<String>)| Some((field, value.clone()?));
        fields.into_iter().filter_map(given).filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// Returns the parts of the request that the audit row repeats.
fn audited(filter: &[(Field, String)], ids: &[String]) -> Value {
    let mut details = json!({});
    for (field, name) in Field::ALL {
        if let Some((_, value)) = filter.iter().find(|(one, _)| *one == field) {
            details[name] = value.as_str().into();
        }
    }
    if !ids.is_empty() {
        details["certificate_ids"] = ids.join(",").into();
    }
    details
}

/// Returns the certificates of a request; ids that do not exist are left out silently.
async fn resolve<S: Store>(
    app: &App<S>,
    filter: Vec<(Field, String)>,
    ids: &[String],
) -> Result<Vec<Certificate>, StoreError> {
    if filter.is_empty() {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            // certctl leaves out those that it fails to read as well.
            found.extend(app.store.certificate(id).await.ok().flatten());
        }
        return Ok(found);
    }
    let page = Page { filter, offset: Some(0), limit: app.behaviour.most_certificates(), ..Page::default() };
    let mut found = app.store.certificates(&page).await?.certificates;
    if !ids.is_empty() {
        let ids: HashSet<&String> = ids.iter().collect();
        found.retain(|certificate| ids.contains(&certificate.id));
    }
    Ok(found)
}

async fn renew<S: Store>(app: &App<S>, matched: Vec<Certificate>) -> Outcome {
    let mut outcome = Outcome { total_matched: matched.len(), ..Outcome::default() };
    for certificate in matched {
        if SKIPPED.contains(&certificate.status.as_str()) {
            app.work.renewals_skipped.one();
            outcome.total_skipped += 1;
            continue;
        }
        let certificate_id = certificate.id.clone();
        match enqueue(app, certificate).await {
            Ok(job_id) => {
                app.work.renewals_enqueued.one();
                outcome.total_enqueued += 1;
                outcome.enqueued_jobs.push(Enqueued { certificate_id, job_id });
            }
            Err(error) => {
                outcome.total_failed += 1;
                outcome.errors.push(Failed { certificate_id, error });
            }
        }
    }
    outcome
}

/// Marks the certificate and inserts a job, whose id it returns; no transaction ties the two together.
async fn enqueue<S: Store>(app: &App<S>, mut certificate: Certificate) -> Result<String, String> {
    RENEWAL_IN_PROGRESS.clone_into(&mut certificate.status);
    let updated = app
        .store
        .update_certificate(&certificate)
        .await
        .and_then(|found| if found { Ok(()) } else { Err(StoreError::because("certificate not found")) });
    updated.map_err(|error| format!("failed to update certificate status: {error}"))?;
    // A certificate that was never issued has no real expiry.
    let never_issued = parse_rfc3339("2000-01-01T00:00:00Z").is_some_and(|start| certificate.expires_at < start);
    let job = NewJob {
        id: app.ids.row("job"),
        kind: if never_issued { "Issuance" } else { "Renewal" },
        certificate_id: certificate.id,
        at: SystemTime::now(),
    };
    app.store.insert_job(&job).await.map_err(|error| format!("failed to create renewal job: {error}"))?;
    Ok(job.id)
}
