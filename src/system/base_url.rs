//! The address of a system: `https://host:port`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use rustls::pki_types::ServerName;

use crate::error::{Context, Error, Result};
use crate::foreign;

/// The base URL of a system. Two are equal if they name the same host and port.
#[derive(Clone, Debug, Eq)]
pub struct BaseUrl {
    host: String,
    port: u16,
    /// The addresses from the look-up of [`BaseUrl::fix_addresses`]; empty before it.
    fixed: Vec<SocketAddr>,
}

impl PartialEq for BaseUrl {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = foreign::visible(&redact(text), SHOWN_CHARACTERS);
        let wrong = |what: &str| Err(format!("`{shown}`: {what}"));
        if text.chars().any(|letter| letter.is_whitespace() || foreign::is_hidden(letter)) {
            return wrong("a URL must not contain spaces or invisible characters");
        }
        let Some((scheme, rest)) = text.split_once("://") else { return wrong("write it as https://host:port") };
        match scheme.to_ascii_lowercase().as_str() {
            "https" => {}
            "http" => return wrong("only HTTPS is supported; write https://"),
            _ => return wrong("write it as https://host:port"),
        }
        if rest.contains('@') {
            return wrong("the URL must not contain a user name or password");
        }
        let (authority, more) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        match more.trim_start_matches('/').chars().next() {
            Some('?') => return wrong("the base URL must not have a query; write https://host:port"),
            Some('#') => return wrong("the base URL must not have a fragment; write https://host:port"),
            None if more.len() < 2 => {}
            _ => return wrong("the base URL must not have a path; write https://host:port"),
        }
        let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((address, port))) => {
                if address.contains('%') {
                    return wrong("an IPv6 address with a zone is not supported; write one without");
                }
                let Ok(address) = address.parse::<Ipv6Addr>() else {
                    return wrong("brackets must contain an IPv6 address");
                };
                (address.to_string(), port)
            }
            Some(None) => return wrong("a bracket is not closed"),
            None => {
                let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                if port.matches(':').count() > 1 {
                    return wrong("an IPv6 address must be in brackets: https://[::1]:8443");
                }
                (host.to_ascii_lowercase(), port)
            }
        };
        if let Some(what) = flaw(&host) {
            return wrong(what);
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => 443,
            None => return wrong("an IPv6 address must be followed by a colon and a port, or by nothing"),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse::<u16>() {
                Ok(port @ 1..) => port,
                _ if digits.is_empty() => return wrong("a port must follow the colon"),
                _ => return wrong("a port must be a number from 1 to 65535"),
            },
            Some(_) => return wrong("a port must be a number from 1 to 65535"),
        };
        Ok(Self { host, port, fixed: Vec::new() })
    }
}

/// The most characters of a wrong URL that are shown.
const SHOWN_CHARACTERS: usize = 120;

/// Returns what is wrong with the name or address of a host, if anything (RFC 1123, section 2.1; RFC 1035, section
/// 2.3.4).
fn flaw(host: &str) -> Option<&'static str> {
    let plain = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_');
    let is_number = |label: &str| {
        let digits = label.strip_prefix("0x").map_or(label.bytes().all(|byte| byte.is_ascii_digit()), |hexadecimal| {
            hexadecimal.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        digits && !label.is_empty()
    };
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    Some(match host.rsplit('.').next() {
        _ if host.is_empty() => "it has no host",
        _ if !host.is_ascii() => "write the host's name in ASCII letters, as xn--…",
        _ if host.len() > 253 => "a host's name has at most 253 letters",
        Some("") => "write the host's name without a dot at its end",
        // Resolvers differ in the address that they read from such a name.
        Some(last) if is_number(last) => "an IPv4 address has four numbers from 0 to 255",
        _ if host.split('.').any(|label| !(1..=63).contains(&label.len())) => {
            "each part of a host's name between dots must have 1 to 63 letters"
        }
        _ if !host.bytes().all(|byte| plain(byte) || byte == b'.') => {
            "a host's name has letters, digits, hyphens and dots"
        }
        _ => return None,
    })
}

/// Returns a URL, or a text meant as one, without the part before the last `@`, since a password may hold any
/// character, and without its query.
pub fn redact(url: &str) -> String {
    let shown = match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) if !scheme.contains('@') => format!("{scheme}://…@{rest}"),
        (_, Some((_, rest))) => format!("…@{rest}"),
        _ => url.to_owned(),
    };
    shown.split_once('?').map(|(place, _)| format!("{place}?…")).unwrap_or(shown)
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host_header())
    }
}

impl BaseUrl {
    /// Creates a base on this machine, for a server that is started here.
    pub fn local(port: u16) -> Self {
        Self { host: "localhost".to_owned(), port, fixed: Vec::new() }
    }

    /// Returns the value of the `Host` field.
    pub fn host_header(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Reports whether it names its host by an address: then TLS sends no server name (RFC 6066, section 3).
    pub fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Returns the name that the server's certificate must be valid for.
    ///
    /// # Errors
    /// If the host is neither a DNS name nor an IP address.
    pub fn server_name(&self) -> Result<ServerName<'static>> {
        ServerName::try_from(self.host.clone())
            .map_err(|_| Error::usage(format!("`{}` is neither a DNS name nor an IP address", self.host)))
    }

    /// Returns every address of the host.
    ///
    /// # Errors
    /// If the host cannot be resolved.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        if !self.fixed.is_empty() {
            return Ok(self.fixed.clone());
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        Ok(found.context(|| format!("looking up {}", self.host))?.collect())
    }

    /// Looks the host up now, and keeps the addresses for all later calls of [`BaseUrl::addresses`].
    ///
    /// # Errors
    /// If the host cannot be resolved.
    pub fn fix_addresses(&mut self) -> Result<&[SocketAddr]> {
        self.fixed = self.addresses()?;
        Ok(&self.fixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_parsed() {
        for (text, header) in [
            ("https://localhost:8443", "localhost:8443"),
            ("https://certctl.example/", "certctl.example:443"),
            ("https://[::1]:8443", "[::1]:8443"),
            ("HTTPS://LocalHost:1", "localhost:1"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().host_header(), header);
            text.parse::<BaseUrl>().unwrap().server_name().unwrap();
        }
    }

    #[test]
    fn invalid_base_urls_are_refused_without_the_password() {
        for text in ["localhost:8443", "http://localhost", "https://h/api", "https://h?x", ""] {
            text.parse::<BaseUrl>().unwrap_err();
        }
        let long = format!("https://{}", "h".repeat(64));
        for (text, why) in [
            ("https://localhost:99999", "a port must be a number from 1 to 65535"),
            ("https://localhost:65536", "a port must be a number from 1 to 65535"),
            ("https://localhost:0", "a port must be a number from 1 to 65535"),
            ("https://localhost:+443", "a port must be a number from 1 to 65535"),
            ("https://localhost:", "a port must follow the colon"),
            ("https://:8443", "it has no host"),
            ("https://h#x", "must not have a fragment"),
            ("https://h/?x", "must not have a query"),
            ("https://h//", "must not have a path"),
            ("https://h\\x", "must not have a path"),
            ("https://h ", "must not contain spaces"),
            ("https://h\u{1b}[2J", "must not contain spaces or invisible"),
            ("https://h\u{202e}", "must not contain spaces or invisible"),
            ("https://::1", "in brackets"),
            ("https://[::1", "not closed"),
            ("https://[::1]x", "a colon and a port"),
            ("https://[fe80::1%eth0]:8443", "zone"),
            ("https://[127.0.0.1]", "must contain an IPv6 address"),
            ("https://bücher.example", "ASCII"),
            ("https://h.example.", "without a dot"),
            ("https://h..example", "between dots"),
            (&long, "between dots"),
            ("https://127.1", "four numbers"),
            ("https://0x7f000001", "four numbers"),
            ("https://h%41", "letters, digits"),
        ] {
            let error = text.parse::<BaseUrl>().unwrap_err();
            assert!(error.contains(why) && !error.chars().any(foreign::is_hidden), "{text}: {error}");
        }
        for text in [
            "https://u:secret@h",
            "http://u:secret@h",
            "u:secret@h",
            "https://u:secret@h/api",
            "https://u:se cret@h",
            "https://u:secret://x@h",
            "u:secret@x://u:secret@h",
            "ftp://u:secret@h",
            "https://u:secret@",
            "https://u:secret@x@h",
        ] {
            let error = text.parse::<BaseUrl>().unwrap_err();
            assert!(!error.contains("secret") && !error.contains("cret"), "{text}: {error}");
        }
    }
}
