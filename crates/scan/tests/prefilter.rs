//! The prefilter loses nothing: on sound and hostile texts a scan has the same findings with and without
//! it, whole and streamed, and on sound texts those of an independent reader.

mod texts;

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use rootwatch_core::decode::{Limits, Place};
use rootwatch_core::finding::RootUse;
use rootwatch_core::rules::{RuleFile, Ruleset};
use rootwatch_scan::{ScanOptions, Scanned, scan_bytes, scan_in_steps, unguarded_rules};
use serde_json::Value;
use texts::{Made, Tape, damage, sound};

static RULES: LazyLock<Ruleset> = LazyLock::new(Ruleset::built_in);

/// `PROPTEST_CASES` raises or lowers the number of cases; failures are kept beside this file.
fn config(cases: u32) -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prefilter.regressions");
    Config {
        cases: asked.unwrap_or(cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..Config::default()
    }
}

fn options(prefilter: bool, record_bytes_max: usize) -> ScanOptions {
    let limits = Limits { record_bytes_max, ..Limits::default() };
    ScanOptions { prefilter, limits, threads: 1, ..ScanOptions::default() }
}

/// Key, root use and rules of every finding, sorted: what may not depend on the way.
fn findings(scanned: &Scanned) -> Vec<String> {
    let mut lines: Vec<String> = scanned
        .findings
        .iter()
        .map(|located| {
            let finding = &located.detected.finding;
            let waiting = &located.detected.deferred;
            let rules = finding.rules.join(",");
            format!("{} {} {rules} {waiting:?}", finding.key.0, finding.root_use)
        })
        .collect();
    lines.sort();
    lines
}

/// Ids of the findings with root use, with their class.
fn root_use(scanned: &Scanned) -> Vec<(String, &'static str)> {
    let mut found: Vec<_> = scanned
        .findings
        .iter()
        .map(|located| &located.detected.finding)
        .filter(|finding| finding.root_use != RootUse::No)
        .map(|finding| (finding.event_id.clone().unwrap_or_default(), finding.root_use.name()))
        .collect();
    found.sort();
    found
}

/// A string, number or boolean as text; anything else, and the empty string, is not stated.
fn stated(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

/// The table of root use, written down a second time from the blueprint and on another parser.
fn expected(record: &Value) -> Option<&'static str> {
    let identity = &record["userIdentity"];
    let session = &identity["sessionContext"];
    let (kind, arn) = (stated(&identity["type"]), stated(&identity["arn"]));
    let name = stated(&record["eventName"]).unwrap_or_default();
    let source = stated(&record["eventSource"]).unwrap_or_default();
    let event_type = stated(&record["eventType"]).unwrap_or_default();
    let says = |text: &Option<String>, word: &str| {
        text.as_deref().is_some_and(|text| text.eq_ignore_ascii_case(word))
    };
    let service_event = event_type.eq_ignore_ascii_case("AwsServiceEvent");
    let root_arn = arn.as_deref().is_some_and(|arn| {
        ["arn:aws", "arn:aws-us-gov", "arn:aws-cn"]
            .iter()
            .any(|partition| arn == format!("{partition}:iam::222233334444:root"))
    });
    if name == "AssumeRoot" && source.starts_with("sts.") {
        return Some("privileged");
    }
    if says(&stated(&session["assumedRoot"]), "true") && !service_event {
        return Some("privileged");
    }
    if says(&kind, "root") || (kind.is_none() && root_arn) {
        let by_service = stated(&identity["invokedBy"])
            .is_some_and(|service| !service.starts_with("signin.amazonaws.com"));
        return Some(if service_event || by_service { "on_behalf" } else { "direct" });
    }
    if says(&stated(&session["sessionIssuer"]["type"]), "root") {
        return Some("derived");
    }
    let untyped = kind.is_none() && arn.is_none() && !service_event;
    let recovery = ["PasswordRecoveryRequested", "PasswordRecoveryCompleted", "PasswordUpdated"];
    let billing = ["CloseAccount", "SetSecurityQuestions"];
    let usually_root = event_type == "AwsConsoleAction"
        || (source.starts_with("signin.") && recovery.contains(&name.as_str()))
        || (source.starts_with("billingconsole.") && billing.contains(&name.as_str()));
    (untyped && usually_root).then_some("possible")
}

fn oracle(made: &Made) -> Vec<(String, &'static str)> {
    let mut found: Vec<_> = made
        .records
        .iter()
        .filter_map(|record| {
            let id = stated(&record["eventID"]).unwrap_or_default();
            expected(record).map(|root_use| (id, root_use))
        })
        .collect();
    found.sort();
    found
}

/// A sound text is read whole, in every way alike, and as the oracle reads it.
fn check_sound(tape: &[u8], step: usize) -> Result<(), TestCaseError> {
    let made = sound(&mut Tape::new(tape));
    let text = &made.text;
    let shown = || String::from_utf8_lossy(text).into_owned();
    let reference = scan_bytes(text, &RULES, &options(false, 1 << 20));
    prop_assert_eq!(&reference.summary.skipped, &[], "{}", shown());
    prop_assert_eq!(reference.summary.records, made.records.len() as u64, "{}", shown());
    prop_assert_eq!(root_use(&reference), oracle(&made), "{}", shown());
    let reference = findings(&reference);
    for (way, scanned, counts) in [
        ("filtered", scan_bytes(text, &RULES, &options(true, 1 << 20)), true),
        ("streamed", scan_in_steps(text, step, &RULES, &options(false, 1 << 20)), true),
        ("both", scan_in_steps(text, step, &RULES, &options(true, 1 << 20)), made.plain),
        ("log file", scan_in_steps(text, usize::MAX, &RULES, &options(true, 1 << 20)), made.plain),
    ] {
        prop_assert_eq!(&findings(&scanned), &reference, "{} {}: {}", way, step, shown());
        prop_assert_eq!(scanned.summary.skipped_total, 0, "{} {}: {}", way, step, shown());
        if counts {
            let records = scanned.summary.records;
            prop_assert_eq!(records, made.records.len() as u64, "{} {}: {}", way, step, shown());
        }
    }
    let root_use_only = ScanOptions { rule_only: false, ..options(true, 1 << 20) };
    let scanned = scan_in_steps(text, usize::MAX, &RULES, &root_use_only);
    prop_assert_eq!(root_use(&scanned), oracle(&made), "root use only: {}", shown());
    Ok(())
}

/// Damage that shows without decoding a record, with its place.
fn damage_between(scanned: &Scanned) -> Vec<(Option<Place>, &str)> {
    use rootwatch_core::split::reason::{
        EMPTY, ENDS_INSIDE, LIST_OPEN, NOT_AN_OBJECT, NOT_JSON, NOT_UTF8, TOO_LARGE, UNCLOSED,
    };
    let between =
        [EMPTY, ENDS_INSIDE, LIST_OPEN, NOT_AN_OBJECT, NOT_JSON, NOT_UTF8, TOO_LARGE, UNCLOSED];
    let skipped = scanned.summary.skipped.iter();
    skipped
        .filter(|skipped| between.contains(&skipped.reason.as_str()))
        .map(|skipped| (skipped.place, skipped.reason.as_str()))
        .collect()
}

/// A text, sound or not, gives the same findings with the prefilter and without it, whole and in
/// steps. Whole and in steps may differ where the text is damaged.
fn check_any(text: &[u8], step: usize, record_bytes_max: usize) -> Result<(), TestCaseError> {
    let (with, without) = (options(true, record_bytes_max), options(false, record_bytes_max));
    for (way, with, without) in [
        ("file", scan_bytes(text, &RULES, &with), scan_bytes(text, &RULES, &without)),
        (
            "steps",
            scan_in_steps(text, step, &RULES, &with),
            scan_in_steps(text, step, &RULES, &without),
        ),
        (
            "log file",
            scan_in_steps(text, usize::MAX, &RULES, &with),
            scan_in_steps(text, usize::MAX, &RULES, &without),
        ),
    ] {
        let shown = || format!("{way} {step} {record_bytes_max}: \"{}\"", text.escape_ascii());
        prop_assert_eq!(findings(&with), findings(&without), "{}", shown());
        // It may pass over damage inside a record that it discards, but it sees none that is not
        // there, and all that lies between records.
        let (some, all) = (with.summary.skipped_total, without.summary.skipped_total);
        prop_assert!(some <= all, "{} of {}: {}", some, all, shown());
        prop_assert_eq!(damage_between(&with), damage_between(&without), "{}", shown());
    }
    let root_use_only = ScanOptions { rule_only: false, ..with };
    for (way, with) in [
        ("file", scan_bytes(text, &RULES, &root_use_only)),
        ("log file", scan_in_steps(text, usize::MAX, &RULES, &root_use_only)),
    ] {
        let all = scan_bytes(text, &RULES, &without);
        let shown = || format!("{way} {record_bytes_max}: \"{}\"", text.escape_ascii());
        prop_assert_eq!(root_use(&with), root_use(&all), "root use only, {}", shown());
    }
    Ok(())
}

/// A tape that a failure shows on one line.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

fn tape(length: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), length).prop_map(Bytes)
}

const STEPS: [usize; 6] = [usize::MAX, 4096, 700, 129, 64, 37];

proptest! {
    #![proptest_config(config(1200))]

    #[test]
    fn sound_texts_give_the_same_in_every_way_and_what_the_oracle_reads(
        tape in tape(0..600),
        step in prop::sample::select(&STEPS[..]),
    ) {
        check_sound(&tape.0, step)?;
    }
}

proptest! {
    #![proptest_config(config(1800))]

    #[test]
    fn hostile_texts_give_the_same_in_every_way(
        tape in tape(0..400),
        blows in tape(1..24),
        step in prop::sample::select(&STEPS[..]),
        record_bytes_max in prop::sample::select(&[1 << 20, 2000, 300][..]),
    ) {
        let mut text = sound(&mut Tape::new(&tape.0)).text;
        for blow in blows.0.chunks(6) {
            damage(&mut Tape::new(blow), &mut text);
        }
        check_any(&text, step, record_bytes_max)?;
    }

    #[test]
    fn bytes_at_random_give_the_same_in_every_way(
        text in prop::collection::vec(
            prop::sample::select(&b"{}[]\",:\\u0052oo tN\nRootsC\xff\0eventName"[..]),
            0..300,
        ),
        step in prop::sample::select(&STEPS[..]),
    ) {
        check_any(&text, step, 64)?;
    }
}

/// A record with these members.
fn record(members: &str) -> String {
    format!(
        r#"{{"eventVersion":"1","eventName":"GetUser","eventSource":"x.y","eventID":"1",{members}}}"#
    )
}

#[test]
fn every_spelling_of_root_use_is_found_and_nothing_that_looks_like_it() {
    for (members, class) in [
        (r#""userIdentity":{"type":"Root"}"#, Some("direct")),
        (r#""userIdentity":{"type" : "ROOT"}"#, Some("direct")),
        (r#""userIdentity":{"type":"\u0052\u006F\u006f\u0074"}"#, Some("direct")),
        (r#""userIdentity":{"typ\u0065":"roo\u0074"}"#, Some("direct")),
        (r#""\u0075serIdentity":{"type":"Root"}"#, Some("direct")),
        (r#""userIdentity":{"arn":"arn:aws:iam::222233334444\u003aroot"}"#, Some("direct")),
        (r#""userIdentity":{"arn":"arn:aws:iam::222233334444:root"}"#, Some("direct")),
        (r#""userIdentity":{"sessionContext":{"assumedRoot":true}}"#, Some("privileged")),
        (r#""userIdentity":{"sessionContext":{"assumedRoo\u0074":"true"}}"#, Some("privileged")),
        (r#""eventName":"AssumeRoot","eventSource":"sts.x""#, Some("privileged")),
        (r#""event\u004eame":"Assume\u0052oot","eventSource":"sts.x""#, Some("privileged")),
        (r#""eventType":"AwsConsoleAction""#, Some("possible")),
        (r#""eventType":"Aws\u0043onsoleAction""#, Some("possible")),
        (r#""eventName":"EmailUpdated","eventSource":"signin.x""#, Some("possible")),
        (r#""eventName":"\u0045mailUpdated","eventSource":"signin.x""#, Some("possible")),
        (r#""userIdentity":{"type":"IAMUser","userName":"Root"}"#, None),
        (r#""userIdentity":{"type":"RootCA"}"#, None),
        (r#""userIdentity":{"type":"Root "}"#, None),
        (r#""userIdentity":{"type":"IAMUser"},"eventType":"AwsConsoleAction""#, None),
        (r#""x":{"userIdentity":{"type":"Root"}}"#, None),
        (r#""x":"{\"userIdentity\":{\"type\":\"Root\"}}""#, None),
    ] {
        for text in [record(members), format!(r#"{{"Records":[{}]}}"#, record(members))] {
            check_any(text.as_bytes(), 64, 1 << 20).expect(members);
            let scanned = scan_in_steps(text.as_bytes(), 64, &RULES, &options(true, 1 << 20));
            let found = root_use(&scanned).first().map(|(_, class)| *class);
            assert_eq!(found, class, "{members}");
        }
    }
}

#[test]
fn a_record_over_the_limit_costs_the_same_with_and_without_the_prefilter() {
    let inner = record(r#""userIdentity":{"type":"Root"}"#);
    for length in [10, 150, 190, 200, 300, 5_000, 40_000] {
        let pad = "x".repeat(length);
        let outer = record(&format!(r#""a":{inner},"pad":"{pad}""#));
        let after = record(r#""userIdentity":{"type":"ROOT"}"#);
        for text in [
            format!("{outer}\n{after}\n"),
            format!(r#"{{"Records":[{after},{outer},{after}]}}"#),
            format!(r#"{{"Records":[{},{after}]}}"#, record(&format!(r#""pad":"{pad}""#))),
        ] {
            for step in STEPS {
                check_any(text.as_bytes(), step, 300).expect("alike");
            }
        }
    }
}

#[test]
fn the_built_in_rules_can_all_be_prefiltered() {
    assert_eq!(unguarded_rules(&RULES), [] as [String; 0]);
}

#[test]
fn a_rule_without_an_event_name_is_reported_and_finds_the_same_with_the_prefilter_on() {
    let rule = |id: &str, pattern: &str| RuleFile {
        name: format!("{id}.yaml"),
        text: format!(
            "{{id: {id}, title: t, did: did d, severity: low, pattern: {pattern}, why: w, triage: [t], \
             false_positives: [f], blind_spots: [b], attack: [], references: [], tests: [\
             {{name: a, record: {{eventName: A}}, match: true}}, \
             {{name: b, record: {{eventName: B}}, match: false}}]}}"
        ),
    };
    let text = br#"{"eventName":"GetObject","eventSource":"s3.amazonaws.com","eventID":"1"}"#;
    for (pattern, guarded) in [
        ("{detail: {eventName: [GetObject]}}", true),
        ("{detail: {eventSource: [s3.amazonaws.com]}}", false),
        ("{detail: {eventName: [{prefix: Get}]}}", false),
        ("{detail: {eventName: [GetObject, {suffix: Object}]}}", false),
        ("{detail: {eventName: [{anything-but: PutObject}]}}", false),
        ("{detail: {$or: [{eventName: [GetObject]}, {eventSource: [x]}]}}", false),
        ("{detail: {$or: [{eventName: [GetObject]}, {eventName: [PutObject]}]}}", true),
        ("{detail: {eventName: [GetObject], userIdentity: {type: [{exists: false}]}}}", true),
        ("{source: [aws.s3]}", false),
    ] {
        let rules = Ruleset::only(&[rule("own", pattern)]).expect(pattern);
        assert_eq!(unguarded_rules(&rules).is_empty(), guarded, "{pattern}");
        for prefilter in [true, false] {
            let scanned = scan_bytes(text, &rules, &options(prefilter, 1 << 20));
            assert_eq!(scanned.findings.len(), 1, "{pattern}");
            let streamed = scan_in_steps(text, 64, &rules, &options(prefilter, 1 << 20));
            assert_eq!(streamed.findings.len(), 1, "{pattern}");
        }
    }
}
