//! The checks of the connection to the system: its addresses, TLS and certificate.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Finding, Report, Severity};
use crate::error::Result;
use crate::inspect::preflight;
use crate::load::runtime::runtime;
use crate::system::Certctl;
use crate::wire::tls::{self, TlsOptions, Trust};
use crate::wire::{Connection, Dialer, Handshake, x509};

/// The days a certificate should remain valid: one that expires sooner may expire within a series of runs.
const FEW_DAYS: i64 = 7;
const DAY_S: i64 = 86_400;

/// Tries every address, and returns the dialer of the first that answers.
pub fn examine(certctl: &Certctl, report: Report<'_>) -> Result<Option<Dialer>> {
    let prepared = tls::configure(&TlsOptions::full(certctl.trust.clone())).and_then(|config| {
        let (addresses, name) = (certctl.base.addresses()?, certctl.base.server_name()?);
        Ok(addresses.into_iter().map(|address| Dialer::new(address, name.clone(), config.clone())).collect::<Vec<_>>())
    });
    let dialers = match prepared {
        Ok(dialers) => dialers,
        Err(error) => {
            report(Finding::of(Severity::Fail, &error));
            return Ok(None);
        }
    };
    let runtime = runtime()?;
    let tried = dialers.into_iter().map(|dialer| {
        let opened = runtime.block_on(preflight::open(&dialer));
        (dialer, opened)
    });
    let (good, bad): (Vec<_>, Vec<_>) = tried.partition(|(_, opened)| opened.is_ok());
    // One good address is enough for a run, which takes the first that answers.
    let level = if good.is_empty() { Severity::Fail } else { Severity::Warn };
    for (dialer, opened) in bad {
        if let Err(fault) = opened {
            report(Finding::of(level, &preflight::unreachable(certctl, dialer.address(), &fault)));
        }
    }
    let mut first = None;
    for (dialer, opened) in good {
        if let Ok(connection) = opened {
            report(handshake(dialer.address(), connection.record().handshake));
            if first.is_none() {
                certificate(certctl, &connection, report);
            }
            first.get_or_insert(dialer);
        }
    }
    Ok(first)
}

fn handshake(address: SocketAddr, handshake: Handshake) -> Finding {
    let what = format!("{address} answers: {handshake}");
    Finding::unless(
        handshake.version == "TLS1.3",
        || {
            Finding::warn(
                format!("{what}; certctl itself speaks only TLS 1.3"),
                "point CERTCTL_BASE at certctl itself: a proxy in front of it would be measured too",
            )
        },
        what.clone(),
    )
}

fn certificate(certctl: &Certctl, connection: &Connection, report: Report<'_>) {
    if matches!(certctl.trust, Trust::Insecure) {
        report(Finding::warn(
            "--insecure: the server's certificate is not verified, and may be that of an impostor",
            "give its authority's certificate with --ca-file FILE",
        ));
    }
    let Some((begin, end)) = connection.peer_certificate().and_then(x509::validity) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
    let days = (end - now).div_euclid(DAY_S);
    let soon = || {
        let what = match now {
            _ if end < now => "has expired".to_owned(),
            _ if now < begin => "is not valid yet".to_owned(),
            _ => format!("expires in {days} days"),
        };
        Finding::warn(format!("the server's certificate {what}"), "give certctl a new one, and start it again")
    };
    report(Finding::unless(
        begin <= now && days >= FEW_DAYS,
        soon,
        format!("the server's certificate is valid for {days} days more"),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_1_2_in_front_of_certctl_is_a_warning() {
        let level = |version| {
            let address = SocketAddr::from(([127, 0, 0, 1], 8443));
            let kind = crate::wire::handshake::HandshakeFlow::Full;
            let what = Handshake { kind, version, suite: "-", group: "-", key: "-", chain_length: 1, alpn: "-" };
            handshake(address, what).level
        };
        assert_eq!([level("TLS1.3"), level("TLS1.2")], [Severity::Ok, Severity::Warn]);
    }
}
