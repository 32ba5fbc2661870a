//! The announcement: one line of JSON on standard output once connections are accepted.

use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::json;

use crate::cli::Behaviour;
use crate::store::Settings;

/// Prints the line that the parent process waits for.
pub fn print(
    address: SocketAddr,
    ca_pem: Option<&str>,
    behaviour: Behaviour,
    settings: &Settings,
) -> Result<(), String> {
    let line = json!({
        "address": address.to_string(),
        "ca_pem": ca_pem,
        "store": settings.store,
        "behaviour": behaviour.label(),
        "version": env!("CARGO_PKG_VERSION"),
        "settings": settings.values,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|e| format!("cannot announce the address on stdout: {e}"))
}
