//! The outline of a statement: verb and tables, without values.

/// Returns the first word of a statement and the tables that it names, each once, in order: enough to recognise it, and
/// none of its values.
pub fn outline(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
    let verb = words.first().map_or("", String::as_str).trim_end_matches(';').to_ascii_uppercase();
    let mut tables: Vec<&str> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |index| &words[index]);
        let names_one = match word.as_str() {
            "join" | "into" | "table" => true,
            // `IS DISTINCT FROM` is followed by a value.
            "from" => before != "distinct",
            // `FOR UPDATE` and `DO UPDATE` name no table.
            "update" => !matches!(before, "for" | "do" | "key"),
            _ => false,
        };
        let Some(name) = words.get(index + 1).filter(|_| names_one) else { continue };
        let name = name.trim_end_matches([',', ';', ')']);
        // A subquery or a function is not a table.
        let is_table = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !name.contains('(');
        if is_table && !matches!(name, "only" | "lateral") && !tables.contains(&name) {
            tables.push(name);
        }
    }
    format!("{verb} {}", tables.join(", ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_holds_the_verb_and_the_tables() {
        for (text, expected) in [
            ("SELECT a FROM x WHERE a = $1", "SELECT x"),
            ("select a from (SELECT b\n FROM x JOIN y ON x.i = y.i) t where b is not distinct from c", "SELECT x, y"),
            ("UPDATE x SET a = $1 FROM y WHERE EXTRACT(EPOCH FROM now()) > $2", "UPDATE x, y"),
            ("SELECT * FROM x WHERE i IN (SELECT i FROM y) FOR UPDATE SKIP LOCKED", "SELECT x, y"),
            ("INSERT INTO x (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET a = $1", "INSERT x"),
            ("DELETE FROM x;", "DELETE x"),
            ("LOCK TABLE x", "LOCK x"),
            ("BEGIN;", "BEGIN"),
            ("", ""),
        ] {
            assert_eq!(outline(text), expected);
        }
    }
}
