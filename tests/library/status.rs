//! OCSP answers and revocation lists of OpenSSL, which is not part of this suite. Skipped without `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use certctl_bench::provision::pki::{Authority, Identity, KeyType, Purpose};
use certctl_bench::status::ocsp::{self, OcspAnswer, Refusal, SignedStatus, Status};
use certctl_bench::status::{Flaw, Freshness, IssuerCertificate, Serial, crl, serial_of};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use tempfile::TempDir;

use crate::common::needs::needs;

const GOOD: &str = "7f00000000000000000000000000000000000001";
const REVOKED: &str = "00000000000000000000000000000000000000ab";
const UNKNOWN: &str = "0123456789abcdef0123456789abcdef01234567";
/// The revocation in the database of [`Authorities`], 2024-02-29 00:00:00.
const REVOKED_AT: i64 = 1_709_164_800;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn serial(digits: &str) -> Serial {
    Serial::from_hex(digits).unwrap()
}

/// An authority and a responder of its, as files for `openssl`.
struct Authorities {
    folder: TempDir,
    root: Authority,
    issuer: IssuerCertificate,
}

impl Authorities {
    fn new(key_type: KeyType) -> Self {
        let root = Authority::root(key_type).unwrap();
        let issuer = IssuerCertificate::from_der(root.certificate()).unwrap();
        let made = Self { folder: tempfile::tempdir().unwrap(), root, issuer };
        made.write("root.pem", &made.root.pem());
        made.write("root.key", &made.root.key_pem());
        // A year's last two digits: GOOD and REVOKED expire in 2049.
        let line = |state: &str, revoked: &str, digits: &str| {
            format!("{state}\t491231000000Z\t{revoked}\t{}\tunknown\t/CN=leaf\n", digits.to_uppercase())
        };
        let revoked = line("R", "240229000000Z,superseded", REVOKED.trim_start_matches('0'));
        made.write("index.txt", &(line("V", "", GOOD) + &revoked));
        made.write("index.txt.attr", "");
        made.write("number", "1000\n");
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Writes the files of a responder, and returns it.
    fn responder(&self, by: &Authority, purpose: ExtendedKeyUsagePurpose) -> Identity {
        self.responder_with(by, |params| params.extended_key_usages = vec![purpose])
    }

    fn responder_with(&self, by: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let responder = by.issue_with(KeyType::EcdsaP256, Purpose::Server, &["responder"], change);
        let responder = responder.unwrap();
        self.write("responder.pem", &responder.chain_pem);
        self.write("responder.key", &responder.key_pem);
        responder
    }

    /// Returns OpenSSL's answer to a request of ours, signed by `signer`.
    fn answer(&self, signer: &str, digits: &str, nonce: Option<&[u8]>, arguments: &[&str]) -> Vec<u8> {
        let request = ocsp::encode(&self.issuer, &serial(digits), nonce).unwrap();
        std::fs::write(self.path("request.der"), request).unwrap();
        let (pem, key) = (format!("{signer}.pem"), format!("{signer}.key"));
        let files = ["-index", "index.txt", "-CA", "root.pem", "-rsigner", &pem, "-rkey", &key];
        let exchange = ["-reqin", "request.der", "-respout", "answer.der", "-ndays", "1"];
        openssl(self.folder.path(), &[&["ocsp"], &files[..], &exchange, arguments].concat());
        std::fs::read(self.path("answer.der")).unwrap()
    }

    fn verify(&self, answer: &[u8]) -> Result<SignedStatus, Flaw> {
        match ocsp::verify(answer, &self.issuer)? {
            OcspAnswer::Status(signed) => Ok(signed),
            OcspAnswer::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    /// Returns OpenSSL's list.
    fn list(&self) -> Vec<u8> {
        let config = "[ca]\ndefault_ca = root\n[root]\ndatabase = index.txt\ncrlnumber = number\ndefault_md = sha256\n\
                      crl_extensions = list\n[list]\nauthorityKeyIdentifier = keyid\n";
        self.write("config", config);
        let files = ["-config", "config", "-cert", "root.pem", "-keyfile", "root.key", "-out", "list.pem"];
        openssl(self.folder.path(), &[&["ca", "-gencrl", "-crldays", "7"], &files[..]].concat());
        openssl(self.folder.path(), &["crl", "-in", "list.pem", "-outform", "DER", "-out", "list.der"]);
        std::fs::read(self.path("list.der")).unwrap()
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn answers_of_openssl_are_verified() {
    needs!(Openssl);
    let nonce = [0x80; 32];
    for key_type in [KeyType::Rsa2048, KeyType::EcdsaP256, KeyType::EcdsaP384] {
        let ours = Authorities::new(key_type);
        ours.responder(&ours.root, ExtendedKeyUsagePurpose::OcspSigning);
        for (signer, arguments) in [("root", &[][..]), ("responder", &[]), ("responder", &["-resp_key_id"])] {
            for (digits, status) in
                [(GOOD, Status::Good), (REVOKED, Status::Revoked(REVOKED_AT)), (UNKNOWN, Status::Unknown)]
            {
                let what = format!("{key_type}, {signer} {arguments:?}, {digits}");
                let signed = ours.verify(&ours.answer(signer, digits, None, arguments)).unwrap();
                assert_eq!((signed.status, &signed.nonce), (status, &None), "{what}");
                assert_eq!(signed.check(&serial(digits), None, now()), Ok(()), "{what}");
                assert_eq!(signed.check(&serial(digits), Some(&nonce), now()), Err(Flaw::Nonce), "{what}");
                let other = serial("7f00000000000000000000000000000000000002");
                assert_eq!(signed.check(&other, None, now()), Err(Flaw::OtherSerial), "{what}");
                let stale = signed.check(&serial(digits), None, now() + 86_400 + 3_600);
                assert!(matches!(stale, Err(Flaw::Stale { .. })), "{what}: {stale:?}");
            }
            let signed = ours.verify(&ours.answer(signer, GOOD, Some(&nonce), arguments)).unwrap();
            assert_eq!(signed.check(&serial(GOOD), Some(&nonce), now()), Ok(()));
            assert_eq!(signed.check(&serial(GOOD), Some(&[0x81; 32]), now()), Err(Flaw::Nonce));
            assert!(signed.nonce.unwrap().is_in_place);
        }
    }
}

#[test]
fn an_answer_with_any_byte_changed_is_refused() {
    needs!(Openssl);
    let ours = Authorities::new(KeyType::Rsa2048);
    ours.responder(&ours.root, ExtendedKeyUsagePurpose::OcspSigning);
    let answer = ours.answer("responder", GOOD, Some(&[7; 32]), &[]);
    ours.verify(&answer).unwrap();
    for at in 0..answer.len() {
        let mut changed = answer.clone();
        changed[at] ^= 1;
        let found = ocsp::verify(&changed, &ours.issuer);
        assert!(found.is_err(), "byte {at}: {found:?}");
        assert!(ocsp::verify(&answer[..at], &ours.issuer).is_err(), "{at} bytes");
    }
}

#[test]
fn a_responder_without_the_issuers_authority_is_refused() {
    needs!(Openssl);
    let ours = Authorities::new(KeyType::EcdsaP256);
    let refused = |by: &Authority, purpose| {
        ours.responder(by, purpose);
        ours.verify(&ours.answer("responder", GOOD, None, &[])).unwrap_err()
    };
    assert_eq!(refused(&ours.root, ExtendedKeyUsagePurpose::ServerAuth), Flaw::Responder);
    // It has the same name as ours.
    let other = Authority::root(KeyType::EcdsaP256).unwrap();
    assert_eq!(refused(&other, ExtendedKeyUsagePurpose::OcspSigning), Flaw::Responder);
    // The issuer's name in the answer, and another key.
    ours.write("responder.pem", &other.pem());
    ours.write("responder.key", &other.key_pem());
    assert_eq!(ours.verify(&ours.answer("responder", GOOD, None, &[])), Err(Flaw::Signature));
    // The answer is about a certificate of ours.
    let theirs = IssuerCertificate::from_der(other.certificate()).unwrap();
    let answer = ours.answer("root", GOOD, None, &[]);
    assert_eq!(ocsp::verify(&answer, &theirs), Err(Flaw::Signature));
}

#[test]
fn a_responder_is_believed_while_its_certificate_is_valid() {
    needs!(Openssl);
    let ours = Authorities::new(KeyType::EcdsaP256);
    let (begin, end) = (date_time_ymd(2024, 1, 1), date_time_ymd(2036, 1, 1));
    ours.responder_with(&ours.root, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        (params.not_before, params.not_after) = (begin, end);
    });
    // An answer without an end, so that the certificate's validity alone decides.
    let mut signed = ours.verify(&ours.answer("responder", GOOD, None, &[])).unwrap();
    signed.freshness = Freshness { this_update: begin.unix_timestamp() - 3_600, next_update: None };
    let check = |at: i64| signed.check(&serial(GOOD), None, at);
    let (begin, end) = (begin.unix_timestamp(), end.unix_timestamp());
    for at in [begin - Freshness::SKEW_S, begin, end, end + Freshness::SKEW_S] {
        assert_eq!(check(at), Ok(()), "{at}");
    }
    for at in [begin - Freshness::SKEW_S - 1, end + Freshness::SKEW_S + 1] {
        assert_eq!(check(at), Err(Flaw::ResponderExpired), "{at}");
    }
}

#[test]
fn a_refusal_has_no_status() {
    let issuer = IssuerCertificate::from_der(Authority::root(KeyType::EcdsaP256).unwrap().certificate()).unwrap();
    for (status, refusal) in [
        (1, Refusal::MalformedRequest),
        (2, Refusal::InternalError),
        (3, Refusal::TryLater),
        (5, Refusal::SignatureRequired),
        (6, Refusal::Unauthorized),
    ] {
        assert_eq!(ocsp::verify(&[0x30, 3, 0x0a, 1, status], &issuer), Ok(OcspAnswer::Refused(refusal)));
    }
    // Successful, but without an answer; and a status that does not exist.
    for wrong in [0, 4, 7] {
        assert_eq!(ocsp::verify(&[0x30, 3, 0x0a, 1, wrong], &issuer), Err(Flaw::Encoding), "{wrong}");
    }
}

#[test]
fn lists_of_openssl_are_verified() {
    needs!(Openssl);
    for key_type in [KeyType::Rsa2048, KeyType::EcdsaP256, KeyType::EcdsaP384] {
        let ours = Authorities::new(key_type);
        let der = ours.list();
        let list = crl::verify(&der, &ours.issuer).unwrap();
        assert_eq!(list.number.as_deref(), Some(&[0x10, 0][..]), "{key_type}");
        assert_eq!(list.revoked.into_iter().collect::<Vec<_>>(), [(serial(REVOKED), REVOKED_AT)], "{key_type}");
        assert_eq!(list.freshness.check(now()), Ok(()));
        assert!(matches!(list.freshness.check(now() + 8 * 86_400), Err(Flaw::Stale { .. })));
        let other = IssuerCertificate::from_der(Authority::root(key_type).unwrap().certificate()).unwrap();
        assert_eq!(crl::verify(&der, &other), Err(Flaw::Signature), "{key_type}");
        for at in 0..der.len() {
            let mut changed = der.clone();
            changed[at] ^= 1;
            let found = crl::verify(&changed, &ours.issuer);
            assert!(found.is_err(), "{key_type}, byte {at}: {found:?}");
        }
    }
}

#[test]
fn a_certificate_is_verified_by_its_issuer_alone() {
    let root = Authority::root(KeyType::Rsa2048).unwrap();
    let leaf = root.issue(KeyType::EcdsaP256, Purpose::Server, &["localhost"]).unwrap();
    let issuer = IssuerCertificate::from_der(root.certificate()).unwrap();
    assert_eq!(issuer.verify(&leaf.chain[0]), Ok(()));
    assert!(serial_of(&leaf.chain[0]).is_some());
    let other = IssuerCertificate::from_der(Authority::root(KeyType::Rsa2048).unwrap().certificate()).unwrap();
    assert_eq!(other.verify(&leaf.chain[0]), Err(Flaw::Signature));
    for at in 0..leaf.chain[0].len() {
        let mut changed = leaf.chain[0].to_vec();
        changed[at] ^= 1;
        assert!(issuer.verify(&changed).is_err(), "byte {at}");
    }
}
