//! Templates in `deploy/` hold the event patterns that `core` defines, and the state that lets read-only
//! calls through.

use rootwatch_core::cis::METRIC_FILTER;
use rootwatch_core::forwarding::{ALL, STATE};
use serde_json::Value;

use super::tree::Tree;

/// Templates that hold every forwarding rule.
const TEMPLATES: [&str; 2] = ["deploy/hub/rootwatch-hub.yaml", "deploy/spoke/rootwatch-spoke.yaml"];
/// Where the Terraform module keeps the patterns, a file each.
const PATTERNS: &str = "deploy/hub/terraform/patterns/";
/// Where it makes the forwarding rules of them.
const MODULE: &str = "deploy/hub/terraform/main.tf";

pub(super) fn templates(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for path in TEMPLATES {
        match tree.text(path) {
            Some(text) => template(path, text, &mut problems),
            None => problems.push(format!("{path} is missing")),
        }
    }
    module(tree, &mut problems);
    alarms(tree, &mut problems);
    // A template that we do not know of would go unchecked.
    for (path, text) in tree.texts("deploy/", "") {
        let is_known = TEMPLATES.contains(&path);
        if !is_known && path.ends_with(".yaml") && text.contains("AWS::Events::Rule") {
            problems.push(format!("{path} has forwarding rules and is not among the templates"));
        }
    }
    problems
}

fn template(path: &str, text: &str, problems: &mut Vec<String>) {
    let mut found = Vec::new();
    for (number, block) in blocks(text, "EventPattern:") {
        match serde_saphyr::from_str::<Value>(&block) {
            Ok(pattern) => found.push((number, pattern)),
            Err(error) => {
                problems.push(format!("{path}:{number}: the pattern is no YAML: {error}"));
            }
        }
    }
    for forwarding in ALL {
        let wanted: Value = value(forwarding.pattern);
        let count = found.iter().filter(|(_, pattern)| *pattern == wanted).count();
        if count != 1 {
            let id = forwarding.id;
            problems.push(format!("{path} holds core's pattern `{id}` {count} times, not once"));
        }
        found.retain(|(_, pattern)| *pattern != wanted);
        if !text.contains(forwarding.about) {
            problems.push(format!("{path} does not say `{}`", forwarding.about));
        }
    }
    for (number, _) in found {
        problems.push(format!("{path}:{number}: this pattern is none of core's"));
    }
    let states = text.lines().filter(|line| line.trim() == format!("State: {STATE}")).count();
    if states != ALL.len() {
        problems.push(format!("{path} has {states} rules in the state {STATE}, not {}", ALL.len()));
    }
}

/// The alarm's filter, as CloudFormation and Terraform write it.
fn alarm_filters() -> [(&'static str, String); 2] {
    [
        ("deploy/alarm/rootwatch-alarm.yaml", METRIC_FILTER.to_owned()),
        ("deploy/alarm/terraform/main.tf", format!("{METRIC_FILTER:?}")),
    ]
}

fn alarms(tree: &Tree, problems: &mut Vec<String>) {
    for (path, filter) in alarm_filters() {
        if tree.text(path).unwrap_or_default().matches(&filter).count() != 1 {
            problems.push(format!("{path} does not hold core's metric filter once"));
        }
    }
}

fn module(tree: &Tree, problems: &mut Vec<String>) {
    for forwarding in ALL {
        let path = format!("{PATTERNS}{}.json", forwarding.id);
        let is_same = tree
            .text(&path)
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            .is_some_and(|pattern| pattern == value(forwarding.pattern));
        if !is_same {
            problems.push(format!("{path} is not core's pattern"));
        }
        let text = tree.text(MODULE).unwrap_or_default();
        for wanted in [forwarding.about, forwarding.id] {
            if !text.contains(wanted) {
                problems.push(format!("{MODULE} does not say `{wanted}`"));
            }
        }
    }
    let count = tree.paths().filter(|path| path.starts_with(PATTERNS)).count();
    if count != ALL.len() {
        problems.push(format!("{PATTERNS} holds {count} files, not {}", ALL.len()));
    }
    if !tree.text(MODULE).unwrap_or_default().contains(&format!("\"{STATE}\"")) {
        problems.push(format!("{MODULE} does not state {STATE}"));
    }
}

fn value(pattern: &str) -> Value {
    serde_json::from_str(pattern).unwrap_or_default()
}

/// What stands below a key, by its indentation, with the number of the key's line.
fn blocks(text: &str, key: &str) -> Vec<(usize, String)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.trim() == key) {
        let below = lines[at + 1..].iter();
        let own = below.take_while(|other| other.trim().is_empty() || indent(other) > indent(line));
        let block: Vec<&str> = own.copied().collect();
        found.push((at + 1, block.join("\n")));
    }
    found
}

/// A tree in which the templates hold what they should.
#[cfg(test)]
pub(super) fn sound() -> Vec<(&'static str, &'static str)> {
    use std::sync::LazyLock;

    static TEMPLATE: LazyLock<String> = LazyLock::new(|| {
        let rule = |one: &rootwatch_core::forwarding::Forwarding| {
            let (about, pattern) = (one.about, value(one.pattern));
            format!("- {about}\n  State: {STATE}\n  EventPattern:\n    {pattern}\n")
        };
        ALL.iter().map(rule).collect()
    });
    static MAIN: LazyLock<String> = LazyLock::new(|| {
        let rules = ALL.iter().map(|one| format!("{} = \"{}\"\n", one.id, one.about));
        rules.chain([format!("state = \"{STATE}\"\n")]).collect()
    });
    static PATHS: LazyLock<Vec<String>> =
        LazyLock::new(|| ALL.iter().map(|one| format!("{PATTERNS}{}.json", one.id)).collect());
    static ALARMS: LazyLock<[(&str, String); 2]> = LazyLock::new(alarm_filters);
    let mut files: Vec<(&str, &str)> =
        TEMPLATES.iter().map(|path| (*path, TEMPLATE.as_str())).collect();
    files.push((MODULE, MAIN.as_str()));
    files.extend(ALARMS.iter().map(|(path, filter)| (*path, filter.as_str())));
    files.extend(PATHS.iter().zip(ALL).map(|(path, one)| (path.as_str(), one.pattern)));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl Fn(&str, &str) -> String) -> Vec<String> {
        let files: Vec<(&str, String)> =
            sound().into_iter().map(|(path, text)| (path, change(path, text))).collect();
        templates(&Tree::of(files.iter().map(|(path, text)| (*path, text.as_str())).collect()))
    }

    #[test]
    fn the_same_patterns_in_another_spelling_are_the_same() {
        assert_eq!(problems(|_, text| text.to_owned()), Vec::<String>::new());
        let spaced = problems(|path, text| {
            if path.ends_with(".json") { text.replace(':', " : ") } else { text.to_owned() }
        });
        // A colon within a string counts, as it should.
        assert_eq!(spaced.len(), 1, "{spaced:?}");
    }

    #[test]
    fn another_pattern_another_state_and_a_missing_file_are_found() {
        for (from, to) in [
            ("StopLogging", "StartLogging"),
            ("rootwatch.drill", "rootwatch.dri11"),
            (STATE, "ENABLED"),
            ("root use in all its forms", "root use"),
        ] {
            let found = problems(|_, text| text.replace(from, to));
            assert!(found.len() >= 3, "{from}: {found:?}");
        }
        let files: Vec<_> = sound().into_iter().skip(1).collect();
        assert_eq!(templates(&Tree::of(files)), [format!("{} is missing", TEMPLATES[0])]);
    }

    #[test]
    fn another_alarm_filter_is_found() {
        let found = problems(|_, text| text.replace("NOT EXISTS", "EXISTS"));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn an_unknown_template_with_rules_is_found() {
        let mut files = sound();
        files.push(("deploy/other/x.yaml", "Type: AWS::Events::Rule"));
        assert_eq!(templates(&Tree::of(files)).len(), 1);
    }
}
