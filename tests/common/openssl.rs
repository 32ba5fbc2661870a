//! A running `openssl s_server`: a TLS peer that is not ours.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use certctl_bench::target::pki::Identity;
use tempfile::TempDir;

/// One on a port of its own; it ends when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    folder: TempDir,
}

impl Server {
    /// With these arguments, and a certificate.
    pub fn start(identity: &Identity, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        std::fs::write(&chain, &identity.chain_pem).unwrap();
        std::fs::write(&key, &identity.key_pem).unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-accept", "127.0.0.1:0", "-cert"]).arg(&chain);
        let (_, above) = identity.chain_pem.split_once("-----END CERTIFICATE-----\n").unwrap();
        if !above.is_empty() {
            let authorities = folder.path().join("authorities.pem");
            std::fs::write(&authorities, above).unwrap();
            command.arg("-cert_chain").arg(authorities);
        }
        command.arg("-key").arg(&key).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("openssl is installed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.by_ref().map(Result::unwrap).find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned()));
        let address = told.expect("openssl tells where it listens").parse().unwrap();
        // So that it never blocks on what it has to say.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, folder }
    }

    /// Its folder, which goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
