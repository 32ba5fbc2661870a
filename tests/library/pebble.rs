//! `acme_flow` and `acme_burst` against the answers of Pebble, the ACME server with which Let's Encrypt tests clients.
//!
//! Pebble has no certctl around it: a peer answers as certctl does, and passes each ACME request on to Pebble.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use certctl_bench::provision::pki::{Authority, KeyType, Purpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

use crate::common::bench::Bench;
use crate::common::needs::{needs, tools};
use crate::common::peer::{Peer, Step, certctl};
use crate::common::process::PATIENCE;
use crate::common::summary::{observed, outcome, results};

/// Two parts of base64url, of a certificate that does not exist: the id in the scenarios' requests.
const UNKNOWN: &str = "aaaa.bbbb";

/// A running Pebble; it ends when dropped.
struct Pebble {
    child: Child,
    _folder: TempDir,
    config: Arc<ClientConfig>,
    ports: [u16; 2],
}

impl Pebble {
    fn start() -> Self {
        let authority = Authority::root(KeyType::EcdsaP256).unwrap();
        let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &["localhost", "127.0.0.1"]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        // A port cannot be held free for another process: a third one may be quicker.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let file = |name: &str| folder.path().join(name);
            std::fs::write(file("cert.pem"), &identity.chain_pem).unwrap();
            std::fs::write(file("key.pem"), &identity.key_pem).unwrap();
            let held = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
            let ports = held.map(|listener| listener.local_addr().unwrap().port());
            let settings = json!({"pebble": {
                "listenAddress": format!("127.0.0.1:{}", ports[0]),
                "managementListenAddress": format!("127.0.0.1:{}", ports[1]),
                "certificate": file("cert.pem"),
                "privateKey": file("key.pem"),
                "httpPort": 5002,
                "tlsPort": 5001,
                "externalAccountBindingRequired": false,
                "retryAfter": {"authz": 3, "order": 5},
            }});
            std::fs::write(file("config.json"), settings.to_string()).unwrap();
            let mut child = Command::new(tools().join("pebble/pebble"))
                .arg("-config")
                .arg(file("config.json"))
                .env("PEBBLE_WFE_NONCEREJECT", "0")
                .env("PEBBLE_VA_NOSLEEP", "1")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().unwrap().is_none() {
                if ports.iter().all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok()) {
                    return Self { child, _folder: folder, config, ports };
                }
                assert!(Instant::now() < deadline, "Pebble does not listen");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("Pebble ends as soon as it is started");
    }

    fn connect(&self, port: u16) -> BufReader<StreamOwned<ClientConnection, TcpStream>> {
        let tls = ClientConnection::new(self.config.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(StreamOwned::new(tls, tcp))
    }

    /// Returns the key identifier of Pebble's own authority, as the first part of a certificate's id (RFC 9773, section
    /// 4.1).
    fn issuer(&self) -> String {
        let mut management = self.connect(self.ports[1]);
        let answer = exchange(&mut management, "GET", "/intermediates/0", "localhost");
        let pem_at = answer.windows(10).position(|bytes| bytes == b"-----BEGIN").unwrap();
        let der = CertificateDer::from_pem_slice(&answer[pem_at..]).unwrap();
        // subjectKeyIdentifier (RFC 5280, section 4.2.1.2): an octet string in an octet string.
        let at = der.windows(3).position(|bytes| bytes == [0x55, 0x1d, 0x0e]).unwrap() + 3;
        let [0x04, _, 0x04, length] = der[at..at + 4] else { panic!("no key identifier: {:?}", &der[at..]) };
        BASE64_URL_SAFE_NO_PAD.encode(&der[at + 4..][..usize::from(length)])
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes one exchange, and returns the answer as it came.
fn exchange(
    stream: &mut BufReader<StreamOwned<ClientConnection, TcpStream>>,
    method: &str,
    path: &str,
    host: &str,
) -> Vec<u8> {
    stream
        .get_mut()
        .write_all(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: relay\r\n\r\n").as_bytes())
        .unwrap();
    let (mut answer, mut length) = (Vec::new(), 0);
    while !answer.ends_with(b"\r\n\r\n") {
        let line = answer.len();
        assert!(stream.read_until(b'\n', &mut answer).unwrap() > 0, "Pebble closes");
        let line = String::from_utf8_lossy(&answer[line..]).to_ascii_lowercase();
        assert!(!line.starts_with("transfer-encoding"), "{line}");
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    if method != "HEAD" {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        answer.extend(body);
    }
    answer
}

#[test]
fn pebbles_answers_are_right() {
    needs!(Pebble);
    let pebble = Pebble::start();
    let (issuer, unknown) = (pebble.issuer(), Arc::new(AtomicU64::new(0)));
    let seen = unknown.clone();
    // One connection is enough: requests are passed on one by one.
    let stream = Mutex::new(pebble.connect(pebble.ports[0]));
    let peer = Peer::start(move |request| {
        if !["/dir", "/nonce-plz", "/draft-ietf-acme-ari"].iter().any(|path| request.path.starts_with(path)) {
            return certctl(request);
        }
        // Every other certificate is one of Pebble's own authority.
        let own = request.path.ends_with(UNKNOWN) && seen.fetch_add(1, Ordering::SeqCst) % 2 == 0;
        let path = if own { request.path.replace("aaaa", &issuer) } else { request.path.clone() };
        vec![Step::Send(exchange(&mut stream.lock().unwrap(), &request.method, &path, &request.host))]
    });
    for name in ["acme_flow", "acme_burst"] {
        let summary = Bench::named(name, "--directory /dir").smoke().towards_peer(&peer).run().exits(0).summary();
        let results = results(&summary);
        assert_eq!(outcome(&summary, "ok"), results["arrivals"]["scheduled"].as_u64().unwrap(), "{results:#}");
        // 404 for a certificate of its own authority, 400 for another's.
        let of_another =
            observed(results, "unknown certificates answered 400 in place of 404")["count"].as_u64().unwrap();
        let handed_on = unknown.swap(0, Ordering::SeqCst);
        assert!(of_another > 0 && of_another <= handed_on / 2 + 1, "{of_another} of {handed_on}");
    }
}
