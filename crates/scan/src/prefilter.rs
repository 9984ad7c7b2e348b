//! Which records may be discarded without being decoded: those that cannot be root use and that no rule
//! can match, whatever their key order, white space, escapes and nesting.
//!
//! **Why it is safe.** A record becomes a finding only if one of these conditions holds (they come from
//! the classification and from the rules' patterns), and each leaves something in the record's bytes
//! that [`crate::kernel`] marks:
//!
//! | Condition | In the bytes |
//! |---|---|
//! | `type` is `Root` in any case, of the identity or the session's issuer | `"Root"` in any case, not plainly the value of a member with another name |
//! | no `type`, and a root ARN | `:root"`, not plainly in the value of a member other than `arn` |
//! | the call is `AssumeRoot` | `"AssumeRoot"` |
//! | `sessionContext.assumedRoot` is stated | `"assumedRoot"` |
//! | a console action without identity type | `"AwsConsoleAction"` |
//! | the name is one of a known set | `"eventName"` and, after the colon, the name |
//!
//! A JSON string may spell any of these characters as `\u00xx`; no other escape stands for a letter,
//! digit or colon. So a record is kept as well when it has a `\u` escape of any printable ASCII
//! character but `<`, `>`, `&`, `'` and `=`, which AWS's own software escapes and none of the texts
//! above contains. A record may also be quoted within a string (an SNS message, a `lookup-events`
//! reply), where `"` is written `\"`: a text followed by a backslash keeps the unit if it has a member that
//! can hold a record. And a unit without `"eventName"` is always kept.
//!
//! Keeping too much only costs time, since the decoder decides. Keeping too little would lose a finding:
//! a property test compares the findings with and without it on generated and hostile texts.

use std::collections::HashSet;
use std::sync::LazyLock;

use memchr::memmem;
use rootwatch_core::classify::{CONSOLE_ACTION, ROOT_ACCOUNT_ACTIONS, ROOT_SIGN_IN_ACTIONS};
use rootwatch_core::rules::Ruleset;

/// Slots of the first check of a name; a power of two.
const NAME_SLOTS: usize = 4096;
/// Bytes of a name that the first check reads.
const HEAD_BYTES: usize = 8;
/// Longest name in a pattern for which the prefilter works.
const NAME_BYTES_MAX: usize = 90;

/// Bytes of a root ARN before `root`: `arn:aws-iso-b:iam::111122223333:` and the like.
const ARN_BYTES_MAX: usize = 48;

/// What the prefilter looks for.
#[derive(Debug, Clone)]
pub(crate) struct Prefilter {
    names: HashSet<Vec<u8>>,
    slots: Vec<u64>,
    /// Rules that need every record decoded: nothing in the bytes shows whether they match.
    unguarded: Vec<String>,
}

/// What was seen in a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// A text because of which the unit must be decoded.
    pub(crate) keep: bool,
    /// A member named `eventName`.
    pub(crate) named: bool,
    /// A text because of which the unit must be decoded if it is in a quoted record.
    pub(crate) quoted: bool,
}

impl Prefilter {
    /// A prefilter for root use and, with `with_rules`, for everything that a rule can match.
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

    /// Ids of the rules for which every record must be decoded.
    pub(crate) fn unguarded(&self) -> &[String] {
        &self.unguarded
    }

    /// True if records that match this alternative of a pattern are kept. Adds the event names that it
    /// asks for.
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
        // A name shorter than the head is recognized by the quote after it.
        if let Some(head) = name.as_bytes().first_chunk::<HEAD_BYTES>() {
            let slot = slot(*head);
            self.slots[slot / 64] |= 1 << (slot % 64);
        }
        self.names.insert(name.as_bytes().to_vec());
    }

    /// Checks the pair that begins at `at`, in a unit that begins at `start`.
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
        // As AWS writes it. The code below handles every other spelling.
        if text[key + KEY.len()..].starts_with(b"\":\"") {
            seen.named = true;
            seen.keep |= self.may_be_name(&text[key + KEY.len() + 3..]);
            return;
        }
        let mut at = key + KEY.len();
        match text.get(at) {
            Some(b'"') => at += 1,
            // In a quoted record: the decoder reads its name.
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
        if self.may_be_name(&text[at + 1..]) {
            seen.keep = true;
        }
    }

    /// May the string at the beginning of `value`, without its opening quote, be one of the names?
    ///
    /// Escapes need no check here: an escaped letter is marked by itself.
    #[inline]
    fn may_be_name(&self, value: &[u8]) -> bool {
        let Some(head) = value.first_chunk::<HEAD_BYTES>() else { return true };
        if !self.has_slot(slot(*head)) && !head.contains(&b'"') {
            return false;
        }
        match value.iter().take(NAME_BYTES_MAX + 1).position(|byte| matches!(byte, b'"' | b'\\')) {
            Some(end) if value[end] == b'"' => self.names.contains(&value[..end]),
            // Longer than any name, unless it has escapes.
            None => false,
            Some(_) => true,
        }
    }

    fn has_slot(&self, slot: usize) -> bool {
        self.slots[slot / 64] & (1 << (slot % 64)) != 0
    }
}

/// `oo`: is this `"Root"`, `:root"`, `"AssumeRoot"` or `"assumedRoot"`, or the same in a quoted
/// record?
#[inline]
fn look_root(text: &[u8], start: usize, at: usize, seen: &mut Seen) {
    let Some(begin) = at.checked_sub(1).filter(|begin| *begin > start) else { return };
    if !text[begin..].get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"root")) {
        return;
    }
    match text.get(begin + 4) {
        Some(b'"') => {}
        Some(b'\\') => {
            seen.quoted |= !is_policy_principal(&text[start..begin]);
            return;
        }
        _ => return,
    }
    let before = &text[start..begin];
    seen.keep |= match text[begin - 1] {
        b'"' => member_of(before).is_none_or(|name| name == b"type"),
        b':' => {
            let near = &before[before.len().saturating_sub(ARN_BYTES_MAX)..];
            let quote = memchr::memrchr(b'"', near).map(|at| before.len() - near.len() + at);
            quote.and_then(|quote| member_of(&before[..=quote])).is_none_or(|name| name == b"arn")
        }
        // `AssumeRoot` and `assumedRoot`, in any case as all of this.
        b'e' | b'E' | b'd' | b'D' => true,
        _ => false,
    };
}

/// The name of the member whose string value's opening quote ends `before`, when both are written
/// plainly: `"name":"`. `None` says nothing.
fn member_of(before: &[u8]) -> Option<&[u8]> {
    const NAME_MAX: usize = 64;
    let name = before.strip_suffix(b"\":\"")?;
    let near = &name[name.len().saturating_sub(NAME_MAX)..];
    let open = near.iter().rposition(|byte| matches!(byte, b'"' | b'\\'))?;
    // A backslash, in the name or before its quote, may make it another name, or no name at all.
    let is_plain = near[open] == b'"' && near[..open].last() != Some(&b'\\');
    (is_plain && open > 0).then(|| &near[open + 1..])
}

/// True when `before` ends with `AWS\":\"arn:…:`, so that the root ARN which `root` ends is the
/// principal of a policy quoted in a string, by far the commonest place of one. The member is named
/// `AWS`, so it is no `type`, and no `arn` of an identity.
fn is_policy_principal(before: &[u8]) -> bool {
    const MEMBER: &[u8] = b"AWS\\\":\\\"";
    let from = before.len().saturating_sub(ARN_BYTES_MAX + MEMBER.len());
    let near = &before[from..];
    memmem::rfind(near, b"\"").is_some_and(|quote| {
        near[..=quote].ends_with(MEMBER) && near[quote + 1..].starts_with(b"arn:")
    })
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
    let value =
        std::str::from_utf8(digits).ok().and_then(|text| u32::from_str_radix(text, 16).ok());
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

/// True if a unit has a member that can hold a quoted record.
pub(crate) fn may_quote_records(unit: &[u8]) -> bool {
    static MESSAGE: LazyLock<memmem::Finder<'_>> =
        LazyLock::new(|| memmem::Finder::new(b"Message\""));
    static CLOUD_TRAIL_EVENT: LazyLock<memmem::Finder<'_>> =
        LazyLock::new(|| memmem::Finder::new(b"CloudTrailEvent\""));
    MESSAGE.find(unit).is_some() || CLOUD_TRAIL_EVENT.find(unit).is_some()
}

/// True if every character of the name is written as itself in JSON, or with an escape that the
/// prefilter keeps.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-.".contains(&byte))
}

/// The slot of a name in the first check: a multiplicative hash of its head.
#[inline]
fn slot(head: [u8; HEAD_BYTES]) -> usize {
    let mixed = u64::from_le_bytes(head).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - NAME_SLOTS.trailing_zeros())) as usize
}
