//! The forms of GitHub Actions: errors and warnings as annotations, which it shows beside the log and on the pull
//! request, and lines that are no commands to its runner.
//!
//! A line is a command if it begins with `::` after white space, and in an older form if `##[` is anywhere in it:
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>, and `ActionCommand.cs` of
//! <https://github.com/actions/runner>.

use std::borrow::Cow;
use std::sync::OnceLock;

/// The variable that is `true` in a job, and nowhere else.
pub const VARIABLE: &str = "GITHUB_ACTIONS";
/// The title of an error or a warning.
const TITLE: &str = "certctl-bench";
/// The beginnings of messages that become annotations, each with its command.
const LEVELS: [(&str, Annotation); 3] =
    [("error: ", Annotation::Error), ("warning: ", Annotation::Warning), ("WARNING: ", Annotation::Warning)];

/// A kind of annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// The job fails for it.
    Error,
    /// The job does not.
    Warning,
}

impl Annotation {
    /// Returns its command.
    pub(super) const fn command(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// True in a job.
pub fn is_job() -> bool {
    static IS_JOB: OnceLock<bool> = OnceLock::new();
    *IS_JOB.get_or_init(|| std::env::var_os(VARIABLE).is_some_and(|value| value == "true"))
}

/// Returns a message for a job's log: an error or a warning, with its hint, is an annotation.
pub(super) fn message(text: &str) -> Cow<'_, str> {
    let level = LEVELS.iter().find_map(|(start, kind)| Some((*kind, text.strip_prefix(start)?)));
    match level {
        Some((kind, text)) => annotation(kind, TITLE, text).into(),
        None => harmless(text),
    }
}

/// Returns an annotation: the line that a runner turns into it.
pub(super) fn annotation(kind: Annotation, title: &str, text: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let title = data(title).replace(':', "%3A").replace(',', "%2C");
    format!("::{} title={title}::{}\n", kind.command(), data(text.trim_end()))
}

/// Returns lines none of which is a command: what would make it one is parted by a space.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let is_command = |line: &str| line.trim_start().starts_with("::");
    if !text.contains("##[") && !text.split(['\n', '\r']).any(is_command) {
        return Cow::Borrowed(text);
    }
    let lines = text.split_inclusive(['\n', '\r']);
    let lines = lines.map(|line| if is_command(line) { line.replacen("::", ": :", 1) } else { line.to_owned() });
    lines.collect::<String>().replace("##[", "## [").into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the command that a runner finds in a line, as its parser does.
    fn command(line: &str) -> Option<&str> {
        let command = line.trim_start().strip_prefix("::").and_then(|line| Some(line.split_once("::")?.0));
        let older = || Some(line.split_once("##[")?.1.split_once(']')?.0);
        command.or_else(older)?.split(' ').next()
    }

    #[test]
    fn errors_and_warnings_become_annotations() {
        assert_eq!(
            message("error: 9% of a, b: c\r\nhint: d\n"),
            "::error title=certctl-bench::9%25 of a, b: c%0D%0Ahint: d\n"
        );
        assert_eq!(message("warning: w\n"), "::warning title=certctl-bench::w\n");
        assert_eq!(message("WARNING: w\n"), "::warning title=certctl-bench::w\n");
        assert_eq!(message("measuring\n"), "measuring\n");
        assert_eq!(annotation(Annotation::Error, "a: b,\n%", "c"), "::error title=a%3A b%2C%0A%25::c\n");
    }

    #[test]
    fn commands_in_a_text_are_parted() {
        assert_eq!(harmless("a::b\n"), "a::b\n");
        assert_eq!(harmless("::add-mask::a\n  ::b::c\n"), ": :add-mask::a\n  : :b::c\n");
        assert_eq!(harmless("a ##[add-mask]b\r::c::d"), "a ## [add-mask]b\r: :c::d");
    }

    proptest! {
        #[test]
        fn no_foreign_text_is_a_command(text in "([ :#\\[\\]\n\r\t%a]|::|##\\[|error: ){0,24}") {
            for line in harmless(&text).split(['\n', '\r']) {
                prop_assert_eq!(command(line), None, "{:?}", line);
            }
            let shown = message(&text);
            let lines: Vec<_> = shown.split_terminator(['\n', '\r']).filter_map(command).collect();
            match text.starts_with("error: ") {
                true => prop_assert_eq!(lines, ["error"]),
                false => prop_assert!(lines.is_empty(), "{:?}", shown),
            }
        }
    }
}
