//! What the forwarding rules let through: every fixture that is root use, every record of which a
//! rule speaks, and hardly anything else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rootwatch_core::decode::{Event, Item, Limits, decode_log};
use rootwatch_core::forwarding::{ALL, DRILL, ROOT_USE};
use rootwatch_core::pattern::{EventPattern, PatternSet};
use rootwatch_core::rules::{Ruleset, built_in_tests};
use serde_json::{Map, Value, json};

/// Fixtures of root use that are not forwarded, and why that is right.
const KEPT_BACK: [(&str, &str); 0] = [];

/// Fixtures that are no root use, and that [`ROOT_USE`] forwards all the same: the hub judges them.
const FORWARDED_ALL_THE_SAME: [(&str, &str); 0] = [];

/// Rules of which records are not forwarded, and why.
const RULES_KEPT_BACK: [(&str, &str); 0] = [];

/// Rules' names that are not forwarded in every way that the rule allows, and why.
const NAMES_KEPT_BACK: [(&str, &str); 1] = [(
    "rootwatch-forwarding-tampered: DeleteStack",
    "the rule also allows it to name a StackSet, which no call of DeleteStack does",
)];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cloudtrail")
}

fn set(patterns: &[&str]) -> PatternSet {
    let parse = |text: &&str| EventPattern::parse(text).expect("a pattern");
    PatternSet::new(patterns.iter().map(parse).collect())
}

fn everything() -> PatternSet {
    set(&ALL.map(|forwarding| forwarding.pattern))
}

/// The event as EventBridge would deliver it: CloudTrail's records come with AWS's own source.
fn is_forwarded(set: &PatternSet, event: &Event<'_>) -> bool {
    let text = |part: &Option<_>| -> String {
        let part: &Option<std::borrow::Cow<'_, str>> = part;
        part.as_deref().unwrap_or_default().to_owned()
    };
    let source = text(&event.envelope.source);
    let detail_type = text(&event.envelope.detail_type);
    let envelope = [("source", source.as_str()), ("detail-type", detail_type.as_str())];
    let mut matcher = set.matcher();
    !matcher.run_in_envelope(&envelope, event.record.json).expect("an event").matched.is_empty()
}

/// For each record of a text, whether it is forwarded.
fn forwarded(set: &PatternSet, text: &[u8]) -> Vec<bool> {
    let mut all = Vec::new();
    decode_log(text, &Limits::default(), &mut |_, item| {
        if let Item::Event(event) = item {
            all.push(is_forwarded(set, &event));
        }
    });
    all
}

/// Name and root use of every fixture.
fn fixtures() -> Vec<(String, String)> {
    let table = std::fs::read_to_string(folder().join("expected.tsv")).expect("the table");
    let row = |line: &str| {
        let mut cells = line.split('\t').map(str::to_owned);
        (cells.next().expect("a file"), cells.next().expect("a root use"))
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn every_fixture_of_root_use_is_forwarded() {
    let root_use = set(&[ROOT_USE.pattern]);
    let (mut kept, mut count) = (BTreeSet::new(), 0);
    for (file, class) in fixtures() {
        if matches!(class.as_str(), "no" | "passed_over") {
            continue;
        }
        let records = forwarded(&root_use, &std::fs::read(folder().join(&file)).expect("a file"));
        assert!(!records.is_empty(), "{file} holds no record");
        count += records.len();
        if records.contains(&false) {
            kept.insert(file);
        }
    }
    let excused: BTreeSet<String> = KEPT_BACK.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(kept, excused);
    assert!(count > 150, "{count} records");
}

#[test]
fn what_is_no_root_use_is_not_forwarded_as_such() {
    let root_use = set(&[ROOT_USE.pattern]);
    let (mut passed, mut count) = (BTreeSet::new(), 0);
    for (file, class) in fixtures() {
        if class != "no" {
            continue;
        }
        let records = forwarded(&root_use, &std::fs::read(folder().join(&file)).expect("a file"));
        count += records.len();
        if records.contains(&true) {
            passed.insert(file);
        }
    }
    let excused = FORWARDED_ALL_THE_SAME.iter().map(|(file, _)| (*file).to_owned());
    assert_eq!(passed, excused.collect());
    assert!(count > 100, "{count} records");
}

/// A rule of which no record leaves the account would be silent for ever.
#[test]
fn whatever_a_rule_speaks_of_is_forwarded() {
    let everything = everything();
    let mut silent = BTreeSet::new();
    for test in built_in_tests().into_iter().filter(|test| test.matches) {
        for record in &test.records {
            if forwarded(&everything, record.as_bytes()).contains(&false) {
                silent.insert(test.rule.clone());
            }
        }
    }
    let excused = RULES_KEPT_BACK.iter().map(|(rule, _)| (*rule).to_owned());
    assert_eq!(silent, excused.collect());
}

/// Beyond the records of tests: every name that a rule's pattern lists is forwarded too. Conditions
/// other than lists of strings are left to the records of the rules' own tests.
#[test]
fn every_name_that_a_rule_lists_is_forwarded() {
    let (everything, rules) = (everything(), Ruleset::built_in());
    let (mut silent, mut count) = (BTreeSet::new(), 0);
    for (rule, pattern) in rules.rules().iter().zip(rules.parsed()) {
        let tested: Vec<_> = built_in_tests()
            .into_iter()
            .filter(|test| test.matches && test.rule == rule.id)
            .collect();
        for way in pattern.alternatives() {
            let names =
                way.iter().find(|(path, _)| path.last().is_some_and(|at| at == "eventName"));
            for name in names.map_or(&[][..], |(_, names)| names) {
                // A record of the rule's tests, under the other name and with the way's strings.
                let made = tested.iter().filter_map(|test| {
                    let text = test.records.last()?;
                    let mut record: Value = serde_json::from_str(text).ok()?;
                    record.is_object().then(|| {
                        for (path, strings) in &way {
                            let is_name = path.last().is_some_and(|at| at == "eventName");
                            let value = if is_name { name } else { &strings[0] };
                            put(&mut record, &path[1..], value);
                        }
                        record.to_string()
                    })
                });
                for record in made {
                    count += 1;
                    let pattern = set_of(pattern);
                    // The way's other conditions may not hold in this record.
                    if forwarded(&pattern, record.as_bytes()) == [true]
                        && forwarded(&everything, record.as_bytes()) != [true]
                    {
                        silent.insert(format!("{}: {name}", rule.id));
                    }
                }
            }
        }
    }
    let excused = NAMES_KEPT_BACK.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(silent, excused.collect());
    assert!(count > 200, "{count} names");
}

fn set_of(pattern: &EventPattern) -> PatternSet {
    PatternSet::new(vec![pattern.clone()])
}

/// Sets a field of a record, the objects on the way to it included.
fn put(record: &mut Value, path: &[String], value: &str) {
    let Some((name, rest)) = path.split_first() else {
        *record = json!(value);
        return;
    };
    if !record.is_object() {
        *record = Value::Object(Map::new());
    }
    put(&mut record[name.as_str()], rest, value);
}

#[test]
fn look_alikes_and_other_peoples_events_are_not_forwarded() {
    let everything = everything();
    let mut matcher = everything.matcher();
    let root = r#""detail":{"userIdentity":{"type":"Root"},"eventName":"ConsoleLogin"}"#;
    let from = |source: &str| format!(r#"{{"source":"{source}",{root}}}"#);
    assert_eq!(matcher.run(&from("aws.signin")).expect("an event").matched, [0]);
    for source in ["my.app", "AWS.signin", "awsx", "", "rootwatch.drill2"] {
        assert!(matcher.run(&from(source)).expect("an event").matched.is_empty(), "{source}");
    }
    let drill = ALL.iter().position(|forwarding| *forwarding == DRILL).expect("the drill");
    assert_eq!(matcher.run(&from("rootwatch.drill")).expect("an event").matched, [drill]);
}

#[test]
fn every_excuse_has_a_reason() {
    let fixtures = KEPT_BACK.iter().chain(&FORWARDED_ALL_THE_SAME);
    for (what, reason) in fixtures.chain(&RULES_KEPT_BACK).chain(&NAMES_KEPT_BACK) {
        assert!(reason.len() > 20, "{what}");
    }
}
