//! A run as an interval log of HdrHistogram, version 1.3: a histogram of the response time for each second of each
//! workload's window.

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::error::{Context as _, Result};
use crate::foreign;
use crate::summary::Summary;

/// The characters at which readers end a tag, and the one that escapes them.
const IN_TAG: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b'%');
const LEGEND: &str = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";

/// Renders the window of every workload. Values are microseconds, and the column of maxima has milliseconds.
///
/// # Errors
/// If the summary does not state a time at which the run started or finished.
pub fn render(summary: &Summary) -> Result<String> {
    let start_s = start_s(summary)?;
    let mut intervals: Vec<(f64, String)> = Vec::new();
    for (plan, results) in summary.measured() {
        let window_s = plan.starts_after_s + plan.warm_up_s;
        let tag = utf8_percent_encode(&plan.name, IN_TAG).to_string();
        for second in &results.timeline {
            let begin_s = second.second as f64;
            // The window may end amid its last second.
            let (at_s, length_s) = (window_s + begin_s, (results.arrivals.measured_s - begin_s).clamp(0.0, 1.0));
            let max_ms = second.max_us.unwrap_or_default() as f64 / 1e3;
            let line = format!("Tag={tag},{at_s:.3},{length_s:.3},{max_ms:.3},{}\n", second.hdr_us);
            intervals.push((at_s, line));
        }
    }
    // Readers take the first one beyond a range for its end.
    intervals.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let about = &summary.about;
    let mut text = String::new();
    let title = foreign::visible(&format!("{}: {}", about.scenario, about.title), usize::MAX);
    let _ = writeln!(text, "#[Logged with certctl-bench {}, {title}]", summary.suite_version);
    let _ = writeln!(text, "#[Histogram log format version 1.3]");
    let _ = writeln!(text, "#[Response times of right answers in microseconds; Interval_Max in milliseconds]");
    if summary.shards.is_none() {
        let _ = writeln!(text, "#[The start is the latest possible: the end of the run, less the time of the load]");
    }
    let _ = writeln!(text, "#[BaseTime: {start_s}.000 (seconds since epoch)]");
    let _ = writeln!(text, "#[StartTime: {start_s}.000 (seconds since epoch), {}]", date(start_s));
    let _ = writeln!(text, "{LEGEND}");
    text.extend(intervals.into_iter().map(|(_, line)| line));
    Ok(text)
}

/// Returns the start of the load, in seconds since 1970: the common one of shards, or the latest that it can have been.
fn start_s(summary: &Summary) -> Result<u64> {
    let since_epoch_s = |text: &str| {
        let time = humantime::parse_rfc3339(text).context(|| format!("reading the time {}", foreign::line(text)))?;
        Ok(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    };
    if let Some(shards) = &summary.shards {
        return since_epoch_s(&shards.start);
    }
    let spans_s =
        summary.measured().map(|(plan, results)| plan.starts_after_s + plan.warm_up_s + results.arrivals.measured_s);
    let longest_s = spans_s.fold(0.0, f64::max).ceil() as u64;
    Ok(since_epoch_s(&summary.finished_at)?.saturating_sub(longest_s))
}

/// Formats a time for people, as Java prints a date.
fn date(since_epoch_s: u64) -> String {
    const FORM: &[time::format_description::BorrowedFormatItem<'_>] =
        format_description!("[weekday repr:short] [month repr:short] [day] [hour]:[minute]:[second] UTC [year]");
    let time = i64::try_from(since_epoch_s).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(FORM).ok()).unwrap_or_default()
}
