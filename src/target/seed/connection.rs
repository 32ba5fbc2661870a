//! A connection to a PostgreSQL, and failures of it told without a password.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use postgres::config::Host;
use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};

use crate::error::{Context as _, Error, Result};

/// Stands where no port matters.
const POSTGRESQL_PORT: u16 = 5_432;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to a PostgreSQL without TLS, within 10 s unless the URL says otherwise.
///
/// Fails when `url` is no connection URL (kind `Usage`), nobody answers, or the server refuses us.
pub fn connect(url: &str) -> Result<Client> {
    let shown = redact_url(url);
    let mut config = config(url)?;
    config.get_connect_timeout().is_none().then(|| config.connect_timeout(CONNECT_TIMEOUT));
    config.connect(NoTls).map_err(|error| {
        let mend = match error.code() {
            Some(code)
                if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code) =>
            {
                "check user and password in the database URL"
            }
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => "check the database's name in the URL",
            Some(_) => "mend what the server names",
            None => {
                "check host and port in the database URL, that PostgreSQL runs there, and that it takes sslmode=disable"
            }
        };
        failed(&format!("connecting to {shown}"), &error).mend(mend)
    })
}

fn config(url: &str) -> Result<Config> {
    url.parse().map_err(|error: postgres::Error| {
        // Of a text that is no URL, the parser's complaint may quote any part.
        let why = if url.contains("://") { format!(": {}", reason(&error)) } else { String::new() };
        Error::usage(format!("the database URL {} is not one{why}", redact_url(url)))
            .mend("write postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=disable")
    })
}

/// Every address that a connection to `url` may go to; none for a unix socket.
///
/// # Errors
/// If `url` is no connection URL (kind `Usage`), or a host in it is not known.
pub fn addresses(url: &str) -> Result<Vec<SocketAddr>> {
    let config = config(url)?;
    if !config.get_hostaddrs().is_empty() {
        // The hosts beside them are not looked up, but are what a certificate is checked against.
        return Ok(config.get_hostaddrs().iter().map(|ip| SocketAddr::new(*ip, POSTGRESQL_PORT)).collect());
    }
    let mut addresses = Vec::new();
    for host in config.get_hosts() {
        if let Host::Tcp(name) = host {
            let found = (name.as_str(), POSTGRESQL_PORT).to_socket_addrs();
            addresses.extend(found.context(|| format!("looking up {name} of {}", redact_url(url)))?);
        }
    }
    Ok(addresses)
}

pub(super) fn exists(client: &mut Client, table: &str) -> Result<bool> {
    let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]);
    row.map(|row| row.get(0)).map_err(|error| failed(&format!("looking for the table {table}"), &error))
}

pub(super) fn failed(doing: &str, error: &postgres::Error) -> Error {
    Error::new(format!("{doing}: {}", reason(error)))
}

/// What went wrong, without the library's "db error" before it.
fn reason(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {}", db.severity(), db.message()),
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

/// `url` with everything that may be a password replaced by `***`: what stands between the first colon and the last
/// `@`, a port that is no number, and parameters other than the harmless ones. A text without `://` is not shown at all.
pub fn redact_url(url: &str) -> String {
    const HARMLESS: [&str; 6] = ["application_name", "connect_timeout", "dbname", "host", "port", "sslmode"];
    let Some((scheme, rest)) = url.split_once("://") else { return "(not shown: it may hold a password)".to_owned() };
    // The last one: a password may itself hold an unescaped `@`, `/` or `?`.
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => {
            (user.split_once(':').map_or(format!("{user}@"), |(user, _)| format!("{user}:***@")), place)
        }
        None => (String::new(), rest),
    };
    let (place, parameters) = place.split_once('?').map_or((place, ""), |(place, parameters)| (place, parameters));
    // `postgres://user:password` without a host reads as host and port.
    let (authority, path) = place.find('/').map_or((place, ""), |slash| place.split_at(slash));
    let authority = match authority.rsplit_once(':') {
        Some((host, port)) if !port.bytes().all(|byte| byte.is_ascii_digit()) && !host.starts_with('[') => {
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
