//! Masks what people who read a message do not need: keys, tokens, email addresses.

use serde_json::Value;

use super::Wording;
use super::config::RedactConfig;

/// Masks what the configuration says, in all texts.
pub(super) fn apply(wording: &mut Wording, redact: &RedactConfig) {
    if *redact == RedactConfig::NOTHING {
        return;
    }
    let mask = |text: &mut String| *text = masked(text, redact);
    mask(&mut wording.title);
    mask(&mut wording.label);
    mask(&mut wording.compact);
    mask(&mut wording.lead);
    mask(&mut wording.foot);
    wording.prose.iter_mut().for_each(mask);
    if let Some(parts) = &mut wording.parts {
        mask(&mut parts.label);
        mask(&mut parts.incident.title);
        mask(&mut parts.incident.address);
    }
    for list in [&mut wording.fresh, &mut wording.why, &mut wording.timeline, &mut wording.listed] {
        list.iter_mut().for_each(mask);
    }
    mask_value(&mut wording.json, redact);
}

fn mask_value(value: &mut Value, redact: &RedactConfig) {
    if let Value::Object(fields) = value {
        fields.retain(|name, _| !redact.fields.contains(name));
    }
    match value {
        Value::String(text) => *text = masked(text, redact),
        Value::Array(list) => list.iter_mut().for_each(|one| mask_value(one, redact)),
        Value::Object(fields) => fields.values_mut().for_each(|one| mask_value(one, redact)),
        _ => {}
    }
}

/// What stands for a token.
const TOKEN: &str = "…";
/// Names after which, with `=` or `:`, a secret follows.
const NAMES_OF_SECRETS: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "authorization",
    "secretaccesskey",
    "sessiontoken",
];
/// How tokens begin that say what they are: of chats, code hosts, and JSON Web Tokens.
const TOKEN_PREFIXES: [&str; 11] = [
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "sk_live_",
    "eyJ",
];
/// Characters of a secret access key.
const SECRET_KEY_CHARS: usize = 40;

/// The text with access keys, email addresses, tokens and source addresses masked.
fn masked(text: &str, redact: &RedactConfig) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    // True after `password=`, `token: ` and the like: the next word is what they name.
    let mut is_secret = false;
    let mut end = |word: &mut String, out: &mut String| {
        if word.is_empty() {
            return;
        }
        let is_named = std::mem::replace(&mut is_secret, redact.tokens && names_a_secret(word));
        if is_named && word != "=" && word != "Bearer" && word != "Basic" {
            out.push_str(TOKEN);
        } else {
            is_secret |= is_named;
            out.push_str(&mask_word(word, redact));
        }
        word.clear();
    };
    for letter in text.chars() {
        if is_of_a_word(letter) {
            word.push(letter);
            if letter == '=' {
                end(&mut word, &mut out);
            }
        } else {
            end(&mut word, &mut out);
            out.push(letter);
        }
    }
    end(&mut word, &mut out);
    out
}

/// True for `password=`, `Token:`, `--secret=`.
fn names_a_secret(word: &str) -> bool {
    let Some(name) = word.strip_suffix(['=', ':']) else { return false };
    let name = name.rsplit(['.', '?', '&']).next().unwrap_or(name);
    let name = name.trim_start_matches('-').to_ascii_lowercase();
    NAMES_OF_SECRETS.iter().any(|known| name.ends_with(known))
}

/// True for what looks like a secret and is no name: it says so by its beginning, or it is as long
/// as a secret access key or a session token and mixes letters as only those do.
fn is_token(word: &str) -> bool {
    if TOKEN_PREFIXES.iter().any(|prefix| word.starts_with(prefix)) && word.len() >= 16 {
        return true;
    }
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte);
    if !word.bytes().all(is_base64) || word.len() < SECRET_KEY_CHARS || word.contains("//") {
        return false;
    }
    let some = |holds: fn(&u8) -> bool| word.bytes().filter(holds).count();
    let has_all = some(u8::is_ascii_uppercase) >= 5
        && some(u8::is_ascii_lowercase) >= 5
        && some(u8::is_ascii_digit) >= 1;
    // A path or an ARN of many words has its upper and lower letters in order.
    let turns = word
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
        .count();
    has_all && turns * 12 >= word.len()
}

fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric()
        || matches!(letter, '@' | '.' | '_' | '-' | '+' | ':' | '%' | '=' | '/')
}

fn mask_word(word: &str, redact: &RedactConfig) -> String {
    let bare = word.trim_end_matches(['.', ':']);
    if redact.tokens && is_token(bare) {
        return format!("{TOKEN}{}", &word[bare.len()..]);
    }
    // A token may hold these; anything else ends at them.
    word.split_inclusive(['/', '='])
        .map(|piece| {
            let bare = piece.trim_end_matches(['/', '=']);
            mask_piece(bare, redact) + &piece[bare.len()..]
        })
        .collect()
}

fn mask_piece(word: &str, redact: &RedactConfig) -> String {
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

    const ALL: RedactConfig = RedactConfig {
        access_keys: true,
        emails: true,
        tokens: true,
        addresses: true,
        fields: Vec::new(),
    };

    #[test]
    fn keys_addresses_and_mail_are_masked_wherever_they_stand() {
        for (text, expected) in [
            ("the key AKIASTORYROOTEXAMPLE.", "the key AKIA…MPLE."),
            ("(ASIAIOSFODNN7EXAMPLE)", "(ASIA…MPLE)"),
            ("root+aws@example.com, again", "r…@example.com, again"),
            ("from 203.0.113.77:", "from 203.0.113.x:"),
            ("2001:db8:1:2::7", "2001:db8:1::x"),
            ("key wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY!", "key …!"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", "…"),
            ("ran --password=hunter2 --now", "ran --password=… --now"),
            ("token: abc, more", "token: …, more"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
            (
                "arn:aws:sts::111122223333:assumed-role/ops/anna@example.com",
                "arn:aws:sts::111122223333:assumed-role/ops/a…@example.com",
            ),
            ("xoxb-0000-EXAMPLE-TOKEN", "…"),
        ] {
            assert_eq!(masked(text, &ALL), expected);
        }
    }

    #[test]
    fn other_words_stay_and_what_is_not_asked_for_is_not_masked() {
        for text in [
            "AKIA",
            "14:03 signed in, no MFA",
            "7K2-MPX",
            "@here",
            "a@b",
            "ÄÖ@…",
            "",
            "arn:aws:sts::111122223333:assumed-role/ProductionReadOnly/anna",
            "https://hub.example.com/v1/incidents/7K2-MPX",
            "tokens were used",
            "a = b",
            "arn:aws:iam::aws:policy/root-task/S3UnlockBucketPolicy",
        ] {
            assert_eq!(masked(text, &ALL), text);
        }
        let text = "AKIASTORYROOTEXAMPLE a@example.com 203.0.113.77";
        assert_eq!(masked(text, &RedactConfig::NOTHING), text);
    }
}
