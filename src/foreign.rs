//! Text from outside (a server, a daemon, a certificate, a file), prepared for one line of output: secrets are removed,
//! then characters that a terminal or a page would obey or hide are escaped, then the text is cut.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The most characters of a foreign text that are shown.
pub const LINE_CHARACTERS: usize = 200;
/// The part of a foreign text that is examined, in bytes: longer than the shown part, so that a secret is found before
/// it is cut.
const LOOKED_AT_BYTES: usize = 16 * 1024;
/// The length from which a part of a secret is removed from a text, in bytes.
const SHARED_BYTES: usize = 12;
/// The same where the text ends with the beginning of a secret, since the sender may have cut it there.
const CUT_BYTES: usize = 4;
/// The shortest secret, in bytes. A shorter one would be found everywhere, and protects nothing.
pub const LEAST_SECRET_BYTES: usize = 3;
/// The most encodings that are undone, one after the other, as of JSON in a URL.
const ENCODINGS: usize = 3;
/// The most secrets that are kept. Beyond it the oldest are forgotten, first those that a system under test gave out.
const MAX_SECRETS: usize = 64;

/// The secrets of this process. They are registered where they enter it, so that every output removes them.
static SECRETS: RwLock<Vec<Secret>> = RwLock::new(Vec::new());

struct Secret {
    value: String,
    shown_as: &'static str,
    /// A system under test gave it out, as it does time and again.
    is_given_out: bool,
    /// The value itself, its Base64 in each of three alignments, and its hexadecimal digits, all [`folded`].
    forms: Vec<Form>,
}

struct Form {
    bytes: Vec<u8>,
    window: usize,
    windows: HashSet<Vec<u8>>,
}

/// The longest label that is read, in bytes, and the most different ones: they are never freed.
const LONGEST_LABEL: usize = 128;
const MAX_LABELS: usize = 1_024;

/// A text that the program has once, as the name of a step. An alias, since serde takes a plain reference for a part of
/// its input.
pub type Label = &'static str;

/// Reads a label, one of which may come in many places of many files.
///
/// # Errors
/// If it is longer than any that the suite writes, or not among as many different ones as the suite has.
pub fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Label, D::Error> {
    static LABELS: Mutex<BTreeSet<Label>> = Mutex::new(BTreeSet::new());
    let text = String::deserialize(deserializer)?;
    let mut labels = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = labels.get(&*text) {
        return Ok(known);
    }
    if text.len() > LONGEST_LABEL || labels.len() >= MAX_LABELS {
        return Err(serde::de::Error::custom(format!("{} is no label of this suite", line(&text))));
    }
    let known: Label = Box::leak(text.into_boxed_str());
    labels.insert(known);
    Ok(known)
}

/// Registers a secret: from now on [`line()`] and [`redact`] show `shown_as` in its place.
pub fn keep_secret(value: &str, shown_as: &'static str) {
    keep(value, shown_as, false);
}

/// Registers a token that a system under test gave out. Tokens never displace the secrets that the user gave.
pub fn keep_token(value: &str) {
    keep(value, "[token]", true);
}

fn keep(value: &str, shown_as: &'static str, is_given_out: bool) {
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    if value.len() < LEAST_SECRET_BYTES || secrets.iter().any(|secret| secret.value == value) {
        return;
    }
    if secrets.len() >= MAX_SECRETS {
        match secrets.iter().position(|secret| secret.is_given_out) {
            Some(oldest) => drop(secrets.remove(oldest)),
            // The list grows by this one, which is the first to be forgotten.
            None if is_given_out => {}
            None => drop(secrets.remove(0)),
        }
    }
    secrets.push(Secret { value: value.to_owned(), shown_as, is_given_out, forms: forms(value) });
}

/// Returns a foreign text as a line of at most [`LINE_CHARACTERS`].
pub fn line(text: &str) -> String {
    let text = &text[..boundary_before(text, LOOKED_AT_BYTES)];
    visible(redact(text).trim(), LINE_CHARACTERS)
}

/// Returns foreign bytes, which should be text, as a line.
pub fn line_of_bytes(bytes: &[u8]) -> String {
    line(&String::from_utf8_lossy(&bytes[..bytes.len().min(LOOKED_AT_BYTES)]))
}

/// Returns `text` with everything escaped that is neither visible nor a plain space, line ends too, and cut after
/// `limit` characters.
pub fn visible(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    let mut characters = 0;
    for letter in text.chars() {
        let escape = match letter {
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            letter if is_hidden(letter) => format!("\\u{{{:x}}}", letter as u32),
            letter => letter.to_string(),
        };
        // An escape is kept or cut as a whole.
        characters += escape.chars().count();
        if characters > limit {
            shown.push('…');
            break;
        }
        shown.push_str(&escape);
    }
    shown
}

/// Returns lines that may quote foreign text, for a terminal: hidden characters are escaped, line ends stay.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|letter| letter != '\n' && is_hidden(letter)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter != '\n' && is_hidden(letter) {
            let _ = write!(shown, "\\u{{{:x}}}", letter as u32);
        } else {
            shown.push(letter);
        }
    }
    shown.into()
}

/// Makes every text in a JSON document visible, names of members too, since others may have written them.
pub fn make_visible(value: &mut Value) {
    match value {
        Value::String(text) if text.chars().any(is_hidden) => *text = visible(text, usize::MAX),
        Value::Array(values) => values.iter_mut().for_each(make_visible),
        Value::Object(members) => {
            // Names are printed too: of settings, or of tables.
            let hidden: Vec<String> = members.keys().filter(|name| name.chars().any(is_hidden)).cloned().collect();
            for name in hidden {
                if let Some(value) = members.remove(&name) {
                    members.insert(visible(&name, usize::MAX), value);
                }
            }
            members.values_mut().for_each(make_visible);
        }
        _ => {}
    }
}

/// Returns the last character boundary that is not beyond `at`.
fn boundary_before(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Reports whether a character is invisible: it moves the cursor, changes the direction or the look of others, or has
/// no width (Unicode's categories Cc, Cf, Zl, Zp and Co, blanks that are no spaces, and two code points that are no
/// characters and that XML forbids).
pub fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}

/// Returns `text` without the secrets of this process and without longer parts of them, however encoded: in a URL, in
/// JSON, in HTML, in Base64 (as in `Authorization: Basic`), or in hexadecimal digits.
pub fn redact(text: &str) -> Cow<'_, str> {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    if secrets.is_empty() || text.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut found = Vec::new();
    let mut letters: Vec<Letter> =
        text.bytes().enumerate().map(|(at, byte)| Letter { byte, from: at, to: at + 1 }).collect();
    for _ in 0..=ENCODINGS {
        let bytes: Vec<u8> = letters.iter().map(|letter| folded(letter.byte)).collect();
        for secret in &*secrets {
            for range in secret.forms.iter().flat_map(|form| form.find(&bytes)) {
                found.push((letters[range.start].from, letters[range.end - 1].to, secret.shown_as));
            }
        }
        let decoded = decode(&letters);
        if decoded.len() == letters.len() {
            break;
        }
        letters = decoded;
    }
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_unstable();
    let (mut redacted, mut end) = (String::with_capacity(text.len()), 0);
    for (from, to, shown_as) in found {
        let from = boundary_before(text, from);
        let to = (to..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        if from >= end {
            redacted.push_str(&text[end..from]);
            redacted.push_str(shown_as);
        }
        end = end.max(to);
    }
    redacted.push_str(&text[end..]);
    redacted.into()
}

/// A byte of a decoded text, and the range of bytes in the original text that it stands for.
#[derive(Clone, Copy)]
struct Letter {
    byte: u8,
    from: usize,
    to: usize,
}

/// Undoes one encoding: `%41`, `\u0041`, `\"`, `&#65;`, `&#x41;` and the entities of HTML's special characters.
fn decode(letters: &[Letter]) -> Vec<Letter> {
    let mut decoded = Vec::with_capacity(letters.len());
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        let window: Vec<u8> = letters[at..].iter().take(10).map(|letter| letter.byte).collect();
        let (character, length) = match letter.byte {
            b'%' => (number(window.get(1..3), 16), 3),
            b'\\' if window.get(1) == Some(&b'u') => (number(window.get(2..6), 16), 6),
            b'\\' if matches!(window.get(1), Some(b'"' | b'\\' | b'/' | b'\'')) => {
                (window.get(1).map(|&byte| byte.into()), 2)
            }
            b'&' => entity(&window),
            _ => (None, 1),
        };
        let span = &letters[at..letters.len().min(at + length)];
        match (character, span.last()) {
            // In `%C3%A9` each number is one byte of a character; in the other encodings it is the character's code.
            (Some(byte @ 0x80..=0xff), Some(last)) if letter.byte == b'%' => {
                decoded.push(Letter { byte: byte as u8, from: letter.from, to: last.to });
                at += length;
            }
            (Some(character), Some(last)) => {
                let character = char::from_u32(character).unwrap_or('\u{fffd}');
                let encoded = character.encode_utf8(&mut [0; 4]).to_owned();
                decoded.extend(encoded.bytes().map(|byte| Letter { byte, from: letter.from, to: last.to }));
                at += length;
            }
            _ => {
                decoded.push(*letter);
                at += 1;
            }
        }
    }
    decoded
}

fn number(digits: Option<&[u8]>, radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits?).ok().filter(|digits| !digits.starts_with('+'))?;
    u32::from_str_radix(digits, radix).ok()
}

/// Parses an HTML entity at the start of `text`: returns its character, and its length.
fn entity(text: &[u8]) -> (Option<u32>, usize) {
    let Some(end) = text.iter().position(|byte| *byte == b';') else { return (None, 1) };
    let letter = match &text[1..end] {
        b"amp" => Some('&'.into()),
        b"lt" => Some('<'.into()),
        b"gt" => Some('>'.into()),
        b"quot" => Some('"'.into()),
        b"apos" => Some('\''.into()),
        [b'#', b'x' | b'X', digits @ ..] => number(Some(digits), 16),
        [b'#', digits @ ..] => number(Some(digits), 10),
        _ => None,
    };
    (letter, end + 1)
}

/// Folds characters that some encodings change: upper case, and the two that differ in Base64 for URLs.
fn folded(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte.to_ascii_lowercase(),
    }
}

fn forms(value: &str) -> Vec<Form> {
    let mut forms = vec![Form::of(value.as_bytes())];
    for before in 0..3 {
        // Only the length of the text before the secret matters; the characters that it shares with the secret are left
        // out.
        let bytes = [&[0; 2][..before], value.as_bytes()].concat();
        let encoded = STANDARD_NO_PAD.encode(&bytes);
        let own = encoded.get([0, 2, 3][before]..bytes.len() * 8 / 6);
        forms.extend(own.filter(|own| own.len() >= CUT_BYTES).map(|own| Form::of(own.as_bytes())));
    }
    let hexadecimal = value.bytes().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    });
    forms.push(Form::of(hexadecimal.as_bytes()));
    forms
}

impl Form {
    fn of(bytes: &[u8]) -> Self {
        let bytes: Vec<u8> = bytes.iter().copied().map(folded).collect();
        let window = bytes.len().min(SHARED_BYTES);
        let windows = bytes.windows(window).map(<[u8]>::to_vec).collect();
        Self { bytes, window, windows }
    }

    /// Returns the ranges of `text` that hold it, a part of at least [`SHARED_BYTES`], or at the end of `text` its
    /// beginning.
    fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
        let shared = text.windows(self.window).enumerate().filter(|(_, window)| self.windows.contains(*window));
        let cut = (CUT_BYTES..self.window).rev().find(|length| text.ends_with(&self.bytes[..*length]));
        shared.map(|(at, _)| at..at + self.window).chain(cut.map(|length| text.len() - length..text.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "an-API-key/of\"some+length_&<with>~all%sorts.of=letters";

    fn kept() {
        keep_secret(TOKEN, "[token]");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(line("\u{1b}[2J9.8\r\nverdict pass\t"), "\\u{1b}[2J9.8\\r\\nverdict pass");
        assert_eq!(line("a\u{202e}b\u{200b}c\u{2028}d\u{feff}e\u{9b}f\u{e0041}g"), {
            "a\\u{202e}b\\u{200b}c\\u{2028}d\\u{feff}e\\u{9b}f\\u{e0041}g"
        });
        assert_eq!(line("Grüße, 你好, ok"), "Grüße, 你好, ok");
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        assert_eq!(line(&"é".repeat(201)), format!("{}…", "é".repeat(200)));
        assert_eq!(line(&"é".repeat(200)), "é".repeat(200));
        let cut = line(&format!("{}\u{1b}", "a".repeat(198)));
        assert_eq!(cut, format!("{}…", "a".repeat(198)));
        assert!(line(&"\u{1b}".repeat(1_000_000)).chars().count() <= 201);
    }

    #[test]
    fn secrets_are_redacted_in_every_encoding() {
        kept();
        let percent: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let json = serde_json::to_string(TOKEN).unwrap();
        let html = TOKEN.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let hex: String = TOKEN.bytes().map(|byte| format!("{byte:02X}")).collect();
        let units: String = TOKEN.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        let entities: String = TOKEN.bytes().map(|byte| format!("&#{byte};")).collect();
        let twice = percent.replace('%', "%25");
        for encoded in [TOKEN, &percent, &json, &html, &hex, &units, &entities, &twice, &TOKEN.to_uppercase()] {
            let shown = line(&format!("x {encoded} y"));
            assert!(shown == "x [token] y" || shown == "x \"[token]\" y", "{encoded}: {shown}");
        }
        for before in ["", "a", "ab", "abc", "user:"] {
            let basic = STANDARD_NO_PAD.encode(format!("{before}{TOKEN}!"));
            for encoded in [basic.replace('+', "-").replace('/', "_"), basic] {
                let shown = line(&format!("Authorization: Basic {encoded}"));
                assert!(shown.contains("[token]") && shown.len() < 45, "{shown}");
            }
        }
    }

    #[test]
    fn issued_tokens_evict_no_other_secret() {
        keep_secret("kept-for-good-94bd", "[password]");
        for number in 0..2 * MAX_SECRETS {
            keep_token(&format!("token-that-is-given-out-{number:08}"));
        }
        assert_eq!(line("it is `kept-for-good-94bd`"), "it is `[password]`");
        assert_eq!(line(&format!("token-that-is-given-out-{:08}", 2 * MAX_SECRETS - 1)), "[token]");
        assert!(SECRETS.read().unwrap().len() <= MAX_SECRETS + 1);
    }

    #[test]
    fn escaping_keeps_the_structure_of_json() {
        let mut document = serde_json::json!({"a\u{1b}": ["b\nc", 1, null], "d": {"e": "f"}});
        make_visible(&mut document);
        assert_eq!(document, serde_json::json!({"a\\u{1b}": ["b\\nc", 1, null], "d": {"e": "f"}}));
    }

    proptest! {
        /// Wherever a text that repeats a secret is cut, fewer than four of the secret's characters in a row are shown.
        #[test]
        fn a_cut_leaves_no_part_of_a_secret(before in "[ .]{0,40}", times in 1..5_usize, keep in 0..400_usize) {
            kept();
            let echo = format!("{before}{}", TOKEN.repeat(times));
            let shown = line(&echo[..keep.min(echo.len())]).replace("[token]", "");
            let parts = TOKEN.as_bytes().windows(CUT_BYTES).map(|part| std::str::from_utf8(part).unwrap());
            for part in parts {
                prop_assert!(!shown.contains(part), "{shown}");
            }
        }

        #[test]
        fn arbitrary_text_is_escaped_within_the_limit(text in "\\PC*|[%&\\\\#;xu0-9a-fA-F\u{80}-\u{ff}]*") {
            kept();
            let shown = line(&text);
            prop_assert!(shown.chars().count() <= LINE_CHARACTERS + 1);
            prop_assert!(!shown.chars().any(is_hidden));
        }
    }
}
