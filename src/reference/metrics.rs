//! Metrics for Prometheus: certctl loads its tables at every scrape.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::app::App;
use crate::clock::year_1;
use crate::reply::{self, Reply};
use crate::store::certificate_rows::{Certificate, Page};
use crate::store::{Agent, Store, StoreError};

const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const EXPIRING_WITHIN: Duration = Duration::from_secs(30 * 86_400);
/// An agent counts as online for this long after its heartbeat.
const ONLINE_FOR: Duration = Duration::from_secs(5 * 60);
/// The states of a job that has not ended.
const OPEN: [&str; 4] = ["Pending", "AwaitingCSR", "AwaitingApproval", "Running"];

/// A line of the exposition: name, type, help and value.
type Metric = (&'static str, &'static str, &'static str, u64);

/// Answers with those of certctl's metrics that this server's tables can give.
pub async fn answer<S: Store>(app: &App<S>, request_id: &str) -> Reply {
    match collect(app).await {
        Ok(metrics) => reply::with_body(StatusCode::OK, EXPOSITION, expose(&metrics)),
        Err(_) => reply::failure(StatusCode::INTERNAL_SERVER_ERROR, "Failed to collect metrics", request_id),
    }
}

async fn collect<S: Store>(app: &App<S>) -> Result<Vec<Metric>, StoreError> {
    let page = Page { offset: Some(0), limit: app.behaviour.most_certificates(), ..Page::default() };
    let listing = app.store.certificates(&page).await?;
    let agents = app.store.agents().await?;
    let jobs = app.store.jobs_by_status().await?;
    // Without this one certctl answers all the same.
    let dead = app.store.dead_notifications().await.unwrap_or_default();
    let now = SystemTime::now();
    let [revoked, expired, expiring] = states(&listing.certificates, now);
    let active = listing.total.saturating_sub(revoked + expired + expiring);
    let job = |status: &str| jobs.get(status).copied().unwrap_or_default();
    let (audit_rows, ..) = app.audit.totals();
    Ok(vec![
        ("certificate_total", "gauge", "All certificates.", listing.total),
        ("certificate_active", "gauge", "Certificates neither expiring, expired nor revoked.", active),
        ("certificate_expiring_soon", "gauge", "Certificates that expire within 30 days.", expiring),
        ("certificate_expired", "gauge", "Certificates past their expiry.", expired),
        ("certificate_revoked", "gauge", "Certificates revoked.", revoked),
        ("agent_total", "gauge", "Agents that are not retired.", agents.len() as u64),
        ("agent_online", "gauge", "Agents with a heartbeat in the last five minutes.", online(&agents, now)),
        ("job_pending", "gauge", "Jobs that have not ended.", OPEN.into_iter().map(job).sum()),
        ("job_completed_total", "counter", "Jobs completed.", job("Completed")),
        ("job_failed_total", "counter", "Jobs failed.", job("Failed")),
        ("notification_dead_total", "counter", "Notifications given up.", dead),
        ("uptime_seconds", "gauge", "Seconds since the start.", app.started.elapsed().as_secs()),
        ("audit_chain_rows", "gauge", "Audit rows that this server has written.", audit_rows),
    ])
}

/// Counts the certificates that are revoked, expired, and about to expire.
fn states(certificates: &[Certificate], now: SystemTime) -> [u64; 3] {
    let mut counts = [0; 3];
    for certificate in certificates {
        let is = |status: &str| certificate.status.eq_ignore_ascii_case(status);
        let dated = certificate.expires_at != year_1();
        if is("revoked") {
            counts[0] += 1;
        } else if is("expired") || dated && certificate.expires_at < now {
            counts[1] += 1;
        } else if dated && certificate.expires_at < now + EXPIRING_WITHIN {
            counts[2] += 1;
        }
    }
    counts
}

fn online(agents: &[Agent], now: SystemTime) -> u64 {
    let recent = |agent: &&Agent| agent.last_heartbeat_at.is_some_and(|at| at + ONLINE_FOR > now);
    agents.iter().filter(recent).count() as u64
}

fn expose(metrics: &[Metric]) -> String {
    metrics.iter().fold(String::new(), |mut text, (name, kind, help, value)| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP certctl_{name} {help}\n# TYPE certctl_{name} {kind}\ncertctl_{name} {value}");
        text
    })
}
