//! A running `openssl s_server`: a TLS peer that is not part of this suite.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use certctl_bench::provision::pki::Identity;
use tempfile::TempDir;

use super::needs::tools;

/// A server on a port of its own; it ends when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    folder: TempDir,
}

impl Server {
    /// Starts one with these arguments, and a certificate.
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
        command.arg("-key").arg(&key).args(arguments);
        Self::spawn(command, folder)
    }

    /// Starts one on OpenSSL 3.5 with its default settings.
    pub fn start_3_5(identity: &Identity) -> Self {
        const SERVER: &str = r#"
            const pems = { cert: process.env.CHAIN, key: process.env.KEY };
            const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            const server = require("tls").createServer(pems, (socket) => socket.once("data", () => socket.end(answer)));
            server.listen(0, "127.0.0.1", () => console.log(`ACCEPT 127.0.0.1:${server.address().port}`));
        "#;
        let mut command = Command::new(tools().join("openssl-3.5/package/bin/node"));
        command.args(["-e", SERVER]).env("CHAIN", &identity.chain_pem).env("KEY", &identity.key_pem);
        Self::spawn(command, tempfile::tempdir().unwrap())
    }

    fn spawn(mut command: Command, folder: TempDir) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program is installed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            lines.by_ref().map(Result::unwrap).find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned()));
        let address = address.expect("the server prints where it listens").parse().unwrap();
        // Read to the end, so that the server never blocks on its output.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, folder }
    }

    /// Returns its folder, which is removed with it.
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
