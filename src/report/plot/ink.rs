//! Colours that follow the reader's light or dark mode: shapes have CSS classes.

/// The CSS of strokes.
const DASHES: &str = ".dashed{stroke-dasharray:6 4}.dotted{stroke-dasharray:1.5 3;opacity:.75}";

/// The number of runs that have a colour of their own.
pub const RUNS: usize = 4;
/// The number of phases that have a colour of their own.
pub const PHASES: usize = 7;

/// The thing that is drawn, which decides the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Words that matter.
    Text,
    /// Words that explain, such as an axis's labels.
    Muted,
    /// Lines that guide the eye.
    Grid,
    /// The background of a figure.
    Paper,
    /// The background of the warm-up, and of what does not count.
    WarmUp,
    /// The background of the drain.
    Drain,
    /// The lines in it.
    Hatch,
    /// The background of a second in which the system stalled.
    Stall,
    /// The first run (0) and those drawn over it; beyond [`RUNS`] the colours begin anew.
    Run(usize),
    /// A phase, by its place; beyond [`PHASES`] the colours begin anew.
    Phase(usize),
    /// Words on a phase.
    OnPhase,
}

/// The stroke of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// Without a gap.
    Solid,
    /// In dashes.
    Dashed,
    /// In dots, and faint.
    Dotted,
}

impl Ink {
    /// Returns all inks.
    pub fn all() -> impl Iterator<Item = Self> {
        let grounds = [Self::Paper, Self::WarmUp, Self::Drain, Self::Hatch, Self::Stall];
        let fixed = [Self::Text, Self::Muted, Self::Grid, Self::OnPhase].into_iter().chain(grounds);
        fixed.chain((0..RUNS).map(Self::Run)).chain((0..PHASES).map(Self::Phase))
    }

    /// Returns its name in CSS.
    pub fn name(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Muted => "muted".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Paper => "paper".to_owned(),
            Self::WarmUp => "warm-up".to_owned(),
            Self::Drain => "drain".to_owned(),
            Self::Hatch => "hatch".to_owned(),
            Self::Stall => "stall".to_owned(),
            Self::OnPhase => "on-phase".to_owned(),
            Self::Run(index) => format!("run-{}", index % RUNS),
            Self::Phase(index) => format!("phase-{}", index % PHASES),
        }
    }

    /// Returns its colours on light and on dark paper. Phases can be distinguished with impaired colour vision too
    /// (after Okabe and Ito).
    fn colours(self) -> [&'static str; 2] {
        match self {
            Self::Text => ["#1f2328", "#e6edf3"],
            Self::Muted => ["#59636e", "#9da7b3"],
            Self::Grid => ["#d8dee4", "#30363d"],
            Self::Paper => ["#ffffff", "#0d1117"],
            Self::WarmUp => ["#eaeef2", "#21262d"],
            Self::Drain => ["#ddf0f7", "#10303c"],
            Self::Hatch => ["#a9cfdd", "#2c5a6b"],
            Self::Stall => ["#ffd8d3", "#5d1f1a"],
            Self::OnPhase => ["#0b1620", "#0b1620"],
            Self::Run(index) => {
                [["#0a5fc2", "#58a6ff"], ["#bc4c00", "#f0883e"], ["#7a3fd0", "#bc8cff"], ["#1a7f37", "#3fb950"]]
                    [index % RUNS]
            }
            Self::Phase(index) => [
                ["#56b4e9", "#56b4e9"],
                ["#e69f00", "#e69f00"],
                ["#f5d76e", "#f5d76e"],
                ["#7fd1ae", "#7fd1ae"],
                ["#cc9ad0", "#cc9ad0"],
                ["#e58b5e", "#e58b5e"],
                ["#b3bdc7", "#b3bdc7"],
            ][index % PHASES],
        }
    }
}

impl Stroke {
    /// Returns the CSS classes of a line in this ink.
    pub fn class(self, ink: Ink) -> String {
        let dash = match self {
            Self::Solid => "",
            Self::Dashed => " dashed",
            Self::Dotted => " dotted",
        };
        format!("s-{}{dash}", ink.name())
    }
}

/// Returns the CSS of drawings: each class in light and in dark.
pub fn style() -> String {
    let rules = |mode: usize| {
        let each = Ink::all().map(|ink| {
            let (name, colour) = (ink.name(), ink.colours()[mode]);
            format!(".f-{name}{{fill:{colour}}}.s-{name}{{stroke:{colour}}}")
        });
        each.collect::<String>()
    };
    format!("{}\n@media (prefers-color-scheme:dark){{{}}}\n{DASHES}\n", rules(0), rules(1))
}

/// Returns the CSS of pages: each colour as a variable, in light and in dark.
pub fn variables() -> String {
    let rules = |mode: usize| {
        let each = Ink::all().map(|ink| format!("--{}:{};", ink.name(), ink.colours()[mode]));
        each.collect::<String>()
    };
    format!(":root{{{}}}\n@media (prefers-color-scheme:dark){{:root{{{}}}}}\n", rules(0), rules(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ink_has_a_unique_name() {
        let names: std::collections::HashSet<_> = Ink::all().map(Ink::name).collect();
        assert_eq!(names.len(), Ink::all().count());
    }
}
