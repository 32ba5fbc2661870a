//! The address of a PostgreSQL: a connection URL as libpq and lib/pq take it, TLS included.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::database_tls::{self, TlsFiles, Verify};
use super::failure::Failure;
use crate::error::{Error, Result};
use crate::foreign;

/// The longest time in which a session is opened, unless the URL sets another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The only environment variable of libpq that is read.
const PASSWORD_VARIABLE: &str = "PGPASSWORD";

/// The alerts of a server that refuses a client's certificate (RFC 8446, section 6.2).
const REFUSED_CERTIFICATE: [&str; 7] = [
    "fatal alert: UnknownCA",
    // The authority's name is known, but the signature is by another key.
    "fatal alert: DecryptError",
    "fatal alert: BadCertificate",
    "fatal alert: UnsupportedCertificate",
    "fatal alert: CertificateExpired",
    "fatal alert: CertificateRevoked",
    "fatal alert: CertificateUnknown",
];

/// The address of a database, and the way to open sessions there.
#[derive(Clone)]
pub struct Address {
    config: Config,
    /// `None` if TLS is not used.
    tls: Option<MakeRustlsConnect>,
    /// True if sessions without TLS will do where TLS cannot be agreed on.
    prefers_tls: bool,
    shown: String,
    password_of_environment: bool,
}

impl Address {
    /// Parses a connection URL. `sslmode` may be `disable`, `prefer` (the default), `require`, `verify-ca` or
    /// `verify-full`, beside `sslrootcert`, `sslcert` and `sslkey`, which name PEM files. As with libpq, `require` with
    /// a `sslrootcert` is `verify-ca`, and none of it applies to a unix socket.
    ///
    /// # Errors
    /// If `url` is not a connection URL, or names a file that cannot be used.
    pub fn parse(url: &str) -> Result<Self> {
        let shown = redact_url(url);
        let wrong = |why: &str| {
            Error::usage(format!("the database URL {shown} is not valid{why}"))
                .with_hint("write postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=disable")
        };
        let (plain, ours) = split(url);
        keep_passwords(url);
        if url.contains("://") && ats(url) > 1 {
            // Everything between the first `@` and the last would be taken for the name of a host.
            return Err(wrong(": it has more than one @").with_hint("write every @ but the one before the host as %40"));
        }
        let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            // If the text is not a URL, the parser's message may quote any part of it.
            let why = if url.contains("://") { format!(": {}", Failure::from(error)) } else { String::new() };
            wrong(&why)
        })?;
        let (mut mode, mut verify, mut files) = (config.get_ssl_mode(), Verify::Nothing, TlsFiles::default());
        for (name, value) in ours {
            match (name.as_str(), value.as_str()) {
                ("sslmode", "disable") => mode = SslMode::Disable,
                ("sslmode", "allow" | "prefer") => mode = SslMode::Prefer,
                ("sslmode", "require") => mode = SslMode::Require,
                ("sslmode", "verify-ca") => (mode, verify) = (SslMode::Require, Verify::Chain),
                ("sslmode", "verify-full") => (mode, verify) = (SslMode::Require, Verify::Name),
                ("sslmode", _) => return Err(wrong(": sslmode is disable, prefer, require, verify-ca or verify-full")),
                ("sslrootcert", path) => files.roots = Some(PathBuf::from(path)),
                ("sslcert", path) => files.certificate = Some(PathBuf::from(path)),
                (_, path) => files.key = Some(PathBuf::from(path)),
            }
        }
        if mode == SslMode::Require && verify == Verify::Nothing && files.roots.is_some() {
            verify = Verify::Chain;
        }
        if !config.get_hosts().is_empty() && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            mode = SslMode::Disable;
        }
        config.ssl_mode(mode);
        let password = env::var(PASSWORD_VARIABLE).ok().filter(|password| !password.is_empty());
        let password_of_environment = match (config.get_password(), password) {
            (None, Some(password)) => {
                let public = [config.get_user(), config.get_dbname()];
                keep_unless(&password, &public.into_iter().flatten().collect::<Vec<_>>());
                config.password(password);
                true
            }
            _ => false,
        };
        let is_direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
        let tls = match mode {
            SslMode::Disable => None,
            _ => Some(database_tls::connector(verify, &files, is_direct)?),
        };
        let prefers_tls = mode == SslMode::Prefer;
        Ok(Self { config, tls, prefers_tls, shown, password_of_environment })
    }

    /// Returns the URL for people: without its password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns the configuration with which sessions are opened.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the same address, with other parameters of the session.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Returns the connector for TLS, if TLS is used.
    pub fn tls(&self) -> Option<&MakeRustlsConnect> {
        self.tls.as_ref()
    }

    /// Returns the same address without TLS, if the URL permits that.
    pub(super) fn without_tls(&self) -> Option<Self> {
        self.prefers_tls.then(|| {
            let mut plain = Self { tls: None, prefers_tls: false, ..self.clone() };
            plain.config.ssl_mode(SslMode::Disable);
            plain
        })
    }

    /// Returns the longest time in which a session is opened.
    pub(super) fn patience(&self) -> Duration {
        self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT)
    }

    /// Requests that the server cancel a query. A failure is ignored, since the session is closed anyway.
    pub(super) async fn cancel(&self, token: &tokio_postgres::CancelToken) {
        let _ = match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        };
    }

    /// Creates the error for a session that could not be opened, with a hint.
    pub fn unreachable(&self, failure: &Failure) -> Error {
        Error::new(format!("connecting to {}: {failure}", self.shown)).with_hint(self.hint(failure))
    }

    fn hint(&self, failure: &Failure) -> String {
        use tokio_postgres::error::SqlState as State;
        let text = failure.to_string();
        let user = self.config.get_user().unwrap_or("USER");
        match failure.code() {
            Some(code) if *code == State::INVALID_PASSWORD && self.password_of_environment => {
                format!("the URL has no password, so that {PASSWORD_VARIABLE} was used: check it, and the user")
            }
            Some(code)
                if *code == State::INVALID_AUTHORIZATION_SPECIFICATION
                    && text.contains("no encryption")
                    && !text.contains("[local]") =>
            {
                "the server accepts no session without TLS from here: put sslmode=require into the URL, or \
                 sslmode=verify-full&sslrootcert=FILE with the authority's certificate"
                    .to_owned()
            }
            Some(code) if *code == State::INVALID_AUTHORIZATION_SPECIFICATION && text.contains("pg_hba.conf") => {
                "pg_hba.conf has no line that admits this user from this machine to this database: add one, or check \
                 user, database and sslmode in the URL"
                    .to_owned()
            }
            Some(code)
                if *code == State::INVALID_AUTHORIZATION_SPECIFICATION
                    && text.contains("certificate authentication") =>
            {
                format!(
                    "give an sslcert whose common name is the user, {user}, or map its name to the user (pg_ident.conf)"
                )
            }
            Some(code) if *code == State::INVALID_AUTHORIZATION_SPECIFICATION && text.contains("certificate") => {
                "the server requires a client certificate: put sslcert=FILE&sslkey=FILE into the URL".to_owned()
            }
            Some(code) if [State::INVALID_PASSWORD, State::INVALID_AUTHORIZATION_SPECIFICATION].contains(code) => {
                "check user and password in the database URL".to_owned()
            }
            Some(code) if *code == State::INVALID_CATALOG_NAME => "check the database's name in the URL".to_owned(),
            Some(code) if *code == State::INSUFFICIENT_PRIVILEGE => {
                format!("GRANT CONNECT ON DATABASE {} TO {user}", self.config.get_dbname().unwrap_or("DATABASE"))
            }
            Some(code) if *code == State::TOO_MANY_CONNECTIONS => {
                "end sessions, raise max_connections (or the limit of the role or database), or lower \
                 CERTCTL_DATABASE_MAX_CONNS: a run takes up to 4 sessions beside certctl's"
                    .to_owned()
            }
            Some(code) if *code == State::CANNOT_CONNECT_NOW => "wait until the server has started".to_owned(),
            Some(_) => "fix the cause that the server reports".to_owned(),
            None => self.hint_without_code(failure, &text),
        }
    }

    fn hint_without_code(&self, failure: &Failure, text: &str) -> String {
        match failure {
            Failure::Silent { .. } => {
                "check that host and port are PostgreSQL's, and that its processes are neither stopped nor behind a \
                 firewall that drops packets"
            }
            _ if REFUSED_CERTIFICATE.iter().any(|alert| text.contains(alert)) => {
                "the server rejects the certificate in sslcert: give one that is valid now, of an authority in the \
                 server's ssl_ca_file"
            }
            _ if text.contains("password missing") => {
                "put the password into the URL, or into PGPASSWORD; ~/.pgpass is not read"
            }
            _ if text.contains("does not support TLS") => {
                "the server has ssl=off: set it to on, or put sslmode=disable into the URL"
            }
            _ if text.contains("UnknownIssuer") || text.contains("CaUsedAsEndEntity") => {
                "put sslrootcert=FILE into the URL, with the certificate of the authority that signed the server's; \
                 sslmode=require verifies nothing"
            }
            _ if text.contains("not valid for name") || text.contains("NotValidForName") => {
                "write the host as the certificate names it (its subject alternative names; the common name does not \
                 count), or use sslmode=verify-ca"
            }
            _ if text.contains("UnsupportedCertVersion") => {
                "the server's certificate is of X.509 version 1: make one of version 3, or use sslmode=require, which \
                 verifies nothing"
            }
            _ if text.contains("certificate") => "renew the server's certificate, or give the sslrootcert it chains to",
            _ if text.contains("TLS handshake") => {
                "check that the server speaks TLS 1.2 or 1.3, or put sslmode=disable into the URL"
            }
            _ if text.contains("closed") || text.contains("communicating") => {
                "check that host and port are PostgreSQL's: the server there closed the connection"
            }
            _ => "check host and port in the database URL, and that PostgreSQL runs there",
        }
        .to_owned()
    }
}

/// Takes the parameters that tokio-postgres does not know, those of TLS, out of a URL; they are decoded.
fn split(url: &str) -> (String, Vec<(String, String)>) {
    const OURS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];
    let start = url.find("://").map_or(0, |at| at + 3);
    // A password may hold a question mark.
    let place = url[start..].find('@').map_or(start, |at| start + at + 1);
    let Some(question) = url[place..].find('?').map(|at| place + at).filter(|_| start > 0) else {
        return (url.to_owned(), Vec::new());
    };
    let mut ours = Vec::new();
    let kept: Vec<&str> = url[question + 1..]
        .split('&')
        .filter(|parameter| match parameter.split_once('=') {
            Some((name, value)) if OURS.contains(&name) => {
                ours.push((name.to_owned(), percent_decode(value)));
                false
            }
            _ => !parameter.is_empty(),
        })
        .collect();
    let rest = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    (format!("{}{rest}", &url[..question]), ours)
}

fn percent_decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Counts the `@` in a URL that are not in the value of a parameter.
fn ats(url: &str) -> usize {
    let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
    let names = parameters.split('&').map(|one| if one.contains('=') { "" } else { one });
    names.chain([place]).map(|part| part.matches('@').count()).sum()
}

/// Registers as secrets the passwords that a database URL, or libpq's form `name=value …`, may hold, both as typed and
/// decoded: the part between the first colon and the last `@`, a port that is not a number, and parameters whose name
/// ends with `password`. A password that equals the name of the user or database is left out.
pub fn keep_passwords(url: &str) {
    let (mut public, mut typed) = (Vec::new(), Vec::new());
    if let Some((scheme, rest)) = url.split_once("://") {
        let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (place, parameters) = place.split_once('?').unwrap_or((place, ""));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let parameters = parameters.split('&').filter_map(|one| one.split_once("password="));
        typed.extend(parameters.map(|(_, password)| password).chain([password]));
        let (authority, name) = place.split_once('/').unwrap_or((place, ""));
        public.extend([user, name]);
        // `postgres://user:password` without a host parses as host and port. The port of a URL of another scheme is no
        // secret.
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        let is_one = |port: &&str| port.ends_with(']') || port.parse::<u16>().is_ok();
        typed.extend(port.filter(|port| scheme.starts_with("postgres") && !is_one(port)));
    } else if let Some((_, after)) = url.split_once("password=") {
        typed.extend(after.split_whitespace().next().map(|word| word.trim_matches('\'')));
    }
    let config = split(url).0.parse::<Config>().unwrap_or_default();
    public.extend([config.get_user(), config.get_dbname()].into_iter().flatten());
    let mut passwords: Vec<String> = typed.iter().flat_map(|word| [(*word).to_owned(), percent_decode(word)]).collect();
    passwords.extend(config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
    passwords.iter().for_each(|password| keep_unless(password, &public));
}

fn keep_unless(password: &str, public: &[&str]) {
    if !public.contains(&password) {
        foreign::keep_secret(password, "[password]");
    }
}

/// Returns `url` with everything that may be a password replaced by `***`: the part between the first colon and the
/// last `@`, a port that is not a number, and parameters other than the harmless ones. A text without `://` is not
/// shown at all.
pub fn redact_url(url: &str) -> String {
    const HARMLESS: [&str; 7] =
        ["application_name", "connect_timeout", "dbname", "host", "port", "sslmode", "sslrootcert"];
    let Some((scheme, rest)) = url.split_once("://") else { return "(not shown: it may hold a password)".to_owned() };
    // Split at the last `@`: a password may itself hold an unescaped `@`, `/` or `?`.
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => {
            (user.split_once(':').map_or(format!("{user}@"), |(user, _)| format!("{user}:***@")), place)
        }
        None => (String::new(), rest),
    };
    let (place, parameters) = place.split_once('?').map_or((place, ""), |(place, parameters)| (place, parameters));
    // `postgres://user:password` without a host parses as host and port.
    let (authority, path) = place.find('/').map_or((place, ""), |slash| place.split_at(slash));
    let authority = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.parse::<u16>().is_err() && !host.starts_with('[') => {
            format!("{host}:***")
        }
        _ => authority.to_owned(),
    };
    let parameters: Vec<String> = parameters
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if HARMLESS.contains(&name) => parameter.to_owned(),
            Some((name, _)) => format!("{name}=***"),
            None => "***".to_owned(),
        })
        .collect();
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("{scheme}://{user}{authority}{path}{question}{}", parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_parameters_are_split_from_the_url() {
        let taken = |url: &str| {
            let (plain, ours) = split(url);
            (plain, ours.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
        };
        for (url, plain, ours) in [
            ("postgres://u@h/d", "postgres://u@h/d", ""),
            ("postgres://u@h/d?sslmode=verify-full", "postgres://u@h/d", "sslmode=verify-full"),
            (
                "postgres://u:p?sslmode=x@h/d?port=1&sslrootcert=%2Fa%20b&sslmode=require&host=h",
                "postgres://u:p?sslmode=x@h/d?port=1&host=h",
                "sslrootcert=/a b sslmode=require",
            ),
            ("host=h sslmode=require", "host=h sslmode=require", ""),
        ] {
            assert_eq!(taken(url), (plain.to_owned(), ours.to_owned()), "{url}");
        }
    }
}
