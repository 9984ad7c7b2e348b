//! What is masked before a message leaves for a chat.

use serde_json::Value;

use super::Wording;
use crate::config::RedactConfig;

/// Masks what the configuration says, in all texts.
pub(super) fn apply(wording: &mut Wording, redact: &RedactConfig) {
    if *redact == RedactConfig::NOTHING {
        return;
    }
    let mask = |text: &mut String| *text = masked(text, redact);
    mask(&mut wording.title);
    mask(&mut wording.compact);
    mask(&mut wording.lead);
    mask(&mut wording.foot);
    wording.prose.iter_mut().for_each(mask);
    for list in [&mut wording.fresh, &mut wording.why, &mut wording.timeline, &mut wording.listed] {
        list.iter_mut().for_each(mask);
    }
    mask_value(&mut wording.machine, redact);
}

fn mask_value(value: &mut Value, redact: &RedactConfig) {
    match value {
        Value::String(text) => *text = masked(text, redact),
        Value::Array(list) => list.iter_mut().for_each(|one| mask_value(one, redact)),
        Value::Object(fields) => fields.values_mut().for_each(|one| mask_value(one, redact)),
        _ => {}
    }
}

/// The text with access keys, e-mail addresses and source addresses masked.
fn masked(text: &str, redact: &RedactConfig) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for letter in text.chars() {
        if is_of_a_word(letter) {
            word.push(letter);
        } else {
            out.push_str(&mask_word(&word, redact));
            word.clear();
            out.push(letter);
        }
    }
    out.push_str(&mask_word(&word, redact));
    out
}

fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '@' | '.' | '_' | '-' | '+' | ':' | '%')
}

fn mask_word(word: &str, redact: &RedactConfig) -> String {
    // A full stop at the end is the sentence's, a colon the label's.
    let bare = word.trim_end_matches(['.', ':']);
    let rest = &word[bare.len()..];
    let masked = if redact.access_keys && is_access_key(bare) {
        Some(format!("{}…{}", &bare[..4], &bare[bare.len() - 4..]))
    } else if redact.emails && is_email(bare) {
        let (name, host) = bare.split_once('@').unwrap_or((bare, ""));
        Some(format!("{}…@{host}", name.chars().next().unwrap_or('?')))
    } else if redact.addresses
        && let Ok(address) = bare.parse::<std::net::IpAddr>()
    {
        Some(match address {
            std::net::IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                format!("{a}.{b}.{c}.x")
            }
            std::net::IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}::x")
            }
        })
    } else {
        None
    };
    masked.map_or_else(|| word.to_owned(), |masked| masked + rest)
}

/// An id of an access key: four letters that say its kind, and 12 to 28 more.
fn is_access_key(word: &str) -> bool {
    let is_upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    (16..=32).contains(&word.len())
        && word.bytes().all(is_upper)
        && ["AKIA", "ASIA", "AIDA", "AROA"].contains(&&word[..4])
}

fn is_email(word: &str) -> bool {
    word.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: RedactConfig = RedactConfig { access_keys: true, emails: true, addresses: true };

    #[test]
    fn keys_addresses_and_mail_are_masked_wherever_they_stand() {
        for (text, expected) in [
            ("the key AKIASTORYROOTEXAMPLE.", "the key AKIA…MPLE."),
            ("(ASIAIOSFODNN7EXAMPLE)", "(ASIA…MPLE)"),
            ("root+aws@example.com, again", "r…@example.com, again"),
            ("from 203.0.113.77:", "from 203.0.113.x:"),
            ("2001:db8:1:2::7", "2001:db8:1::x"),
        ] {
            assert_eq!(masked(text, &ALL), expected);
        }
    }

    #[test]
    fn other_words_stay_and_what_is_not_asked_for_is_not_masked() {
        for text in ["AKIA", "14:03 signed in, no MFA", "7K2-MPX", "@here", "a@b", "ÄÖ@…", ""] {
            assert_eq!(masked(text, &ALL), text);
        }
        let text = "AKIASTORYROOTEXAMPLE a@example.com 203.0.113.77";
        assert_eq!(masked(text, &RedactConfig::NOTHING), text);
    }
}
