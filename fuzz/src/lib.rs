//! Properties that must hold for any bytes.
//!
//! Each target is a plain function that panics if a property does not hold. It has three users:
//! libFuzzer (`fuzz_targets/`), a runner on stable Rust ([`runner`]), and a test that runs every seed. A
//! failing input becomes a seed once it is fixed.
//!
//! A target returns the [`Traits`] of a run: which errors, which rules, how many incidents. The runner
//! keeps inputs with a new trait, as a substitute for code coverage.

// An assertion that fails is what this crate is for.
#![allow(clippy::expect_used)]

mod mutate;
pub mod runner;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use rootwatch_core::correlate::{CorrelatePolicy, correlate_all};
use rootwatch_core::decode::{Item, Limits, Place, decode_event, decode_log};
use rootwatch_core::detect::{Detected, Detector, finalize};
use rootwatch_core::pattern::{EventPattern, Matches, PatternSet};
use rootwatch_core::rules::Ruleset;
use rootwatch_scan::{ScanOptions, Scanned, inflate_both_ways, scan_bytes, scan_in_steps};

/// A target: panics if a property does not hold for these bytes, and returns what it saw.
pub type Target = fn(&[u8]) -> Traits;

/// What happened to an input, as hashes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Traits(BTreeSet<u64>);

impl Traits {
    /// Adds something that happened.
    fn note(&mut self, seen: impl Hash) {
        let mut hash = DefaultHasher::new();
        seen.hash(&mut hash);
        self.0.insert(hash.finish());
    }
}

/// All targets by name.
pub const TARGETS: [(&str, Target); 4] =
    [("decode", decode), ("inflate", inflate), ("pattern", pattern), ("scan", scan)];

static RULES: LazyLock<Ruleset> = LazyLock::new(Ruleset::built_in);

/// Tight enough for a short input to reach them.
const TIGHT: Limits = Limits { record_bytes_max: 700, depth_max: 4 };

/// Decoding never panics, its places lie within the text, its records are valid JSON, and they can be
/// classified and correlated.
pub fn decode(bytes: &[u8]) -> Traits {
    let mut traits = Traits::default();
    decode_within(bytes, &TIGHT, &mut traits);
    let events = decode_within(bytes, &Limits::default(), &mut traits);
    match decode_event(bytes, &Limits::default()) {
        Ok(event) => {
            let json = event.record.json.trim();
            assert_eq!(events, [json], "one event, yet as a log file it is another");
        }
        Err(skipped) => traits.note(("alone", words(&skipped.reason))),
    }
    traits
}

/// Decodes, detects and correlates; returns the JSON of the records.
fn decode_within(bytes: &[u8], limits: &Limits, traits: &mut Traits) -> Vec<String> {
    let mut detector = Detector::new(&RULES);
    let (mut records, mut detected) = (Vec::new(), Vec::new());
    let mut last = Place::default();
    decode_log(bytes, limits, &mut |place, item| {
        assert!(place.offset <= bytes.len() as u64, "{place:?} is outside {} bytes", bytes.len());
        assert!(place.record >= last.record, "{place:?} comes after {last:?}");
        let is_first = place.record == 1;
        last = place;
        match item {
            Item::Event(event) => {
                let json = event.record.json;
                serde_json::from_str::<serde::de::IgnoredAny>(json).expect("a record is JSON");
                records.push(json.to_owned());
                traits.note(("event", is_first, event.envelope.stated));
                if let Some(found) = detector.detect(&event) {
                    note_finding(&found, traits);
                    detected.push(found);
                }
            }
            Item::PassedOver(kind) => traits.note(("passed over", is_first, kind)),
            Item::Skipped(skipped) => {
                assert_eq!(skipped.place, place);
                assert!(!skipped.reason.is_empty());
                traits.note(("skipped", is_first, words(&skipped.reason)));
            }
        }
    });
    let (findings, repeats) = finalize(detected, &RULES);
    traits.note(("repeats", repeats.min(2)));
    let count = findings.len();
    let incidents = correlate_all(findings, &CorrelatePolicy::default());
    assert!(incidents.len() <= count, "more incidents than findings");
    traits.note(("incidents", incidents.len().min(4), count.min(8)));
    for incident in &incidents {
        traits.note((std::mem::discriminant(&incident.kind), incident.severity));
    }
    records
}

fn note_finding(detected: &Detected, traits: &mut Traits) {
    let finding = &detected.finding;
    traits.note((finding.root_use, finding.severity, finding.outcome, finding.mfa));
    for reason in &finding.reasons {
        traits.note(("reason", &reason.code));
    }
    for rule in &finding.rules {
        traits.note(("rule", rule));
    }
    for rule in &detected.deferred {
        traits.note(("waiting", rule));
    }
}

/// A reason's first words, without numbers and quotations.
fn words(text: &str) -> Vec<&str> {
    let own = text.split(['`', '"', '\'']).next().unwrap_or(text);
    let words = own.split(|c: char| !c.is_ascii_alphabetic());
    words.filter(|word| !word.is_empty()).take(8).collect()
}

/// Any pattern is refused with a place in its text, or can be matched with any event without a panic. In
/// a set, each pattern gives the same result as alone, also the second time. An event split from its
/// envelope gives the same as a whole one.
///
/// The first line is the pattern, the rest is the event.
pub fn pattern(bytes: &[u8]) -> Traits {
    let mut traits = Traits::default();
    let Ok(text) = std::str::from_utf8(bytes) else { return traits };
    let (pattern, event) = text.split_once('\n').unwrap_or((text, "{}"));
    let parsed = match EventPattern::parse(pattern) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(error.offset <= pattern.len(), "{error} is outside the pattern");
            traits.note(words(&error.kind.to_string()));
            return traits;
        }
    };
    let alone = parsed.matches(event);
    let others = RULES.parsed().iter().step_by(9).cloned();
    let set = PatternSet::new(std::iter::once(parsed.clone()).chain(others).collect());
    let mut matcher = set.matcher();
    let owned = |found: Matches<'_>| (found.matched.to_vec(), found.undecided.to_vec());
    let together = matcher.run(event).map(owned);
    // A set reads more of the event, so it may find damage that one pattern does not see, and its
    // patterns share the comparisons of the event.
    if let Ok((matched, undecided)) = &together {
        assert!(matched.is_sorted() && undecided.is_sorted());
        if !undecided.contains(&0) {
            assert_eq!(alone.as_ref(), Ok(&matched.contains(&0)), "alone and in a set");
        }
    }
    let again = matcher.run(event).map(owned);
    assert_eq!(together, again, "the first and the second time");

    let whole = matcher.run(&format!("{{\"source\":\"aws.iam\",\"detail\":{event}}}"));
    let whole = whole.map(owned);
    let split = matcher.run_in_envelope(&[("source", "aws.iam")], event).map(owned);
    if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(event).is_ok() {
        assert_eq!(whole.ok(), split.ok(), "whole and in its envelope");
    }

    let ways = parsed.alternatives();
    let outcome = alone.map_err(|error| error.to_string());
    let outcome = outcome.as_ref().map_err(|error| words(error));
    traits.note((&outcome, ways.len().min(8), ways.iter().map(Vec::len).max()));
    for operator in OPERATORS {
        if pattern.contains(operator) {
            traits.note((operator, &outcome));
        }
    }
    traits
}

/// Operators of the language, as traits of patterns.
const OPERATORS: [&str; 10] = [
    "anything-but",
    "cidr",
    "equals-ignore-case",
    "exists",
    "numeric",
    "prefix",
    "suffix",
    "wildcard",
    "$or",
    "null",
];

/// The scan with its prefilter has the same findings as the full decode, reports no damage that the full
/// decode does not report, and has the same findings in a sound text in windows of any size.
pub fn scan(bytes: &[u8]) -> Traits {
    let mut traits = Traits::default();
    for limits in [Limits::default(), TIGHT] {
        let options = ScanOptions { threads: 1, limits, ..ScanOptions::default() };
        let full = ScanOptions { prefilter: false, ..options.clone() };
        let quick = scan_bytes(bytes, &RULES, &options);
        let slow = scan_bytes(bytes, &RULES, &full);
        let found = findings(&slow);
        assert_eq!(findings(&quick), found, "with the prefilter and without");
        assert!(quick.summary.skipped_total <= slow.summary.skipped_total);

        let is_plain = !matches!(bytes, [0x1f, 0x8b, ..] | [0x28, 0xb5, ..] | [_, 0x2a, ..]);
        if is_plain {
            let mut direct = Vec::new();
            let mut detector = Detector::new(&RULES);
            decode_log(bytes, &limits, &mut |_, item| {
                if let Item::Event(event) = item {
                    direct.extend(detector.detect(&event).as_ref().map(line));
                }
            });
            direct.sort();
            assert_eq!(found, direct, "the scan and the decoder");
            // Small steps would be slow: each one reads the rest of the last again.
            let step =
                (bytes.len() / 3).max(1) + usize::from(bytes[bytes.len() / 2..].len() as u8 % 7);
            let steps = scan_in_steps(bytes, step, &RULES, &full);
            let hasty = scan_in_steps(bytes, step, &RULES, &options);
            assert_eq!(findings(&hasty), findings(&steps), "in steps, with the prefilter or not");
            // After damage the splitter searches for the next record, and a window may end there.
            if slow.summary.skipped_total == 0 {
                assert_eq!(findings(&steps), found, "in steps of {step} and whole");
                assert_eq!(steps.summary.skipped, [], "in steps of {step}");
            } else {
                assert!(steps.summary.skipped_total > 0, "damage is not reported");
            }
        }
        traits.note((
            slow.summary.records.min(8),
            quick.summary.records.min(8),
            found.len().min(8),
        ));
        for kind in slow.summary.passed_over.keys() {
            traits.note(kind);
        }
        for skipped in &slow.summary.skipped {
            traits.note(words(&skipped.reason));
        }
        for located in slow.findings.iter().take(8) {
            note_finding(&located.detected, &mut traits);
        }
    }
    traits
}

/// Our own inflater accepts and refuses what libdeflate accepts and refuses, gives the same text, and
/// never reads or writes out of bounds: the fuzz build asserts it at every step of its fast loop.
///
/// The first two bytes give the room, the rest is deflate data.
pub fn inflate(bytes: &[u8]) -> Traits {
    let mut traits = Traits::default();
    let Some((room, data)) = bytes.split_first_chunk::<2>() else { return traits };
    let room = usize::from(u16::from_le_bytes(*room));
    let text = inflate_both_ways(data, room);
    let kind = data.first().map(|first| first & 7);
    let size = text.as_ref().map(|text| text.len().checked_ilog2());
    traits.note((kind, size));
    if let Some(text) = text {
        // Exactly enough, and one byte too few.
        assert_eq!(inflate_both_ways(data, text.len()).as_ref(), Some(&text));
        if let Some(less) = text.len().checked_sub(1) {
            assert_eq!(inflate_both_ways(data, less), None);
        }
        let distinct = text.iter().collect::<BTreeSet<_>>().len();
        traits.note((kind, distinct.checked_ilog2(), data.len().checked_ilog2()));
    }
    traits
}

fn findings(scanned: &Scanned) -> Vec<String> {
    let mut lines: Vec<_> = scanned.findings.iter().map(|found| line(&found.detected)).collect();
    lines.sort();
    lines
}

fn line(detected: &Detected) -> String {
    let json = serde_json::to_string(&detected.finding).expect("a finding is JSON");
    format!("{json} {:?}", detected.deferred)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_holds() {
        for (name, target) in TARGETS {
            let seeds = runner::seeds(name).expect("the folder of seeds");
            assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
            for (_, bytes) in seeds {
                target(&bytes);
            }
        }
    }

    #[test]
    fn seeds_take_different_ways() {
        for (name, target) in TARGETS {
            let seeds = runner::seeds(name).expect("the folder of seeds");
            let ways: BTreeSet<_> = seeds.iter().map(|(_, bytes)| target(bytes).0).collect();
            assert!(ways.len() * 2 > seeds.len(), "{name}: {} ways", ways.len());
        }
    }
}
