//! The hand-over of a system that a bench target has prepared to a process that it starts: its own program, which finds
//! the hand-over in an environment variable, or reads it from standard input.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::scenario::acme::Paths;
use crate::system::base_url::BaseUrl;
use crate::system::{Certctl, CheckedCertctl, Token};
use crate::wire::Dialer;
use crate::wire::tls::{self, Trust};

/// A certctl that is handed over.
#[derive(Deserialize, Serialize)]
pub(super) struct HandOver {
    parent: u32,
    base: String,
    address: SocketAddr,
    trust: TrustSpec,
    token: String,
    acme: Option<Paths>,
}

#[derive(Deserialize, Serialize)]
enum TrustSpec {
    /// DER, base64.
    Authorities(Vec<String>),
    System,
    Insecure,
}

impl TrustSpec {
    fn of(trust: &Trust) -> Self {
        match trust {
            Trust::Authorities(certificates) => {
                Self::Authorities(certificates.iter().map(|certificate| STANDARD.encode(certificate)).collect())
            }
            Trust::System => Self::System,
            Trust::Insecure => Self::Insecure,
        }
    }

    fn into_trust(self) -> Result<Trust> {
        Ok(match self {
            Self::Authorities(texts) => {
                let certificates = texts.iter().map(|text| STANDARD.decode(text).map(CertificateDer::from));
                Trust::Authorities(certificates.collect::<Result<_, _>>().context(reading)?)
            }
            Self::System => Trust::System,
            Self::Insecure => Trust::Insecure,
        })
    }
}

fn reading() -> String {
    "reading the hand-over of a system".to_owned()
}

/// Reads the hand-over in the environment variable `name`; `None` without one.
///
/// # Errors
/// If it is something else.
pub(super) fn find<T: DeserializeOwned>(name: &str) -> Option<Result<T>> {
    let text = std::env::var(name).ok()?;
    Some(serde_json::from_str(&text).context(|| format!("reading {name}")))
}

impl HandOver {
    /// Hands a certctl over to a child of this process.
    pub(super) fn of(checked: &CheckedCertctl) -> Self {
        let certctl = &checked.certctl;
        Self {
            parent: std::process::id(),
            base: certctl.base.to_string(),
            address: checked.dialer.address(),
            trust: TrustSpec::of(&certctl.trust),
            token: certctl.token.reveal().to_owned(),
            acme: checked.acme.clone(),
        }
    }

    /// Takes it over, and ties this process to its parent: it ends with that.
    ///
    /// # Errors
    /// If the parent has ended already, or the hand-over is damaged.
    pub(super) fn take(self) -> Result<CheckedCertctl> {
        let set = set_parent_process_death_signal(Some(Signal::KILL));
        if set.is_err() || getppid() != Pid::from_raw(self.parent.cast_signed()) {
            return Err(Error::new("the bench target that started this process has ended"));
        }
        let base: BaseUrl = self.base.parse().map_err(|error| Error::new(format!("{}: {error}", reading())))?;
        let trust = self.trust.into_trust()?;
        let dialer = Dialer::new(self.address, base.server_name()?, tls::client_config(&trust)?);
        let certctl = Certctl::external(base, trust, Token::new(self.token), None);
        Ok(CheckedCertctl { certctl, dialer, acme: self.acme })
    }
}
