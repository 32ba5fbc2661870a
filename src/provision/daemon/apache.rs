//! Apache's configuration.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::daemon_files::{CHAIN, CLIENT_CA, KEY};
use super::{BACKLOG, DaemonConfig, DaemonInstallation, Versions};
use crate::error::{Error, Result};

pub const ARGUMENTS: [&str; 3] = ["-DFOREGROUND", "-f", super::CONFIGURATION];
/// The log file: stderr may be a pipe that Apache's own user cannot open again.
pub const LOG: &str = "error.log";
/// The folder that it serves, separate from the key's.
pub const PAGES: &str = "www";
/// The file in [`PAGES`].
pub const PAGE: &str = "index.txt";

/// The threads of one worker process: each carries one handshake or request at a time.
const THREADS: u32 = 128;
/// The worker processes beside the configured ones, for old ones that finish after a reload.
const SPARE_PROCESSES: u32 = 15;

pub fn configuration(site: &DaemonConfig) -> Result<String> {
    let DaemonConfig { installation, options, port, connections } = site;
    let mut text = String::new();
    let modules = modules(installation)?;
    let mut wanted = vec!["mpm_event", "unixd", "authz_core", "dir", "ssl"];
    if options.h2 {
        wanted.push("http2");
    }
    // Writing to a String cannot fail.
    for name in wanted {
        let file = modules.join(format!("mod_{name}.so"));
        // If there is no file, the module is built into the program, or the configuration fails for lack of it.
        if file.is_file() {
            let _ = writeln!(text, "<IfModule !{name}_module>");
            let _ = writeln!(text, "    LoadModule {name}_module \"{}\"\n</IfModule>", file.display());
        }
    }
    let versions = match options.versions {
        Versions::Both => "+TLSv1.2 +TLSv1.3",
        Versions::Tls12 => "+TLSv1.2",
        Versions::Tls13 => "+TLSv1.3",
    };
    let workers = options.workers;
    let threads = workers * THREADS;
    let _ = write!(
        text,
        "DefaultRuntimeDir .
PidFile httpd.pid
ErrorLog {LOG}
LogLevel warn
ServerName localhost
Listen 127.0.0.1:{port} https
ListenBacklog {BACKLOG}
StartServers {workers}
ServerLimit {processes}
ThreadLimit {THREADS}
ThreadsPerChild {THREADS}
MaxRequestWorkers {threads}
MinSpareThreads 1
MaxSpareThreads {threads}
MaxConnectionsPerChild 0
AsyncRequestWorkerFactor {per_thread}
Timeout 60
KeepAlive On
KeepAliveTimeout 75
MaxKeepAliveRequests 0
Protocols {protocols}
DocumentRoot {PAGES}
DirectoryIndex {PAGE}
ForceType text/plain
SSLEngine on
SSLCertificateFile {CHAIN}
SSLCertificateKeyFile {KEY}
SSLProtocol -all {versions}
",
        processes = workers + SPARE_PROCESSES,
        // Connections that wait for their next request need no thread.
        per_thread = (connections / u64::from(threads)).max(2),
        protocols = if options.h2 { "h2 http/1.1" } else { "http/1.1" },
    );
    if !options.groups.is_empty() {
        let _ = writeln!(text, "SSLOpenSSLConfCmd Groups {}", options.groups.join(":"));
    }
    if options.client_ca_pem.is_some() {
        let _ = writeln!(text, "SSLCACertificateFile {CLIENT_CA}\nSSLVerifyClient require\nSSLVerifyDepth 3");
    }
    Ok(text)
}

/// Finds the folder of loadable modules.
fn modules(installation: &DaemonInstallation) -> Result<PathBuf> {
    let root = installation.build.split("HTTPD_ROOT=\"").nth(1).and_then(|rest| rest.split('"').next());
    let program = installation.program.canonicalize().unwrap_or_else(|_| installation.program.clone());
    let prefix = program.parent().and_then(|bin| bin.parent()).map(PathBuf::from).unwrap_or_default();
    let places = ["lib/apache2/modules", "lib64/httpd/modules", "lib/httpd/modules", "lib64/apache2", "modules"];
    let mut candidates: Vec<PathBuf> = places.iter().map(|place| prefix.join(place)).collect();
    candidates.extend(root.map(|root| PathBuf::from(root).join("modules")));
    candidates.iter().find(|folder| folder.join("mod_ssl.so").is_file()).cloned().ok_or_else(|| {
        let looked: Vec<String> = candidates.iter().map(|folder| folder.display().to_string()).collect();
        Error::new(format!("looking for Apache's mod_ssl.so: not in {}", looked.join(", ")))
            .with_hint("install it (Red Hat: `dnf install mod_ssl`)")
    })
}
