//! Sessions of seeds and resets, and their errors.

use std::net::{SocketAddr, ToSocketAddrs as _};

use tokio_postgres::config::Host;

use crate::database::{Address, DatabaseClient, Failure};
use crate::error::{Context as _, Error, Result};

pub use crate::database::redact_url;

/// A port for look-ups in which the port does not matter.
const POSTGRESQL_PORT: u16 = 5_432;

/// Opens a session at the database of `url`.
///
/// # Errors
/// If `url` is not a connection URL (kind `Usage`), or the server does not answer, or refuses the session.
pub fn connect(url: &str) -> Result<DatabaseClient> {
    DatabaseClient::open(url, "seed")
}

/// Returns every address that a connection to `url` may use; none for a unix socket.
///
/// # Errors
/// If `url` is not a connection URL (kind `Usage`), or a host in it cannot be resolved.
pub fn addresses(url: &str) -> Result<Vec<SocketAddr>> {
    let address = Address::parse(url)?;
    let config = address.config();
    if !config.get_hostaddrs().is_empty() {
        // With `hostaddr` the host names are not looked up; they serve only to verify a certificate.
        return Ok(config.get_hostaddrs().iter().map(|ip| SocketAddr::new(*ip, POSTGRESQL_PORT)).collect());
    }
    let mut addresses = Vec::new();
    for host in config.get_hosts() {
        if let Host::Tcp(name) = host {
            let found = (name.as_str(), POSTGRESQL_PORT).to_socket_addrs();
            addresses.extend(found.context(|| format!("looking up {name} of {}", address.shown()))?);
        }
    }
    Ok(addresses)
}

/// Reports whether the database has such a table.
///
/// # Errors
/// If the server does not answer.
pub fn exists(client: &mut DatabaseClient, table: &str) -> Result<bool> {
    let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]);
    row.map(|row| row.get(0)).map_err(|error| failed(&format!("looking for the table {table}"), &error))
}

pub(super) fn failed(doing: &str, error: &Failure) -> Error {
    Error::new(format!("{doing}: {error}"))
}
