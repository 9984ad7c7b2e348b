//! JSON that does nothing on a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::text;

/// Writes `value` as one line of JSON, then a line feed.
///
/// `serde_json` escapes what JSON asks to be escaped and lets C1 controls, DEL and bidirectional
/// overrides through; people do look at JSON lines with `less` and `cat`, so those are escaped too.
/// A parser sees no difference.
pub(crate) fn line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, Tame(CompactFormatter)))?;
    out.write_all(b"\n")
}

struct Tame(CompactFormatter);

impl Formatter for Tame {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, letter)) = rest.char_indices().find(|(_, c)| text::is_unseen(*c)) {
            let (before, after) = rest.split_at(at);
            self.0.write_string_fragment(writer, before)?;
            for unit in letter.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &after[letter.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unseen_letters_are_escaped_and_parse_back() {
        let text = "a\u{9b}31m \u{202e}b \u{7f} \u{e0041} \"q\" \n é 支";
        let mut out = Vec::new();
        line(&mut out, &text).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("\\u009b") && out.contains("\\u202e") && out.contains("\\udb40"));
        assert!(!out.trim_end().chars().any(text::is_unseen));
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }
}
