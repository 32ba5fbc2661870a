//! certctl's own metrics, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::foreign;
use crate::load::runtime::runtime;
use crate::system::Certctl;
use crate::system::probe::Probe;
use crate::wire::Dialer;
use crate::wire::request::Method;

/// Metric values by name and labels, such as `certctl_issuance_total{outcome="success"}`.
pub type Metrics = BTreeMap<String, f64>;

/// The path of certctl's metrics.
pub const PATH: &str = "/api/v1/metrics/prometheus";
const UPTIME: &str = "certctl_uptime_seconds";

/// The values of a metric before and after.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Change {
    /// The value before; absent if the metric appeared later.
    pub before: Option<f64>,
    /// The value after; absent if the metric disappeared.
    pub after: Option<f64>,
}

/// Reads certctl's metrics. For each reading certctl counts agents and jobs again, and writes an audit row.
///
/// # Errors
/// If the token may not read them, the server has none, or the answer is in another format.
pub fn read(certctl: &Certctl, dialer: &Dialer) -> Result<Metrics> {
    read_by(Probe::new(certctl, dialer.clone()), certctl)
}

/// Reads certctl's metrics, but gives up soon after `stop` is set.
///
/// # Errors
/// As [`read`].
pub fn read_until(stop: &Arc<AtomicBool>, certctl: &Certctl, dialer: &Dialer) -> Result<Metrics> {
    read_by(Probe::new(certctl, dialer.clone()).until(stop), certctl)
}

fn read_by(mut probe: Probe<'_>, certctl: &Certctl) -> Result<Metrics> {
    let answer = runtime()?.block_on(probe.send_with_token(Method::Get, PATH))?;
    let refused = |why: &str| Error::new(format!("{}{PATH}: {why}", certctl.base));
    match answer.status {
        200 if !answer.is_html() => parse(&String::from_utf8_lossy(&answer.body))
            .map_err(|line| refused(&format!("not the text format of Prometheus: {}", foreign::line(&line)))),
        401 | 403 => Err(refused(&format!("{}: {}", answer.status, answer.reason()))
            .with_hint("use a key with the permission metrics.read: an admin key, r-operator or r-viewer")),
        status => Err(refused(&format!("answers {status} instead of metrics"))),
    }
}

/// Returns certctl's metrics whose values differ, its uptime aside.
pub fn changes(before: &Metrics, after: &Metrics) -> BTreeMap<String, Change> {
    let ours = |name: &&String| name.starts_with("certctl_") && *name != UPTIME;
    let names = before.keys().chain(after.keys()).filter(ours);
    let changes = names.map(|name| {
        (foreign::line(name), Change { before: before.get(name).copied(), after: after.get(name).copied() })
    });
    changes.filter(|(_, change)| change.before != change.after).collect()
}

/// Reports whether the process was restarted, by its uptime.
pub fn restarted(before: &Metrics, after: &Metrics) -> bool {
    matches!((before.get(UPTIME), after.get(UPTIME)), (Some(before), Some(after)) if after < before)
}

/// The longest excerpt of a wrong line in an error, in characters.
const EXAMPLE_CHARACTERS: usize = 80;

/// Parses lines of `name{labels} value [timestamp]`; fails with the first line of another form.
fn parse(text: &str) -> Result<Metrics, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| sample(line).ok_or_else(|| line.chars().take(EXAMPLE_CHARACTERS).collect())).collect()
}

fn sample(line: &str) -> Option<(String, f64)> {
    // A label's value may hold blanks and braces, but no unescaped quote.
    let (mut quoted, mut escaped) = (false, false);
    let end = line.find(|c: char| {
        if escaped {
            escaped = false;
        } else if c == '"' {
            quoted = !quoted;
        } else if c == '\\' {
            escaped = quoted;
        }
        !quoted && c.is_whitespace()
    })?;
    let (name, rest) = line.split_at(end);
    let value = rest.split_whitespace().next()?.parse().ok()?;
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':').then(|| (name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_is_parsed() {
        let text = "# HELP certctl_x Of x.\n# TYPE certctl_x counter\ncertctl_x 4\n\n\
                    certctl_y{label=\"a b\",other=\"}\\\" 7\"} 1.5e3 1700000000000\ncertctl_z{le=\"+Inf\"} +Inf\n";
        let metrics = parse(text).unwrap();
        assert_eq!(metrics.len(), 3);
        assert_eq!(metrics["certctl_x"], 4.0);
        assert_eq!(metrics["certctl_y{label=\"a b\",other=\"}\\\" 7\"}"], 1_500.0);
        assert_eq!(metrics["certctl_z{le=\"+Inf\"}"], f64::INFINITY);
        for text in ["{\"gauge\":{}}", "certctl_x", "certctl_x four"] {
            assert_eq!(parse(text), Err(text.to_owned()));
        }
    }

    #[test]
    fn changed_metrics_and_a_restart_are_detected() {
        let metrics = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let before: Metrics =
            metrics(&[("certctl_a", 1.0), ("certctl_b", 2.0), ("go_threads", 3.0), (UPTIME, 10.0), ("certctl_c", 0.0)]);
        let mut after: Metrics =
            metrics(&[("certctl_a", 1.0), ("certctl_b", 5.0), ("go_threads", 4.0), (UPTIME, 20.0), ("certctl_d", 7.0)]);
        let expected =
            [("certctl_b", Some(2.0), Some(5.0)), ("certctl_c", Some(0.0), None), ("certctl_d", None, Some(7.0))];
        let expected = expected.map(|(name, before, after)| (name.to_owned(), Change { before, after }));
        assert_eq!(changes(&before, &after), BTreeMap::from(expected));
        assert!(!restarted(&before, &after));
        after.insert(UPTIME.to_owned(), 9.0);
        assert!(restarted(&before, &after));
    }
}
