//! Escaping of text from elsewhere, such as a server's version, for pages and comments.

use std::fmt::Write as _;

use crate::foreign;

fn push_visible(told: &mut String, letter: char) {
    let _ = write!(told, "\\u{{{:x}}}", letter as u32);
}

/// Escapes text for HTML and SVG, both content and attributes.
pub fn html(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => told.push_str("&amp;"),
            '<' => told.push_str("&lt;"),
            '>' => told.push_str("&gt;"),
            '"' => told.push_str("&quot;"),
            '\'' => told.push_str("&#39;"),
            // Neither format allows control characters, and other hidden characters would rearrange the page.
            letter if foreign::is_hidden(letter) && letter != '\n' && letter != '\t' => push_visible(&mut told, letter),
            letter => told.push(letter),
        }
    }
    told
}

/// Escapes text for one line of Markdown, a table's cell included: nothing in it formats, links or mentions a user.
pub fn markdown(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut before = ' ';
    while let Some(letter) = letters.next() {
        let within_word = before.is_alphanumeric() && letters.peek().is_some_and(|next| next.is_alphanumeric());
        match letter {
            '&' => told.push_str("&amp;"),
            '<' => told.push_str("&lt;"),
            '>' => told.push_str("&gt;"),
            // A space of no width keeps GitHub from notifying a user of that name.
            '@' => told.push_str("@\u{200b}"),
            '_' if within_word => told.push('_'),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '$' => told.extend(['\\', letter]),
            '\n' | '\r' | '\t' => told.push(' '),
            letter if foreign::is_hidden(letter) => push_visible(&mut told, letter),
            letter => told.push(letter),
        }
        before = letter;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_and_markdown_are_escaped() {
        assert_eq!(html("<a href='x'>&\"\u{1}"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\\u{1}");
        assert_eq!(markdown("agent_storm a|b _x_ `c` @you\n# d"), "agent_storm a\\|b \\_x\\_ \\`c\\` @\u{200b}you # d");
        assert_eq!(markdown("<img src=x>&amp;[a](b)"), "&lt;img src=x&gt;&amp;amp;\\[a\\](b)");
    }
}
