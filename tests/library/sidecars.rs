//! nginx, Apache and HAProxy started by the suite: used, their certificates replaced, stopped, and gone however this
//! process ends.
//!
//! These tests need all three and are skipped without.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::sync::Arc;
use std::thread;

use crate::common::needs::needs;
use crate::common::process::{PATIENCE, copy_program, send, until, write_script};
use certctl_bench::clock::Moment;
use certctl_bench::event_loop::{EventLoop, timeout};
use certctl_bench::provision::child::RunAs;
use certctl_bench::provision::daemon::{
    Daemon, DaemonInstallation, DaemonOptions, Reload, StartedDaemon, Versions, find, find_in,
};
use certctl_bench::provision::pki::{Authority, Identity, KeyType, Purpose};
use certctl_bench::wire::Dialer;
use certctl_bench::wire::connection::{Connection, Phases, Scratch, Stopwatch};
use certctl_bench::wire::fault::{Fault, FaultKind};
use certctl_bench::wire::handshake::{Handshake, HandshakeFlow, certificate_id};
use certctl_bench::wire::request::{Method, encode};
use certctl_bench::wire::tls::client_config;
use rustix::process::{Signal, geteuid};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

const ROLE: &str = "CERTCTL_BENCH_TEST_ROLE";
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

// Answers -------------------------------------------------------------------------------------------------------------

#[test]
fn each_daemon_answers_and_leaves_nothing_behind() {
    needs!(Nginx, Apache, Haproxy);
    for daemon in Daemon::ALL {
        let (authority, identity) = certificate();
        let mut sidecar = start(daemon, &identity, &DaemonOptions::default());
        assert_eq!((sidecar.daemon(), sidecar.version()), (daemon, installation(daemon).version.as_str()));
        let folder = sidecar.folder().to_owned();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700, "{daemon}: others could enter");
        let workers = workers(&folder);
        assert!(workers.contains(&sidecar.pid()) && workers.len() >= 2, "{daemon}: {workers:?}");
        for (versions, version_name) in [(&version::TLS12, "TLS1.2"), (&version::TLS13, "TLS1.3")] {
            let config = config(&authority, versions);
            // Twice on one connection: it is kept alive.
            let mut connection = open(sidecar.address(), config).unwrap();
            assert_eq!(
                (connection.0.record().handshake.kind, connection.0.record().handshake.version),
                (HandshakeFlow::Full, version_name),
                "{daemon}"
            );
            for _ in 0..2 {
                assert_eq!(connection.get().unwrap(), (200, "text/plain".into(), "ok".into(), true), "{daemon}");
            }
        }
        // And with the configuration that runs have.
        let config = client_config(&authority.trust()).unwrap();
        assert_eq!(open(sidecar.address(), config).unwrap().get().unwrap().0, 200, "{daemon}");
        sidecar.stop().unwrap();
        sidecar.stop().unwrap();
        assert!(!folder.exists());
        assert!(!workers.iter().any(|&pid| alive(pid)), "{daemon}: {workers:?}");
    }
}

#[test]
fn daemons_are_unprivileged_and_their_keys_private() {
    needs!(Nginx, Apache, Haproxy);
    for daemon in Daemon::ALL {
        let sidecar = start(daemon, &certificate().1, &DaemonOptions::default());
        let own = fs::metadata(sidecar.folder().join("run")).unwrap().uid();
        let us = geteuid().as_raw();
        assert_eq!(own == us, us != 0, "{daemon}");
        for pid in workers(sidecar.folder()) {
            assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), own, "{daemon}: process {pid}");
        }
        let keys = fs::read_dir(sidecar.folder().join("run"))
            .unwrap()
            .flatten()
            .filter(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("PRIVATE KEY")));
        let modes: Vec<(u32, u32)> =
            keys.map(|key| key.metadata().unwrap()).map(|meta| (meta.uid(), meta.mode() & 0o777)).collect();
        assert_eq!(modes, [(own, 0o600)], "{daemon}");
    }
}

#[test]
fn only_the_selected_tls_versions_are_accepted() {
    needs!(Nginx, Apache, Haproxy);
    let cases =
        [(Versions::Tls12, &version::TLS12, &version::TLS13), (Versions::Tls13, &version::TLS13, &version::TLS12)];
    for daemon in Daemon::ALL {
        for (versions, spoken, other) in cases {
            let (authority, identity) = certificate();
            let sidecar = start(daemon, &identity, &DaemonOptions { versions, ..DaemonOptions::default() });
            open(sidecar.address(), config(&authority, spoken)).unwrap().get().unwrap();
            let fault = open(sidecar.address(), config(&authority, other)).map(drop).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Tls, "{daemon}: {fault:?}");
        }
    }
}

#[test]
fn a_group_mismatch_causes_a_hello_retry() {
    needs!(Nginx, Apache, Haproxy);
    for daemon in Daemon::ALL {
        let (authority, identity) = certificate();
        let sidecar =
            start(daemon, &identity, &DaemonOptions { groups: vec!["P-256".to_owned()], ..DaemonOptions::default() });
        let mut connection = open(sidecar.address(), client_config(&authority.trust()).unwrap()).unwrap();
        let Handshake { kind, version, group, .. } = connection.0.record().handshake;
        assert_eq!((kind, version, group), (HandshakeFlow::HelloRetry, "TLS1.3", "secp256r1"), "{daemon}");
        assert_eq!(connection.get().unwrap().0, 200, "{daemon}");
    }
}

#[test]
fn sessions_are_resumed() {
    needs!(Nginx, Apache, Haproxy);
    for daemon in Daemon::ALL {
        let (authority, identity) = certificate();
        let sidecar = start(daemon, &identity, &DaemonOptions { workers: 2, ..DaemonOptions::default() });
        for versions in [&version::TLS12, &version::TLS13] {
            let mut config = ClientConfig::clone(&config(&authority, versions));
            config.resumption = Resumption::in_memory_sessions(8);
            let config = Arc::new(config);
            let kinds = [(); 3].map(|()| {
                let mut connection = open(sidecar.address(), Arc::clone(&config)).unwrap();
                connection.get().unwrap();
                connection.0.record().handshake.kind
            });
            assert_eq!(
                kinds,
                [HandshakeFlow::Full, HandshakeFlow::Resumed, HandshakeFlow::Resumed],
                "{daemon} {versions:?}"
            );
        }
    }
}

#[test]
fn a_client_certificate_is_demanded() {
    needs!(Nginx, Apache, Haproxy);
    for daemon in Daemon::ALL {
        for versions in [Versions::Tls12, Versions::Tls13] {
            let (authority, identity) = certificate();
            let options = DaemonOptions { versions, client_ca_pem: Some(authority.pem()), ..DaemonOptions::default() };
            let sidecar = start(daemon, &identity, &options);
            let client = authority.issue(KeyType::EcdsaP256, Purpose::Client, &["agent"]).unwrap();
            let with = builder(&authority, rustls::ALL_VERSIONS)
                .with_client_auth_cert(client.chain.clone(), client.key.clone_key())
                .unwrap();
            assert_eq!(open(sidecar.address(), Arc::new(with)).unwrap().get().unwrap().0, 200, "{daemon}");
            // nginx shakes hands with every client and answers 400; the others break the handshake off.
            let without = open(sidecar.address(), client_config(&authority.trust()).unwrap());
            match without.and_then(|mut connection| connection.get()) {
                Ok((status, ..)) => assert_eq!((status, daemon), (400, Daemon::Nginx)),
                Err(fault) => assert_ne!(daemon, Daemon::Nginx, "{fault:?}"),
            }
        }
    }
}

#[test]
fn http_2_is_offered_when_enabled() {
    needs!(Nginx, Apache, Haproxy);
    for daemon in Daemon::ALL {
        for h2 in [false, true] {
            let (authority, identity) = certificate();
            let sidecar = start(daemon, &identity, &DaemonOptions { h2, ..DaemonOptions::default() });
            let mut config = ClientConfig::clone(&client_config(&authority.trust()).unwrap());
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let expected: &[u8] = if h2 { b"h2" } else { b"http/1.1" };
            assert_eq!(protocol(sidecar.address(), config).as_deref(), Some(expected), "{daemon}");
            // A client that does not speak HTTP/2 gets HTTP/1.1.
            let config = client_config(&authority.trust()).unwrap();
            assert_eq!(open(sidecar.address(), config).unwrap().get().unwrap().0, 200, "{daemon}");
        }
    }
}

#[test]
fn many_connections_stay_open_at_once() {
    needs!(Nginx, Apache, Haproxy);
    const MANY: usize = 600;
    for daemon in Daemon::ALL {
        let (authority, identity) = certificate();
        let sidecar = start(daemon, &identity, &DaemonOptions::default());
        let config = client_config(&authority.trust()).unwrap();
        // Each is sent one request, and all stay open until the last one is.
        let mut held: Vec<Open> = Vec::new();
        for number in 0..MANY {
            let mut next = open(sidecar.address(), Arc::clone(&config)).unwrap();
            assert!(next.get().unwrap().3, "{daemon}: connection {number}");
            held.push(next);
        }
        for mut connection in held {
            assert_eq!(connection.get().unwrap().0, 200, "{daemon}");
        }
    }
}

#[test]
fn every_key_type_is_served_with_its_chain() {
    needs!(Nginx, Apache, Haproxy);
    let root = Authority::root(KeyType::EcdsaP256).unwrap();
    let intermediate = root.intermediate(KeyType::EcdsaP256).unwrap();
    for daemon in Daemon::ALL {
        for key_type in KeyType::ALL {
            let identity = intermediate.issue(key_type, Purpose::Server, &NAMES).unwrap();
            let sidecar = start(daemon, &identity, &DaemonOptions::default());
            let mut connection = open(sidecar.address(), client_config(&root.trust()).unwrap()).unwrap();
            assert_eq!(connection.get().unwrap().0, 200, "{daemon} {key_type}");
        }
    }
}

// Replacing the certificate -------------------------------------------------------------------------------------------

#[test]
fn certificate_rotation_keeps_old_connections() {
    needs!(Nginx, Apache, Haproxy);
    let ways = Daemon::ALL.map(|daemon| (daemon, Reload::Graceful)).into_iter();
    for (daemon, reload) in ways.chain([(Daemon::Haproxy, Reload::Runtime)]) {
        let (authority, identity) = certificate();
        let mut sidecar = start(daemon, &identity, &DaemonOptions { reload, ..DaemonOptions::default() });
        let (pid, before) = (sidecar.pid(), workers(sidecar.folder()));
        let config = client_config(&authority.trust()).unwrap();
        // More than once: each time over the files of the last.
        for _ in 0..3 {
            let mut old = open(sidecar.address(), Arc::clone(&config)).unwrap();
            let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &NAMES).unwrap();
            assert_ne!(sidecar.shown().unwrap(), identity.chain[0], "{daemon}");
            sidecar.replace(&identity).unwrap();
            // For a moment old workers and new ones accept side by side.
            let (mut in_a_row, shown) = (0, certificate_id(&identity.chain[0]));
            until(&format!("{daemon} shows the new certificate on every connection"), || {
                // Meanwhile no connection fails.
                let mut next = open(sidecar.address(), Arc::clone(&config)).unwrap();
                assert_eq!(next.get().unwrap().0, 200, "{daemon} {reload:?}");
                in_a_row = if next.0.record().certificate == shown { in_a_row + 1 } else { 0 };
                in_a_row == 50
            });
            assert_eq!(sidecar.shown().unwrap(), identity.chain[0]);
            assert_eq!(old.get().unwrap().0, 200, "{daemon} {reload:?}: the old connection");
        }
        assert_eq!(sidecar.pid(), pid, "{daemon}");
        let after = workers(sidecar.folder());
        assert_eq!(reload == Reload::Runtime, before == after, "{daemon} {reload:?}: {before:?}, {after:?}");
        let folder = sidecar.folder().to_owned();
        sidecar.stop().unwrap();
        assert!(!folder.exists() && !after.iter().any(|&pid| alive(pid)), "{daemon}: {after:?}");
    }
}

#[test]
fn a_daemon_accepts_a_rotation_right_after_its_start() {
    needs!(Nginx, Apache, Haproxy);
    // HAProxy loses a signal that comes too early most of the time, so a few starts are enough to show it.
    for daemon in Daemon::ALL {
        for _ in 0..4 {
            let (authority, identity) = certificate();
            let mut sidecar = start(daemon, &identity, &DaemonOptions::default());
            let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &NAMES).unwrap();
            sidecar.replace(&identity).unwrap();
            until(&format!("{daemon} shows the new certificate"), || sidecar.shown().unwrap() == identity.chain[0]);
        }
    }
}

#[test]
fn a_refused_certificate_is_reported_without_its_key() {
    needs!(Nginx, Apache, Haproxy);
    let (authority, identity) = certificate();
    let options = DaemonOptions { reload: Reload::Runtime, ..DaemonOptions::default() };
    let mut sidecar = start(Daemon::Haproxy, &identity, &options);
    let mut wrong = authority.issue(KeyType::EcdsaP256, Purpose::Server, &NAMES).unwrap();
    // The key of another certificate.
    wrong.key_pem = certificate().1.key_pem;
    let error = sidecar.replace(&wrong).unwrap_err().to_string();
    assert!(error.contains("runtime API"), "{error}");
    assert!(!wrong.key_pem.lines().filter(|line| line.len() > 30).any(|line| error.contains(line)), "{error}");
    assert_eq!(sidecar.shown().unwrap(), identity.chain[0]);
}

#[test]
fn an_ended_daemon_is_reported() {
    needs!(Nginx, Apache, Haproxy);
    for daemon in Daemon::ALL {
        let (_, identity) = certificate();
        let mut sidecar = start(daemon, &identity, &DaemonOptions::default());
        let workers = workers(sidecar.folder());
        send(sidecar.pid(), Signal::KILL);
        until(&format!("{daemon} is gone"), || !alive(sidecar.pid()));
        let error = sidecar.replace(&identity).unwrap_err().to_string();
        assert!(error.contains(daemon.label()) && error.contains("signal: 9"), "{error}");
        // Its workers ended with it, although it could not signal them.
        until(&format!("{daemon}'s workers are gone"), || !workers.iter().any(|&pid| alive(pid)));
    }
}

// What does not start -------------------------------------------------------------------------------------------------

#[test]
fn a_daemon_that_cannot_start_leaves_nothing_behind() {
    needs!(Nginx, Apache, Haproxy);
    for daemon in Daemon::ALL {
        let (_, identity) = certificate();
        let options = DaemonOptions { groups: vec!["no-such-group".to_owned()], ..DaemonOptions::default() };
        let error = StartedDaemon::start(&installation(daemon), &identity, &options).unwrap_err().to_string();
        assert!(error.contains(daemon.label()) && error.contains("exit status: 1"), "{error}");
        let own_words = ["ssl_ecdh_curve", "SSLOpenSSLConfCmd", "curves"];
        assert!(own_words.iter().any(|words| error.contains(words)), "its own words are missing: {error}");
        assert!(!identity.key_pem.lines().filter(|line| line.len() > 30).any(|line| error.contains(line)), "{error}");
    }
    let identity = certificate().1;
    let options = DaemonOptions { groups: vec!["x; daemon on".to_owned()], ..DaemonOptions::default() };
    let error = StartedDaemon::start(&installation(Daemon::Nginx), &identity, &options).unwrap_err().to_string();
    assert!(error.contains("key exchange group") && error.contains("hint:"), "{error}");
    let options = DaemonOptions { reload: Reload::Runtime, ..DaemonOptions::default() };
    let error = StartedDaemon::start(&installation(Daemon::Apache), &identity, &options).unwrap_err().to_string();
    assert!(error.contains("apache has no runtime API"), "{error}");
}

#[test]
fn a_missing_daemon_is_skipped_and_a_wrong_one_is_an_error() {
    needs!(Nginx, Apache, Haproxy);
    let texts = Daemon::ALL.map(|daemon| find_in(daemon, &[PathBuf::from("/nonexistent")]).unwrap_err().to_string());
    assert_eq!(
        texts,
        [
            "skipped: nginx not found (install it: Debian: apt-get install nginx)",
            "skipped: apache not found (install it: Debian: apt-get install apache2)",
            "skipped: haproxy not found (install it: Debian: apt-get install haproxy)",
        ]
    );
    // Another program of its name is not accepted.
    let room = tempfile::tempdir().unwrap();
    write_script(&room.path().join("httpd"), "echo 'BusyBox v1.36'");
    let skipped = find_in(Daemon::Apache, &[room.path().to_owned()]).unwrap_err().to_string();
    assert!(skipped.contains("/httpd") && skipped.contains("does not report that it is apache"), "{skipped}");

    let (_process, report) = helper("find", None, &[("CERTCTL_BENCH_NGINX_BIN", "")]);
    assert!(report.starts_with("skipped: nginx left out") && report.contains("CERTCTL_BENCH_NGINX_BIN"), "{report}");
    for program in ["/nonexistent/nginx", "/bin/true"] {
        let (_process, report) = helper("find", None, &[("CERTCTL_BENCH_NGINX_BIN", program)]);
        assert!(report.starts_with("Usage CERTCTL_BENCH_NGINX_BIN") && report.contains(program), "{report}");
        assert!(report.contains("hint:"), "{report}");
    }
    // Folders of system programs are searched even if PATH lacks them.
    let (_process, report) = helper("find", None, &[("PATH", "/nonexistent")]);
    assert!(report.starts_with("found"), "{report}");
}

// However we end ------------------------------------------------------------------------------------------------------

#[test]
fn a_killed_parent_leaves_nothing_behind() {
    needs!(Nginx, Apache, Haproxy);
    for end in ["exit", "parent killed", "masters and parent killed"] {
        let (mut parent, report) = helper(if end == "exit" { "start, then exit" } else { "start" }, None, &[]);
        let (masters, folders): (Vec<u32>, Vec<PathBuf>) = report
            .split_whitespace()
            .map(|one| one.split_once('=').unwrap())
            .map(|(pid, folder)| (pid.parse::<u32>().unwrap(), PathBuf::from(folder)))
            .unzip();
        assert_eq!(masters.len(), Daemon::ALL.len());
        let mut all = Vec::new();
        if end != "exit" {
            // A process with which daemons start ends in a moment.
            until("masters and workers run", || {
                all = folders.iter().flat_map(|folder| workers(folder)).collect();
                all.len() >= 2 * Daemon::ALL.len() && all.iter().all(|&pid| alive(pid))
            });
            if end == "masters and parent killed" {
                for &master in &masters {
                    send(master, Signal::KILL);
                }
            }
            parent.kill().unwrap();
        }
        parent.wait().unwrap();
        all.extend(masters);
        until(&format!("{end}: all processes are gone: {all:?}"), || !all.iter().any(|&pid| alive(pid)));
        until(&format!("{end}: {folders:?} are gone"), || !folders.iter().any(|folder| folder.exists()));
    }
}

#[test]
fn daemons_start_for_an_unprivileged_user() {
    needs!(Nginx, Apache, Haproxy);
    if !geteuid().is_root() {
        // The other tests have shown it then.
        return;
    }
    let user = RunAs::named("nobody").unwrap().expect("the user nobody");
    let (mut parent, report) = helper("start", Some(user), &[]);
    let folders: Vec<PathBuf> =
        report.split_whitespace().map(|one| PathBuf::from(one.split_once('=').unwrap().1)).collect();
    for folder in &folders {
        let all = workers(folder);
        assert!(all.len() >= 2, "{}: {all:?}", folder.display());
        assert!(all.iter().all(|pid| fs::metadata(format!("/proc/{pid}")).unwrap().uid() == user.uid));
    }
    drop(parent.stdin.take());
    assert!(parent.wait().unwrap().success());
    assert!(!folders.iter().any(|folder| folder.exists()));
}

// Helpers -------------------------------------------------------------------------------------------------------------

/// Not a test: the work of a re-executed copy of this program, in a process that may be killed.
#[test]
#[ignore = "run by the other tests"]
fn helper_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if role == "find" {
        let report = match find(Daemon::Nginx) {
            Ok(Ok(installation)) => format!("found {}", installation.program.display()),
            Ok(Err(skipped)) => skipped.to_string(),
            Err(error) => format!("{:?} {error}", error.kind()),
        };
        return println!("REPORT {}", report.replace('\n', " "));
    }
    let (authority, identity) = certificate();
    let mut sidecars = Daemon::ALL.map(|daemon| start(daemon, &identity, &DaemonOptions::default()));
    for sidecar in &mut sidecars {
        let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &NAMES).unwrap();
        sidecar.replace(&identity).unwrap();
        until("the new certificate is shown", || sidecar.shown().unwrap() == identity.chain[0]);
        let config = client_config(&authority.trust()).unwrap();
        assert_eq!(open(sidecar.address(), config).unwrap().get().unwrap().0, 200);
    }
    let report: Vec<String> =
        sidecars.iter().map(|sidecar| format!("{}={}", sidecar.pid(), sidecar.folder().display())).collect();
    println!("REPORT {}", report.join(" "));
    if role == "start, then exit" {
        std::process::exit(0);
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Runs this program again in a role, and waits for its report. Its stdin closes with the process that is returned.
fn helper(role: &str, user: Option<RunAs>, variables: &[(&str, &str)]) -> (Process, String) {
    let mut program = std::env::current_exe().unwrap();
    // Another user may have no access to the target folder; a running program stays when its folder is removed.
    let room = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    if user.is_some() {
        let copy = room.path().join("helper");
        copy_program(program, &copy);
        program = copy;
    }
    let mut command = Command::new(&program);
    command.args(["--exact", "sidecars::helper_process", "--ignored", "--nocapture"]).env(ROLE, role);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
    if let Some(user) = user {
        command.gid(user.gid).uid(user.uid);
    }
    let mut process = command.envs(variables.iter().copied()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let report = lines.find_map(|line| Some(line.split_once("REPORT ")?.1.to_owned()));
    // The test harness in the helper prints more.
    thread::spawn(move || lines.for_each(drop));
    (process, report.expect("the helper reported nothing"))
}

fn installation(daemon: Daemon) -> DaemonInstallation {
    find(daemon).unwrap().unwrap_or_else(|skipped| panic!("these tests need it: {skipped}"))
}

fn certificate() -> (Authority, Identity) {
    let authority = Authority::root(KeyType::EcdsaP256).unwrap();
    let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &NAMES).unwrap();
    (authority, identity)
}

fn start(daemon: Daemon, identity: &Identity, options: &DaemonOptions) -> StartedDaemon {
    StartedDaemon::start(&installation(daemon), identity, options).unwrap_or_else(|error| panic!("{daemon}: {error}"))
}

fn builder(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(roots)
}

/// Returns a configuration like that of runs, with one version.
fn config(authority: &Authority, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut config = builder(authority, &[version]).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A connection.
struct Open(Connection);

/// Drives the connections of this thread's test: one event loop for all, since each has descriptors of its own.
fn drive<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static EVENT_LOOP: EventLoop = EventLoop::new().unwrap();
    }
    EVENT_LOOP.with(|event_loop| event_loop.block_on(work))
}

fn open(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Open, Fault> {
    let dialer = Dialer::new(address, ServerName::try_from("localhost").unwrap(), config);
    let mut watch = Stopwatch::from(Moment::now());
    let mut phases = Phases::default();
    let opened = drive(async { timeout(PATIENCE, dialer.open(&mut watch, &mut phases)).await });
    Ok(Open(opened.expect("no handshake in time")?))
}

impl Open {
    /// Returns status, content type, body, and true if the connection is kept alive.
    fn get(&mut self) -> Result<(u16, String, String, bool), Fault> {
        let mut scratch = Scratch::default();
        scratch.request = encode(Method::Get, "/", "localhost", None, "");
        let mut watch = Stopwatch::from(Moment::now());
        let mut phases = Phases::default();
        let exchange = self.0.exchange(Method::Get, &mut scratch, &mut watch, &mut phases);
        let kept = drive(async { timeout(PATIENCE, exchange).await }).expect("no answer in time")?;
        let response = scratch.response().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let content_type = response.header("content-type").map(text).unwrap_or_default();
        Ok((response.status, content_type, text(response.body), kept))
    }
}

/// Returns the protocol that ALPN selected.
fn protocol(address: SocketAddr, config: ClientConfig) -> Option<Vec<u8>> {
    let mut tcp = std::net::TcpStream::connect(address).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    tls.complete_io(&mut tcp).unwrap();
    tls.alpn_protocol().map(<[u8]>::to_vec)
}

/// Returns the processes that work in a daemon's folder.
fn workers(folder: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let works = |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder.join("run"));
    let mut found: Vec<u32> = pids.filter(|pid| works(pid) && alive(*pid)).collect();
    found.sort_unstable();
    found
}

/// Returns true if a process runs; one that has ended but was not reaped does not.
fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
