//! Names of objects: `/Partition/name` in full, `~Partition~name` in a URL, and without a partition in Common.

use crate::reply::Refusal;

/// The longest name; longer ones are refused, so that a store of names is bounded too.
const MAX_NAME_BYTES: usize = 128;

/// Returns the name in full, whichever way it is written.
pub fn full(text: &str) -> Result<String, Refusal> {
    in_partition(text, "Common")
}

/// Returns the name in full, of an object in `partition` where it names none itself.
pub fn in_partition(text: &str, partition: &str) -> Result<String, Refusal> {
    let (partition, name) = match text.strip_prefix(['~', '/']) {
        Some(rest) => rest.split_once(['~', '/']).unwrap_or((rest, "")),
        None => (partition, text),
    };
    if is_plain(partition) && is_plain(name) {
        Ok(format!("/{partition}/{name}"))
    } else {
        Err(Refusal::bad(format!(
            "{text:?} is no name of an object: letters, digits, '.', '-' and '_', {MAX_NAME_BYTES} at most"
        )))
    }
}

/// Returns the partition and the name in a full name.
pub fn parts(full: &str) -> (&str, &str) {
    full.trim_start_matches('/').split_once('/').unwrap_or(("Common", full))
}

/// Returns a full name as a URL has it.
pub fn in_url(full: &str) -> String {
    full.replace('/', "~")
}

/// Returns a part of a URL without its percent-encoding (RFC 3986, section 2.1). Invalid encoding stays as it is.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        // `from_str_radix` takes a sign too.
        let pair = pair.filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => decoded.push(byte),
            None => decoded.push(bytes[at]),
        }
        at += if pair.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

/// Returns true if no part of a name has a meaning in a path.
pub fn is_plain(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        && name.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_name_are_equal() {
        for text in ["a.crt", "/Common/a.crt", "~Common~a.crt"] {
            assert_eq!(full(text).unwrap(), "/Common/a.crt", "{text}");
        }
        assert_eq!(full("~Other~a").unwrap(), "/Other/a");
        assert_eq!(parts("/Other/a"), ("Other", "a"));
        assert_eq!((in_partition("a", "Other").unwrap(), in_url("/Other/a")), ("/Other/a".into(), "~Other~a".into()));
        for (text, decoded) in [("%7ECommon%7ea", "~Common~a"), ("a%2", "a%2"), ("%+1", "%+1"), ("%ff", "%ff")] {
            assert_eq!(decode(text), decoded);
        }
        for text in ["", "/Common", "/Common/", "~Common~a/b", "a b", "../a", "..", "/a/b/c", &"a".repeat(129)] {
            assert!(full(text).is_err(), "{text}");
        }
    }
}
