//! The checks of certctl's API: health, version, clock, rights, limits, ACME, seeds.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Finding, Report, SEED, ServerFacts, Severity, clock};
use crate::error::{Error, Result};
use crate::evidence::metrics;
use crate::foreign;
use crate::inspect::preflight::{Inspection, LIMITER_PROOF_PROBES, Rights, renewal_info};
use crate::load::runtime::runtime;
use crate::scenario::agent_storm::SEEDED_AGENTS;
use crate::scenario::bulk_renewal::SEEDED_CERTIFICATES;
use crate::scenario::revocation;
use crate::system::probe::Probe;
use crate::system::{Certctl, SystemKind};
use crate::wire::Dialer;
use crate::wire::request::Method;

/// The permissions that scenarios need, with the severity and the consequence of a missing one.
const PERMISSIONS: [(&str, Severity, &str); 8] = [
    ("agent.heartbeat", Severity::Fail, "agent_storm and job_drain cannot run"),
    ("agent.job.complete", Severity::Fail, "deploy_loop and job_drain cannot run"),
    ("agent.job.poll", Severity::Fail, "agent_storm cannot poll for work, and deploy_loop and job_drain cannot run"),
    ("cert.issue", Severity::Fail, "issuance_acceptance, bulk_renewal, deploy_loop and job_drain cannot run"),
    ("cert.read", Severity::Fail, "list_certificates, bulk_renewal, deploy_loop and job_drain cannot run"),
    ("cert.bulk_revoke", Severity::Warn, "revocation cannot run"),
    ("agent.read", Severity::Warn, "the seeds of the fleet are not checked"),
    ("metrics.read", Severity::Warn, "results lack certctl's own metrics"),
];
/// The profile of certctl's demo seed, which stands for all where the database is not known.
const PROFILE: &str = "prof-standard-tls";
/// The certificates that `job_drain` renews by default.
const USUAL_DRAIN: u64 = 1_000;

/// Checks the API over `dialer`. `profiles` are those of the database, where it is known.
pub fn examine(
    certctl: &Certctl,
    dialer: Dialer,
    profiles: Option<Vec<String>>,
    report: Report<'_>,
) -> Result<ServerFacts> {
    let mut facts = ServerFacts::default();
    // One cause, such as a rate limiter, may fail many checks: it is reported once.
    let mut known = BTreeSet::new();
    let report: Report<'_> = &mut |finding: Finding| {
        if known.insert(finding.what.clone()) {
            report(finding);
        }
    };
    let rights = runtime()?.block_on(async {
        let mut inspection = Inspection { certctl, probe: Probe::new(certctl, dialer.clone()) };
        health(&mut inspection, &mut facts, report).await;
        let rights = match inspection.token_is_known().await {
            Ok(rights) => Some(rights),
            Err(error) => {
                report(Finding::of(Severity::Fail, &error));
                None
            }
        };
        report(match inspection.rate_limiter_is_off(LIMITER_PROOF_PROBES).await {
            Ok(is_off) => Finding::unless(is_off, unseen_limiter, "the rate limiter is off"),
            Err(error) => Finding::of(Severity::Fail, &error),
        });
        if let Some(rights) = &rights {
            permissions(&inspection, rights, report);
            keys(&mut inspection, report).await;
            acme(&mut inspection, profiles, report).await;
            // One request: what a limiter leaves of a minute's requests is the run's.
            report(match inspection.ocsp_is_not_limited(revocation::ISSUER, 1).await {
                Ok(()) => Finding::ok(format!("the OCSP responder of {} answers", revocation::ISSUER)),
                Err(error) => Finding::of(Severity::Warn, &error),
            });
            seeds(&mut inspection, rights, report).await;
            facts.unique_path = leave_trace(&mut inspection).await;
        }
        rights
    });
    // The reference server may have no metrics, and has no loops whose next turn follows from its uptime.
    if rights.is_some_and(|rights| rights.permissions.contains("metrics.read")) && !facts.is_reference {
        match metrics::read(certctl, &dialer) {
            Ok(metrics) => facts.uptime_s = metrics.get("certctl_uptime_seconds").copied(),
            Err(error) => report(Finding::of(Severity::Warn, &error)),
        }
    }
    Ok(facts)
}

fn unseen_limiter() -> Finding {
    Finding::warn(
        "the rate limiter could not be checked: too few right answers to /health came, or too slowly",
        "fix what keeps it from answering, then run doctor again",
    )
}

fn finding(outcome: Result<()>, good: impl Into<String>) -> Finding {
    match outcome {
        Ok(()) => Finding::ok(good),
        Err(error) => Finding::of(Severity::Fail, &error),
    }
}

async fn health(inspection: &mut Inspection<'_>, facts: &mut ServerFacts, report: Report<'_>) {
    report(finding(inspection.health().await, "healthy, and it reaches its database"));
    match inspection.version().await {
        Ok(version) => {
            let mut system = inspection.certctl.system.clone();
            system.answered(&version);
            facts.is_reference = system.kind == SystemKind::Reference;
            let what = format!("version {}", version.version);
            report(Finding::unless(
                !facts.is_reference,
                || {
                    Finding::warn(
                        format!("{what}: a reference server, not certctl"),
                        "do not take its figures for certctl's",
                    )
                },
                what.clone(),
            ));
        }
        Err(error) => report(Finding::of(Severity::Fail, &error)),
    }
    if let Some(finding) = clock::ours(&mut inspection.probe).await {
        report(finding);
    }
}

fn permissions(inspection: &Inspection<'_>, rights: &Rights, report: Report<'_>) {
    let user = &rights.user;
    report(Finding::ok(format!("the token is known: {user:?}, with {} permissions", rights.permissions.len())));
    for (permission, level, without) in PERMISSIONS {
        match inspection.token_may(rights, permission) {
            Ok(()) => report(Finding::ok(format!("permission {permission}"))),
            Err(error) => {
                let finding = Finding::of(level, &error);
                report(Finding { what: format!("{}: {without}", finding.what), ..finding });
            }
        }
    }
}

/// Reports the party that makes the keys of renewed certificates, if it is known.
async fn keys(inspection: &mut Inspection<'_>, report: Report<'_>) {
    match inspection.keygen_mode().await {
        Ok(Some(mode)) => {
            let mode = foreign::line(&mode);
            report(Finding::ok(format!("keys of renewed certificates: job_drain can run with --keys {mode} only")));
        }
        Ok(None) => {}
        Err(error) => report(Finding::of(Severity::Warn, &error)),
    }
}

async fn acme(inspection: &mut Inspection<'_>, profiles: Option<Vec<String>>, report: Report<'_>) {
    if profiles.as_ref().is_some_and(Vec::is_empty) {
        report(Finding::fail(
            "certificate_profiles is empty: the ACME scenarios cannot run",
            "start certctl with CERTCTL_DEMO_SEED=true, or make a profile",
        ));
    }
    let profiles = profiles.unwrap_or_else(|| vec![PROFILE.to_owned()]);
    let mut there = BTreeSet::new();
    for profile in profiles {
        match inspection.acme(&directory(&profile), true).await {
            Ok(found) => {
                if let Err(error) = renewal_info(&found, &inspection.certctl.base) {
                    report(Finding::of(Severity::Fail, &error));
                    // It is a setting of certctl as a whole, not of a profile.
                    return;
                }
                there.insert(profile);
            }
            Err(error) => {
                report(Finding::of(Severity::Fail, &error));
                // Any cause but an unknown profile concerns all profiles.
                if there.is_empty() {
                    return;
                }
            }
        }
    }
    let Some(first) = there.first() else { return };
    let without = match inspection.acme(&directory(first), false).await {
        Ok(_) => "with and without the token",
        Err(_) => "only with the token, as certctl is built",
    };
    let names: Vec<&str> = there.iter().map(String::as_str).collect();
    report(Finding::ok(format!("ACME answers {without}; profiles: {}", names.join(", "))));
}

fn directory(profile: &str) -> String {
    format!("/acme/profile/{profile}/directory")
}

async fn seeds(inspection: &mut Inspection<'_>, rights: &Rights, report: Report<'_>) {
    if inspection.token_may(rights, "agent.read").is_ok() {
        report(finding(agents(inspection).await, format!("agents 1 and {SEEDED_AGENTS} of the fleet are seeded")));
    }
    if inspection.token_may(rights, "cert.read").is_ok() {
        let mut seeded = inspection.certificate_is_seeded(1).await;
        if seeded.is_ok() {
            seeded = inspection.certificate_is_seeded(SEEDED_CERTIFICATES).await;
        }
        report(finding(
            seeded.map(drop),
            format!("certificates 1 and {SEEDED_CERTIFICATES} of those to renew are seeded"),
        ));
        // There are none by default: only one scenario needs them. The same holds for those of a drain.
        report(match inspection.deployment_is_seeded(1).await {
            Ok(()) => Finding::ok(
                "certificates that agents deploy are seeded; deploy_loop needs \
                 CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL=24h too",
            ),
            Err(error) => {
                let finding = Finding::of(Severity::Warn, &error);
                Finding { what: format!("{}: deploy_loop cannot run", finding.what), ..finding }
            }
        });
        report(match inspection.drain_is_seeded(USUAL_DRAIN, SEEDED_AGENTS).await {
            Ok(()) => Finding::ok(format!("certificates 1 and {USUAL_DRAIN} of a job drain are seeded")),
            Err(error) => {
                let finding = Finding::of(Severity::Warn, &error);
                Finding { what: format!("{}: job_drain cannot run with its defaults", finding.what), ..finding }
            }
        });
    }
}

/// Checks the first and the last agent. Unlike the preflight it sends no heartbeat, which would change their rows.
async fn agents(inspection: &mut Inspection<'_>) -> Result<()> {
    for number in [1, SEEDED_AGENTS] {
        let id = format!("ag-loadtest-{number:05}");
        let path = format!("/api/v1/agents/{id}");
        let answer = inspection.probe.send_with_token(Method::Get, &path).await?;
        let base = &inspection.certctl.base;
        match (answer.status, answer.json()) {
            (200, Some(json)) if json["id"] == id.as_str() => {}
            (404 | 500, Some(_)) => {
                let why = answer.reason();
                let what = format!("{base}: agent {number} of the fleet is not seeded ({}: {why})", answer.status);
                return Err(Error::new(what).with_hint(SEED));
            }
            _ => return Err(inspection.not_certctl(&path, &answer)),
        }
    }
    Ok(())
}

/// Requests a unique path that does not exist: certctl audits that too. Returns the path if certctl answered 404.
async fn leave_trace(inspection: &mut Inspection<'_>) -> Option<String> {
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let path = format!("/api/v1/certctl-bench-doctor-{now_ns:x}");
    let answer = inspection.probe.send_with_token(Method::Get, &path).await.ok()?;
    (answer.status == 404).then_some(path)
}
