//! The checks of a drain: its certificates and their mappings, and the party that makes their keys.

use std::time::Duration;

use super::Inspection;
use crate::error::{Error, Result};
use crate::foreign;
use crate::scenario::job_drain::{Keys, ProcessorRounds, certificate_id};
use crate::system::{Certctl, SystemKind};
use crate::wire::request::Method;

/// The setting that decides who makes keys, and that of the acknowledgement without which certctl makes none.
const MODE: &str = "CERTCTL_KEYGEN_MODE";
const ACKNOWLEDGEMENT: &str = "CERTCTL_DEMO_MODE_ACK";
/// The settings of the job processor's rounds: the time between two, and the most jobs of one.
const INTERVAL: &str = "CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL";
const CLAIM_LIMIT: &str = "CERTCTL_SCHEDULER_JOB_CLAIM_LIMIT";

impl Inspection<'_> {
    /// Checks that the first and the last of `certificates` are there, and map to targets of the first `agents`. With a
    /// database the run maps them itself.
    pub(in crate::inspect) async fn drain_is_seeded(&mut self, certificates: u64, agents: u64) -> Result<()> {
        for number in [1, certificates] {
            self.drain_certificate(number, certificates, agents).await?;
        }
        if self.certctl.database.is_some() || agents >= certificates {
            return Ok(());
        }
        // The certificates are dealt out in turn: this one is the first agent's again.
        let number = agents + 1;
        let Some(agent) = self.mapped_agent(number).await? else { return Ok(()) };
        if agent == "ag-loadtest-00001" {
            return Ok(());
        }
        Err(Error::new(format!(
            "{}: certificate {number} of the drain maps to a target of {}, but the run has {agents} agents: its renewal, \
             and that of others, would never be drained",
            self.certctl.base,
            foreign::line(&agent)
        ))
        .with_hint(
            "give --database URL, so that the run maps the certificates to its own agents, or as many --agents as were \
             seeded",
        ))
    }

    async fn drain_certificate(&mut self, number: u64, certificates: u64, agents: u64) -> Result<()> {
        let what = format!("certificate {number} of the drain");
        let seed = format!("certctl-bench seed --agents {agents} --drain {certificates} --database URL");
        let status = self.certificate_is_there(&certificate_id(number), (what.clone(), seed)).await?;
        self.is_out_of_renewal(&what, &status)
    }

    /// Returns the agent of the target that a certificate of the drain maps to; `None` if certctl does not say.
    async fn mapped_agent(&mut self, number: u64) -> Result<Option<String>> {
        let path = format!("/api/v1/certificates/{}/deployments", certificate_id(number));
        let answer = self.probe.send_with_token(Method::Get, &path).await?;
        let json = answer.json().filter(|_| answer.status == 200).unwrap_or_default();
        Ok(json["data"][0]["agent_id"].as_str().map(str::to_owned))
    }

    /// Checks that certctl leaves the keys to agents, or makes them itself, as far as it can be known without a
    /// renewal.
    pub(super) async fn keys_are_made_by(&mut self, keys: Keys) -> Result<()> {
        match self.keygen_mode().await? {
            Some(mode) if mode != keys.label() => Err(self.other_keys(&mode, keys)),
            _ => Ok(()),
        }
    }

    /// Returns the mode in which keys are made, if it is known. A certctl that runs reports only the acknowledgement
    /// without which it makes none itself.
    pub(in crate::inspect) async fn keygen_mode(&mut self) -> Result<Option<String>> {
        if let Some(mode) = mode_of(self.certctl) {
            return Ok(Some(mode));
        }
        let answer = self.probe.send_with_token(Method::Get, "/api/v1/auth/runtime-config").await?;
        let json = answer.json().filter(|_| answer.status == 200).unwrap_or_default();
        let is_agents = json["runtime_config"][ACKNOWLEDGEMENT].as_str() == Some("false");
        Ok(is_agents.then(|| Keys::Agent.label().to_owned()))
    }

    /// Checks that the job processor can come to so many jobs within a time, if its settings are known.
    pub(super) fn rounds_may_suffice(&self, jobs: u64, within: Duration) -> Result<()> {
        let Some(rounds) = rounds_of(self.certctl) else { return Ok(()) };
        let least = rounds.least(jobs);
        if least < within {
            return Ok(());
        }
        let [every, least_shown, within_shown] = [rounds.every, least, within].map(humantime::format_duration);
        Err(Error::usage(format!(
            "{}: its job processor takes {} jobs every {every} (±10%), so that the last of {jobs} are begun {least_shown} \
             after the first at the earliest, but only {within_shown} of the window are left for them",
            self.certctl.base, rounds.jobs
        ))
        .with_hint(format!(
            "lengthen --duration by {} or more, or lower --certificates",
            humantime::format_duration(Duration::from_secs((least - within).as_secs() + 1))
        )))
    }

    fn other_keys(&self, mode: &str, keys: Keys) -> Error {
        let wanted = keys.label();
        let hint = match keys {
            Keys::Agent => format!("start it with {MODE}={wanted}, or give --keys server"),
            Keys::Server => format!(
                "start it with {MODE}={wanted}, {ACKNOWLEDGEMENT}=true and {ACKNOWLEDGEMENT}_TS=$(date +%s), or give \
                 --keys agent"
            ),
        };
        Error::new(format!(
            "{}: its {MODE} is {}, so that a drain with --keys {wanted} would never end",
            self.certctl.base,
            foreign::line(mode)
        ))
        .with_hint(hint)
    }
}

/// Returns the rounds of the job processor of a server that was started here; `None` if they are not known.
fn rounds_of(certctl: &Certctl) -> Option<ProcessorRounds> {
    if certctl.system.kind == SystemKind::Reference {
        let every = Duration::try_from_secs_f64(certctl.system.settings.get("job_interval_s")?.as_f64()?).ok()?;
        return Some(ProcessorRounds { every, ..ProcessorRounds::USUAL });
    }
    let settings = certctl.system.certctl_settings()?;
    let every = humantime::parse_duration(settings.get(INTERVAL)?.as_str()?).ok()?;
    let jobs = match settings.get(CLAIM_LIMIT) {
        Some(limit) => limit.as_str()?.parse().ok().filter(|limit| *limit > 0)?,
        None => ProcessorRounds::USUAL.jobs,
    };
    Some(ProcessorRounds { jobs, every })
}

/// Returns the keygen mode of a server that was started here.
fn mode_of(certctl: &Certctl) -> Option<String> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let usual = || Keys::Agent.label().to_owned();
    if certctl.system.kind == SystemKind::Reference {
        return Some(certctl.system.settings.get("keygen").and_then(text).unwrap_or_else(usual));
    }
    let settings = certctl.system.certctl_settings()?;
    Some(settings.get(MODE).and_then(text).unwrap_or_else(usual))
}
