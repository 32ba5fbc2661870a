//! `acme_enroll` at step-ca.
//!
//! It validates an order by a request for a file that only its account can know (http-01: RFC 8555, section 8.3). A
//! peer passes requests on to step-ca and takes note of accounts and challenges; the test serves the files, and is the
//! DNS server by whose word every name is on this machine.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::common::bench::Bench;
use crate::common::needs::{needs, tools};
use crate::common::peer::{Peer, Request, Step};
use crate::common::process::PATIENCE;
use crate::common::relay::{Relay, trusting};
use crate::common::summary::{observed, outcome, results};

/// A running step-ca; it ends when dropped.
struct StepCa {
    child: Child,
    folder: TempDir,
    root_pem: String,
    port: u16,
}

impl StepCa {
    /// Starts one that looks names up at `dns`, and files at `http`, ports of this machine.
    fn start(dns: u16, http: u16) -> Self {
        let authority = |name: &str| {
            let mut parameters = CertificateParams::default();
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            parameters
        };
        let root = CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
        let issuer = CertifiedIssuer::signed_by(authority("issuer"), KeyPair::generate().unwrap(), &root).unwrap();
        let root_pem = root.pem();
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let file = |name: &str| folder.path().join(name);
            std::fs::write(file("root.pem"), &root_pem).unwrap();
            std::fs::write(file("issuer.pem"), issuer.pem()).unwrap();
            std::fs::write(file("issuer.key"), issuer.key().serialize_pem()).unwrap();
            // A port cannot be held free for another process: a third one may be quicker.
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let settings = json!({
                "root": file("root.pem"),
                "crt": file("issuer.pem"),
                "key": file("issuer.key"),
                "address": format!("127.0.0.1:{port}"),
                "dnsNames": ["localhost"],
                "db": {"type": "bbolt", "dataSource": file("db")},
                "authority": {"provisioners": [{"type": "ACME", "name": "acme", "challenges": ["http-01"]}]},
            });
            std::fs::write(file("ca.json"), settings.to_string()).unwrap();
            let mut child = Command::new(tools().join("step-ca/step-ca"))
                .arg(file("ca.json"))
                .args(["--quiet", "--insecure", "--acme-http-port", &http.to_string()])
                .args(["--resolver", &format!("127.0.0.1:{dns}")])
                .env("STEPPATH", folder.path())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(file("log")).unwrap())
                .spawn()
                .unwrap();
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return Self { child, folder, root_pem, port };
                }
                assert!(Instant::now() < deadline, "step-ca does not listen");
                std::thread::sleep(Duration::from_millis(10));
            }
            let log = std::fs::read_to_string(file("log")).unwrap();
            assert!(log.contains("address already in use"), "step-ca ends: {log}");
        }
        panic!("step-ca finds no port");
    }
}

impl Drop for StepCa {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The files that validate orders: the thumbprint of an account's key (RFC 7638) by its URL, the token of a challenge
/// by its URL, and the content of the file by the token.
#[derive(Default)]
struct Files {
    thumbprints: HashMap<String, String>,
    tokens: HashMap<String, String>,
    contents: HashMap<String, String>,
}

impl Files {
    /// Takes note of a request before it is passed on.
    fn requested(&mut self, protected: &Value) {
        let (account, url) = (protected["kid"].as_str(), protected["url"].as_str().unwrap_or_default());
        let thumbprint = account.and_then(|account| self.thumbprints.get(account));
        if let (Some(thumbprint), Some(token)) = (thumbprint, self.tokens.get(url)) {
            self.contents.insert(token.clone(), format!("{token}.{thumbprint}"));
        }
    }

    /// Takes note of the answer.
    fn answered(&mut self, protected: &Value, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let location = head.lines().find_map(|line| line.strip_prefix("Location: "));
        let jwk = &protected["jwk"];
        if let (Some(location), true) = (location, jwk.is_object()) {
            let member = |name: &str| jwk[name].as_str().unwrap();
            let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, member("x"), member("y"));
            let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
            self.thumbprints.insert(location.to_owned(), thumbprint);
        }
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        for challenge in body["challenges"].as_array().into_iter().flatten() {
            let text = |name: &str| challenge[name].as_str().unwrap().to_owned();
            self.tokens.insert(text("url"), text("token"));
        }
    }
}

fn protected(request: &Request) -> Value {
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let header = BASE64_URL_SAFE_NO_PAD.decode(body["protected"].as_str().unwrap_or_default()).unwrap();
    serde_json::from_slice(&header).unwrap_or_default()
}

/// Serves the files, until the process ends; returns the port.
fn serve_files(files: Arc<Mutex<Files>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let _ = reader.read_line(&mut line);
            let token = line.split(' ').nth(1).and_then(|path| path.strip_prefix("/.well-known/acme-challenge/"));
            let content = token.and_then(|token| files.lock().unwrap().contents.get(token).cloned());
            let (status, body) = content.map_or((404, String::new()), |content| (200, content));
            // step-ca may have given up.
            let _ = write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

/// Answers every question for an IPv4 address with this machine's (RFC 1035, section 4), until the process ends;
/// returns the port.
fn serve_names() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut query = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let mut end = 12;
            while end < length && query[end] != 0 {
                end += 1 + usize::from(query[end]);
            }
            let Some(question) = query[..length].get(12..end + 5) else { continue };
            let is_address = question[question.len() - 4..] == [0, 1, 0, 1];
            let mut answer = vec![query[0], query[1], 0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0];
            answer.extend_from_slice(question);
            if is_address {
                // The name of the question, type A, class IN, a time to live of 60 s, four bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    port
}

#[test]
fn enrolments_at_step_ca_end_with_certificates() {
    needs!(StepCa);
    let files: Arc<Mutex<Files>> = Arc::default();
    let step_ca = StepCa::start(serve_names(), serve_files(files.clone()));
    let relay = Relay::to(trusting(&step_ca.root_pem), step_ca.port);
    let peer = Peer::start(move |request: &Request| {
        let protected = protected(request);
        files.lock().unwrap().requested(&protected);
        let answer = relay.exchange(&request.method, &request.path, &request.host, &request.body);
        files.lock().unwrap().answered(&protected, &answer);
        vec![Step::Send(answer)]
    });
    let load = "--users 4 --keys-ahead 20 --warm-up 0s --duration 10m --max-requests 20";
    let arguments = format!("--acme-server --directory /acme/acme/directory --finalize {load}");
    let root = step_ca.folder.path().join("root.pem");
    let bench = Bench::named("acme_enroll", &format!("{arguments} --acme-ca {}", root.display())).measured();
    let summary = bench.towards_peer(&peer).run().summary();
    let log = || std::fs::read_to_string(step_ca.folder.path().join("log")).unwrap();
    let results = results(&summary);
    assert_eq!(outcome(&summary, "ok"), 20, "{results:#}\n{}", log());
    assert_eq!(observed(results, "certificates verified")["count"], 20);
    assert_eq!(observed(results, "challenges answered")["count"], 20);
}
