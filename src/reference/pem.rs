//! PEM (RFC 7468), as rows keep keys and signing requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The characters on a line (RFC 7468, section 2).
const LINE: usize = 64;

/// Returns bytes as PEM.
pub fn encode(label: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut pem = format!("-----BEGIN {label}-----");
    for (at, character) in STANDARD.encode(bytes).chars().enumerate() {
        if at % LINE == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem + &format!("\n-----END {label}-----\n")
}

/// Returns the bytes of one PEM of this label; `None` if the text is none.
pub fn decode(label: &str, pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_again() {
        for length in [1, 47, 48, 49, 200] {
            let bytes = vec![7; length];
            let pem = encode("A KEY", &bytes);
            assert!(pem.lines().all(|line| line.len() <= LINE), "{pem}");
            assert_eq!(decode("A KEY", &pem), Some(bytes));
            assert_eq!(decode("KEY", &pem), None);
        }
    }
}
