//! Showing text that an attacker may have written.

/// `value` between backticks for a log or a person: control, formatting and non-ASCII characters
/// escaped, cut after 128 characters.
pub fn quoted(value: &str) -> String {
    format!("`{}`", plain(value, 128))
}

/// `value` without backticks, escaped and cut after `max` characters. Backticks and markup characters
/// are kept out too: what is shown may land in a chat message or a page.
pub fn plain(value: &str, max: usize) -> String {
    let mut out = String::with_capacity(value.len().min(max));
    for (n, c) in value.chars().enumerate() {
        if n == max {
            out.push('…');
            break;
        }
        match c {
            '`' => out.push('\''),
            '<' | '>' | '*' | '|' => out.push('·'),
            // What this puts in stands when it is read again.
            c if c.is_ascii_graphic() || matches!(c, ' ' | '·') => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}
