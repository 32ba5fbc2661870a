//! The way to a server of somebody else's, to which a scripted peer passes requests on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::process::PATIENCE;

/// A server whose certificate is for localhost. Each exchange has a connection of its own: servers close those that are
/// idle, and a test may wait for its turn.
pub struct Relay {
    config: Arc<ClientConfig>,
    port: u16,
}

/// A connection to it.
struct Line(BufReader<StreamOwned<ClientConnection, TcpStream>>);

/// Returns a TLS configuration that trusts one root, PEM.
pub fn trusting(root_pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

impl Relay {
    pub fn to(config: Arc<ClientConfig>, port: u16) -> Self {
        Self { config, port }
    }

    /// Makes one exchange, and returns the answer as it came. A body is one of ACME's.
    pub fn exchange(&self, method: &str, path: &str, host: &str, body: &str) -> Vec<u8> {
        let tls = ClientConnection::new(self.config.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        Line(BufReader::new(StreamOwned::new(tls, tcp))).exchange(method, path, host, body)
    }
}

impl Line {
    fn exchange(&mut self, method: &str, path: &str, host: &str, body: &str) -> Vec<u8> {
        let content = match body {
            "" => String::new(),
            body => format!("Content-Type: application/jose+json\r\nContent-Length: {}\r\n", body.len()),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: relay\r\n{content}\r\n");
        self.0.get_mut().write_all((head + body).as_bytes()).unwrap();
        let (mut answer, mut length, mut chunked) = (Vec::new(), 0, false);
        while !answer.ends_with(b"\r\n\r\n") {
            let line = self.line(&mut answer).to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            chunked |= line.trim_end() == "transfer-encoding: chunked";
        }
        match (method, chunked) {
            ("HEAD", _) => {}
            (_, false) => self.take(length, &mut answer),
            (_, true) => loop {
                let size = usize::from_str_radix(self.line(&mut answer).trim(), 16).unwrap();
                // The last chunk is empty, and the trailer too.
                self.take(size + 2, &mut answer);
                if size == 0 {
                    break;
                }
            },
        }
        answer
    }

    /// Appends a line, and returns it.
    fn line(&mut self, answer: &mut Vec<u8>) -> String {
        let from = answer.len();
        assert!(self.0.read_until(b'\n', answer).unwrap() > 0, "the server closes");
        String::from_utf8_lossy(&answer[from..]).into_owned()
    }

    fn take(&mut self, length: usize, answer: &mut Vec<u8>) {
        let from = answer.len();
        answer.resize(from + length, 0);
        self.0.read_exact(&mut answer[from..]).unwrap();
    }
}
