//! Servers whose certificates have targets, and the steps of an agent.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::client::Answer;
use crate::server::{ADMIN, Server};

/// Returns a server on each store, each with two targets: one for the odd certificates, of the first agent, and one
/// for the even ones, of the second.
pub fn servers(certificates: u32, arguments: &[&str]) -> Vec<Server> {
    let servers = Server::on_both(certificates, &[&["--targets", "2"], arguments].concat());
    for server in servers.iter().filter(|server| server.has_database()) {
        map_targets(server);
    }
    servers
}

/// Adds those targets to a server on PostgreSQL.
pub fn map_targets(server: &Server) {
    let sql = "INSERT INTO deployment_targets (id, name, type, agent_id, config)
            SELECT 'tgt-loadtest-0000' || n, 'target ' || n, 'NGINX', 'ag-loadtest-0000' || n,
                jsonb_build_object('cert_path', '/etc/nginx/tls/loadtest-0000' || n || '.crt')
            FROM generate_series(1, 2) n;
        INSERT INTO certificate_target_mappings
            SELECT id, 'tgt-loadtest-0000' || 2 - right(id, 1)::int % 2 FROM managed_certificates";
    server.sql().batch_execute(sql).expect("maps targets");
}

pub fn certificate_id(n: u32) -> String {
    format!("cert-loadtest-bulk-{n:05}")
}

pub fn get(server: &Server, path: &str) -> Answer {
    server.exchange("GET", path, Some(ADMIN), "")
}

pub fn post(server: &Server, path: &str, body: &Value) -> Answer {
    server.exchange("POST", path, Some(ADMIN), &body.to_string())
}

pub fn certificate(server: &Server, n: u32) -> Value {
    get(server, &format!("/api/v1/certificates/{}", certificate_id(n))).json()
}

/// Returns the versions of a certificate, the newest first.
pub fn versions(server: &Server, n: u32) -> Vec<Value> {
    let answer = get(server, &format!("/api/v1/certificates/{}/versions", certificate_id(n)));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["data"].as_array().cloned().unwrap_or_default()
}

/// Returns the jobs of a poll.
pub fn poll(server: &Server, agent: u32) -> Vec<Value> {
    let answer = get(server, &format!("/api/v1/agents/ag-loadtest-{agent:05}/work"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["jobs"].as_array().cloned().expect("a list")
}

/// Returns a signing request of this key.
pub fn signing_request(key: &KeyPair) -> String {
    let params = CertificateParams::new(vec!["agent.example.test".to_owned()]).expect("a name");
    params.serialize_request(key).and_then(|request| request.pem()).expect("a request")
}

/// Submits a signing request with a fresh P-256 key.
pub fn submit(server: &Server, n: u32) -> Answer {
    let body = json!({
        "csr_pem": signing_request(&KeyPair::generate().expect("a key")), "certificate_id": certificate_id(n),
    });
    post(server, "/api/v1/agents/ag-loadtest-00001/csr", &body)
}

/// Has a certificate signed, without a job; returns the new version.
pub fn issue(server: &Server, n: u32) -> Value {
    assert_eq!(submit(server, n).status, 202);
    versions(server, n).swap_remove(0)
}

/// Returns the certificate and its authority in a chain, after checking that the second has signed the first.
pub fn verified_chain(chain_pem: &str) -> [CertificateDer<'static>; 2] {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    let [leaf, authority] = <[_; 2]>::try_from(chain).expect("two certificates");
    let anchor = anchor_from_trusted_cert(&authority).expect("an anchor");
    EndEntityCert::try_from(&leaf)
        .expect("parses")
        .verify_for_usage(
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all,
            &[anchor],
            &[],
            UnixTime::now(),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .expect("verifies");
    [leaf, authority]
}
