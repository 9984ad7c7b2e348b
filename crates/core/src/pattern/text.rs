//! Pieces of JSON text that the pattern reader and the event reader share.

/// What [`unescape`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unescaped {
    /// Every escape stood for a character.
    Whole,
    /// Half a surrogate pair, at this byte, became U+FFFD.
    LoneSurrogate(usize),
}

/// Appends the characters that the inside of a JSON string stands for to `out`.
///
/// # Errors
///
/// The byte offset of an escape that JSON does not have.
pub(super) fn unescape(raw: &str, out: &mut String) -> Result<Unescaped, usize> {
    let mut found = Unescaped::Whole;
    let mut at = 0;
    while let Some(skip) = memchr::memchr(b'\\', &raw.as_bytes()[at..]) {
        out.push_str(raw.get(at..at + skip).unwrap_or_default());
        let escape = at + skip;
        let simple = match raw.as_bytes().get(escape + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = hex4(raw, escape + 2).ok_or(escape)?;
                at = escape + 6;
                if let Some(c) = char::from_u32(high) {
                    out.push(c);
                    continue;
                }
                let low = if raw.get(at..at + 2) == Some("\\u") { hex4(raw, at + 2) } else { None };
                match low {
                    Some(low) if high < 0xDC00 && (0xDC00..0xE000).contains(&low) => {
                        let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                        at += 6;
                    }
                    _ => {
                        out.push(char::REPLACEMENT_CHARACTER);
                        found = Unescaped::LoneSurrogate(escape);
                    }
                }
                continue;
            }
            _ => return Err(escape),
        };
        out.push(simple);
        at = escape + 2;
    }
    out.push_str(raw.get(at..).unwrap_or_default());
    Ok(found)
}

fn hex4(raw: &str, at: usize) -> Option<u32> {
    let digits = raw.get(at..at + 4)?;
    // from_str_radix would also take a sign.
    if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        u32::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// Bytes up to the next comma, bracket, quote, colon or white space.
pub(super) fn scalar_len(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|b| {
            matches!(
                b,
                b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t' | b':' | b'"' | b'[' | b'{'
            )
        })
        .unwrap_or(bytes.len())
}

/// Whether the token is a number by JSON's grammar.
pub(super) fn is_number(token: &[u8]) -> bool {
    let rest = token.strip_prefix(b"-").unwrap_or(token);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let n = digits(fraction);
        if n == 0 {
            return false;
        }
        rest = &fraction[n..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = if let [b'+' | b'-', after @ ..] = exponent { after } else { exponent };
        let n = digits(exponent);
        if n == 0 {
            return false;
        }
        rest = &exponent[n..];
    }
    rest.is_empty()
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| b.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(raw: &str) -> String {
        let mut out = String::new();
        assert_eq!(unescape(raw, &mut out), Ok(Unescaped::Whole));
        out
    }

    #[test]
    fn escapes_become_characters() {
        assert_eq!(whole(r"\u0064etail"), "detail");
        assert_eq!(whole(r#"a\"\\\/\b\f\n\r\t"#), "a\"\\/\u{8}\u{c}\n\r\t");
        assert_eq!(whole(r"\ud83d\ude00!"), "\u{1f600}!");
    }

    #[test]
    fn half_a_pair_is_replaced_and_reported() {
        for raw in [r"\ud83d", r"\ud83dx", r"\ud83d\u0041", r"\ude00"] {
            let mut out = String::new();
            assert_eq!(unescape(raw, &mut out), Ok(Unescaped::LoneSurrogate(0)));
            assert!(out.starts_with('\u{fffd}'));
        }
    }

    #[test]
    fn unknown_escapes_are_refused() {
        for raw in [r"\x", r"\u12", r"\u+123", "\\"] {
            assert_eq!(unescape(raw, &mut String::new()), Err(0));
        }
    }

    #[test]
    fn numbers_follow_the_grammar() {
        for good in ["0", "-0", "10", "1.5", "1e5", "1E+5", "-1.0e-05"] {
            assert!(is_number(good.as_bytes()), "{good}");
        }
        for bad in ["", "-", "01", "1.", ".5", "1e", "+1", "0x1", "1e+", "NaN"] {
            assert!(!is_number(bad.as_bytes()), "{bad}");
        }
    }
}
