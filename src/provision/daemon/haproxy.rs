//! HAProxy's configuration, and its runtime API.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::daemon_files::{CHAIN_AND_KEY, CLIENT_CA, chain_and_key};
use super::{BACKLOG, DaemonConfig, OLD_WORKER_S, Versions};
use crate::error::{Context, Error, Result};
use crate::provision::pki::Identity;

/// The arguments for master and worker in the foreground: the master can reload.
pub const ARGUMENTS: [&str; 5] = ["-W", "-p", "haproxy.pid", "-f", super::CONFIGURATION];
/// The socket of the runtime API.
pub const SOCKET: &str = "haproxy.sock";

/// The longest wait for an answer of the runtime API.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES: u64 = 16 * 1024;

pub fn configuration(site: &DaemonConfig) -> String {
    let DaemonConfig { options, port, connections, .. } = site;
    let versions = match options.versions {
        Versions::Both => "ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3",
        Versions::Tls12 => "ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2",
        Versions::Tls13 => "ssl-min-ver TLSv1.3 ssl-max-ver TLSv1.3",
    };
    let alpn = if options.h2 { "h2,http/1.1" } else { "http/1.1" };
    let mut bind = format!("bind 127.0.0.1:{port} ssl crt {CHAIN_AND_KEY} alpn {alpn} {versions} backlog {BACKLOG}");
    // Writing to a String cannot fail.
    if !options.groups.is_empty() {
        let _ = write!(bind, " curves {}", options.groups.join(":"));
    }
    if options.client_ca_pem.is_some() {
        let _ = write!(bind, " ca-file {CLIENT_CA} verify required");
    }
    // Without `noreuseport` a second HAProxy of the same user could listen on the same port and take half of the
    // connections. On a reload the master hands the listening socket on.
    format!(
        "global
    maxconn {connections}
    nbthread {threads}
    noreuseport
    hard-stop-after {OLD_WORKER_S}s
    stats socket unix@{SOCKET} mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-request 60s
    timeout http-keep-alive 75s
frontend sidecar
    {bind}
    http-request return status 200 content-type text/plain string ok
",
        threads = options.workers,
    )
}

/// Gives the running worker a new certificate, which it shows from the next connection on.
pub fn replace(socket: &Path, identity: &Identity) -> Result<()> {
    let what = "replacing HAProxy's certificate through its runtime API";
    let begun = command(socket, &format!("set ssl cert {CHAIN_AND_KEY} <<\n{}\n", chain_and_key(identity)))
        .context(|| format!("{what}: set ssl cert"))?;
    let done = command(socket, &format!("commit ssl cert {CHAIN_AND_KEY}\n"));
    match done.context(|| format!("{what}: commit ssl cert"))? {
        done if done.contains("Success") => Ok(()),
        done => Err(Error::new(format!("{what}: it answered {:?}, then {:?}", begun.trim(), done.trim()))),
    }
}

/// Sends one command and returns its answer.
fn command(socket: &Path, command: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(command.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}
