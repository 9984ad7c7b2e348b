//! The break-in of `fixtures/story`, in every format that the program prints.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Ran, root, run};

const STORY: &str = "fixtures/story";
const ALL_ROOT_USE: &str = "direct,privileged,derived,on_behalf,possible";

/// What `--format jsonl` promises.
const FIELDS: [&str; 21] = [
    "event_id",
    "event_time",
    "account_id",
    "recipient_account_id",
    "region",
    "event_source",
    "event_name",
    "root_use",
    "severity",
    "rules",
    "title",
    "reasons",
    "outcome",
    "error_code",
    "mfa",
    "source_ip",
    "user_agent",
    "access_key_id",
    "read_only",
    "incident_id",
    "file",
];

fn clean(args: &[&str]) -> Ran {
    let told = run(&[&["scan", STORY], args].concat());
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    told
}

/// The table without the time that the scan took.
fn table(width: &str) -> String {
    let told = clean(&["--format", "table", "--width", width]);
    let timeless = |line: &str| match line.rsplit_once(" in ") {
        Some((before, _)) if line.starts_with("looked at ") => format!("{before} in [time]\n"),
        _ => format!("{line}\n"),
    };
    told.out.lines().map(timeless).collect()
}

#[test]
fn the_table_tells_the_break_in_on_a_wide_and_on_a_narrow_terminal() {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("story_100", table("100"));
        insta::assert_snapshot!("story_80", table("80"));
    });
}

#[test]
fn jsonl_has_the_promised_fields_in_order_on_every_line() {
    let told = clean(&["--format", "jsonl"]);
    assert!(told.out.lines().count() > 50);
    for line in told.out.lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let names: BTreeSet<&str> =
            value.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(FIELDS));
        let places: Vec<usize> = FIELDS
            .iter()
            .map(|name| line.find(&format!("\"{name}\":")).expect("the field"))
            .collect();
        assert!(places.is_sorted() && line.starts_with("{\"event_id\":"), "{line}");
    }
}

#[test]
fn jsonl_is_the_default_into_a_pipe_and_sorted_by_time_then_id() {
    let told = clean(&[]);
    assert_eq!(told.out, clean(&["--format", "jsonl"]).out);
    let order: Vec<(String, String)> = told
        .lines()
        .iter()
        .map(|line| (line["event_time"].to_string(), line["event_id"].to_string()))
        .collect();
    assert!(order.is_sorted());
}

#[test]
fn every_record_with_root_use_is_found_once() {
    let text = std::fs::read_to_string(root().join(STORY).join("expected.json")).expect("a file");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let told = clean(&["--root-use", ALL_ROOT_USE]);
    let lines = told.lines();
    let count = |class: &str| lines.iter().filter(|line| line["root_use"] == class).count() as u64;
    let expected = |class: &str| {
        expected["distinct"]["root_records"][class].as_u64().expect("a count of the class")
    };
    for class in ["privileged", "derived", "on_behalf"] {
        assert_eq!(count(class), expected(class), "{class}");
    }
    // The session proves who asked for the new password: what was possible has become direct.
    assert_eq!(count("possible"), 0);
    assert_eq!(count("direct"), expected("direct") + expected("possible"));
    let ids = told.ids();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
}

#[test]
fn the_findings_come_to_three_incidents() {
    let mut incidents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut worst: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in clean(&[]).lines() {
        let text = |name: &str| line[name].as_str().expect("a text").to_owned();
        incidents.entry(text("incident_id")).or_default().insert(text("account_id"));
        worst.entry(text("incident_id")).or_default().insert(text("severity"));
    }
    let mut accounts: Vec<_> = incidents.values().map(BTreeSet::len).collect();
    accounts.sort_unstable();
    // The break-in in one account, the audit of two members, the attempts on all three.
    assert_eq!(accounts, [1, 2, 3]);
    let critical = worst.values().filter(|severities| severities.contains("critical")).count();
    assert_eq!(critical, 1);
}

#[test]
fn the_way_of_reading_changes_no_byte() {
    let plain = clean(&["--root-use", ALL_ROOT_USE]).out;
    for way in [&["--no-prefilter"][..], &["--threads", "1"], &["--threads", "3"]] {
        assert_eq!(clean(&[way, &["--root-use", ALL_ROOT_USE]].concat()).out, plain, "{way:?}");
    }
    // With rule-only findings wanted, records are looked at in another way.
    let with_rules = clean(&["--root-use", "direct,privileged,derived,on_behalf,possible,no"]);
    let of_root: Vec<Value> =
        with_rules.lines().into_iter().filter(|line| line["root_use"] != "no").collect();
    let plain: Vec<Value> =
        plain.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(of_root, plain);
}

#[test]
fn the_exit_code_says_whether_something_is_as_bad_as_asked() {
    let code = |args: &[&str]| run(&[&["scan", STORY], args].concat()).code;
    assert_eq!(code(&[]), 0);
    assert_eq!(code(&["--fail-on", "critical"]), 1);
    assert_eq!(code(&["--fail-on", "low"]), 1);
    // Of the audit alone nothing is critical.
    let audit = ["--account", "333344445555", "--fail-on", "critical"];
    assert_eq!(code(&audit), 0);
    assert_eq!(code(&["--fail-on", "critical", "--until", "2026-05-04T13:51:00Z"]), 0);
    // An incomplete look may not claim anything.
    assert_eq!(code(&["--fail-on", "critical", "no-such-folder"]), 3);
    assert_eq!(code(&["no-such-folder"]), 3);
}

#[test]
fn csv_holds_the_same_and_runs_in_no_spreadsheet() {
    let told = clean(&["--format", "csv"]);
    let mut reader = csv::Reader::from_reader(told.out.as_bytes());
    assert!(reader.headers().expect("a header").iter().eq(FIELDS));
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
    let ids: Vec<&str> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(ids, clean(&[]).ids());
    for cell in rows.iter().flat_map(csv::StringRecord::iter) {
        assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell}");
    }
}

#[test]
fn ocsf_has_a_detection_finding_for_every_finding() {
    let told = clean(&["--format", "ocsf"]);
    let schema: Value =
        serde_json::from_str(include_str!("../schemas/ocsf-2004.schema.json")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let lines = told.lines();
    assert_eq!(lines.len(), clean(&[]).lines().len());
    for line in lines {
        assert_eq!(line["class_uid"], 2004);
        assert!(schema.is_valid(&line), "{line}");
    }
}

#[test]
fn html_is_one_page_that_loads_nothing() {
    let told = clean(&["--format", "html"]);
    let page = told.out.to_ascii_lowercase();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    for load in ["<script", "<link", "<iframe", "<img", "src=", "url(", "@import", "href=\"http"] {
        assert!(!page.contains(load), "{load}");
    }
    for told in ["222233334444", "203.0.113.77", "createaccesskey", "stoplogging"] {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn a_page_may_go_to_a_file_and_accounts_may_have_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.html");
    let names = folder.path().join("names.txt");
    std::fs::write(&names, "222233334444 prod-payments\n1111-2222-3333 management\n").expect("it");
    let (file, names) = (crate::path(&file), crate::path(&names));
    let told = clean(&["--format", "html", "--output", file, "--account-names", names]);
    assert_eq!(told.out, "");
    let page = std::fs::read_to_string(file).expect("a page");
    assert!(page.contains("prod-payments") && page.contains("</html>"));
}

#[test]
fn filters_leave_what_was_asked_for() {
    let only = |args: &[&str], field: &str| -> BTreeSet<String> {
        clean(args)
            .lines()
            .iter()
            .map(|line| line[field].as_str().expect("it").to_owned())
            .collect()
    };
    let set = |of: &[&str]| of.iter().map(|one| (*one).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(only(&["--root-use", "derived"], "event_name"), set(&["RunInstances"]));
    assert_eq!(only(&["--region", "ap-southeast-2"], "region"), set(&["ap-southeast-2"]));
    assert_eq!(only(&["--min-severity", "critical"], "severity"), set(&["critical"]));
    let accounts = only(&["--account", "1111-2222-3333"], "recipient_account_id");
    assert_eq!(accounts, set(&["111122223333"]));
    let (since, until) = ("2026-05-04T14:07:00Z", "2026-05-04T14:08:00Z");
    let names = only(&["--since", since, "--until", until], "event_name");
    assert_eq!(names, set(&["CreateAccessKey"]));
}
