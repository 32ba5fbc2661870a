//! nginx's configuration.

use std::fmt::Write as _;

use super::daemon_files::{CHAIN, CLIENT_CA, KEY};
use super::{BACKLOG, DaemonConfig, OLD_WORKER_S, Versions};

/// The arguments that make the working directory its prefix.
pub const ARGUMENTS: [&str; 6] = ["-e", "stderr", "-p", "./", "-c", super::CONFIGURATION];

/// Modules that need a folder for temporary files, unless nginx was built without them.
const TEMPORARY: [&str; 4] = ["proxy", "fastcgi", "uwsgi", "scgi"];

pub fn configuration(site: &DaemonConfig) -> String {
    let DaemonConfig { installation, options, port, connections } = site;
    let mut text = format!(
        "daemon off;
error_log stderr warn;
pid nginx.pid;
lock_file nginx.lock;
worker_processes {workers};
worker_rlimit_nofile {descriptors};
worker_shutdown_timeout {OLD_WORKER_S}s;
events {{
    worker_connections {connections};
}}
http {{
    access_log off;
    client_body_temp_path body;
",
        workers = options.workers,
        descriptors = connections + 128,
    );
    // Writing to a String cannot fail.
    for module in TEMPORARY.iter().filter(|module| !installation.build.contains(&format!("--without-http_{module}_"))) {
        let _ = writeln!(text, "    {module}_temp_path {module};");
    }
    // The directive `http2` came with the version in which the parameter became obsolete.
    let by_directive = installation.is_at_least(&[1, 25, 1]);
    let parameter = if options.h2 && !by_directive { " http2" } else { "" };
    let versions = match options.versions {
        Versions::Both => "TLSv1.2 TLSv1.3",
        Versions::Tls12 => "TLSv1.2",
        Versions::Tls13 => "TLSv1.3",
    };
    let _ = write!(
        text,
        "    keepalive_timeout 75s;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port} ssl{parameter} backlog={BACKLOG};
        ssl_certificate {CHAIN};
        ssl_certificate_key {KEY};
        ssl_protocols {versions};
"
    );
    if options.h2 && by_directive {
        text.push_str("        http2 on;\n");
    }
    if !options.groups.is_empty() {
        let _ = writeln!(text, "        ssl_ecdh_curve {};", options.groups.join(":"));
    }
    if options.client_ca_pem.is_some() {
        let _ = writeln!(text, "        ssl_client_certificate {CLIENT_CA};\n        ssl_verify_client on;");
        text.push_str("        ssl_verify_depth 3;\n");
    }
    text.push_str(
        "        location / {\n            default_type text/plain;\n            return 200 ok;\n        }\n    }\n}\n",
    );
    text
}
