//! `rootwatch pattern match`: JSON lines in, an answer a line out.

use crate::{run, run_with};

fn answers(input: &str) -> Vec<String> {
    let told = run_with(&["pattern", "match"], input.as_bytes());
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    told.out.lines().map(str::to_owned).collect()
}

#[test]
fn each_line_is_answered_by_a_line() {
    let input = r#"
{"pattern": "{\"source\":[\"aws.iam\"]}", "event": "{\"source\":\"aws.iam\"}"}
{"pattern": {"source":["aws.iam"]}, "event": {"source":"aws.s3"}}

{"pattern": {"source":[{"prefix":"aws."}]}, "event": {"source":"aws.s3"}}"#;
    assert_eq!(answers(input), ["true", "false", "true"]);
    assert_eq!(answers(""), [""; 0]);
}

#[test]
fn an_invalid_line_costs_itself_and_says_where_it_is_wrong() {
    let input = r#"{"pattern": {"a":1}, "event": {}}
{"pattern": {"a":[{"prefx":"x"}]}, "event": {}}
{"pattern": {"a":[1]}, "event": "{"}
{"pattern": {"a":[1]}}
not JSON
{"pattern": {"a":[1]}, "event": {"a":1}}"#;
    let answers = answers(input);
    assert_eq!(answers.len(), 6);
    for (answer, [begin, within]) in answers.iter().zip([
        ["invalid: pattern: ", "line 1 column 6"],
        ["invalid: pattern: ", "(a[0])"],
        ["invalid: event: ", "line 1"],
        ["invalid: the line: ", "`event`"],
        ["invalid: the line: ", "line 1 column 2"],
        ["true", ""],
    ]) {
        assert!(answer.starts_with(begin) && answer.contains(within), "{answer}");
    }
}

#[test]
fn bytes_that_are_no_text_are_an_invalid_line() {
    let told = run_with(&["pattern", "match"], b"\xff\xfe\n{\"pattern\":{},\"event\":{}}\n");
    let lines: Vec<&str> = told.out.lines().collect();
    assert_eq!(told.code, 0);
    assert_eq!(lines[0], "invalid: the line is not UTF-8");
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_line_that_is_too_long_is_passed_over_and_the_next_is_answered() {
    let mut input = vec![b' '; 9 << 20];
    input.extend_from_slice(b"\n{\"pattern\":{\"a\":[1]},\"event\":{\"a\":1}}\n");
    let told = run_with(&["pattern", "match"], &input);
    let lines: Vec<&str> = told.out.lines().collect();
    assert!(lines[0].starts_with("invalid: the line is longer than"), "{lines:?}");
    assert_eq!(lines[1..], ["true"]);
}

#[test]
fn pattern_alone_shows_its_help_and_is_a_usage_error() {
    let told = run(&["pattern"]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("match"), "{}", told.err);
}
