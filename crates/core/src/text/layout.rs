//! Columns: how wide a text is, and how it is cut, wrapped and padded.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::escape::visible;

/// Columns that one text may take before [`cap`] shortens it.
pub const TEXT_COLUMNS_MAX: usize = 160;

/// Columns that a text takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text made [`visible`], and shortened with `…` when it takes more than `columns`.
#[must_use]
pub fn cap(text: &str, columns: usize) -> String {
    // A letter takes at least one byte: what lies far beyond the bound need not be escaped.
    let head: String = text.chars().take(columns.saturating_mul(4) + 1).collect();
    let shown = visible(&head);
    if width(&shown) <= columns && head.len() == text.len() {
        return shown.into_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for letter in shown.chars() {
        used += letter.width().unwrap_or(0);
        if used >= columns {
            break;
        }
        out.push(letter);
    }
    out.push('…');
    out
}

/// Lines of at most `columns` columns, broken at spaces; a longer word is broken where it must be.
/// A no-break space breaks only where its word is longer than a line. There is always a line.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    let words = text.split(' ').flat_map(|word| {
        let long = width(word) > columns;
        word.split(move |letter| long && letter == '\u{a0}')
    });
    for word in words.filter(|word| !word.is_empty()) {
        let wide = width(word);
        if used > 0 && used + 1 + wide <= columns {
            put(&mut lines, " ");
            put(&mut lines, word);
            used += 1 + wide;
        } else {
            if used > 0 {
                lines.push(String::new());
                used = 0;
            }
            if wide <= columns {
                put(&mut lines, word);
                used = wide;
            } else {
                for letter in word.chars() {
                    let wide = letter.width().unwrap_or(0);
                    if used + wide > columns && used > 0 {
                        lines.push(String::new());
                        used = 0;
                    }
                    put(&mut lines, letter.encode_utf8(&mut [0; 4]));
                    used += wide;
                }
            }
        }
    }
    lines
}

fn put(lines: &mut [String], text: &str) {
    if let Some(line) = lines.last_mut() {
        line.push_str(text);
    }
}

/// A text filled with spaces up to `columns`.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    let fill = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(fill))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_counts_columns_not_letters() {
        assert_eq!(cap("支払い支払い", 7), "支払い…");
        assert_eq!(cap("short", 7), "short");
        assert_eq!(width(&cap(&"x".repeat(4_000), 20)), 20);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("a\u{a0}b c", 3), ["a\u{a0}b", "c"]);
        assert_eq!(wrap("name\u{a0}123456", 6), ["name", "123456"]);
        assert_eq!(pad("支", 4), "支  ");
    }
}
