//! The built-in rules are sound and pass their own tests, and a rule that is not sound is refused
//! with words that say what to do.

use std::collections::BTreeSet;
use std::path::Path;

use rootwatch_core::decode::{Item, Limits, decode_log};
use rootwatch_core::detect::{Detected, Detector, finalize};
use rootwatch_core::pattern::EventPattern;
use rootwatch_core::rules::{
    BuiltInTest, Rule, RuleError, RuleFile, Ruleset, built_in_tests, parse_rule,
};

/// A sound rule, small enough to break on purpose.
const SOUND: &str = r#"id: my-rule
title: A bucket was made
did: made a bucket
severity: low
pattern:
  detail:
    eventName: [CreateBucket]
why: Because.
triage: [Look.]
false_positives: [None.]
blind_spots: [None.]
attack: []
references: []
tests:
  - { name: a bucket is made, record: { eventName: CreateBucket }, match: true }
  - { name: a bucket is gone, record: { eventName: DeleteBucket }, match: false }
"#;

fn files() -> Vec<RuleFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let mut files: Vec<RuleFile> = std::fs::read_dir(folder)
        .expect("the folder of rules")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| RuleFile {
            name: path.file_name().expect("a name").to_string_lossy().into_owned(),
            text: std::fs::read_to_string(&path).expect("a readable rule"),
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

fn file(name: &str, text: &str) -> RuleFile {
    RuleFile { name: name.to_owned(), text: text.to_owned() }
}

/// Does the rule speak about the last of the test's records?
fn speaks(rules: &Ruleset, test: &BuiltInTest) -> Result<bool, String> {
    let mut detector = Detector::new(rules);
    let mut detected: Vec<Detected> = Vec::new();
    let mut last = None;
    for text in &test.records {
        let mut problem = Some("holds nothing".to_owned());
        last = None;
        decode_log(text.as_bytes(), &Limits::default(), &mut |_, item| match item {
            Item::Event(event) => {
                problem = None;
                last = detector.detect(&event).map(|found| {
                    let key = found.finding.key.clone();
                    detected.push(found);
                    key
                });
            }
            Item::PassedOver(_) => problem = None,
            Item::Skipped(skipped) => problem = Some(skipped.reason),
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
    }
    let Some(key) = last else { return Ok(false) };
    let (findings, _) = finalize(detected, rules);
    let finding = findings.iter().find(|finding| finding.key == key);
    Ok(finding.is_some_and(|finding| finding.rules.contains(&test.rule)))
}

/// The tests of these rules that do not come out as they say.
fn failures(rules: &Ruleset, tests: &[BuiltInTest]) -> Vec<String> {
    let wrong = |test: &BuiltInTest| match speaks(rules, test) {
        Ok(spoke) if spoke == test.matches => None,
        Ok(true) => Some(format!("{}: {}: spoke and should be silent", test.rule, test.name)),
        Ok(false) => Some(format!("{}: {}: was silent and should speak", test.rule, test.name)),
        Err(reason) => Some(format!("{}: {}: a record {reason}", test.rule, test.name)),
    };
    tests.iter().filter_map(wrong).collect()
}

#[test]
fn every_rule_file_is_read_and_is_what_the_program_carries() {
    let built_in = Ruleset::built_in();
    let files = files();
    let mut wrong = Vec::new();
    for file in &files {
        match parse_rule(file) {
            Err(error) => wrong.push(error.to_string()),
            Ok(rule) if file.name != format!("{}.yaml", rule.id) => {
                wrong.push(format!("{}: its id is {}", file.name, rule.id));
            }
            Ok(rule) => match built_in.get(&rule.id) {
                None => wrong.push(format!("{}: not in the program", file.name)),
                Some(carried) if told(carried) != told(&rule) => {
                    wrong.push(format!("{}: the program carries another text", file.name));
                }
                Some(_) => {}
            },
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert_eq!(built_in.rules().len(), files.len());
    assert!(Ruleset::only(&files).is_ok());
}

/// Everything but the tests, which the program carries apart.
fn told(rule: &Rule) -> serde_json::Value {
    let mut value = serde_json::to_value(rule).expect("a value");
    value.as_object_mut().and_then(|fields| fields.remove("tests"));
    value
}

#[test]
fn every_built_in_rule_is_tested_both_ways() {
    let tests = built_in_tests();
    let tested = |matches: bool| -> BTreeSet<&str> {
        tests.iter().filter(|test| test.matches == matches).map(|test| test.rule.as_str()).collect()
    };
    let built_in = Ruleset::built_in();
    let ids: BTreeSet<&str> = built_in.rules().iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(tested(true), ids);
    assert_eq!(tested(false), ids);
}

#[test]
fn every_built_in_rule_passes_its_own_tests() {
    let failures = failures(&Ruleset::built_in(), &built_in_tests());
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// Ids of the built-in rules whose own tests end like this after all rules were given a pattern.
fn complaining(pattern: &serde_json::Value, ending: &str) -> BTreeSet<String> {
    let altered: Vec<RuleFile> = files()
        .iter()
        .map(|file| {
            let mut rule = parse_rule(file).expect("a sound rule");
            rule.pattern = pattern.clone();
            (rule.follows, rule.first) = (None, None);
            RuleFile { name: file.name.clone(), text: serde_json::to_string(&rule).expect("JSON") }
        })
        .collect();
    let altered = Ruleset::only(&altered).expect("JSON is YAML");
    failures(&altered, &built_in_tests())
        .iter()
        .filter(|line| line.ends_with(ending))
        .map(|line| line.split(':').next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_tests_of_every_built_in_rule_notice_a_rule_that_is_deaf_or_speaks_always() {
    let all: BTreeSet<String> = built_in_tests().into_iter().map(|test| test.rule).collect();
    let deaf = serde_json::json!({"detail": {"eventName": ["NoSuchCall"]}});
    assert_eq!(complaining(&deaf, "was silent and should speak"), all);
    let always = serde_json::json!({"version": ["0"]});
    assert_eq!(complaining(&always, "spoke and should be silent"), all);
}

#[test]
fn a_rule_whose_pattern_says_the_opposite_fails_its_own_tests() {
    let id = "root-access-key-created";
    let name = format!("{id}.yaml");
    let text = files().into_iter().find(|file| file.name == name).expect("the rule").text;
    let flipped = text.replace("userName: [{ exists: false }]", "userName: [{ exists: true }]");
    assert_ne!(text, flipped);
    let tests: Vec<BuiltInTest> =
        built_in_tests().into_iter().filter(|test| test.rule == id).collect();
    let run = |text: &str| {
        let rules = Ruleset::only(&[file(&name, text)]).expect("a sound rule");
        failures(&rules, &tests).join("\n")
    };
    assert_eq!(run(&text), "");
    let report = run(&flipped);
    assert!(report.contains("was silent and should speak"), "{report}");
    assert!(report.contains("spoke and should be silent"), "{report}");
}

#[test]
fn titles_and_timelines_are_short_and_ids_are_plain() {
    for rule in Ruleset::built_in().rules() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(rule.id.chars().all(plain), "{}", rule.id);
        assert!(rule.title.len() <= 90 && !rule.title.ends_with('.'), "{}", rule.id);
        let did = rule.did.as_deref().unwrap_or_default();
        assert!(did.len() <= 60 && !did.ends_with('.'), "{}", rule.id);
        let links = |link: &String| link.starts_with("https://");
        assert!(!rule.references.is_empty() && rule.references.iter().all(links), "{}", rule.id);
        assert!(EventPattern::parse(&rule.pattern.to_string()).is_ok(), "{}", rule.id);
    }
}

#[test]
fn what_was_done_continues_a_sentence_in_the_past_tense_or_is_left_out() {
    let with = |did: &str| {
        let text = SOUND.replace("did: made a bucket\n", did);
        parse_rule(&file("my-rule.yaml", &text)).map(|rule| rule.did)
    };
    assert_eq!(with("did: wrote a policy\n").ok(), Some(Some("wrote a policy".to_owned())));
    assert_eq!(with("").ok(), Some(None));
    for did in ["did: trail stopped\n", "did: StopLogging\n", "did: \"\"\n"] {
        let error = with(did).expect_err(did).to_string();
        assert!(error.contains("past tense"), "{error}");
    }
}

/// What is said about a file that cannot be used.
fn refused(name: &str, text: &str) -> String {
    let errors = Ruleset::only(&[file(name, text)]).expect_err("an unsound rule");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_sound_rule_is_taken_and_speaks_beside_the_built_in_ones() {
    let rules = Ruleset::built_in_and(&[file("my/my-rule.yaml", SOUND)]).expect("a sound rule");
    assert_eq!(rules.rules().len(), Ruleset::built_in().rules().len() + 1);
    assert_eq!(rules.get("my-rule").map(|rule| rule.title.as_str()), Some("A bucket was made"));
    let test = BuiltInTest {
        rule: "my-rule".to_owned(),
        name: "inline".to_owned(),
        records: vec![r#"{"eventName":"CreateBucket"}"#.to_owned()],
        matches: true,
    };
    assert_eq!(speaks(&rules, &test), Ok(true));
}

#[test]
fn broken_yaml_is_refused_with_file_and_line() {
    let text = SOUND.replace("why: Because.", "why: [Because.");
    let said = refused("my-rule.yaml", &text);
    assert!(said.starts_with("my-rule.yaml: "), "{said}");
    // The list is opened on line 8; readers notice there or on the next line.
    assert!(said.contains("line 8") || said.contains("line 9") || said.contains(":8:"), "{said}");
}

#[test]
fn a_field_of_the_wrong_kind_is_refused_with_its_line() {
    let said = refused("my-rule.yaml", &SOUND.replace("severity: low", "severity: awful"));
    assert!(said.contains("my-rule.yaml") && said.contains("awful"), "{said}");
    assert!(said.contains('4'), "{said}");
    assert!(said.contains("informational"), "{said}");
}

#[test]
fn an_unknown_or_missing_field_is_refused_by_name() {
    let said = refused("my-rule.yaml", &SOUND.replace("triage:", "triagge:"));
    assert!(said.contains("triagge"), "{said}");
    let said = refused("my-rule.yaml", &SOUND.replace("why: Because.\n", ""));
    assert!(said.contains("why"), "{said}");
    let said = refused("my-rule.yaml", &SOUND.replace("match: true", "matches: true"));
    assert!(said.contains("matches"), "{said}");
}

#[test]
fn an_id_that_is_not_the_name_of_the_file_is_refused() {
    assert_eq!(
        refused("rules/another.yaml", SOUND),
        "rules/another.yaml: the id `my-rule` is not the name of the file"
    );
}

#[test]
fn a_rule_without_a_test_in_each_direction_is_refused() {
    let one_each = "my-rule.yaml: needs at least one test with `match: true` and one with \
                    `match: false`";
    let only = |keep: &str| -> String {
        SOUND
            .lines()
            .filter(|line| !line.contains("match:") || line.contains(keep))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    assert_eq!(refused("my-rule.yaml", &only("match: true")), one_each);
    assert_eq!(refused("my-rule.yaml", &only("match: false")), one_each);
    let none = only("none").replace("tests:\n", "");
    assert_eq!(refused("my-rule.yaml", &none), one_each);
    let bare = SOUND.replace(", record: { eventName: DeleteBucket }", "");
    assert_eq!(refused("my-rule.yaml", &bare), "my-rule.yaml: a test without a record");
}

#[test]
fn an_id_may_be_taken_once_only() {
    let twice = [file("a/my-rule.yaml", SOUND), file("b/my-rule.yaml", SOUND)];
    let errors = Ruleset::only(&twice).expect_err("two of them");
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["b/my-rule.yaml: there is already a rule `my-rule`"]);
    let id = "root-access-key-created";
    let taken = SOUND.replace("id: my-rule", &format!("id: {id}"));
    let errors = Ruleset::built_in_and(&[file(&format!("{id}.yaml"), &taken)]).expect_err("taken");
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(said, [format!("{id}.yaml: there is already a rule `{id}`")]);
}

#[test]
fn a_pattern_that_eventbridge_would_refuse_is_refused_with_reason_and_place() {
    let text = SOUND.replace("[CreateBucket]", "CreateBucket");
    let errors = Ruleset::only(&[file("my-rule.yaml", &text)]).expect_err("no list");
    assert!(matches!(&errors[..], [RuleError::Pattern { .. }]), "{errors:?}");
    let said = errors[0].to_string();
    assert!(said.starts_with("my-rule.yaml: pattern: "), "{said}");
    assert!(said.chars().any(|c| c.is_ascii_digit()), "no place: {said}");
}

#[test]
fn a_rule_that_follows_none_is_refused() {
    let text = SOUND.replace("why:", "follows: { rule: no-such-rule, within_minutes: 5 }\nwhy:");
    assert_eq!(
        refused("my-rule.yaml", &text),
        "my-rule.yaml: follows `no-such-rule`, but there is no such rule"
    );
}

#[test]
fn every_file_that_cannot_be_used_is_named_not_only_the_first() {
    let bad = [
        file("my-rule.yaml", SOUND),
        file("other.yaml", SOUND),
        file("third.yaml", "id: third"),
        file("fourth.yaml", ""),
    ];
    let errors = Ruleset::built_in_and(&bad).expect_err("three of four");
    let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for name in ["other.yaml", "third.yaml", "fourth.yaml"] {
        assert!(said.contains(name), "{name}: {said}");
    }
    assert!(!said.contains("my-rule.yaml:"), "{said}");
}
