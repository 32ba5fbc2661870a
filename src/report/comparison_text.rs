//! A comparison in words, and as a table.

use std::fmt;

use super::table::{Cell, Table};
use crate::baseline::compare::{Compared, Comparison};
use crate::baseline::judgement::Judgement;
use crate::baseline::measure::MeasureKind;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = |count: usize| if count == 1 { "1 run".to_owned() } else { format!("{count} runs") };
        writeln!(f, "{}: base {}, head {}", self.scenario, runs(self.base_runs), runs(self.head_runs))?;
        for note in &self.notes {
            writeln!(f, "{:<12} {note}", "differs")?;
        }
        if !self.measures.is_empty() {
            writeln!(f, "\n{}\n", self.table())?;
        }
        for why in &self.incomparable {
            writeln!(f, "{:<12} {why}", "incomparable")?;
        }
        for why in &self.missing {
            writeln!(f, "{:<12} {why}", "missing")?;
        }
        if self.incomparable.is_empty() {
            let counted = [
                Judgement::Regressed,
                Judgement::Missing,
                Judgement::Improved,
                Judgement::Unchanged,
                Judgement::Indistinct,
                Judgement::NotJudged,
            ];
            let counted =
                counted.map(|verdict| (verdict, self.measures.iter().filter(|one| one.verdict == verdict).count()));
            let counted = counted.iter().filter(|(_, count)| *count > 0);
            let counts: Vec<String> = counted.map(|(verdict, count)| format!("{count} {verdict}")).collect();
            writeln!(
                f,
                "{:<12} {}",
                "measures",
                if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
            )?;
        }
        writeln!(f, "{:<12} {} (exit {})", "verdict", self.verdict, self.exit_code)
    }
}

/// The most measures that are listed beside a verdict.
const LISTED: usize = 10;

/// Describes the verdict in words.
pub fn meaning(comparison: &Comparison) -> String {
    let count = |verdict| comparison.measures.iter().filter(|one| one.verdict == verdict).count();
    let of = comparison.measures.len();
    match comparison.verdict {
        Judgement::Regressed => format!("{} of {of} measures became worse", count(Judgement::Regressed)),
        Judgement::Improved => format!("{} of {of} measures became better, none worse", count(Judgement::Improved)),
        Judgement::Unchanged => format!("none of {of} measures changed"),
        Judgement::Indistinct => {
            format!(
                "no change found, but the runs cannot rule one out for {} of {of} measures",
                count(Judgement::Indistinct)
            )
        }
        Judgement::Missing => "evidence is missing, so that nothing is called unchanged or better".to_owned(),
        Judgement::NotJudged => "nothing is judged".to_owned(),
        Judgement::Incomparable => "base and head differ in workload or environment, so nothing is judged".to_owned(),
    }
}

/// Returns the reasons for a verdict that is not green: what became worse, is missing or keeps the sides from being
/// compared.
pub fn reasons(comparison: &Comparison) -> Vec<String> {
    let worse = comparison.measures.iter().filter(|one| one.verdict == Judgement::Regressed);
    let described = worse.clone().take(LISTED).map(|one| match one.change {
        Some(change) => format!("{} {}", one.name, one.change(change)),
        None => one.name.clone(),
    });
    let left = worse.count().saturating_sub(LISTED);
    let left = (left > 0).then(|| format!("and {left} more"));
    described.chain(left).chain(comparison.incomparable.iter().chain(&comparison.missing).cloned()).collect()
}

impl Comparison {
    /// Builds the table of its measures.
    pub fn table(&self) -> Table {
        let header = ["measure", "base", "head", "change", "interval", "tolerance", "verdict"];
        let mut table = Table::new("", 1, &header);
        for measure in &self.measures {
            let dash = || "–".to_owned();
            let interval = measure.change_low.zip(measure.change_high);
            let row = [
                measure.name.clone(),
                measure.base.map_or_else(dash, |value| measure.value(value)),
                measure.head.map_or_else(dash, |value| measure.value(value)),
                measure.change.map_or_else(dash, |change| measure.change(change)),
                interval.map_or_else(dash, |(low, high)| format!("{} … {}", measure.change(low), measure.change(high))),
                measure.tolerance.map_or_else(dash, |tolerance| measure.tolerance_text(tolerance)),
                match (measure.verdict, &measure.reason) {
                    (Judgement::Regressed, None) => "REGRESSED".to_owned(),
                    (Judgement::Regressed, Some(why)) => format!("REGRESSED ({why})"),
                    (other, None) => other.to_string(),
                    (other, Some(why)) => format!("{other} ({why})"),
                },
            ];
            let mut row: Vec<Cell> = row.map(Cell::from).into();
            row.iter_mut().for_each(|cell| cell.alarming = cell.text.starts_with("REGRESSED"));
            table.rows.push(row);
        }
        table
    }
}

impl Compared {
    pub(super) fn value(&self, value: f64) -> String {
        match self.kind {
            MeasureKind::Share => format!("{:.3}%", value * 100.0),
            MeasureKind::Exact | MeasureKind::Shown => format!("{value:.3}"),
            MeasureKind::Timed if value >= 1_000.0 => format!("{value:.0}"),
            MeasureKind::Timed => format!("{value:.1}"),
        }
    }

    pub(super) fn change(&self, change: f64) -> String {
        match self.kind {
            MeasureKind::Share => format!("{:+.3} pp", change * 100.0),
            MeasureKind::Exact | MeasureKind::Shown => format!("{:+.2}%", change * 100.0),
            MeasureKind::Timed => format!("{:+.1}%", change * 100.0),
        }
    }

    pub(super) fn tolerance_text(&self, tolerance: f64) -> String {
        let unit = if self.kind == MeasureKind::Share { " pp" } else { "%" };
        // As many digits as it has: one in a million is 0.0001%.
        format!("{}{unit}", (tolerance * 1e6).round() / 1e4)
    }
}
