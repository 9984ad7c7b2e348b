//! Every fixture is judged as `fixtures/cloudtrail/expected.tsv` says: a finding that is not
//! expected fails as a missing one does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rootwatch_core::classify::{classify, mfa};
use rootwatch_core::decode::{Event, Item, Limits, decode_log};
use rootwatch_core::detect::{Detector, finalize};
use rootwatch_core::rules::Ruleset;

/// A row of the table, without the columns that are for people.
struct Row<'a> {
    file: &'a str,
    root_use: &'a str,
    mfa: &'a str,
    rules: BTreeSet<&'a str>,
    finding: bool,
    shape: &'a str,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cloudtrail")
}

fn table() -> String {
    std::fs::read_to_string(folder().join("expected.tsv")).expect("the table")
}

fn rows(table: &str) -> Vec<Row<'_>> {
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("file\troot_use\tmfa\trules\tfinding\tshape\tsource\tnote"));
    lines.map(row).collect()
}

fn row(line: &str) -> Row<'_> {
    let cells: Vec<&str> = line.split('\t').collect();
    let [file, root_use, mfa, rules, finding, shape, _, _] = cells[..] else {
        panic!("not eight columns: {line}");
    };
    assert!(matches!(finding, "yes" | "no"), "{file}: finding is yes or no");
    Row {
        file,
        root_use,
        mfa,
        rules: rules.split(',').filter(|rule| !rule.is_empty()).collect(),
        finding: finding == "yes",
        shape,
    }
}

#[test]
fn files_and_rows_correspond_one_to_one() {
    let table = table();
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for line in table.lines().skip(1) {
        *rows.entry(line.split('\t').next().unwrap_or_default()).or_default() += 1;
    }
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "README.md" && name != "expected.tsv")
        .collect();
    let mut wrong = Vec::new();
    for (row, count) in &rows {
        if *count > 1 {
            wrong.push(format!("{row}: {count} rows"));
        }
        if !files.contains(*row) {
            wrong.push(format!("{row}: a row without a file"));
        }
    }
    wrong.extend(
        files
            .iter()
            .filter(|file| !rows.contains_key(file.as_str()))
            .map(|file| format!("{file}: a file without a row")),
    );
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_fixture_is_judged_as_the_table_says() {
    let table = table();
    let rows = rows(&table);
    let rules = Ruleset::built_in();
    let mut wrong = Vec::new();
    for row in &rows {
        let bytes = std::fs::read(folder().join(row.file)).expect("the file of the row");
        let found = problems(row, &bytes, &rules);
        wrong.extend(found.iter().map(|problem| format!("{}: {problem}", row.file)));
    }
    let count = wrong.len();
    assert!(
        wrong.is_empty(),
        "\n{}\n\n{count} wrong in {} fixtures\n",
        wrong.join("\n"),
        rows.len()
    );
}

/// Everything in which a file differs from its row.
fn problems(row: &Row<'_>, bytes: &[u8], rules: &Ruleset) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut detector = Detector::new(rules);
    let (mut records, mut passed_over) = (0, 0);
    decode_log(bytes, &Limits::default(), &mut |place, item| match item {
        Item::Event(event) => {
            records += 1;
            let mut note = |text: String| wrong.push(format!("record {}: {text}", place.record));
            judged(row, &event, &mut note);
            detected(row, &event, rules, &mut detector, &mut note);
        }
        Item::PassedOver(_) => passed_over += 1,
        Item::Skipped(skipped) => wrong.push(format!("cannot be decoded: {}", skipped.reason)),
    });
    let many = matches!(row.shape, "log_file" | "json_lines" | "other");
    let sound = match row.root_use {
        // An empty list of records holds nothing to pass over either.
        "passed_over" => records == 0 && (passed_over > 0 || row.shape == "log_file"),
        _ => passed_over == 0 && (records == 1 || many && records > 0),
    };
    if !sound {
        wrong.push(format!(
            "{} with {records} records and {passed_over} objects without one, where {} is expected",
            row.shape, row.root_use
        ));
    }
    wrong
}

fn judged(row: &Row<'_>, event: &Event<'_>, note: &mut impl FnMut(String)) {
    let judgement = classify(&event.record);
    if judgement.root_use.name() != row.root_use {
        note(format!("root use is {}, expected {}", judgement.root_use, row.root_use));
    }
    if judgement.reasons.is_empty() != (judgement.root_use.name() == "no") {
        note(format!("{} for {} reasons", judgement.root_use, judgement.reasons.len()));
    }
    let mfa = mfa(&event.record).name();
    if mfa != row.mfa {
        note(format!("mfa is {mfa}, expected {}", row.mfa));
    }
}

/// Rules and finding of the record when it is alone. A rule with `follows` needs a story.
fn detected(
    row: &Row<'_>,
    event: &Event<'_>,
    rules: &Ruleset,
    detector: &mut Detector<'_>,
    note: &mut impl FnMut(String),
) {
    let matching: BTreeSet<&str> = detector
        .matching(event)
        .matched
        .iter()
        .map(|index| &rules.rules()[*index])
        .filter(|rule| rule.follows.is_none())
        .map(|rule| rule.id.as_str())
        .collect();
    compare("a pattern matches", &matching, &row.rules, note);
    let (findings, _) = finalize(detector.detect(event).into_iter().collect(), rules);
    let spoken = findings.iter().flat_map(|finding| &finding.rules).map(String::as_str).collect();
    compare("a rule speaks", &spoken, &row.rules, note);
    if findings.is_empty() == row.finding {
        note(
            if row.finding { "no finding, expected one" } else { "a finding, expected none" }
                .into(),
        );
    }
}

fn compare(
    what: &str,
    got: &BTreeSet<&str>,
    expected: &BTreeSet<&str>,
    note: &mut impl FnMut(String),
) {
    for id in got.difference(expected) {
        note(format!("{what} that the table does not list: {id}"));
    }
    for id in expected.difference(got) {
        note(format!("{what}, so says the table, but it does not: {id}"));
    }
}

#[test]
fn a_row_that_says_something_else_is_noticed_in_every_column() {
    let rules = Ruleset::built_in();
    let file = "root-create-access-key.json";
    let bytes = std::fs::read(folder().join(file)).expect("the file");
    let table = table();
    let line = table.lines().find(|line| line.starts_with(file)).expect("its row");
    let altered = |column: usize, text: &str| {
        let mut cells: Vec<&str> = line.split('\t').collect();
        cells[column] = text;
        problems(&row(&cells.join("\t")), &bytes, &rules).join("\n")
    };
    assert_eq!(altered(7, "another note"), "");
    assert!(altered(1, "derived").contains("root use is direct, expected derived"));
    assert!(altered(1, "passed_over").contains("where passed_over is expected"));
    assert!(altered(2, "used").contains("mfa is "));
    assert!(altered(3, "").contains("does not list: root-access-key-created"));
    assert!(altered(3, "root-mfa-removed").contains("but it does not: root-mfa-removed"));
    assert!(altered(4, "no").contains("a finding, expected none"));
}
