//! ACME from an order that is ready to its certificate, and the certificate's end.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::acme::{expect, problem};
use crate::acme_client::{Acme, Key, csr_payload, identifiers};
use crate::client::Answer;
use crate::server::Server;

const NAME: &str = "a.example.test";

fn internal() -> (u16, String, String) {
    expect(500, "serverInternal", "ACME server error")
}

/// Returns status and type of a problem, whatever its headers.
fn kind(answer: &Answer) -> (u16, String) {
    let kind = answer.json()["type"].as_str().expect("a type").to_owned();
    (answer.status, kind.replace("urn:ietf:params:acme:error:", ""))
}

/// Orders a certificate and finalizes the order; returns the certificate's URL and its chain.
fn issue(acme: &mut Acme) -> (String, Vec<CertificateDer<'static>>) {
    let (url, order) = acme.order(&[NAME]);
    let answer = acme.finalize(&order, &[NAME]);
    assert_eq!((answer.status, answer.header("location")), (200, Some(url.as_str())), "{}", answer.body);
    let finished = answer.json();
    assert_eq!(finished["status"], "valid");
    assert_eq!(acme.get(&url).json(), finished);
    let certificate = finished["certificate"].as_str().expect("a URL").to_owned();
    assert!(certificate.starts_with(&acme.url("cert/mc-acme-")), "{certificate}");
    let answer = acme.get(&certificate);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/pem-certificate-chain")));
    let chain = CertificateDer::pem_slice_iter(answer.body.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    (certificate, chain)
}

/// Returns the id of a certificate for renewal information, of an authority that nobody looks at.
fn renewal_id(leaf: &CertificateDer<'_>) -> String {
    let leaf = webpki::EndEntityCert::try_from(leaf).expect("a certificate");
    format!("AAAA.{}", BASE64.encode(leaf.serial()))
}

#[test]
fn finalization_fails_as_built_and_leaves_the_order_open() {
    for server in Server::on_both(0, &[]) {
        let mut acme = Acme::registered(&server);
        let orders: Vec<(String, Value)> = (0..5).map(|_| acme.order(&[NAME])).collect();
        for (url, order) in &orders {
            assert_eq!(problem(&acme.finalize(order, &[NAME])), internal());
            let shown = acme.get(url).json();
            assert_eq!((&shown["status"], &shown["error"]), (&json!("processing"), &Value::Null));
        }
        let answer = acme.call("new-order", &json!({"identifiers": identifiers(&[NAME])}));
        assert_eq!(kind(&answer), (429, "rateLimited".to_owned()));
        server.until_work(&json!({"orders_created": 5, "orders_finalized": 0}));
        assert!(server.announced["settings"].get("acme_finalize").is_none());
        let version = server.exchange("GET", "/api/v1/version", None, "").json();
        assert_eq!(version["acme_finalize"], "fails");
    }
}

#[test]
fn a_request_that_does_not_fit_ends_the_order() {
    for server in Server::on_both(0, &[]) {
        let mut acme = Acme::registered(&server);
        let (url, order) = acme.order(&[NAME, "b.example.test"]);
        let finalize = order["finalize"].as_str().unwrap();
        let bad = |detail: &str| expect(400, "badCSR", detail);
        assert_eq!(problem(&acme.post(finalize, "[")), expect(400, "malformed", "could not parse finalize payload"));
        assert_eq!(problem(&acme.post(finalize, r#"{"csr":"!"}"#)), bad("csr field is not valid base64url"));
        assert_eq!(problem(&acme.post(finalize, r#"{"csr":"AAAA"}"#)), bad("csr did not parse as a valid PKCS#10"));
        let mut other = Acme::registered(&server);
        let detail = "account does not own this resource";
        assert_eq!(problem(&other.finalize(&order, &[NAME])), expect(401, "unauthorized", detail));
        assert_eq!(acme.get(&url).json()["status"], "ready");

        assert_eq!(problem(&acme.finalize(&order, &[NAME])), internal());
        let shown = acme.get(&url).json();
        assert_eq!(
            (&shown["status"], &shown["error"]["type"]),
            (&json!("invalid"), &json!("urn:ietf:params:acme:error:badCSR"))
        );
        let detail = "order is not in the `ready` state; complete authorizations first";
        assert_eq!(problem(&acme.finalize(&order, &[NAME])), expect(403, "orderNotReady", detail));

        let (url, order) = acme.order(&[NAME]);
        assert_eq!(problem(&acme.finalize(&order, &["c.example.test"])), internal());
        assert_eq!(acme.get(&url).json()["status"], "invalid");

        // A request that its key did not sign.
        let (url, order) = acme.order(&[NAME]);
        let mut der = BASE64.decode(csr_payload(&[NAME])["csr"].as_str().unwrap()).unwrap();
        *der.last_mut().unwrap() ^= 1;
        let answer = acme.post(order["finalize"].as_str().unwrap(), &json!({"csr": BASE64.encode(der)}).to_string());
        assert_eq!(problem(&answer), internal());
        let shown = acme.get(&url).json();
        assert_eq!(
            (&shown["status"], &shown["error"]["detail"]),
            (&json!("invalid"), &json!("issuer rejected the CSR"))
        );
    }
}

#[test]
fn on_a_patched_database_orders_become_certificates() {
    for server in Server::on_both(0, &["--acme-finalize", "works"]) {
        assert_eq!(server.announced["settings"]["acme_finalize"], "works");
        let mut acme = Acme::registered(&server);
        let chains: Vec<_> = (0..6).map(|_| issue(&mut acme)).collect();
        let (certificate, chain) = &chains[0];
        assert_eq!(chain.len(), 2);
        let leaf = webpki::EndEntityCert::try_from(&chain[0]).unwrap();
        leaf.verify_is_valid_for_subject_name(&NAME.try_into().unwrap()).unwrap();
        // Nobody's ownership is looked at, as built.
        assert_eq!(Acme::registered(&server).get(certificate).status, 200);
        assert_eq!(problem(&acme.get(&acme.url("cert/mc-acme-x"))), internal());
        let (_, order) = acme.order(&["A.example.TEST"]);
        let done = acme.finalize(&order, &[NAME]);
        assert_eq!(done.status, 200, "{}", done.body);
        assert_eq!(kind(&acme.finalize(&order, &[NAME])), (403, "orderNotReady".to_owned()));
        server.until_work(&json!({"orders_finalized": 7, "certificates_downloaded": 7}));

        let id = certificate.rsplit_once('/').unwrap().1;
        let row = server.exchange("GET", &format!("/api/v1/certificates/{id}"), Some(crate::server::ADMIN), "").json();
        let fields = ["status", "common_name", "issuer_id", "source", "certificate_profile_id"].map(|name| &row[name]);
        assert_eq!(fields, ["Active", NAME, "iss-local", "ACME", "prof-standard-tls"]);
    }
}

#[test]
fn renewal_information_is_found_by_the_serial_number() {
    for server in Server::on_both(0, &["--behaviour", "as-documented"]) {
        let mut acme = Acme::registered(&server);
        let (_, chain) = issue(&mut acme);
        let path = acme.url(&format!("renewal-info/{}", renewal_id(&chain[0])));
        let answer = server.exchange("GET", path.strip_prefix("https://localhost").unwrap(), None, "");
        assert_eq!((answer.status, answer.json()["suggestedWindow"]["start"].is_string()), (200, true));
    }
}

#[test]
fn as_documented_certificates_are_their_accounts_own() {
    for server in Server::on_both(0, &["--behaviour", "as-documented"]) {
        let mut acme = Acme::registered(&server);
        let (certificate, _) = issue(&mut acme);
        let mut other = Acme::registered(&server);
        assert_eq!(kind(&other.get(&certificate)), (401, "unauthorized".to_owned()));
        assert_eq!(kind(&acme.get(&acme.url("cert/mc-acme-x"))), (404, "malformed".to_owned()));
        let (url, order) = acme.order(&[NAME]);
        assert_eq!(kind(&acme.finalize(&order, &["b.example.test"])), (400, "badCSR".to_owned()));
        assert_eq!(acme.get(&url).json()["status"], "invalid");
        let version = server.exchange("GET", "/api/v1/version", None, "").json();
        assert_eq!(version["acme_finalize"], "works");
    }
}

fn revocation(chain: &[CertificateDer<'_>], reason: i32) -> Value {
    json!({"certificate": BASE64.encode(&chain[0]), "reason": reason})
}

#[test]
fn a_certificate_is_revoked_once_by_its_account() {
    for server in Server::on_both(0, &["--acme-finalize", "works"]) {
        let mut acme = Acme::registered(&server);
        // As built, a serial number that begins with zeros is never found.
        let (certificate, chain) = std::iter::repeat_with(|| issue(&mut acme))
            .take(20)
            .find(|(_, chain)| {
                let leaf = webpki::EndEntityCert::try_from(&chain[0]).unwrap();
                leaf.serial().len() == 20 && leaf.serial()[0] >= 0x10
            })
            .expect("one of twenty");
        let bad = |detail: &str| expect(400, "badCSR", detail);
        for (payload, detail) in [
            (json!({}), "`certificate` is not valid base64url-DER"),
            (json!({"certificate": "!"}), "`certificate` is not valid base64url-DER"),
            (json!({"certificate": "AAAA"}), "the supplied `certificate` field is not a valid X.509 cert"),
        ] {
            assert_eq!(problem(&acme.call("revoke-cert", &payload)), bad(detail));
        }
        let answer = acme.post(&acme.url("revoke-cert"), "[");
        assert_eq!(problem(&answer), expect(400, "malformed", "could not parse revoke-cert payload"));
        let root = json!({"certificate": BASE64.encode(&chain[1])});
        let detail = "the supplied certificate is not known to this server";
        assert_eq!(problem(&acme.call("revoke-cert", &root)), expect(404, "malformed", detail));
        let mut other = Acme::registered(&server);
        let detail = "the requester is not authorized to revoke this certificate";
        let answer = other.call("revoke-cert", &revocation(&chain, 0));
        assert_eq!(problem(&answer), expect(401, "unauthorized", detail));
        // By a key of its own: the first check has used the nonce up.
        let mut keyed = Acme::at(&server, crate::acme_client::PROFILE);
        let answer = keyed.call("revoke-cert", &revocation(&chain, 0));
        assert_eq!(problem(&answer), expect(400, "badNonce", "nonce missing, replayed, or expired"));

        let answer = acme.call("revoke-cert", &revocation(&chain, 4));
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{}", answer.body);
        assert!(answer.header("replay-nonce").is_some());
        let answer = acme.call("revoke-cert", &revocation(&chain, 4));
        assert_eq!(problem(&answer), expect(400, "alreadyRevoked", "the certificate has already been revoked"));
        let id = certificate.rsplit_once('/').unwrap().1;
        let row = server.exchange("GET", &format!("/api/v1/certificates/{id}"), Some(crate::server::ADMIN), "").json();
        assert_eq!((&row["status"], &row["revocation_reason"]), (&json!("Revoked"), &json!("superseded")));
    }
}

#[test]
fn as_documented_a_certificates_own_key_revokes_it() {
    for server in Server::on_both(0, &["--behaviour", "as-documented"]) {
        let (mut acme, key) = (Acme::registered(&server), Key::es256());
        let Key::Es256(pair) = &key else { unreachable!("just made") };
        let pkcs8 = pair.to_pkcs8v1().expect("a document");
        let pair = rcgen::KeyPair::try_from(pkcs8.as_ref()).expect("a key");
        let params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let mut params = params;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&pair).unwrap();
        let (_, order) = acme.order(&[NAME]);
        let payload = json!({"csr": BASE64.encode(request.der())}).to_string();
        let finished = acme.post(order["finalize"].as_str().unwrap(), &payload).json();
        let chain = acme.get(finished["certificate"].as_str().expect("a URL")).body;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();

        let mut keyed = Acme::at(&server, crate::acme_client::PROFILE);
        let answer = keyed.call("revoke-cert", &revocation(&chain, 1));
        assert_eq!(kind(&answer), (401, "unauthorized".to_owned()));
        keyed.key = key;
        let answer = keyed.call("revoke-cert", &revocation(&chain, 1));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = acme.call("revoke-cert", &revocation(&chain, 1));
        assert_eq!(kind(&answer), (400, "alreadyRevoked".to_owned()));
    }
}
