//! The announcement: one line of JSON on standard output once connections are accepted.

use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::json;

/// Prints the line that the parent process waits for.
pub fn print(address: SocketAddr, ca_pem: &str) -> Result<(), String> {
    let line = json!({"address": address.to_string(), "ca_pem": ca_pem, "version": env!("CARGO_PKG_VERSION")});
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|e| format!("cannot announce the address on stdout: {e}"))
}
