//! Uploaded files, chunk by chunk.

use crate::names;
use crate::reply::Refusal;
use crate::shelf::{Limits, Shelf};

/// The folder of an F5's uploads.
pub const FOLDER: &str = "/var/config/rest/downloads/";
/// The longest file; each chunk of it is bounded by that of a request's body.
const MAX_FILE_BYTES: usize = 16 << 20;
/// The bounds on files, beyond which the oldest are removed.
const LIMITS: Limits = Limits { items: 16_384, bytes: 64 << 20 };

/// The uploaded files.
pub struct Files(Shelf<File>);

struct File {
    content: Vec<u8>,
    total: usize,
}

/// The part of a file that a chunk is: the positions of its first and last byte, and the length of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: usize,
    last: usize,
    total: usize,
}

impl Range {
    /// Returns the length of the file.
    pub fn total(self) -> usize {
        self.total
    }

    /// Parses a `Content-Range`, as iControl wants it (`0-99/100`) or as HTTP does (`bytes 0-99/100`).
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let numbers = || {
            let (span, total) = text.strip_prefix("bytes ").unwrap_or(text).split_once('/')?;
            let (first, last) = span.split_once('-')?;
            Some(Self { first: first.parse().ok()?, last: last.parse().ok()?, total: total.parse().ok()? })
        };
        let range = numbers().filter(|range| range.first <= range.last && range.last < range.total);
        let range = range.ok_or_else(|| Refusal::bad(format!("Content-Range {text:?} is none; write 0-99/100")))?;
        if range.total > MAX_FILE_BYTES {
            return Err(Refusal::bad(format!("a file of {} bytes; {MAX_FILE_BYTES} at most", range.total)));
        }
        Ok(range)
    }
}

impl Default for Files {
    fn default() -> Self {
        Self(Shelf::new(LIMITS))
    }
}

impl Files {
    /// Takes a chunk and returns the number of bytes still to come. A first chunk begins the file anew.
    pub fn take(&mut self, name: &str, range: Range, chunk: &[u8]) -> Result<usize, Refusal> {
        if !names::is_plain(name) {
            return Err(Refusal::bad(format!("{name:?} is no name of a file")));
        }
        let Range { first, last, total } = range;
        if chunk.len() != last - first + 1 {
            let length = chunk.len();
            return Err(Refusal::bad(format!("a chunk of {length} bytes is not {first}-{last}/{total}")));
        }
        let begun = if first == 0 { None } else { self.0.get_mut(name) };
        if let Some(file) = begun {
            if (file.content.len(), file.total) != (first, total) {
                let File { content, total: expected } = file;
                let message = format!("{first}-{last}/{total} does not follow {} of {expected} bytes", content.len());
                return Err(Refusal::bad(message));
            }
            file.content.extend_from_slice(chunk);
        } else if first > 0 {
            return Err(Refusal::bad(format!("{first}-{last}/{total} does not begin a file, and none has begun")));
        } else {
            // Counted in full at once, as its size may not change later on.
            let put = self.0.put(name, File { content: chunk.to_vec(), total }, total);
            put.map_err(|_| Refusal::bad("there is no room for the file"))?;
        }
        Ok(total - last - 1)
    }

    /// Returns the content of a file, by its path on the device.
    pub fn content(&self, path: &str) -> Result<&[u8], Refusal> {
        let file = name_of(path).and_then(|name| self.0.get(name));
        let file = file.ok_or_else(|| Refusal::bad(format!("{path:?} was not uploaded")))?;
        if file.content.len() < file.total {
            let have = file.content.len();
            return Err(Refusal::bad(format!("of {path:?} only {have} of {} bytes were uploaded", file.total)));
        }
        Ok(&file.content)
    }

    /// Removes a file, by its path on the device; a missing one is no error, as with `rm -f`.
    pub fn remove(&mut self, path: &str) {
        if let Some(name) = name_of(path) {
            // A missing file is no error.
            let _ = self.0.remove(name);
        }
    }
}

/// Returns the name of a file in the folder: from a path, or from the URL of one, as `sourcePath` has it.
fn name_of(path: &str) -> Option<&str> {
    let path = path.strip_prefix("file:").unwrap_or(path);
    // A URL may have an empty authority: file:///var.
    let path = if path.starts_with("///") { &path[2..] } else { path };
    path.strip_prefix(FOLDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(files: &mut Files, range: &str, chunk: &str) -> Result<usize, Refusal> {
        Range::parse(range).and_then(|range| files.take("f", range, chunk.as_bytes()))
    }

    #[test]
    fn chunks_are_accepted_only_in_order() {
        let (mut files, path) = (Files::default(), format!("{FOLDER}f"));
        take(&mut files, "4-5/6", "ef").unwrap_err();
        assert_eq!(take(&mut files, "0-2/6", "abc"), Ok(3));
        take(&mut files, "4-5/6", "ef").unwrap_err();
        take(&mut files, "3-5/7", "def").unwrap_err();
        take(&mut files, "3-5/6", "de").unwrap_err();
        assert!(files.content(&path).unwrap_err().message.contains("only 3 of 6"));
        assert_eq!(take(&mut files, "bytes 3-5/6", "def"), Ok(0));
        assert_eq!(files.content(&path), Ok(b"abcdef".as_slice()));
        assert_eq!(take(&mut files, "0-0/1", "x"), Ok(0));
        assert_eq!(files.content(&path), Ok(b"x".as_slice()));
        files.content("f").unwrap_err();
        for url in [format!("file:{path}"), format!("file://{path}")] {
            assert_eq!(files.content(&url), Ok(b"x".as_slice()), "{url}");
        }
        files.remove(&path);
        files.content(&path).unwrap_err();
    }

    #[test]
    fn a_range_must_be_within_bounds() {
        for text in ["", "0-9", "9-0/10", "0-10/10", "a-9/10", "0-9/*", "-1-9/10", "0-9/16777217"] {
            assert!(Range::parse(text).is_err(), "{text}");
        }
        for text in ["0-524287/1228800", "0-1048575/1048576", "0-9/16777216"] {
            Range::parse(text).unwrap();
        }
    }
}
