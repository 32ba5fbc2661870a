//! The pause that an answer asks for by `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).

use std::time::Duration;

use crate::wire::http1::Response;

/// Returns the pause; `None` if there is none, or none that can be understood. A date counts from the answer's own
/// `Date`, so that the two clocks need not agree; a date in the past is no pause.
pub fn pause(response: &Response<'_>) -> Option<Duration> {
    let text = |name: &str| std::str::from_utf8(response.header(name)?).ok();
    let value = text("retry-after")?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let [until, now] = [value, text("date")?].map(httpdate::parse_http_date);
    Some(until.ok()?.duration_since(now.ok()?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::Parser;
    use crate::wire::request::Method;

    fn of(fields: &str) -> Option<Duration> {
        let mut parser = Parser::default();
        parser.start(Method::Post);
        parser.feed(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n").as_bytes()).unwrap();
        pause(&parser.response().unwrap())
    }

    #[test]
    fn a_pause_is_a_number_or_a_date() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(of("Retry-After: 0\r\n"), seconds(0));
        assert_eq!(of("retry-after: 120\r\n"), seconds(120));
        assert_eq!(of("Retry-After: 99999999999999999999999\r\n"), seconds(u64::MAX));
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        assert_eq!(of(&format!("{date}Retry-After: Sun, 06 Nov 1994 08:49:42 GMT\r\n")), seconds(5));
        assert_eq!(of(&format!("{date}Retry-After: Sun, 06 Nov 1994 08:49:30 GMT\r\n")), seconds(0));
        // Nothing to count from, and nothing that is a time.
        assert_eq!(of("Retry-After: Sun, 06 Nov 1994 08:49:42 GMT\r\n"), None);
        for value in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(of(&format!("{date}Retry-After: {value}\r\n")), None, "{value}");
        }
        assert_eq!(of(""), None);
    }
}
