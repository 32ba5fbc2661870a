//! Tables: of words and numbers, for every form of a report.

use std::borrow::Cow;
use std::fmt;

/// A table.
#[derive(Debug, Default)]
pub struct Table {
    /// Its title; may be empty.
    pub title: String,
    /// Its columns.
    pub header: Vec<Cow<'static, str>>,
    /// The number of columns from the left that hold words; the others hold numbers.
    pub words: usize,
    /// Its rows, with one cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its text.
    pub text: String,
    /// True if something is wrong, so that the cell has to be seen.
    pub alarming: bool,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), alarming: false }
    }
}

impl Table {
    /// Creates a table without rows.
    pub fn new(title: impl Into<String>, words: usize, header: &[&'static str]) -> Self {
        let header = header.iter().map(|column| Cow::from(*column)).collect();
        Self { title: title.into(), header, words, rows: Vec::new() }
    }

    /// Creates a table of names and values.
    pub fn pairs(title: impl Into<String>, rows: impl IntoIterator<Item = (String, String)>) -> Self {
        let rows = rows.into_iter().map(|(key, value)| vec![key.into(), value.into()]).collect();
        Self { rows, ..Self::new(title, 2, &["", ""]) }
    }
}

/// Renders it as lines of plain text without its title: words to the left, numbers to the right.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header: Vec<&str> = self.header.iter().map(|column| &**column).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(|cell| &*cell.text).collect());
        let lines: Vec<Vec<&str>> = std::iter::once(header).chain(rows).collect();
        let widest =
            |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.header.len()).map(|column| widest(column).unwrap_or(0)).collect();
        for (index, line) in lines.iter().enumerate() {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column < self.words {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            write!(f, "{}{}", if index == 0 { "" } else { "\n" }, line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_in_text() {
        let mut table = Table::new("", 1, &["ms", "p50", ""]);
        table.rows.push(vec!["time".into(), "12.500".into(), "kept".into()]);
        table.rows.push(vec!["µ".into(), "–".into(), "".into()]);
        assert_eq!(table.to_string(), "ms       p50\ntime  12.500  kept\nµ          –");
        assert_eq!(Table::new("", 1, &["a"]).to_string(), "a");
    }
}
