//! Text that Markdown shows as it is.

use std::fmt::Write as _;

/// Escapes Markdown marks, except `code` between backticks.
pub(super) fn plain(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts = text.split('`').collect::<Vec<_>>();
    // A backtick without a partner is an ordinary character.
    let stray = if parts.len().is_multiple_of(2) { parts.pop() } else { None };
    let mut out = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index % 2 == 1 {
            write!(out, "`{part}`").unwrap_or_default();
        } else {
            escape(&mut out, part);
        }
    }
    if let Some(stray) = stray {
        out.push_str("\\`");
        escape(&mut out, stray);
    }
    // Otherwise these begin a heading, a list or a quote.
    let digits = out.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 && matches!(out.as_bytes().get(digits), Some(b'.' | b')')) {
        out.insert(digits, '\\');
    } else if out.starts_with(['#', '-', '+', '=']) {
        out.insert(0, '\\');
    }
    out
}

fn escape(out: &mut String, text: &str) {
    for (at, c) in text.char_indices() {
        // An underscore inside a word is not emphasis.
        let is_inner = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let is_mark = match c {
            '\\' | '*' | '[' | ']' | '<' | '>' | '&' | '~' => true,
            '_' => !(at > 0 && is_inner(bytes.get(at - 1)) && is_inner(bytes.get(at + 1))),
            _ => false,
        };
        if is_mark {
            out.push('\\');
        }
        out.push(c);
    }
}

/// Text for a cell of a table.
pub(super) fn cell(text: &str) -> String {
    plain(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is_and_code_stays_code() {
        for (text, markdown) in [
            ("Ask the caller why.", "Ask the caller why."),
            ("set `a_b*c` to *", "set `a_b*c` to \\*"),
            ("<script> & [x](y)", "\\<script\\> \\& \\[x\\](y)"),
            ("snake_case and _this_", "snake_case and \\_this\\_"),
            ("a ` stray", "a \\` stray"),
            ("# not a heading", "\\# not a heading"),
            ("1. not a list", "1\\. not a list"),
            ("two\n  lines", "two lines"),
        ] {
            assert_eq!(plain(text), markdown);
        }
        assert_eq!(cell("a | `b|c`"), "a \\| `b\\|c`");
    }
}
