//! The ACME scenarios at Pebble, the ACME server with which Let's Encrypt tests clients.
//!
//! `acme_enroll` enrols there. For `acme_flow` and `acme_burst`, Pebble lacks the certctl around it: a peer answers as
//! certctl does, and passes each ACME request on to Pebble.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use certctl_bench::provision::pki::{Authority, KeyType, Purpose};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use tempfile::TempDir;

use crate::common::bench::Bench;
use crate::common::needs::{needs, tools};
use crate::common::peer::{Peer, Step, certctl};
use crate::common::process::PATIENCE;
use crate::common::relay::{Relay, trusting};
use crate::common::summary::{observed, outcome, results};

/// Two parts of base64url, of a certificate that does not exist: the id in the scenarios' requests.
const UNKNOWN: &str = "aaaa.bbbb";

/// A running Pebble; it ends when dropped.
struct Pebble {
    child: Child,
    folder: TempDir,
    config: Arc<ClientConfig>,
    ports: [u16; 2],
}

impl Pebble {
    /// Starts it with these variables, and these pauses that it asks for, in seconds.
    fn start(variables: &[(&str, &str)], retry_after: [u32; 2]) -> Self {
        let authority = Authority::root(KeyType::EcdsaP256).unwrap();
        let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &["localhost", "127.0.0.1"]).unwrap();
        let config = trusting(&authority.pem());
        // A port cannot be held free for another process: a third one may be quicker.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let file = |name: &str| folder.path().join(name);
            std::fs::write(file("ca.pem"), authority.pem()).unwrap();
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
                "retryAfter": {"authz": retry_after[0], "order": retry_after[1]},
            }});
            std::fs::write(file("config.json"), settings.to_string()).unwrap();
            let mut child = Command::new(tools().join("pebble/pebble"))
                .arg("-config")
                .arg(file("config.json"))
                .env("PEBBLE_VA_NOSLEEP", "1")
                .envs(variables.iter().copied())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().unwrap().is_none() {
                if ports.iter().all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok()) {
                    return Self { child, folder, config, ports };
                }
                assert!(Instant::now() < deadline, "Pebble does not listen");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("Pebble ends as soon as it is started");
    }

    fn relay(&self, port: u16) -> Relay {
        Relay::to(self.config.clone(), port)
    }

    fn base(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[0])
    }

    /// Returns the key identifier of Pebble's own authority, as the first part of a certificate's id (RFC 9773, section
    /// 4.1).
    fn issuer(&self) -> String {
        let answer = self.relay(self.ports[1]).exchange("GET", "/intermediates/0", "localhost", "");
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

#[test]
fn pebbles_answers_are_right() {
    needs!(Pebble);
    let pebble = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "0")], [3, 5]);
    let (issuer, unknown) = (pebble.issuer(), Arc::new(AtomicU64::new(0)));
    let seen = unknown.clone();
    let relay = pebble.relay(pebble.ports[0]);
    let peer = Peer::start(move |request| {
        if !["/dir", "/nonce-plz", "/draft-ietf-acme-ari"].iter().any(|path| request.path.starts_with(path)) {
            return certctl(request);
        }
        // Every other certificate is one of Pebble's own authority.
        let own = request.path.ends_with(UNKNOWN) && seen.fetch_add(1, Ordering::SeqCst) % 2 == 0;
        let path = if own { request.path.replace("aaaa", &issuer) } else { request.path.clone() };
        vec![Step::Send(relay.exchange(&request.method, &path, &request.host, ""))]
    });
    // However long these take, the fourth step comes 34 times at least: eight users may end within a round of four.
    let load = "--directory /dir --users 8 --warm-up 0s --duration 10m --max-requests 160";
    for (name, own) in [("acme_flow", "--think-time 0s"), ("acme_burst", "")] {
        let bench = Bench::named(name, &format!("{load} {own}")).measured();
        let summary = bench.towards_peer(&peer).run().worked().summary();
        let results = results(&summary);
        assert_eq!(outcome(&summary, "ok"), 160, "{results:#}");
        // 404 for a certificate of its own authority, 400 for another's.
        let of_another =
            observed(results, "unknown certificates answered 400 in place of 404")["count"].as_u64().unwrap();
        let handed_on = unknown.swap(0, Ordering::SeqCst);
        assert!(of_another > 0 && of_another <= handed_on / 2 + 1, "{of_another} of {handed_on}");
    }
}

#[test]
fn enrolments_at_pebble_end_with_certificates() {
    needs!(Pebble);
    // It refuses one in twenty nonces, and asks for pauses by a number and by a date in turn.
    let pebble = Pebble::start(&[("PEBBLE_VA_ALWAYS_VALID", "1")], [1, 1]);
    let load = "--users 8 --keys-ahead 60 --warm-up 0s --duration 10m --max-requests 60";
    let arguments = format!("--acme-server --directory /dir --finalize {load}");
    let bench = Bench::named("acme_enroll", &arguments).measured();
    let summary = bench.towards(&pebble.base(), &pebble.folder.path().join("ca.pem")).run().summary();
    let results = results(&summary);
    let count = |name: &str| observed(results, name)["count"].as_u64().unwrap();
    // A nonce that is refused twice in a row fails its enrolment: about one in sixty.
    let (ok, twice, retried) = (outcome(&summary, "ok"), outcome(&summary, "failed (400)"), count("badNonce, retried"));
    assert_eq!(ok + twice, 60, "{results:#}");
    assert!(ok > 30 && retried > twice, "{retried} retried, {twice} twice");
    assert_eq!(count("certificates verified"), ok);
    let steps: Vec<_> =
        results["steps"].as_array().unwrap().iter().map(|step| (&step["name"], &step["scheduled"])).collect();
    assert_eq!(steps.len(), 6, "{steps:?}");
    assert!(count("challenges answered") >= ok && count("accounts made") >= 12, "{results:#}");
    assert_eq!(summary["system"]["kind"], "acme-server");
}
