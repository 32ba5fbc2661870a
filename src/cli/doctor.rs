//! `certctl-bench doctor`: checks a certctl before anything is measured.

use clap::Args;

use super::bench::SystemArgs as _;
use super::common_flags::{CertctlChoice, CertctlFlags, EnvironmentUse};
use super::github_job;
use super::prepare;
use crate::error::{Error, Result};
use crate::exit_code;
use crate::inspect::doctor::{self, Finding, Severity};
use crate::provision::network;
use crate::seed::Sizes;
use crate::terminal::github::Annotation;
use crate::terminal::outln;

/// Flags of `certctl-bench doctor`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "It changes nothing that is measured, but sends some 150 requests, one after another: certctl audits \
                  them, and issues ACME nonces. A certctl on another machine can be checked too: only load needs \
                  --allow-remote.\n\
                  Exit codes: 0 no failure, 1 a failure that makes a run impossible or invalid, 2 usage.",
    mut_arg("allow_foreign_rows", |flag| flag.hide(true)),
    mut_arg("in_memory", |flag| flag.hide(true)),
    mut_arg("behaviour", |flag| flag.hide(true)),
    mut_args(|flag| flag.help_heading("System under test"))
)]
pub struct DoctorFlags {
    /// The certctl to check.
    #[command(flatten)]
    system: CertctlFlags,
}

impl DoctorFlags {
    /// Enters a network of loopback alone, where a certctl is to be started in one. Call it before any thread is
    /// started.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn enter_network(&self) -> Result<()> {
        if self.system.wants_loopback_alone() { network::enter_loopback() } else { Ok(()) }
    }
}

/// Prints one line for each finding, and under it the hint.
///
/// # Errors
/// If no certctl is named, or the one to start does not start, or this process is out of descriptors.
pub fn run(flags: DoctorFlags) -> Result<u8> {
    let certctl = match flags.system.resolve(EnvironmentUse::Counts)? {
        CertctlChoice::Running(certctl) => *certctl,
        CertctlChoice::Binary(choice) => prepare::start(choice, Sizes::default())?,
        CertctlChoice::Reference(..) => {
            return Err(Error::usage("doctor checks a running certctl, and none is named").with_hint(
                "give --target https://host:port, or set CERTCTL_BASE; or a binary to start: --certctl PATH",
            ));
        }
    };
    let mut counts = [0; 3];
    let mut failed = Vec::new();
    doctor::examine(&certctl, &mut |finding: Finding| {
        counts[finding.level as usize] += 1;
        failed.extend((finding.level == Severity::Fail).then(|| finding.to_string()));
        outln!("{finding}");
    })?;
    if let Some(error) = certctl.ended() {
        return Err(error);
    }
    let [ok, warnings, failures] = counts;
    outln!("{ok} ok, {warnings} warn, {failures} fail");
    if failed.is_empty() {
        return Ok(0);
    }
    github_job::annotate(Annotation::Error, "doctor", failed.iter());
    Ok(exit_code::COULD_NOT_RUN)
}
