//! OCSP answers, revocation lists and certificates: refused or read, and never a panic. What nobody signed is no
//! status.
//!
//! Input: a byte for the reader, and the bytes.

#![no_main]

use std::sync::LazyLock;

use certctl_bench::provision::pki::{Authority, KeyType};
use certctl_bench::status::ocsp::{self, OcspAnswer};
use certctl_bench::status::{IssuerCertificate, Serial, crl, serial_of};
use libfuzzer_sys::fuzz_target;

/// An issuer whose key is nowhere but in this process: no input can be signed by it.
static ISSUER: LazyLock<IssuerCertificate> = LazyLock::new(|| {
    let root = Authority::root(KeyType::EcdsaP256).expect("a key is made");
    IssuerCertificate::from_der(root.certificate()).expect("an authority has a certificate")
});

fuzz_target!(|data: &[u8]| {
    let [reader, bytes @ ..] = data else { return };
    match reader % 4 {
        0 => assert!(!matches!(ocsp::verify(bytes, &ISSUER), Ok(OcspAnswer::Status(_)))),
        1 => assert!(crl::verify(bytes, &ISSUER).is_err()),
        2 => {
            assert!(ISSUER.verify(bytes).is_err());
            let serial = serial_of(bytes);
            // The certificate is an issuer, too, of whatever comes after it.
            if let (Ok(issuer), Some(serial)) = (IssuerCertificate::from_der(bytes), serial) {
                let request = ocsp::encode(&issuer, &serial, Some(bytes.get(..32).unwrap_or_default()));
                assert!(request.is_ok() || serial.padded_hex().as_bytes()[0] >= b'8');
            }
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Some(serial) = Serial::from_hex(text)
            {
                assert_eq!(Serial::from_hex(&serial.padded_hex()), Some(serial));
            }
        }
    }
});
