//! The verification of an issued certificate with its chain (RFC 8555, sections 7.4.2 and 9.1).

use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::status::Freshness;
use crate::wire::x509;

/// The most certificates of a chain.
const LONGEST_CHAIN: usize = 10;

/// Checks a PEM chain, leaf first: the leaf has this public key (SubjectPublicKeyInfo, DER) and this one DNS name, may
/// be a TLS server's, has not expired, and is signed, over the certificates after it, by one of `authorities`; if there
/// are none, by the last certificate of the chain. The two clocks may differ by [`Freshness::SKEW_S`]: a leaf whose
/// validity begins within that after `now` is checked at that beginning.
///
/// # Errors
/// The flaw, in words.
pub fn verify(
    pem: &[u8],
    public_key: &[u8],
    name: &str,
    authorities: &[CertificateDer<'static>],
    now: UnixTime,
) -> Result<(), String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .take(LONGEST_CHAIN + 1)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("its chain is not PEM: {error}"))?;
    let Some((leaf, above)) = chain.split_first() else { return Err("its chain holds no certificate".to_owned()) };
    if above.len() >= LONGEST_CHAIN {
        return Err(format!("its chain has more than {LONGEST_CHAIN} certificates"));
    }
    if x509::subject_public_key_info(leaf) != Some(public_key) {
        return Err("the certificate is for another key than the one in the order's CSR".to_owned());
    }
    let parsed = EndEntityCert::try_from(leaf).map_err(|error| format!("the certificate is not X.509: {error}"))?;
    let names: Vec<&str> = parsed.valid_dns_names().collect();
    if !matches!(names[..], [one] if one.eq_ignore_ascii_case(name)) {
        return Err("the certificate's names are not the ordered one".to_owned());
    }
    let (anchors, between) = match (authorities, above.split_last()) {
        ([], None) => return Err("its chain holds the leaf alone, and no --acme-ca is given to check it by".to_owned()),
        ([], Some((last, between))) => (std::slice::from_ref(last), between),
        (authorities, _) => (authorities, above),
    };
    let anchors: Vec<_> = anchors
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("an authority's certificate is not X.509: {error}"))?;
    let begins = x509::validity(leaf).map_or(0, |(begins, _)| u64::try_from(begins).unwrap_or(0));
    let early_s = begins.saturating_sub(now.as_secs());
    if early_s > Freshness::SKEW_S.unsigned_abs() {
        return Err(format!("the certificate is not valid until {early_s} s from now"));
    }
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().max(begins)));
    let algorithms = default_provider().signature_verification_algorithms.all;
    let usage = KeyUsage::server_auth();
    match parsed.verify_for_usage(algorithms, &anchors, between, time, usage, None, None) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the certificate's chain does not verify: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::pki::{Authority, Identity, KeyType, Purpose};

    const NAME: &str = "e1.example.test";

    fn check(pem: &str, identity: &Identity, authorities: &[&Authority]) -> Result<(), String> {
        let key = x509::subject_public_key_info(&identity.chain[0]).unwrap();
        let authorities: Vec<_> = authorities.iter().map(|one| one.certificate().clone()).collect();
        verify(pem.as_bytes(), key, NAME, &authorities, UnixTime::now())
    }

    #[test]
    fn a_chain_is_verified_up_to_its_last_certificate() {
        let root = Authority::root(KeyType::EcdsaP256).unwrap();
        let lower = root.intermediate(KeyType::EcdsaP256).unwrap();
        let issued = lower.issue(KeyType::EcdsaP256, Purpose::Server, &[NAME]).unwrap();
        let [alone, whole] = [&issued.chain_pem, &(issued.chain_pem.clone() + &root.pem())];
        assert_eq!(check(alone, &issued, &[]), Ok(()));
        assert_eq!(check(whole, &issued, &[]), Ok(()));
        assert_eq!(check(alone, &issued, &[&root]), Ok(()));
        let other = Authority::root(KeyType::EcdsaP256).unwrap();
        assert!(check(alone, &issued, &[&other]).unwrap_err().contains("does not verify"));
        assert!(check(&(issued.chain_pem.clone() + &other.pem()), &issued, &[]).unwrap_err().contains("not verify"));
        // By an authority that is given, a leaf needs no chain.
        let direct = root.issue(KeyType::EcdsaP256, Purpose::Server, &[NAME]).unwrap();
        assert_eq!(check(&direct.chain_pem, &direct, &[&root]), Ok(()));
        assert!(check(&direct.chain_pem, &direct, &[]).unwrap_err().contains("the leaf alone"));
    }

    #[test]
    fn another_key_name_or_time_is_refused() {
        let root = Authority::root(KeyType::EcdsaP256).unwrap();
        let issued = |names: &[&str], days: i64| {
            root.issue_with(KeyType::EcdsaP256, Purpose::Server, names, |parameters| {
                let now = time::OffsetDateTime::now_utc();
                parameters.not_before = now + time::Duration::days(days - 2);
                parameters.not_after = now + time::Duration::days(days);
            })
            .unwrap()
        };
        let (right, another) = (issued(&[NAME], 1), issued(&[NAME], 1));
        let at_root = |one: &Identity| one.chain_pem.clone() + &root.pem();
        assert_eq!(check(&at_root(&right), &right, &[]), Ok(()));
        assert!(check(&at_root(&another), &right, &[]).unwrap_err().contains("another key"));
        for names in [&["e2.example.test"][..], &[NAME, "e2.example.test"], &[]] {
            let wrong = issued(names, 1);
            assert!(check(&at_root(&wrong), &wrong, &[]).unwrap_err().contains("not the ordered one"), "{names:?}");
        }
        let expired = issued(&[NAME], -1);
        assert!(check(&at_root(&expired), &expired, &[]).unwrap_err().contains("does not verify"));
        let early = issued(&[NAME], 3);
        assert!(check(&at_root(&early), &early, &[]).unwrap_err().contains("is not valid until"));
        // A server whose clock is ahead, by no more than clocks differ.
        let key = x509::subject_public_key_info(&early.chain[0]).unwrap();
        let begins = x509::validity(&early.chain[0]).unwrap().0.unsigned_abs();
        let at = |ahead_s: u64| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(begins - ahead_s));
            verify(at_root(&early).as_bytes(), key, NAME, &[], now)
        };
        assert_eq!((at(0), at(60)), (Ok(()), Ok(())));
        assert_eq!(at(61), Err("the certificate is not valid until 61 s from now".to_owned()));
        for text in ["", "no PEM", &right.chain_pem[..right.chain_pem.len() / 2]] {
            assert!(check(text, &right, &[]).is_err(), "{text}");
        }
        let long = right.chain_pem.repeat(LONGEST_CHAIN + 1);
        assert!(check(&long, &right, &[]).unwrap_err().contains("more than"));
    }
}
