//! What must hold for any bytes whatever.
//!
//! Each target is a plain function that panics when something does not hold. It is used three
//! times: by libFuzzer (`fuzz_targets/`), by a runner on stable Rust ([`runner`]), and by a test
//! that gives it every seed. A failing input that was found once becomes a seed.
//!
//! A target returns the *shape* of what happened, a number that differs when the program took
//! another way. The runner keeps inputs with a new shape, which is a poor man's coverage.

// An assertion that fails is what this crate is for.
#![allow(clippy::expect_used)]

mod mutate;
pub mod runner;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use rootwatch_core::correlate::{CorrelatePolicy, correlate_all};
use rootwatch_core::decode::{Item, Limits, Place, decode_event, decode_log};
use rootwatch_core::detect::{Detected, Detector, settle};
use rootwatch_core::pattern::{EventPattern, PatternSet};
use rootwatch_core::rules::Ruleset;
use rootwatch_scan::{ScanOptions, Scanned, scan_bytes, scan_in_steps};

/// A target: takes any bytes, panics when something does not hold, says what shape it saw.
pub type Target = fn(&[u8]) -> u64;

/// All targets by name.
pub const TARGETS: [(&str, Target); 3] = [("decode", decode), ("pattern", pattern), ("scan", scan)];

static RULES: LazyLock<Ruleset> = LazyLock::new(Ruleset::built_in);

/// Tight enough for a short input to reach them.
const TIGHT: Limits = Limits { record_bytes_max: 700, depth_max: 4 };

/// Decoding never panics, its places lie within the text, its records are sound JSON, and what
/// comes out can be judged, settled and gathered.
pub fn decode(bytes: &[u8]) -> u64 {
    let mut shape = DefaultHasher::new();
    decode_within(bytes, &TIGHT, &mut shape);
    let events = decode_within(bytes, &Limits::default(), &mut shape);
    let alone = decode_event(bytes, &Limits::default());
    alone.is_ok().hash(&mut shape);
    if let Ok(event) = alone {
        assert_eq!(
            events,
            [event.record.json.trim()],
            "one event, yet as a log file it is another"
        );
    }
    shape.finish()
}

/// Decodes, judges and gathers; gives the JSON of the records.
fn decode_within(bytes: &[u8], limits: &Limits, shape: &mut DefaultHasher) -> Vec<String> {
    let mut detector = Detector::new(&RULES);
    let (mut records, mut detected) = (Vec::new(), Vec::new());
    let mut last = Place::default();
    decode_log(bytes, limits, &mut |place, item| {
        assert!(place.offset <= bytes.len() as u64, "{place:?} is outside {} bytes", bytes.len());
        assert!(place.record >= last.record, "{place:?} comes after {last:?}");
        last = place;
        match item {
            Item::Event(event) => {
                let json = event.record.json;
                serde_json::from_str::<serde::de::IgnoredAny>(json).expect("a record is JSON");
                records.push(json.to_owned());
                let found = detector.detect(&event);
                (place.record.min(3), found.as_ref().map(way_of)).hash(shape);
                detected.extend(found);
            }
            Item::PassedOver(kind) => kind.hash(shape),
            Item::Skipped(skipped) => {
                assert_eq!(skipped.place, place);
                assert!(!skipped.reason.is_empty());
                words(&skipped.reason).for_each(|word| word.hash(shape));
            }
        }
    });
    let (findings, repeats) = settle(detected, &RULES);
    repeats.min(2).hash(shape);
    let count = findings.len();
    let incidents = correlate_all(findings, &CorrelatePolicy::default());
    assert!(incidents.len() <= count, "more incidents than findings");
    (incidents.len().min(4)).hash(shape);
    records
}

/// A finding as far as the way through the program goes.
fn way_of(detected: &Detected) -> (u8, u8, Vec<String>, Vec<String>) {
    let finding = &detected.finding;
    let reasons = finding.reasons.iter().map(|reason| reason.code.to_string()).collect();
    (finding.root_use as u8, finding.severity as u8, finding.rules.clone(), reasons)
}

/// A reason's words without its numbers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty())
}

/// Any pattern is refused with a place in its text or matches any event without a panic; a set
/// says of each pattern what the pattern says alone, also the second time; an event in its
/// envelope is the same as one whole.
///
/// The first line is the pattern, the rest is the event.
pub fn pattern(bytes: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
    let (pattern, event) = text.split_once('\n').unwrap_or((text, "{}"));
    let mut shape = DefaultHasher::new();
    let parsed = match EventPattern::parse(pattern) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(error.offset <= pattern.len(), "{error} is outside the pattern");
            words(&error.to_string()).for_each(|word| word.hash(&mut shape));
            return shape.finish();
        }
    };
    let alone = parsed.matches(event);
    let others = RULES.parsed().iter().step_by(9).cloned();
    let set = PatternSet::new(std::iter::once(parsed.clone()).chain(others).collect());
    let mut matcher = set.matcher();
    let together = matcher.run(event).map(<[usize]>::to_vec);
    // A set looks at more of the event, so it may find damage that one pattern does not see.
    if let Ok(together) = &together {
        assert!(together.is_sorted());
        assert_eq!(alone.as_ref(), Ok(&together.contains(&0)), "alone and in a set");
    }
    let again = matcher.run(event).map(<[usize]>::to_vec);
    assert_eq!(together, again, "the first and the second time");

    let whole = matcher.run(&format!("{{\"source\":\"aws.iam\",\"detail\":{event}}}"));
    let whole = whole.map(<[usize]>::to_vec);
    let split = matcher.run_in_envelope(&[("source", "aws.iam")], event).map(<[usize]>::to_vec);
    if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(event).is_ok() {
        assert_eq!(whole.ok(), split.ok(), "whole and in its envelope");
    }

    let ways = parsed.alternatives();
    (alone.map_err(|error| std::mem::discriminant(&error.kind)), ways.len().min(4))
        .hash(&mut shape);
    ways.iter().map(Vec::len).max().hash(&mut shape);
    shape.finish()
}

/// The scan with its prefilter finds what the full decode finds, never calls damaged what the full
/// decode calls sound, and finds the same in a sound text whatever the windows in which it comes.
pub fn scan(bytes: &[u8]) -> u64 {
    let mut shape = DefaultHasher::new();
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
            // Not too small a step: each one looks again at what was left of the last.
            let step =
                (bytes.len() / 3).max(1) + usize::from(bytes[bytes.len() / 2..].len() as u8 % 7);
            let steps = scan_in_steps(bytes, step, &RULES, &full);
            let quick = scan_in_steps(bytes, step, &RULES, &options);
            assert_eq!(findings(&quick), findings(&steps), "in steps, with the prefilter or not");
            // After damage the next record is looked for, and a window may end where it begins.
            if slow.summary.skipped_total == 0 {
                assert_eq!(findings(&steps), found, "in steps of {step} and whole");
                assert_eq!(steps.summary.skipped, [], "in steps of {step}");
            } else {
                assert!(steps.summary.skipped_total > 0, "damage is passed over in silence");
            }
        }
        let passed_over: BTreeSet<_> = slow.summary.passed_over.keys().collect();
        (found.len().min(4), passed_over, slow.summary.records.min(4)).hash(&mut shape);
        for skipped in &slow.summary.skipped {
            words(&skipped.reason).for_each(|word| word.hash(&mut shape));
        }
        for located in slow.findings.iter().take(4) {
            way_of(&located.detected).hash(&mut shape);
        }
    }
    shape.finish()
}

fn findings(scanned: &Scanned) -> Vec<String> {
    let mut lines: Vec<_> = scanned.findings.iter().map(|found| line(&found.detected)).collect();
    lines.sort();
    lines
}

fn line(detected: &Detected) -> String {
    let json = serde_json::to_string(&detected.finding).expect("a finding is JSON");
    format!("{json} {:?}", detected.waiting)
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
            let shapes: BTreeSet<_> = seeds.iter().map(|(_, bytes)| target(bytes)).collect();
            assert!(shapes.len() * 2 > seeds.len(), "{name}: {} shapes", shapes.len());
        }
    }
}
