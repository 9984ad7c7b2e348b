//! Transliterates text to the character set that a channel supports.

/// Characters and their replacements.
const SIGNS: [(&str, &str); 46] = [
    ("ÀÁÂÃÄÅĀĂĄ", "A"),
    ("àáâãäåāăą", "a"),
    ("Æ", "AE"),
    ("æ", "ae"),
    ("ÇĆĈĊČ", "C"),
    ("çćĉċč", "c"),
    ("ĎĐÐ", "D"),
    ("ďđð", "d"),
    ("ÈÉÊËĒĔĖĘĚ", "E"),
    ("èéêëēĕėęě", "e"),
    ("ĜĞĠĢ", "G"),
    ("ĝğġģ", "g"),
    ("ĤĦ", "H"),
    ("ĥħ", "h"),
    ("ÌÍÎÏĨĪĬĮİ", "I"),
    ("ìíîïĩīĭįı", "i"),
    ("Ĵ", "J"),
    ("ĵ", "j"),
    ("Ķ", "K"),
    ("ķ", "k"),
    ("ĹĻĽĿŁ", "L"),
    ("ĺļľŀł", "l"),
    ("ÑŃŅŇ", "N"),
    ("ñńņň", "n"),
    ("ÒÓÔÕÖØŌŎŐ", "O"),
    ("òóôõöøōŏő", "o"),
    ("Œ", "OE"),
    ("œ", "oe"),
    ("ŔŖŘ", "R"),
    ("ŕŗř", "r"),
    ("ŚŜŞŠȘ", "S"),
    ("śŝşšș", "s"),
    ("ß", "ss"),
    ("ŢŤŦȚ", "T"),
    ("ţťŧț", "t"),
    ("ÙÚÛÜŨŪŬŮŰŲ", "U"),
    ("ùúûüũūŭůűų", "u"),
    ("ÝŶŸ", "Y"),
    ("ýÿŷ", "y"),
    ("ŹŻŽ", "Z"),
    ("źżž", "z"),
    ("·•–—‐‑", "-"),
    ("‘’`´", "'"),
    ("“”„«»", "\""),
    ("…", "..."),
    ("→", "->"),
];

/// The replacement of a character; `?` if there is none.
fn plain(letter: char) -> &'static str {
    let found = SIGNS.iter().find(|(letters, _)| letters.contains(letter));
    found.map_or(if letter.is_whitespace() { " " } else { "?" }, |(_, plain)| plain)
}

/// Transliterates to printable ASCII of at most `chars_max` characters; a cut text ends in `...`.
/// Several `?` in a row become one.
pub(crate) fn ascii(text: &str, chars_max: usize) -> String {
    let text = mapped(text, |letter| letter.is_ascii_graphic() || letter == ' ');
    cut(text, chars_max, |_| 1)
}

/// The basic alphabet of GSM 03.38 without control characters.
const GSM: &str = "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
    ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Its extension: each of these takes two septets.
const GSM_EXTENSION: &str = "^{}\\[~]|€";

/// Transliterates to the GSM alphabet, to at most `septets_max` septets; a cut text ends in `...`.
pub(crate) fn gsm(text: &str, septets_max: usize) -> String {
    let text = mapped(text, |letter| GSM.contains(letter) || GSM_EXTENSION.contains(letter));
    cut(text, septets_max, septets_of)
}

fn cut(text: String, max: usize, size: impl Fn(char) -> usize) -> String {
    if text.chars().map(&size).sum::<usize>() <= max {
        return text;
    }
    let mut short = String::new();
    let mut left = max.saturating_sub(3);
    for letter in text.chars() {
        let Some(rest) = left.checked_sub(size(letter)) else { break };
        left = rest;
        short.push(letter);
    }
    let mut short = format!("{}...", short.trim_end());
    short.truncate(if max < 3 { max } else { short.len() });
    short
}

/// Septets of a text in GSM's alphabet.
pub(crate) fn septets(text: &str) -> usize {
    text.chars().map(septets_of).sum()
}

fn septets_of(letter: char) -> usize {
    if GSM_EXTENSION.contains(letter) { 2 } else { 1 }
}

fn mapped(text: &str, is_there: impl Fn(char) -> bool) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if is_there(letter) {
            out.push(letter);
            continue;
        }
        let plain = plain(letter);
        if plain != "?" || !out.ends_with('?') {
            out.push_str(plain);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_other_scripts_become_a_question_mark() {
        assert_eq!(ascii("Zürich · Łódź → 支払い…", 99), "Zurich - Lodz -> ?...");
        assert_eq!(gsm("Zürich · Łódź 支払い", 160), "Zürich - Lodz ?");
        assert_eq!(gsm("a\nb\u{202e}", 160), "a b?");
    }

    #[test]
    fn septets_are_counted_and_kept() {
        assert_eq!(septets("a€[b"), 6);
        assert_eq!(gsm(&"a".repeat(160), 160).len(), 160);
        assert_eq!(gsm(&"a".repeat(161), 160), format!("{}...", "a".repeat(157)));
        for count in [159, 160, 161, 400] {
            let text = gsm(&"[".repeat(count), 160);
            assert!(septets(&text) <= 160, "{text}");
        }
        assert_eq!(septets(&gsm(&"[".repeat(80), 160)), 160);
        assert!(gsm(&"[".repeat(81), 160).ends_with("..."));
    }
}
