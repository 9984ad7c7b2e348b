//! Texts that strangers chose, made safe to show.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// Combining marks allowed on one letter; more of them climb over the lines above.
const COMBINING_MAX: usize = 2;

/// Escapes everything that acts on a terminal or a reader's eye without being seen: control
/// characters, line breaks, bidirectional overrides, invisible letters, and marks piled on one
/// letter.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let mut hidden = Hidden::default();
    if !text.chars().any(|letter| hidden.is_next(letter)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut hidden = Hidden::default();
    for letter in text.chars() {
        let is_hidden = hidden.is_next(letter);
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_hidden => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// Decides letter by letter what has to be escaped. It counts the marks on the current letter.
#[derive(Default)]
struct Hidden {
    marks: usize,
}

impl Hidden {
    fn is_next(&mut self, letter: char) -> bool {
        self.marks = if letter.width() == Some(0) { self.marks + 1 } else { 0 };
        is_unseen(letter) || self.marks > COMBINING_MAX
    }
}

/// True for letters that change what is seen without being seen themselves.
#[must_use]
pub fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown_as_an_escape() {
        assert_eq!(visible("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(visible("two\nlines\r\tx"), "two\\nlines\\r\\tx");
        assert_eq!(visible("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
        assert_eq!(visible("a\u{9b}b\u{200b}c"), "a\\u{9b}b\\u{200b}c");
        assert_eq!(visible("e\u{301}"), "e\u{301}");
        assert!(visible("e\u{301}\u{301}\u{301}\u{301}").contains("\\u{301}"));
        assert!(matches!(visible("prod-Zahlungen-支払い"), Cow::Borrowed(_)));
    }
}
