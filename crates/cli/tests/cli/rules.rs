//! `rootwatch rules`: list, show, test.

use std::fs;

use crate::{path, root, run};

const OWN: &str = r#"id: own-bucket-listed
title: Buckets were listed
did: listed buckets
severity: medium
pattern: { detail: { eventName: [ListBuckets] } }
why: A test.
triage: [Look.]
false_positives: [None.]
blind_spots: [None.]
attack: []
references: []
tests:
  - { name: listed, record: { eventName: ListBuckets }, match: true }
  - { name: not listed, record: record.json, match: false }
"#;

fn folder(rule: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("own-bucket-listed.yaml"), rule).expect("a file");
    fs::write(folder.path().join("record.json"), r#"{"eventName":"GetBucket"}"#).expect("a file");
    folder
}

fn built_in_count() -> usize {
    fs::read_dir(root().join("crates/core/rules")).expect("the rules").count()
}

#[test]
fn list_prints_every_rule_as_json_into_a_pipe_and_as_a_table_when_asked() {
    let told = run(&["rules", "list"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let lines = told.lines();
    assert_eq!(lines.len(), built_in_count());
    for line in lines {
        assert!(line["id"].is_string() && line["pattern"].is_object(), "{line}");
    }
    let table = run(&["rules", "list", "--format", "table"]);
    assert_eq!(table.code, 0);
    let last = table.out.lines().last().expect("a line");
    assert_eq!(last, format!("{} rules", built_in_count()));
    assert!(table.out.contains("  root-access-key-created  "), "{}", table.out);
}

#[test]
fn list_and_show_know_the_users_rules_beside_the_built_in_ones() {
    let folder = folder(OWN);
    let told = run(&["rules", "list", "--rules", path(folder.path())]);
    assert_eq!(told.lines().len(), built_in_count() + 1);
    let told = run(&["rules", "show", "own-bucket-listed", "--rules", path(folder.path())]);
    assert_eq!(told.code, 0);
    assert!(told.out.starts_with("Buckets were listed\nown-bucket-listed\n"), "{}", told.out);
}

#[test]
fn show_says_what_a_rule_means_and_gives_a_pattern_to_paste() {
    let told = run(&["rules", "show", "root-console-login-without-mfa"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    for part in ["severity    critical", "Why", "Do first", "False positives", "Blind spots"] {
        assert!(told.out.contains(part), "{part}: {}", told.out);
    }
    let told = run(&["rules", "show", "root-console-login-without-mfa", "--pattern"]);
    let pattern: serde_json::Value = serde_json::from_str(&told.out).expect("JSON alone");
    assert_eq!(pattern["detail"]["eventName"], serde_json::json!(["ConsoleLogin"]));
}

#[test]
fn show_of_an_unknown_id_suggests_the_nearest() {
    let told = run(&["rules", "show", "root-acess-key-created"]);
    assert_eq!((told.code, told.out.as_str()), (2, ""));
    assert_eq!(
        told.err,
        "error: unknown rule `root-acess-key-created`\n\
         hint: did you mean `root-access-key-created`?\n"
    );
}

#[test]
fn the_built_in_rules_pass_their_own_tests_without_the_source_tree() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut command = crate::program();
    let output = command.current_dir(elsewhere.path()).args(["rules", "test"]).output();
    let told = crate::ran(output.expect("the program"));
    assert_eq!((told.code, told.err.as_str()), (0, ""), "{}", told.out);
    assert!(told.out.trim_end().ends_with(" passed, 0 failed"), "{}", told.out);
    let passed: usize =
        told.out.split(' ').next().and_then(|count| count.parse().ok()).expect("a count");
    assert!(passed >= 2 * built_in_count(), "{}", told.out);
}

#[test]
fn the_rules_of_the_working_copy_can_be_tested_in_their_folder() {
    let told = run(&["rules", "test", "crates/core/rules"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""), "{}", told.out);
    assert!(told.out.trim_end().ends_with(" passed, 0 failed"), "{}", told.out);
}

#[test]
fn a_users_rule_is_tested_with_records_beside_it() {
    let folder = folder(OWN);
    for named in [folder.path().to_owned(), folder.path().join("own-bucket-listed.yaml")] {
        let told = run(&["rules", "test", path(&named)]);
        assert_eq!((told.code, told.out.as_str()), (0, "2 passed, 0 failed\n"), "{}", told.err);
    }
}

#[test]
fn a_rule_broken_on_purpose_is_named_with_the_test_that_fails() {
    let folder = folder(&OWN.replace("[ListBuckets]", "[GetBucket]"));
    let told = run(&["rules", "test", path(folder.path())]);
    assert_eq!((told.code, told.err.as_str()), (1, ""));
    assert_eq!(
        told.out,
        "FAILED own-bucket-listed: listed: rule did not match, expected a match\n\
         FAILED own-bucket-listed: not listed: rule matched, expected no match\n\
         0 passed, 2 failed\n"
    );
}

/// What is said of a rule that cannot be used.
fn refused(rule: &str) -> String {
    let folder = folder(rule);
    let told = run(&["rules", "test", path(folder.path())]);
    assert_eq!((told.code, told.out.as_str()), (2, ""), "{}", told.err);
    assert!(told.err.contains("own-bucket-listed.yaml"), "{}", told.err);
    told.err
}

#[test]
fn an_unsound_rule_is_a_configuration_error_that_names_the_file() {
    for (from, to, said) in [
        ("severity: medium", "severity: awful", "awful"),
        ("why:", "whyy:", "whyy"),
        ("id: own-bucket-listed", "id: another", "is not the name of the file"),
        ("match: false", "match: true", "one with `match: false`"),
        ("[ListBuckets]", "ListBuckets", "pattern"),
        ("record.json", "nowhere.json", "record `nowhere.json` not found"),
        ("triage: [Look.]", "triage: [Look.", "line"),
    ] {
        let error = refused(&OWN.replace(from, to));
        assert!(error.starts_with("error: ") && error.contains(said), "{said}: {error}");
    }
}

#[test]
fn a_folder_without_rules_or_a_missing_one_is_an_error() {
    let empty = tempfile::tempdir().expect("a folder");
    let told = run(&["rules", "test", path(empty.path())]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("no rules in") && told.err.contains("hint: "), "{}", told.err);
    let told = run(&["rules", "list", "--rules", path(&empty.path().join("none"))]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("none"), "{}", told.err);
}
