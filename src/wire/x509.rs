//! The few fields of an X.509 certificate (RFC 5280) that the TLS library does not show.

use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Returns beginning and end of the validity of a DER certificate, in seconds since 1970; `None` if they cannot be
/// read.
pub fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let validity = after(certificate, 3)?;
    let (_, validity, _) = element(validity)?;
    let mut times = elements(validity).map(|(tag, text)| unix_time(tag, std::str::from_utf8(text).ok()?));
    Some((times.next()??, times.next()??))
}

/// Returns the SubjectPublicKeyInfo of a DER certificate of any version, itself DER.
pub fn subject_public_key_info(certificate: &[u8]) -> Option<&[u8]> {
    let key = after(certificate, 5)?;
    let (_, _, rest) = element(key)?;
    Some(&key[..key.len() - rest.len()])
}

/// Returns the number of bits of the RSA key of a DER certificate; `None` if it is no RSA key.
pub fn rsa_bits(certificate: &[u8]) -> Option<usize> {
    const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let (_, key, _) = element(subject_public_key_info(certificate)?)?;
    let mut parts = elements(key).map(|(_, part)| part);
    if element(parts.next()?)?.1 != RSA_ENCRYPTION {
        return None;
    }
    // A bit string begins with the number of unused bits in its last byte.
    let (_, numbers, _) = element(parts.next()?.get(1..)?)?;
    let (_, modulus, _) = element(numbers)?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    Some(8 * (modulus.len() - first) - modulus[first].leading_zeros() as usize)
}

/// Returns true if a DER certificate may be a TLS server's by its extended key usage (RFC 5280, section 4.2.1.12): it
/// has none, or one that allows it.
pub fn may_be_a_server(certificate: &[u8]) -> bool {
    const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    const ANY: &[u8] = &[0x55, 0x1d, 0x25, 0];
    let Some(extensions) = extensions(certificate) else { return true };
    let usage = elements(extensions).find_map(|(_, extension)| {
        let mut parts = elements(extension);
        let is_usage = parts.next()?.1 == EXTENDED_KEY_USAGE;
        is_usage.then(|| parts.last().map_or(&[][..], |(_, value)| value))
    });
    // The value is an octet string that holds a sequence of purposes.
    usage.is_none_or(|usage| {
        let purposes = element(usage).map_or(&[][..], |(_, purposes, _)| purposes);
        elements(purposes).any(|(_, purpose)| purpose == SERVER_AUTH || purpose == ANY)
    })
}

/// Returns the extensions, if there are any.
fn extensions(certificate: &[u8]) -> Option<&[u8]> {
    let (_, tagged) = elements(after(certificate, 6)?).find(|(tag, _)| *tag == 0xa3)?;
    Some(element(tagged)?.1)
}

/// Returns the tags and contents of consecutive elements.
fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(bytes)?;
        bytes = rest;
        Some((tag, content))
    })
}

/// Returns the bytes after so many fields: serial number, signature algorithm, issuer, validity, subject, public key.
fn after(certificate: &[u8], fields: usize) -> Option<&[u8]> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    // The version comes first, unless it is 1.
    if element(rest)?.0 == 0xa0 {
        rest = element(rest)?.2;
    }
    for _ in 0..fields {
        rest = element(rest)?.2;
    }
    Some(rest)
}

/// Returns the first element of DER bytes: its tag, its content, and the bytes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Parses a UTCTime (23, `YYMMDDhhmmssZ`) or GeneralizedTime (24, `YYYYMMDDhhmmssZ`), as RFC 5280 restricts them.
fn unix_time(tag: u8, text: &str) -> Option<i64> {
    let text = match tag {
        23 if text < "50" => format!("20{text}"),
        23 => format!("19{text}"),
        24 => text.to_owned(),
        _ => return None,
    };
    const FORM: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day][hour][minute][second]Z");
    Some(PrimitiveDateTime::parse(&text, &FORM).ok()?.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_an_rsa_key_is_parsed() {
        use crate::provision::pki::{Authority, KeyType};
        for (key_type, bits) in
            [(KeyType::Rsa2048, Some(2_048)), (KeyType::Rsa4096, Some(4_096)), (KeyType::EcdsaP256, None)]
        {
            let root = Authority::root(key_type).unwrap();
            assert_eq!(rsa_bits(root.certificate()), bits);
            assert!((0..root.certificate().len()).all(|length| rsa_bits(&root.certificate()[..length]).is_none()));
        }
    }

    #[test]
    fn the_validity_of_a_certificate_is_parsed() {
        for (year, month, day, seconds) in
            [(1970, 1, 1, 0), (2024, 2, 29, 1_709_164_800), (2049, 12, 31, 2_524_521_600), (2050, 1, 1, 2_524_608_000)]
        {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(1969, 12, 31);
            parameters.not_after = rcgen::date_time_ymd(year, month, day);
            let certificate = parameters.self_signed(&key).unwrap();
            assert_eq!(validity(certificate.der()), Some((-86_400, seconds)), "{year}-{month}-{day}");
            // A certificate that is cut short anywhere is refused, without a panic.
            assert!((0..certificate.der().len()).all(|length| validity(&certificate.der()[..length]).is_none()));
        }
        assert_eq!(unix_time(23, "700101000001Z"), Some(1));
        assert_eq!(unix_time(24, "20240229235959Z"), Some(1_709_251_199));
        assert_eq!(
            (unix_time(23, "7001010000Z"), unix_time(12, "700101000000Z"), unix_time(23, "")),
            (None, None, None)
        );
    }
}
