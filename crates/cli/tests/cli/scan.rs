//! What the program takes, refuses and explains.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::{gzip, log, path, program, record, run, run_with, zst};

#[test]
fn version_and_help_say_what_they_should() {
    let version = run(&["--version"]);
    assert_eq!(version.code, 0);
    assert_eq!(version.out, format!("rootwatch {}\n", env!("CARGO_PKG_VERSION")));
    for args in [&["help", "scan"][..], &["scan", "--help"], &["scan", "-h"]] {
        let help = run(args);
        assert_eq!((help.code, help.err.as_str()), (0, ""));
        for part in ["Exit codes:", "  0  ", "  1  ", "  2  ", "  3  ", "Examples:", "--fail-on"] {
            assert!(help.out.contains(part), "{part}: {}", help.out);
        }
    }
    let nothing = run(&[]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.contains("rootwatch scan ./logs"), "{}", nothing.err);
}

#[test]
fn there_are_completions_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let told = run(&["completions", shell]);
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{shell}");
        for word in ["rootwatch", "scan", "fail-on"] {
            assert!(told.out.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(run(&["completions", "tcsh"]).code, 2);
}

#[test]
fn there_is_a_man_page_for_the_program_and_for_each_command() {
    let told = run(&["man"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.contains(".TH rootwatch 1"), "{}", told.out);
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("pages");
    assert_eq!(run(&["man", "--dir", path(&pages)]).code, 0);
    for page in ["rootwatch.1", "rootwatch-scan.1", "rootwatch-rules-test.1"] {
        assert!(pages.join(page).is_file(), "{page}");
    }
}

#[test]
fn impossible_arguments_are_refused_with_advice() {
    for (args, error, hint) in [
        (&["x", "--since", "yesterday"][..], "not a time; write 2026-05-04T14:00:00Z", "--help"),
        (&["x", "--until", "2026-13-01"], "not a time; write 2026-05-04T14:00:00Z", "--help"),
        (
            &["x", "--since", "2026-05-05", "--until", "2026-05-04"],
            "is not before --until",
            "hint: ",
        ),
        (&["s3://Bucket/prefix"], "s3://Bucket/prefix", "hint: write s3://BUCKET/PREFIX"),
        (&["lookup://prod"], "an account id has twelve digits", "hint: write lookup://"),
        (&["lookup://222233334444"], "needs a role in each of them", "hint: add --role-name"),
        (&["x", "--checkpoint", "c"], "--checkpoint only works with s3://", "hint: "),
        (&["x", "--fan-out", "https://q"], "--fan-out only works with s3://", "hint: "),
        (&["x", "--requester-pays"], "--requester-pays only work with s3://", "hint: "),
        (&["s3://bucket", "--role-arn", "audit"], "arn:aws:iam::111122223333:role/", "--help"),
        (&["s3://bucket", "--external-id", "x"], "--external-id needs a role", "hint: "),
        (&["status"], "<QUEUE_URL>", "--help"),
        (&["x", "--time-zone", "Europe/Nowhere"], "Europe/Nowhere", "hint: use `utc`"),
        (&["x", "--account", "1234"], "an account id has twelve digits", "--help"),
        (&["x", "--severity", "high"], "--severity", "--min-severity"),
        (&["x", "--fail-on", "sever"], "sever", "possible values"),
        (&["x", "--format", "xml"], "xml", "possible values"),
        (&["x", "--threads", "0"], "0 is not in 1..=256", "--help"),
        (&["x", "--findings-max", "0"], "must be a number of findings, at least 1", "--help"),
        (&["x", "--file-bytes-max", "10k"], "not a number of bytes, for example", "--help"),
        (&["x", "--record-bytes-max", "1"], "must be 1024 to 67108864 bytes", "--help"),
        (&["x", "--output", "report.pdf"], "--output report.pdf", "hint: use .html, .csv"),
        (&["-", "-"], "standard input was given twice", ""),
        (&[], "<PATH>", "--help"),
        (&["x", "--rules", "no-such-folder"], "no-such-folder", ""),
        (
            &["x", "--account-names", "no-such-file"],
            "cannot read account names from no-such-file",
            "",
        ),
    ] {
        let told = run(&[&["scan"], args].concat());
        assert_eq!((told.code, told.out.as_str()), (2, ""), "{args:?}: {}", told.err);
        assert!(told.err.starts_with("error: "), "{args:?}: {}", told.err);
        assert!(told.err.contains(error) && told.err.contains(hint), "{args:?}: {}", told.err);
    }
}

#[test]
fn a_region_that_does_not_exist_is_named_and_so_are_those_that_do() {
    let story = "fixtures/story";
    let none = run(&["scan", "--format", "jsonl", "--region", "mars-1", story]);
    assert_eq!((none.code, none.out.as_str()), (0, ""), "{}", none.err);
    let warning = "warning: no region `mars-1` in this input (found: ";
    assert!(none.err.contains(warning) && none.err.contains("us-east-1"), "{}", none.err);
    let one = run(&["scan", "--format", "jsonl", "--region", "us-east-1", story]);
    assert!(!one.out.is_empty() && !one.err.contains("warning"), "{}", one.err);
    let quiet = run(&["scan", "--quiet", "--region", "mars-1", story]);
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
}

#[test]
fn a_missing_path_makes_the_scan_incomplete_and_not_empty() {
    let told = run(&["scan", "no/such/folder", "no-*.json"]);
    assert_eq!((told.code, told.out.as_str()), (3, ""));
    assert!(told.err.contains("  no/such/folder\n    no such file or folder"), "{}", told.err);
}

#[test]
fn standard_input_is_told_by_content() {
    let text = log(&["a", "b"]);
    let lines = format!("{}\n{}\n", record("a"), record("b"));
    for (what, bytes) in [
        ("plain", text.clone().into_bytes()),
        ("gzip", gzip(text.as_bytes())),
        ("zstd", zst(text.as_bytes())),
        ("lines", lines.clone().into_bytes()),
        ("lines in gzip", gzip(lines.as_bytes())),
    ] {
        let told = run_with(&["scan", "-"], &bytes);
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{what}");
        assert_eq!(told.ids(), ["a", "b"], "{what}");
        assert!(told.lines().iter().all(|line| line["file"] == "-"), "{what}");
    }
    let told = run_with(&["scan", "-"], b"");
    assert_eq!((told.code, told.out.as_str()), (3, ""));
    assert!(told.err.contains("standard input") && told.err.contains("empty"), "{}", told.err);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let many: Vec<String> = (0..2000).map(|id| record(&id.to_string())).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("many.json");
    fs::write(&file, many.join("\n")).expect("a file");
    for args in [&["scan", path(&file)][..], &["rules", "list"]] {
        let mut child = program()
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut first = String::new();
        reader.read_line(&mut first).expect("a line");
        assert!(first.starts_with('{'), "{first}");
        drop(reader);
        let mut err = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("UTF-8");
        assert_eq!((child.wait().expect("an end").code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn colour_is_for_terminals_unless_asked_for_and_no_color_is_honoured() {
    let story = |args: &[&str], name: &str| {
        let mut command = program();
        command.args(["scan", "fixtures/story", "--format", "table"]).args(args);
        if !name.is_empty() {
            command.env(name, "1");
        }
        crate::ran(command.output().expect("the program")).out.contains('\u{1b}')
    };
    assert!(!story(&[], ""));
    assert!(!story(&[], "NO_COLOR"));
    assert!(story(&["--color", "always"], ""));
    assert!(!story(&["--color", "never"], ""));
    let error = |names: &[&str]| {
        let mut command = program();
        command.args(["scan", "s3://x"]).envs(names.iter().map(|name| (*name, "1")));
        crate::ran(command.output().expect("the program")).err.contains('\u{1b}')
    };
    assert!(!error(&[]));
    assert!(error(&["CLICOLOR_FORCE"]), "the next line would prove nothing");
    assert!(!error(&["CLICOLOR_FORCE", "NO_COLOR"]));
}

/// A folder of one rule of the user's.
fn rule(pattern: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "id: own-rule\ntitle: The users own rule spoke\ndid: did something\nseverity: critical\n\
         pattern: {pattern}\nwhy: w\ntriage: [t]\nfalse_positives: [f]\nblind_spots: [b]\n\
         attack: []\nreferences: []\ntests:\n\
         - {{ name: a, record: {{ eventName: A }}, match: true }}\n\
         - {{ name: b, record: {{ eventName: B }}, match: false }}\n"
    );
    fs::write(folder.path().join("own-rule.yaml"), text).expect("a file");
    folder
}

const ORDINARY: &str = r#"{"eventName":"GetThing","eventSource":"thing.amazonaws.com","eventID":"1","userIdentity":{"type":"IAMUser"}}"#;

#[test]
fn a_users_rule_speaks_in_findings() {
    let folder = rule("{ detail: { eventName: [GetThing, ListBuckets] } }");
    let args = ["scan", "-", "--rules", path(folder.path())];
    let told = run_with(&args, format!("{ORDINARY}\n{}", record("2")).as_bytes());
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let lines = told.lines();
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert_eq!(line["rules"], serde_json::json!(["own-rule"]));
        assert_eq!(line["title"], "The users own rule spoke");
        assert_eq!(line["severity"], "critical");
    }
    let told = run_with(&[&args[..], &["--fail-on", "critical"]].concat(), ORDINARY.as_bytes());
    assert_eq!(told.code, 1);
    let told = run_with(&["scan", "-"], ORDINARY.as_bytes());
    assert_eq!((told.code, told.out.as_str()), (0, ""));
}

#[test]
fn a_users_rule_that_asks_for_no_name_works_and_its_price_is_told() {
    let folder = rule("{ detail: { eventSource: [thing.amazonaws.com] } }");
    let told = run_with(&["scan", "-", "--rules", path(folder.path())], ORDINARY.as_bytes());
    assert_eq!((told.code, told.ids()), (0, vec!["1".to_owned()]));
    assert!(told.err.starts_with("note: ") && told.err.contains("own-rule"), "{}", told.err);
    let args = ["scan", "-", "--rules", path(folder.path()), "--quiet"];
    let told = run_with(&args, ORDINARY.as_bytes());
    assert_eq!((told.ids(), told.err.as_str()), (vec!["1".to_owned()], ""));
}

#[test]
fn a_users_rule_may_not_take_the_place_of_another() {
    let folder = rule("{ detail: { eventName: [GetThing] } }");
    let taken = fs::read_to_string(folder.path().join("own-rule.yaml")).expect("the rule");
    let taken = taken.replace("own-rule", "root-access-key-created");
    fs::write(folder.path().join("root-access-key-created.yaml"), taken).expect("a file");
    let told = run_with(&["scan", "-", "--rules", path(folder.path())], ORDINARY.as_bytes());
    assert_eq!((told.code, told.out.as_str()), (2, ""));
    assert!(told.err.contains("there is already a rule `root-access-key-created`"), "{}", told.err);
}

#[test]
fn a_clean_look_says_that_everything_was_looked_at_and_finds_nothing() {
    let told = run_with(&["scan", "-", "--format", "table"], ORDINARY.as_bytes());
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.contains("1 record"), "{}", told.out);
    assert!(!told.out.contains("not complete"), "{}", told.out);
    let cut = format!("{{\"Records\":[{ORDINARY}");
    let told = run_with(&["scan", "-", "--format", "table"], cut.as_bytes());
    assert_eq!(told.code, 3);
    assert!(told.out.contains("not complete"), "{}", told.out);
}
