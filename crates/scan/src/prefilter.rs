//! Which records may be discarded without being decoded: those that cannot be root use and on
//! which no rule can speak, whatever their key order, white space, escapes and nesting.
//!
//! **Why it is safe.** A record becomes a finding only if one of these holds (`judge` and the
//! rules' patterns say so), and each leaves something in the record's bytes that
//! [`crate::kernel`] marks:
//!
//! | Condition | What stands in the bytes |
//! |---|---|
//! | `type` is `Root` in any case, of the identity or the session's issuer | `"Root"` in any case |
//! | no `type`, and a root ARN | `:root"` |
//! | the call is `AssumeRoot` | `"AssumeRoot"` |
//! | `sessionContext.assumedRoot` is stated | `"assumedRoot"` |
//! | a console action without identity type | `"AwsConsoleAction"` |
//! | the name is one of a known set | `"eventName"` and, after the colon, the name |
//!
//! A JSON string may spell any of these characters as `\u00xx`; no other escape stands for a letter,
//! digit or colon. So a record is kept as well when it has a `\u` escape of any printable ASCII
//! character but `<`, `>`, `&`, `'` and `=`, which AWS's own writers escape and none of the texts
//! above holds. A record may also be quoted within a string (an SNS message, a `lookup-events`
//! reply), where `"` is written `\"`: a text followed by a backslash keeps the unit if a member that
//! can hold a record stands in it. And a unit in which no `"eventName"` is seen is always kept.
//!
//! Keeping too much costs time; the decoder has the last word. Keeping too little would lose a
//! finding: a property test compares both ways on generated and hostile texts.

use std::collections::HashSet;

use memchr::memmem;
use rootwatch_core::judge::{CONSOLE_ACTION, ROOT_ACCOUNT_ACTIONS, ROOT_SIGN_IN_ACTIONS};
use rootwatch_core::rules::Ruleset;

/// Slots of the first look at a name; a power of two.
const NAME_SLOTS: usize = 4096;

/// What the prefilter looks for.
#[derive(Debug, Clone)]
pub(crate) struct Prefilter {
    names: HashSet<Vec<u8>>,
    slots: Vec<u64>,
    /// Rules of which every record must be decoded: nothing in the bytes tells whether they speak.
    unguarded: Vec<String>,
}

/// What has been seen in a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Something that makes it worth decoding.
    pub(crate) keep: bool,
    /// A member named `eventName`.
    pub(crate) named: bool,
    /// Something that would make it worth decoding if it stands in a quoted record.
    pub(crate) quoted: bool,
}

impl Prefilter {
    /// A prefilter for root use and, when `with_rules` is true, for everything on which a rule
    /// can speak.
    pub(crate) fn new(rules: &Ruleset, with_rules: bool) -> Self {
        let mut filter =
            Self { names: HashSet::new(), slots: vec![0; NAME_SLOTS / 64], unguarded: Vec::new() };
        for name in ROOT_SIGN_IN_ACTIONS.into_iter().chain(ROOT_ACCOUNT_ACTIONS) {
            filter.add_name(name);
        }
        if with_rules {
            for (rule, pattern) in rules.rules().iter().zip(rules.parsed()) {
                let alternatives = pattern.alternatives();
                if alternatives.is_empty() || !alternatives.iter().all(|way| filter.guards(way)) {
                    filter.unguarded.push(rule.id.clone());
                }
            }
        }
        filter
    }

    /// Ids of the rules for which every record has to be decoded.
    pub(crate) fn unguarded(&self) -> &[String] {
        &self.unguarded
    }

    /// True when records that match this alternative of a pattern are kept, if need be by learning
    /// the names that it asks for.
    fn guards(&mut self, way: &[(Vec<String>, Vec<String>)]) -> bool {
        let path_is = |path: &[String], names: &[&str]| {
            path.first().is_some_and(|first| first == "detail") && path[1..] == *names
        };
        let is_marked = way.iter().any(|(path, texts)| {
            let all = |wanted: &str| texts.iter().all(|text| text.eq_ignore_ascii_case(wanted));
            (path_is(path, &["userIdentity", "type"])
                || path_is(path, &["userIdentity", "sessionContext", "sessionIssuer", "type"]))
                && all("Root")
                || path_is(path, &["userIdentity", "sessionContext", "assumedRoot"])
                || path_is(path, &["eventType"]) && texts.iter().all(|text| text == CONSOLE_ACTION)
        });
        if is_marked {
            return true;
        }
        let names = way.iter().find(|(path, texts)| {
            path_is(path, &["eventName"]) && texts.iter().all(|text| is_plain(text))
        });
        let Some((_, names)) = names else { return false };
        for name in names {
            self.add_name(name);
        }
        true
    }

    fn add_name(&mut self, name: &str) {
        let slot = slot(name.as_bytes());
        self.slots[slot / 64] |= 1 << (slot % 64);
        self.names.insert(name.as_bytes().to_vec());
    }

    fn has_name(&self, name: &[u8]) -> bool {
        let slot = slot(name);
        self.slots[slot / 64] & (1 << (slot % 64)) != 0 && self.names.contains(name)
    }

    /// Looks at the pair that begins at `at`, in a unit that begins at `start`.
    #[inline]
    pub(crate) fn look(&self, text: &[u8], start: usize, at: usize, seen: &mut Seen) {
        match text[at] {
            b't' if text.get(at + 1) == Some(&b'N') => self.look_name(text, start, at, seen),
            b's' => look_console_action(text, start, at, seen),
            b'\\' => look_escape(text, at, seen),
            _ => look_root(text, start, at, seen),
        }
    }

    /// `tN`: is this the member `eventName`, and is its value one of the names?
    #[inline]
    fn look_name(&self, text: &[u8], start: usize, at: usize, seen: &mut Seen) {
        const KEY: &[u8] = b"\"eventName";
        let Some(key) = at.checked_sub(5).filter(|key| *key >= start) else { return };
        if !text[key..].starts_with(KEY) {
            return;
        }
        let mut at = key + KEY.len();
        match text.get(at) {
            Some(b'"') => at += 1,
            // In a quoted record: what its name is, the decoder may find out.
            Some(b'\\') => {
                seen.quoted = true;
                return;
            }
            _ => return,
        }
        let mut colons = 0;
        while let Some(byte) = text.get(at) {
            match byte {
                b':' if colons == 0 => colons = 1,
                b' ' | b'\t' | b'\n' | b'\r' => {}
                _ => break,
            }
            at += 1;
        }
        if colons == 0 {
            return;
        }
        seen.named = true;
        if text.get(at) != Some(&b'"') {
            seen.keep = true;
            return;
        }
        let value = &text[at + 1..];
        // Event names are shorter than this; what is longer is looked at more closely.
        let bound = value.len().min(96);
        match value[..bound].iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            Some(end) if value[end] == b'"' => {
                if self.has_name(&value[..end]) {
                    seen.keep = true;
                }
            }
            _ => seen.keep = true,
        }
    }
}

/// `ot`: is this `"Root"`, `:root"`, `"AssumeRoot"` or `"assumedRoot"`, or the same in a quoted
/// record? What stands before is not looked at closely: the decoder does.
#[inline]
fn look_root(text: &[u8], start: usize, at: usize, seen: &mut Seen) {
    let is_root = at >= start + 2 && text[at - 2..at].eq_ignore_ascii_case(b"ro");
    if !is_root {
        return;
    }
    match text.get(at + 2) {
        Some(b'"') => seen.keep = true,
        Some(b'\\') => seen.quoted = true,
        _ => {}
    }
}

/// `sC`: is this `"AwsConsoleAction"`?
#[inline]
fn look_console_action(text: &[u8], start: usize, at: usize, seen: &mut Seen) {
    let Some(begin) = at.checked_sub(2).filter(|begin| *begin >= start) else { return };
    if !text[begin..].starts_with(CONSOLE_ACTION.as_bytes()) {
        return;
    }
    match text.get(begin + CONSOLE_ACTION.len()) {
        Some(b'"') => seen.keep = true,
        Some(b'\\') => seen.quoted = true,
        _ => {}
    }
}

/// `\u`: may the escape hide a character of what we look for?
fn look_escape(text: &[u8], at: usize, seen: &mut Seen) {
    let Some(digits) = text.get(at + 2..at + 6) else {
        seen.keep = true;
        return;
    };
    let value = std::str::from_utf8(digits).ok().and_then(|text| u32::from_str_radix(text, 16).ok());
    match value {
        Some(code) => {
            let is_harmless = !(0x20..0x7f).contains(&code)
                || char::from_u32(code).is_some_and(|c| matches!(c, '<' | '>' | '&' | '\'' | '='));
            if !is_harmless {
                seen.keep = true;
            }
        }
        None => seen.keep = true,
    }
}

/// True when a unit holds a member in which a record can be quoted.
pub(crate) fn may_quote_records(unit: &[u8]) -> bool {
    memmem::find(unit, b"Message\"").is_some() || memmem::find(unit, b"CloudTrailEvent\"").is_some()
}

/// True when every character of the name stands for itself in JSON as AWS writes it, or is spelt
/// with an escape that the prefilter keeps.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 90
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-.".contains(&byte))
}

#[inline]
fn slot(name: &[u8]) -> usize {
    let Some((first, last)) = name.first().zip(name.last()) else { return 0 };
    let middle = name[name.len() / 2];
    let quarter = name[name.len() / 4];
    let mixed = usize::from(*first)
        .wrapping_mul(0x9e5)
        .wrapping_add(usize::from(*last).wrapping_mul(0x3d))
        .wrapping_add(usize::from(middle).wrapping_mul(0x1f7))
        .wrapping_add(usize::from(quarter).wrapping_mul(0x6b))
        .wrapping_add(name.len().wrapping_mul(0x2b1));
    mixed % NAME_SLOTS
}
