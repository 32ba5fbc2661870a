//! Names of objects: `/Partition/name` in full, `~Partition~name` in a URL, and without a partition in Common.

use crate::reply::Refusal;

/// Longer names are refused; a store of names is then within bounds too.
const MAX_NAME_BYTES: usize = 128;

/// The name in full, whichever way it is written.
pub fn full(text: &str) -> Result<String, Refusal> {
    let (partition, name) = match text.strip_prefix(['~', '/']) {
        Some(rest) => rest.split_once(['~', '/']).unwrap_or((rest, "")),
        None => ("Common", text),
    };
    if is_plain(partition) && is_plain(name) {
        Ok(format!("/{partition}/{name}"))
    } else {
        Err(Refusal::bad(format!(
            "{text:?} is no name of an object: letters, digits, '.', '-' and '_', {MAX_NAME_BYTES} at most"
        )))
    }
}

/// Partition and name of a name in full.
pub fn parts(full: &str) -> (&str, &str) {
    full.trim_start_matches('/').split_once('/').unwrap_or(("Common", full))
}

/// Whether a name has no part that means something in a path.
pub fn is_plain(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        && name.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_however_it_is_written() {
        for text in ["a.crt", "/Common/a.crt", "~Common~a.crt"] {
            assert_eq!(full(text).unwrap(), "/Common/a.crt", "{text}");
        }
        assert_eq!(full("~Other~a").unwrap(), "/Other/a");
        assert_eq!(parts("/Other/a"), ("Other", "a"));
        for text in ["", "/Common", "/Common/", "~Common~a/b", "a b", "../a", "..", "/a/b/c", &"a".repeat(129)] {
            assert!(full(text).is_err(), "{text}");
        }
    }
}
