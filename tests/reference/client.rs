//! A client that shares no code with the suite.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

const READ_TIMEOUT: Duration = Duration::from_secs(240);

/// A connection.
pub struct Client {
    pub reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    /// Header lines with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, if it is text.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Client {
    pub fn connect(address: &str, ca_pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("PEM")).expect("trustworthy");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a connection");
        let tcp = TcpStream::connect(address).expect("connects");
        tcp.set_read_timeout(Some(READ_TIMEOUT)).expect("a timeout");
        Self { reader: BufReader::new(StreamOwned::new(tls, tcp)) }
    }

    /// Makes one exchange with a bearer token.
    pub fn exchange(&mut self, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        self.send(method, path, &headers, body)
    }

    /// Makes one exchange with these headers.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &(impl AsRef<[u8]> + ?Sized),
    ) -> Answer {
        let body = body.as_ref();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n");
        self.reader.get_mut().write_all(&[head.as_bytes(), b"\r\n", body].concat()).expect("sends");
        self.answer(method)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn answer(&mut self, method: &str) -> Answer {
        let status = self.line().split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let mut answer = Answer { status, headers: Vec::new(), body: String::new(), bytes: Vec::new() };
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            answer.headers.push((name.to_lowercase(), value.to_owned()));
        }
        if method == "HEAD" {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let length = usize::from_str_radix(&self.line(), 16).expect("a chunk's length");
                answer.bytes.extend(self.bytes(length));
                self.line();
                if length == 0 {
                    break;
                }
            }
        } else {
            let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
            answer.bytes = self.bytes(length);
        }
        answer.body = String::from_utf8(answer.bytes.clone()).unwrap_or_default();
        answer
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).expect("a body");
        bytes
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }

    /// Returns status, content type and body at once.
    pub fn shape(&self) -> (u16, &str, &str) {
        (self.status, self.header("content-type").unwrap_or_default(), &self.body)
    }

    /// Returns status and message of a handler's error, whose envelope must be whole.
    pub fn failure(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(json["request_id"].as_str(), self.header("x-request-id"));
        assert!(json["error"].is_string());
        (self.status, json["message"].as_str().expect("a message").to_owned())
    }
}
