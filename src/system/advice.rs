//! Messages and hints for a connection to a peer that could not be opened.

use super::base_url::BaseUrl;
use crate::wire::tls::Trust;
use crate::wire::{Fault, FaultKind};

/// A peer, as the user named it.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// The name of its kind, such as `certctl`.
    pub what: &'a str,
    /// Its URL.
    pub base: &'a BaseUrl,
    /// The flag or variable that gives the URL.
    pub url_from: &'a str,
    /// The flag that gives its authority.
    pub ca_flag: &'a str,
    /// The authorities that are trusted.
    pub trust: &'a Trust,
}

/// The alert of a server that has no parameters in common with the offer (RFC 8446, section 6.2).
const HANDSHAKE_FAILURE: &str = "HandshakeFailure";
/// The default offer, as a hint.
const IN_COMMON: &str = "have it accept a cipher suite, group and key that this suite supports: TLS 1.3, or 1.2 with \
                         ECDHE and AES-GCM or ChaCha20; X25519, P-256 or P-384; a certificate with an RSA, ECDSA \
                         (P-256, P-384, P-521) or Ed25519 key";

/// The faults by which a server rejects a handshake without a server name: an alert, or a close.
const NO_NAME_KINDS: [FaultKind; 3] = [FaultKind::UnknownName, FaultKind::Refused, FaultKind::Closed];

impl Named<'_> {
    /// Reports whether the peer may lack a server name, which is not sent where the URL has an address.
    fn may_miss_a_name(&self, fault: &Fault) -> bool {
        self.base.is_address() && NO_NAME_KINDS.contains(&fault.kind)
    }

    /// Returns what is wrong, in a sentence.
    pub fn what(&self, fault: &Fault) -> String {
        let (base, detail) = (self.base, &fault.detail);
        match fault.kind {
            FaultKind::SmallKey => format!("{base}: the server's certificate cannot be used: {detail}"),
            _ if detail.starts_with("invalid peer certificate") => {
                format!("{base}: the server's certificate is not trusted: {detail}")
            }
            _ if self.may_miss_a_name(fault) => {
                format!(
                    "{base}: the TLS handshake failed: {detail}; no server name was sent, since the URL has an address"
                )
            }
            _ => format!("{base}: the TLS handshake failed: {detail}"),
        }
    }

    /// Returns the fix. It never advises what was done already: with `--insecure` no certificate is refused.
    pub fn hint(&self, fault: &Fault) -> String {
        let Self { what, url_from, ca_flag, .. } = self;
        let or_any = "(or accept any with --insecure)";
        let name = format!(
            "write https://NAME:PORT in {url_from}, with a name that the server knows (a line in /etc/hosts gives an \
             address a name)"
        );
        match fault.kind {
            // In the first place this alert means that nothing in the offer suits the server.
            FaultKind::Refused if fault.detail.ends_with(HANDSHAKE_FAILURE) => {
                let or_name = if self.may_miss_a_name(fault) { format!("; or {name}") } else { String::new() };
                format!("{IN_COMMON}{or_name}")
            }
            _ if self.may_miss_a_name(fault) => name,
            FaultKind::Connect => format!("start {what} there, or correct {url_from}"),
            FaultKind::Exhausted => "raise ulimit -n, or end the processes that hold so many ports".to_owned(),
            FaultKind::Expired | FaultKind::NotValidYet => {
                format!(
                    "have it serve a certificate that is valid now, check that this machine's clock is right {or_any}"
                )
            }
            FaultKind::WrongName => format!("write a name that its certificate is for in {url_from} {or_any}"),
            FaultKind::UnknownAuthority => match self.trust {
                Trust::Authorities(_) => format!(
                    "the file of {ca_flag} is of another authority: give the certificate of the one that signed the \
                     server's {or_any}"
                ),
                Trust::System | Trust::Insecure => {
                    format!("give its authority's certificate with {ca_flag} FILE {or_any}")
                }
            },
            FaultKind::AuthorityAsServer => {
                format!("give this same certificate with {ca_flag} FILE, or have it serve one with CA:FALSE {or_any}")
            }
            FaultKind::SmallKey => {
                "have it serve a certificate with an RSA key of 2048 bits or more, or an ECDSA key, and \
                                    one signed by such a key"
                    .to_owned()
            }
            FaultKind::NotForServers => {
                format!("have it serve a certificate whose extended key usage has serverAuth {or_any}")
            }
            FaultKind::UnknownExtension => {
                format!("have it serve a certificate without it, or one that does not mark it critical {or_any}")
            }
            FaultKind::BadCertificate => format!("have it serve a well-formed certificate of version 3 {or_any}"),
            FaultKind::ClientCertificate => "have it request no client certificate: none is sent".to_owned(),
            FaultKind::NoHttp11 => "have it offer http/1.1 (ALPN): this suite supports nothing else".to_owned(),
            FaultKind::UnofferedAlpn => "have it select http/1.1, or no protocol at all (ALPN)".to_owned(),
            FaultKind::OldTls => "have it speak TLS 1.2 or 1.3: this suite supports nothing older".to_owned(),
            FaultKind::UnknownName => format!("write a name that the server knows in {url_from}"),
            FaultKind::NotTls
            | FaultKind::Refused
            | FaultKind::Tls
            | FaultKind::Closed
            | FaultKind::Truncated
            | FaultKind::Protocol => format!("check that {url_from} is the address of {what}'s HTTPS port"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_name_is_hinted_only_if_none_was_sent() {
        let hint = |base: &str, kind, detail: &str| {
            let (base, trust) = (base.parse().unwrap(), Trust::Insecure);
            let named =
                Named { what: "certctl", base: &base, url_from: "CERTCTL_BASE", ca_flag: "--ca-file", trust: &trust };
            named.hint(&Fault::new(kind, detail))
        };
        let refused = |base| hint(base, FaultKind::Refused, "received fatal alert: HandshakeFailure");
        assert_eq!(refused("https://certctl.test"), IN_COMMON);
        let both = refused("https://127.0.0.1");
        assert!(both.starts_with(IN_COMMON) && both.contains("; or write https://NAME:PORT in CERTCTL_BASE"), "{both}");
        let denied = |base| hint(base, FaultKind::Refused, "received fatal alert: AccessDenied");
        assert!(denied("https://127.0.0.1").starts_with("write https://NAME:PORT in CERTCTL_BASE"));
        assert_eq!(denied("https://certctl.test"), "check that CERTCTL_BASE is the address of certctl's HTTPS port");
    }
}
