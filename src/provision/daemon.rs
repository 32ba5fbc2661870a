//! The real daemons that certctl's connectors deploy to, started on loopback with a generated configuration.
//!
//! Each answers `GET /` with 200 and `ok`, over TLS, from a folder of its own that is removed with it. As root, it runs
//! as a less privileged user from its first instruction. It ends with this process, however that ends: its master has a
//! death signal, the rest of its process group is killed after the master, and the [keeper](Keeper) kills the processes
//! that neither of them reached.

mod apache;
mod daemon_files;
mod daemon_installation;
mod descriptors;
mod glance;
mod haproxy;
mod nginx;
mod workers;

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;

use super::child::{Child, RunAs, Spec, file_tail};
use super::keeper::{Keeper, Lease};
use super::pki::Identity;
use super::port::{free_address, is_port_conflict};
use crate::error::{Context, Error, Result};
use daemon_files::DaemonFiles;

pub use daemon_installation::{DaemonInstallation, Skipped, find, find_in};
pub use workers::Worker;

/// The longest wait for a started daemon to show its certificate.
const READY_WAIT: Duration = Duration::from_secs(20);
/// The longest wait of one attempt to see the certificate.
const GLANCE_WAIT: Duration = Duration::from_secs(5);
/// The longest wait for it to stop.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// The attempts to start it, if its port turns out to be taken.
const PORT_ATTEMPTS: u32 = 5;
/// The length of the queue of connections that wait to be accepted; the kernel cuts it to its own limit.
const BACKLOG: u32 = 4096;
/// The time for which a replaced worker may continue to serve its connections, in seconds.
const OLD_WORKER_S: u32 = 60;
/// The working folder of the daemon, with all its files.
const WORK: &str = "run";
/// The users that a daemon runs as if this process is root.
const USERS: [&str; 2] = ["www-data", "nobody"];

/// A server program that certctl deploys certificates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Daemon {
    /// nginx
    Nginx,
    /// The Apache HTTP server, with its event MPM.
    Apache,
    /// HAProxy, in master-worker mode.
    Haproxy,
}

impl Daemon {
    /// Every daemon.
    pub const ALL: [Self; 3] = [Self::Nginx, Self::Apache, Self::Haproxy];

    /// Returns its name in results, benchmark ids and messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Haproxy => "haproxy",
        }
    }

    const fn lease(self) -> Lease {
        // HAProxy binds its socket under a temporary name that ends in its process id.
        let socket = "run/haproxy.sock.4194304.tmp";
        Lease { what: self.label(), name: self.label(), socket, work: WORK, patience: Duration::from_secs(2) }
    }

    /// Returns the signal that makes it load new files without dropping a connection.
    const fn reload_signal(self) -> Signal {
        match self {
            Self::Nginx => Signal::HUP,
            Self::Apache => Signal::USR1,
            Self::Haproxy => Signal::USR2,
        }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The TLS versions that a daemon speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    #[default]
    Both,
    /// TLS 1.2 alone.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// The way in which a daemon takes up a new certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// By its reload: new workers for new connections, while old workers finish the old ones.
    #[default]
    Graceful,
    /// By HAProxy's runtime API, which no other daemon has: the running worker takes the new certificate.
    Runtime,
}

/// The setup of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonOptions {
    /// The TLS versions that it speaks.
    pub versions: Versions,
    /// The key exchange groups that it accepts, as OpenSSL names them (`P-256`); empty for the daemon's default.
    pub groups: Vec<String>,
    /// The authority, PEM, that must have signed a client's certificate; `None` for no client certificates.
    pub client_ca_pem: Option<String>,
    /// True if ALPN offers HTTP/2 beside HTTP/1.1.
    pub h2: bool,
    /// nginx's and Apache's worker processes, HAProxy's threads. One of Apache's has 128 threads.
    pub workers: u32,
    /// The way in which [`StartedDaemon::replace`] works.
    pub reload: Reload,
}

impl Default for DaemonOptions {
    /// TLS 1.2 and 1.3, the daemon's default groups, no client certificate, HTTP/1.1 alone, one worker, graceful
    /// reload.
    fn default() -> Self {
        Self {
            versions: Versions::Both,
            groups: Vec::new(),
            client_ca_pem: None,
            h2: false,
            workers: 1,
            reload: Reload::Graceful,
        }
    }
}

impl DaemonOptions {
    /// Checks the options for use with `daemon`.
    ///
    /// # Errors
    /// If an option is invalid, or `daemon` does not support it.
    fn check(&self, daemon: Daemon) -> Result<()> {
        let plain = |group: &String| {
            !group.is_empty() && group.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        if let Some(group) = self.groups.iter().find(|group| !plain(group)) {
            return Err(Error::usage(format!("{group:?} is not the name of a key exchange group"))
                .with_hint("name it as OpenSSL does, as in P-256"));
        }
        if !(1..=64).contains(&self.workers) {
            return Err(Error::usage(format!("{} workers for {daemon}", self.workers)).with_hint("give it 1 to 64"));
        }
        if self.reload == Reload::Runtime && daemon != Daemon::Haproxy {
            return Err(Error::usage(format!("{daemon} has no runtime API that replaces a certificate"))
                .with_hint("have it reload gracefully"));
        }
        Ok(())
    }
}

/// The parameters of a daemon's configuration.
struct DaemonConfig<'a> {
    installation: &'a DaemonInstallation,
    options: &'a DaemonOptions,
    port: u16,
    /// The number of connections that it has to carry at a time.
    connections: u64,
}

impl DaemonConfig<'_> {
    fn configuration(&self) -> Result<String> {
        match self.installation.daemon {
            Daemon::Nginx => Ok(nginx::configuration(self)),
            Daemon::Apache => apache::configuration(self),
            Daemon::Haproxy => Ok(haproxy::configuration(self)),
        }
    }

    /// Returns the command of the daemon in the foreground, in its folder `run`.
    fn command(&self, run: &Path) -> Command {
        let mut command = Command::new(&self.installation.program);
        match self.installation.daemon {
            Daemon::Nginx => command.args(nginx::ARGUMENTS),
            // Apache needs an absolute path to the pages that it serves.
            Daemon::Apache => command.args(apache::ARGUMENTS).arg("-d").arg(run),
            Daemon::Haproxy => command.args(haproxy::ARGUMENTS),
        };
        command.current_dir(run).env("LC_ALL", "C");
        command
    }
}

/// The name of every daemon's configuration in its folder.
const CONFIGURATION: &str = "daemon.conf";

/// A running daemon. Dropping it stops it and removes its folder.
#[derive(Debug)]
pub struct StartedDaemon {
    daemon: Daemon,
    version: String,
    address: SocketAddr,
    reload: Reload,
    files: DaemonFiles,
    // Dropped, and so stopped, in this order.
    master: Child,
    keeper: Keeper,
}

impl StartedDaemon {
    /// Starts a daemon with `identity`, and returns when it shows that certificate.
    ///
    /// As root it runs as `www-data`, or `nobody` if there is no such user; only that user may read the key.
    ///
    /// # Errors
    /// If the options are not for this daemon, or it does not come up within 20 s; the error then has the end of its
    /// output, and nothing is left behind.
    pub fn start(
        installation: &DaemonInstallation,
        identity: &Identity,
        options: &DaemonOptions,
    ) -> Result<StartedDaemon> {
        options.check(installation.daemon)?;
        Self::start_on(installation, identity, options, free_address)
    }

    /// Starts the daemon on the first of `addresses` that it can bind.
    fn start_on(
        installation: &DaemonInstallation,
        identity: &Identity,
        options: &DaemonOptions,
        mut addresses: impl FnMut() -> Result<SocketAddr>,
    ) -> Result<StartedDaemon> {
        let mut attempt = 1;
        loop {
            let mut sidecar = Self::launch(installation, identity, options, addresses()?)?;
            match sidecar.wait_until_ready(identity, options).and_then(|()| sidecar.wait_until_it_listens()) {
                Ok(()) => return Ok(sidecar),
                // A port cannot be reserved for another process: some process was quicker.
                Err(error) if attempt < PORT_ATTEMPTS && is_port_conflict(error.what()) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn launch(
        installation: &DaemonInstallation,
        identity: &Identity,
        options: &DaemonOptions,
        address: SocketAddr,
    ) -> Result<StartedDaemon> {
        let daemon = installation.daemon;
        let user = RunAs::lesser(&USERS)?;
        let keeper = Keeper::start(&daemon.lease(), user)?;
        let files = DaemonFiles::make(keeper.folder().join(WORK), user)?;
        files.put_identity(daemon, identity)?;
        if let Some(pem) = &options.client_ca_pem {
            files.put(daemon_files::CLIENT_CA, pem)?;
        }
        if daemon == Daemon::Apache {
            DaemonFiles::make(files.run().join(apache::PAGES), user)?.put(apache::PAGE, "ok")?;
        }
        let site =
            DaemonConfig { installation, options, port: address.port(), connections: descriptors::connections() };
        files.put(CONFIGURATION, &site.configuration()?)?;
        let mut command = site.command(files.run());
        descriptors::raise(&mut command, site.connections);
        let signal = Some(Signal::TERM);
        let spec = Spec { death_signal: signal, stop_signal: signal, run_as: user, ..Spec::default() };
        let master = Child::spawn(daemon.label(), command, spec).map_err(|error| {
            error.with_hint("run as an ordinary user, or as root with the right to become another user")
        })?;
        let version = installation.version.clone();
        Ok(StartedDaemon { daemon, version, address, reload: options.reload, files, master, keeper })
    }

    /// Returns the address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the kind of daemon.
    pub fn daemon(&self) -> Daemon {
        self.daemon
    }

    /// Returns its version, as it reports it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the process id of its master, which stays the same through every reload.
    pub fn pid(&self) -> u32 {
        self.master.pid()
    }

    /// Returns the folder of all its files, which no longer exists once stopped.
    pub fn folder(&self) -> &Path {
        self.keeper.folder()
    }

    /// Returns the certificate that it shows on a new connection now.
    ///
    /// # Errors
    /// If it shows none within 5 s.
    pub fn shown(&self) -> Result<CertificateDer<'static>> {
        let shown = glance::at(self.address, GLANCE_WAIT).map(|glance| glance.certificate);
        shown.context(|| format!("reading the certificate of {} on {}", self.daemon, self.address))
    }

    /// Replaces certificate and key, and makes the daemon load them, as certctl's connectors do: new files are renamed
    /// over the old ones, then the daemon reloads. Returns when the daemon has been notified, which is before it shows
    /// the new certificate on every connection.
    ///
    /// # Errors
    /// If a file cannot be written, the daemon has ended, or its runtime API refuses the certificate.
    pub fn replace(&mut self, identity: &Identity) -> Result<()> {
        if self.master.exited()?.is_some() {
            return Err(self.failure("its certificate cannot be replaced"));
        }
        self.files.put_identity(self.daemon, identity)?;
        match self.reload {
            Reload::Graceful => {
                self.wait_until_it_listens()?;
                self.master.signal(self.daemon.reload_signal())
            }
            Reload::Runtime => haproxy::replace(&self.files.run().join(haproxy::SOCKET), identity),
        }
    }

    /// Returns the worker processes that a replacement of the certificate replaces: none if the running ones take it.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn workers_to_replace(&self) -> Result<Vec<Worker>> {
        match self.reload {
            Reload::Graceful => Worker::of(self.pid()),
            Reload::Runtime => Ok(Vec::new()),
        }
    }

    /// Stops the daemon and removes its folder. Another call does nothing.
    ///
    /// # Errors
    /// If its folder could not be removed.
    pub fn stop(&mut self) -> Result<()> {
        let stopped = self.master.stop(STOP_WAIT).map(drop);
        self.keeper.stop()?;
        stopped
    }

    /// Waits until the daemon shows its certificate, ends, or [`READY_WAIT`] is over.
    fn wait_until_ready(&mut self, identity: &Identity, options: &DaemonOptions) -> Result<()> {
        let deadline = Instant::now() + READY_WAIT;
        loop {
            let seen = match glance::at(self.address, GLANCE_WAIT) {
                Ok(glance) if Some(&glance.certificate) != identity.chain.first() => {
                    "another server answers there".to_owned()
                }
                Ok(glance) => match glance.refused {
                    // This client has no certificate to show, so a refusal proves that the daemon works.
                    Some(why) if options.client_ca_pem.is_none() => why,
                    _ => return Ok(()),
                },
                Err(error) => error.to_string(),
            };
            if self.master.exited()?.is_some() {
                return Err(self.failure("it ended before it presented its certificate"));
            }
            if Instant::now() > deadline {
                let address = self.address;
                return Err(self.failure(&format!(
                    "it did not present its certificate on {address} within {READY_WAIT:?} ({seen})"
                )));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the master has a handler for the reload signal. HAProxy's workers serve while their master still
    /// re-executes itself, after its start and after each reload, and a signal that comes meanwhile is lost.
    fn wait_until_it_listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WAIT;
        while !catches(self.pid(), self.daemon.reload_signal())? {
            if self.master.exited()?.is_some() || Instant::now() > deadline {
                return Err(self.failure("its master does not handle the signal to reload"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Creates an error with `why` and the end of the daemon's output.
    fn failure(&mut self, why: &str) -> Error {
        let error = self.master.failure(why);
        // Once it has read its configuration, Apache writes only to its log.
        match file_tail(&self.files.run().join(apache::LOG)) {
            Ok(text) if !text.trim_end().is_empty() => {
                Error::new(format!("{}\nits log ends:\n{}", error.what().trim_end(), text.trim_end()))
            }
            _ => error,
        }
    }
}

/// Reports whether a process has a handler for `signal` and does not block it.
fn catches(pid: u32, signal: Signal) -> Result<bool> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).context(|| format!("reading {path}"))?;
    let has = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
        let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok());
        mask.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
    };
    Ok(has("SigCgt:") && !has("SigBlk:"))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::provision::pki::{Authority, KeyType, Purpose};

    #[test]
    fn a_daemon_whose_port_is_taken_gets_another_port() {
        let authority = Authority::root(KeyType::EcdsaP256).unwrap();
        let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &["localhost"]).unwrap();
        for daemon in Daemon::ALL {
            let Ok(installation) = find(daemon).unwrap() else { continue };
            // It closes each connection, so that an attempt to see its certificate ends at once.
            let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let taken = holder.local_addr().unwrap();
            thread::spawn(move || holder.incoming().for_each(drop));
            let mut tried = 0;
            let sidecar = StartedDaemon::start_on(&installation, &identity, &DaemonOptions::default(), || {
                tried += 1;
                if tried == 1 { Ok(taken) } else { free_address() }
            });
            let sidecar = sidecar.unwrap_or_else(|error| panic!("{daemon}: {error}"));
            assert_eq!(tried, 2, "{daemon}");
            assert_ne!(sidecar.address(), taken, "{daemon}");
            // Without another port, it is an error.
            let error =
                StartedDaemon::start_on(&installation, &identity, &DaemonOptions::default(), || Ok(taken)).unwrap_err();
            assert!(is_port_conflict(error.what()) && error.what().contains(daemon.label()), "{error}");
        }
    }
}
