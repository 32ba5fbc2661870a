//! Colours by meaning, for a terminal that shows them.

use std::borrow::Cow;
use std::io::IsTerminal;

/// The colours of one output, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Palette {
    is_coloured: bool,
}

impl Palette {
    /// No colours: for files, pipes and logs.
    pub const PLAIN: Self = Self { is_coloured: false };
    /// The sixteen colours that every terminal has.
    pub const COLOURED: Self = Self { is_coloured: true };

    /// Returns the colours of an output: none unless it is a terminal, nor where `NO_COLOR` is set and not empty
    /// (no-color.org).
    pub fn of(output: &impl IsTerminal) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Self { is_coloured: output.is_terminal() && !is_set("NO_COLOR") && !is_dumb }
    }

    /// Colours what is as it should be.
    pub fn good<'t>(self, text: impl Into<Cow<'t, str>>) -> Cow<'t, str> {
        self.paint("32", text.into())
    }

    /// Colours what is wrong.
    pub fn bad<'t>(self, text: impl Into<Cow<'t, str>>) -> Cow<'t, str> {
        self.paint("1;31", text.into())
    }

    /// Colours what is uncertain.
    pub fn doubtful<'t>(self, text: impl Into<Cow<'t, str>>) -> Cow<'t, str> {
        self.paint("33", text.into())
    }

    fn paint<'t>(self, code: &str, text: Cow<'t, str>) -> Cow<'t, str> {
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m").into() } else { text }
    }
}
