//! The files of a daemon, in a folder that only its user may enter.

use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Daemon;
use crate::error::{Context, Result};
use crate::provision::child::RunAs;
use crate::provision::pki::Identity;

/// Certificate chain, for nginx and Apache.
pub const CHAIN: &str = "server.crt";
/// Private key, for nginx and Apache.
pub const KEY: &str = "server.key";
/// Chain and key in one file, for HAProxy.
pub const CHAIN_AND_KEY: &str = "server.pem";
/// The authority of clients' certificates.
pub const CLIENT_CA: &str = "client-ca.crt";

/// A daemon's folder.
#[derive(Debug)]
pub struct DaemonFiles {
    run: PathBuf,
    user: Option<RunAs>,
}

impl DaemonFiles {
    /// Creates the folder.
    pub fn make(run: PathBuf, user: Option<RunAs>) -> Result<Self> {
        let what = || format!("making the folder {}", run.display());
        DirBuilder::new().mode(0o700).create(&run).context(what)?;
        user.map_or(Ok(()), |user| user.take(&run))?;
        Ok(Self { run, user })
    }

    /// Returns the folder.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Writes a file that only the daemon's user may read, by an atomic write: a reader gets the old content or the
    /// new, never a part.
    pub fn put(&self, name: &str, content: &str) -> Result<()> {
        let path = self.run.join(name);
        let what = || format!("writing {}", path.display());
        let new = self.run.join(format!("{name}.new"));
        // A file may be left from a write that failed.
        let _ = fs::remove_file(&new);
        RunAs::create(self.user, &new, 0o600)?.write_all(content.as_bytes()).context(what)?;
        fs::rename(&new, &path).context(what)
    }

    /// Writes certificate chain and key in the form that `daemon` needs.
    pub fn put_identity(&self, daemon: Daemon, identity: &Identity) -> Result<()> {
        match daemon {
            Daemon::Haproxy => self.put(CHAIN_AND_KEY, &chain_and_key(identity)),
            Daemon::Nginx | Daemon::Apache => {
                self.put(KEY, &identity.key_pem)?;
                self.put(CHAIN, &identity.chain_pem)
            }
        }
    }
}

/// Returns chain and key as one text, without empty lines, which would end it for HAProxy's runtime API.
pub fn chain_and_key(identity: &Identity) -> String {
    let both = [&identity.chain_pem, &identity.key_pem].into_iter().flat_map(|pem| pem.lines());
    both.filter(|line| !line.trim().is_empty()).map(|line| line.trim_end().to_owned() + "\n").collect()
}
