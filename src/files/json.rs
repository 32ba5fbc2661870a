//! A check of foreign JSON before it is parsed: a few megabytes of text must not take gigabytes of memory, and a key
//! that an object has twice is an error.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The most values in a text; the summary of a run of a day has half as many.
const MOST_VALUES: usize = 8 << 20;

/// The kind of a text, as far as its top level shows it.
#[derive(Debug, Default)]
pub struct Head {
    /// The value of `schema_version`, where it is a whole number.
    pub schema_version: Option<u64>,
    /// The same of `part_version`.
    pub part_version: Option<u64>,
    /// True if there is a key `measures`.
    pub has_measures: bool,
    /// True if there is a key `blocks`.
    pub has_blocks: bool,
}

/// Checks `text`, and returns what its top level shows.
///
/// # Errors
/// If it is not a JSON object, is nested deeper than 128 levels, or has more values than any summary, a number that
/// cannot be represented, or the same key twice in an object.
pub fn head(text: &str) -> serde_json::Result<Head> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut look = Scan { values: 0, head: Head::default() };
    Nesting { look: &mut look, depth: 0 }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(look.head)
}

struct Scan {
    values: usize,
    head: Head,
}

/// A value that is nested `depth` levels deep.
struct Nesting<'a> {
    look: &'a mut Scan,
    depth: usize,
}

impl Nesting<'_> {
    fn below(&mut self) -> Nesting<'_> {
        Nesting { look: self.look, depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for Nesting<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u64>, D::Error> {
        self.look.values += 1;
        if self.look.values > MOST_VALUES {
            return Err(D::Error::custom(format!("it holds more than {MOST_VALUES} values")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nesting<'_> {
    /// The number, if the value is an unsigned whole one.
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.depth == 0 { "an object" } else { "a value" })
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Option<u64>, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let number = map.next_value_seed(self.below())?;
            if self.depth == 0 {
                match &*key {
                    "schema_version" => self.look.head.schema_version = number,
                    "part_version" => self.look.head.part_version = number,
                    "measures" => self.look.head.has_measures = true,
                    "blocks" => self.look.head.has_blocks = true,
                    _ => {}
                }
            }
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format!("it has the key {twice:?} twice")));
            }
        }
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<Option<u64>, A::Error> {
        if self.depth == 0 {
            return Err(A::Error::custom("it is an array, not an object"));
        }
        while sequence.next_element_seed(self.below())?.is_some() {}
        Ok(None)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Option<u64>, E> {
        scalar(self.depth, Some(number))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Option<u64>, E> {
        scalar(self.depth, None)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Option<u64>, E> {
        scalar(self.depth, None)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Option<u64>, E> {
        scalar(self.depth, None)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Option<u64>, E> {
        scalar(self.depth, None)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Option<u64>, E> {
        scalar(self.depth, None)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u64>, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| None)
    }
}

fn scalar<E: serde::de::Error>(depth: usize, number: Option<u64>) -> Result<Option<u64>, E> {
    if depth == 0 { Err(E::custom("it is a single value, not an object")) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_summaries_are_refused_before_decoding() {
        let refused = |text: &str| head(text).unwrap_err().to_string();
        assert!(refused("[1, 2]").contains("an array, not an object"));
        assert!(refused("7").contains("a single value"));
        assert!(refused("{\"a\": 1, \"a\": 2}").contains("the key \"a\" twice"));
        assert!(refused("{\"a\": [{\"b\": 1, \"b\": 1}]}").contains("the key \"b\" twice"));
        assert!(refused("{\"a\": 1e999}").contains("out of range"));
        assert!(refused("{\"a\": NaN}").contains("expected"));
        assert!(refused("{\"a\": 1} x").contains("trailing"));
        assert!(refused(&format!("{{\"a\": {}", "[".repeat(200))).contains("recursion"));
        let many = format!("{{\"a\": [{}1]}}", "1,".repeat(MOST_VALUES));
        assert!(refused(&many).contains("more than 8388608 values"));
    }

    #[test]
    fn the_top_level_identifies_the_document() {
        let found = head("{\"x\": {\"measures\": 1}, \"schema_version\": 3}\r\n").unwrap();
        assert_eq!((found.schema_version, found.has_measures), (Some(3), false));
        let found = head("{\"measures\": {}, \"schema_version\": null}").unwrap();
        assert_eq!((found.schema_version, found.has_measures), (None, true));
    }
}
