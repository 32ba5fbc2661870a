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

    /// Renders it as lines of plain text without its title: words to the left, numbers to the right. Where that takes
    /// more than so many columns, the words of a row that are in the way have a line of their own above its numbers.
    pub fn within(&self, columns: usize) -> String {
        let header: Vec<&str> = self.header.iter().map(|column| &**column).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(|cell| &*cell.text).collect());
        let lines: Vec<Vec<&str>> = std::iter::once(header).chain(rows).collect();
        let widest =
            |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.header.len()).map(|column| widest(column).unwrap_or(0)).collect();
        let parts = lines.iter().map(|line| {
            let (words, numbers) = line.split_at(self.words.min(line.len()));
            let words = words.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
            let numbers = numbers.iter().zip(&widths[self.words.min(widths.len())..]);
            let numbers = numbers.map(|(cell, width)| format!("{cell:>width$}")).collect::<Vec<_>>().join("  ");
            (words.collect::<String>().trim_end().to_owned(), numbers)
        });
        let parts: Vec<(String, String)> = parts.collect();
        let length = |text: &str| text.chars().count();
        let numbers = parts.iter().map(|(_, numbers)| length(numbers)).max().unwrap_or(0);
        let of_words = |most: usize| parts.iter().map(|(words, _)| length(words)).filter(|width| *width <= most).max();
        // Two spaces part words from numbers.
        let room = columns.saturating_sub(numbers + 2);
        let width = of_words(room).unwrap_or(0);
        let rendered = parts.iter().map(|(words, numbers)| match length(words) <= width {
            true => format!("{words:<width$}  {numbers}").trim_end().to_owned(),
            false => format!("{words}\n{:<width$}  {numbers}", "").trim_end().to_owned(),
        });
        rendered.collect::<Vec<_>>().join("\n")
    }
}

/// Renders it in as many columns as it takes.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.within(usize::MAX))
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

    #[test]
    fn words_that_are_in_the_way_have_a_line_of_their_own() {
        let mut table = Table::new("", 1, &["threshold", "measured", "limit"]);
        table.rows.push(vec!["errors".into(), "0.000%".into(), "< 0.1%".into()]);
        table.rows.push(vec!["a step with a long name p95".into(), "3.103 ms".into(), "< 500 ms".into()]);
        let narrow = "threshold  measured     limit\nerrors       0.000%    < 0.1%\n\
                      a step with a long name p95\n           3.103 ms  < 500 ms";
        assert_eq!(table.within(40), narrow);
        // What fits is not broken.
        let widest = table.to_string().lines().map(|line| line.chars().count()).max().unwrap();
        assert_eq!((widest, table.within(widest)), (47, table.to_string()));
    }
}
