//! Query strings.

/// The parameters of a request's query, decoded.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query; parts that do not decode are left out, as in Go.
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.filter_map(|(name, value)| Some((decode(name)?, decode(value)?))).collect())
    }

    /// Returns the first value of this name that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// Returns a number of this name from one to `most`; anything else counts as none.
    pub fn number(&self, name: &str, most: i64) -> Option<i64> {
        self.get(name)?.parse().ok().filter(|number| (1..=most).contains(number))
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_leniently() {
        let query = Query::parse(Some("a=1%3D+x&a=2&b=&c&page=7&bad=%zz&low=0"));
        assert_eq!(query.get("a"), Some("1= x"));
        assert_eq!((query.get("b"), query.get("c"), query.get("bad")), (None, None, None));
        assert_eq!((query.number("page", 500), query.number("page", 6), query.number("low", 9)), (Some(7), None, None));
        assert_eq!(Query::parse(None).get("a"), None);
    }
}
