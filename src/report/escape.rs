//! Escaping of text from elsewhere, such as a server's version, for pages and comments.

use std::fmt::Write as _;

use crate::foreign;

fn push_visible(escaped: &mut String, letter: char) {
    let _ = write!(escaped, "\\u{{{:x}}}", letter as u32);
}

/// Escapes text for HTML and SVG, both content and attributes.
pub fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Neither format allows control characters, and other hidden characters would rearrange the page.
            letter if foreign::is_hidden(letter) && letter != '\n' && letter != '\t' => {
                push_visible(&mut escaped, letter);
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Escapes text for one line of Markdown, a table's cell included: nothing in it formats, links or mentions a user.
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut before = ' ';
    while let Some(letter) = letters.next() {
        let within_word = before.is_alphanumeric() && letters.peek().is_some_and(|next| next.is_alphanumeric());
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A space of no width keeps GitHub from notifying a user of that name.
            '@' => escaped.push_str("@\u{200b}"),
            '_' if within_word => escaped.push('_'),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '$' => escaped.extend(['\\', letter]),
            '\n' | '\r' | '\t' => escaped.push(' '),
            letter if foreign::is_hidden(letter) => push_visible(&mut escaped, letter),
            letter => escaped.push(letter),
        }
        before = letter;
    }
    escaped
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
