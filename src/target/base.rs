//! The address of a target: `https://host:port`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use hyper::Uri;
use rustls::pki_types::ServerName;

use crate::error::{Context, Error, Result};

/// A target's base URL. Two are equal that name the same host and port.
#[derive(Clone, Debug, Eq)]
pub struct Base {
    host: String,
    port: u16,
    /// The addresses that were looked up once and for all; empty until then.
    fixed: Vec<SocketAddr>,
}

impl PartialEq for Base {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl FromStr for Base {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = redact(text);
        let uri: Uri = text.parse().map_err(|error| format!("`{shown}` is no URL: {error}"))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") => return Err(format!("`{shown}`: only HTTPS is spoken; write https://")),
            _ => return Err(format!("`{shown}`: write it as https://host:port")),
        }
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let Some(authority) = authority else {
            return Err(format!("`{shown}`: the URL takes no user name or password"));
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("`{shown}`: the base URL takes no path; write https://host:port"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: authority.port_u16().unwrap_or(443), fixed: Vec::new() })
    }
}

/// A URL, or what was meant to be one, without what stands before the last `@`: a password may hold any character.
pub fn redact(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) if !scheme.contains('@') => format!("{scheme}://…@{rest}"),
        (_, Some((_, rest))) => format!("…@{rest}"),
        _ => url.to_owned(),
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host_header())
    }
}

impl Base {
    /// A base on this machine, for a server that we started.
    pub fn local(port: u16) -> Self {
        Self { host: "localhost".to_owned(), port, fixed: Vec::new() }
    }

    /// What the `Host` field says.
    pub fn host_header(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The name that the server's certificate must be valid for.
    ///
    /// # Errors
    /// If the host is neither a DNS name nor an IP address.
    pub fn server_name(&self) -> Result<ServerName<'static>> {
        ServerName::try_from(self.host.clone())
            .map_err(|_| Error::usage(format!("`{}` is neither a DNS name nor an IP address", self.host)))
    }

    /// Every address that the host has.
    ///
    /// # Errors
    /// If the host is not known.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        if !self.fixed.is_empty() {
            return Ok(self.fixed.clone());
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        Ok(found.context(|| format!("looking up {}", self.host))?.collect())
    }

    /// Looks the host up now, for all later calls of [`Base::addresses`].
    ///
    /// # Errors
    /// If the host is not known.
    pub fn fix_addresses(&mut self) -> Result<&[SocketAddr]> {
        self.fixed = self.addresses()?;
        Ok(&self.fixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_base_url() {
        for (text, header) in [
            ("https://localhost:8443", "localhost:8443"),
            ("https://certctl.example/", "certctl.example:443"),
            ("https://[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(text.parse::<Base>().unwrap().host_header(), header);
            text.parse::<Base>().unwrap().server_name().unwrap();
        }
    }

    #[test]
    fn refuses_what_is_none_and_shows_no_password() {
        for text in ["localhost:8443", "http://localhost", "https://h/api", "https://h?x", ""] {
            text.parse::<Base>().unwrap_err();
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
            let error = text.parse::<Base>().unwrap_err();
            assert!(!error.contains("secret") && !error.contains("cret"), "{text}: {error}");
        }
    }
}
