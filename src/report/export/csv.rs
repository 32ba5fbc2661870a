//! A run as comma-separated values (RFC 4180): a line for each second of each workload's window.

use std::borrow::Cow;

use crate::summary::Summary;

/// The names of the columns; times are response times of right answers, in microseconds.
const HEADER: &str = "workload,second,started,ok,p50_us,p95_us,max_us\r\n";
/// The characters with which a cell begins that spreadsheets take for a formula.
const FORMULA: [char; 4] = ['=', '+', '-', '@'];

/// Renders the seconds of every workload. A cell is empty where too few samples were in its second.
pub fn render(summary: &Summary) -> String {
    let mut text = HEADER.to_owned();
    for (plan, results) in summary.measured() {
        let name = cell(&plan.name);
        for second in &results.timeline {
            let figures = [second.p50_us, second.p95_us, second.max_us];
            let figures = figures.map(|us| us.map_or_else(String::new, |us| format!("{us}"))).join(",");
            let (number, started, ok) = (second.second, second.started, second.ok);
            text.push_str(&format!("{name},{number},{started},{ok},{figures}\r\n"));
        }
    }
    text
}

/// Quotes a cell where it has to be (RFC 4180, section 2), and keeps spreadsheets from computing it.
fn cell(text: &str) -> Cow<'_, str> {
    let text = if text.starts_with(FORMULA) { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")).into() } else { text }
}
