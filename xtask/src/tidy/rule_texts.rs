//! Texts of detection rules are short enough for a subject line, a phone and somebody at 03:00.

use serde_json::Value;

use super::tree::Tree;

/// Characters of a title: what a subject line and a lock screen show.
const TITLE_CHARS_MAX: usize = 50;
/// Characters of a step: two lines on a phone.
const STEP_CHARS_MAX: usize = 100;
/// Beginnings of steps that the program has already done when the alert is sent.
const DONE_BY_THE_ALERT: [&str; 2] = ["Count", "See whether"];

/// Titles and steps of rules keep their limits.
pub(super) fn rule_texts(tree: &Tree) -> Vec<String> {
    tree.texts("crates/core/rules/", ".yaml")
        .flat_map(|(path, text)| {
            problems(text).into_iter().map(move |problem| format!("{path}: {problem}"))
        })
        .collect()
}

fn problems(text: &str) -> Vec<String> {
    let rule: Value = match serde_saphyr::from_str(text) {
        Ok(rule) => rule,
        Err(error) => return vec![format!("is not YAML: {error}")],
    };
    let mut problems = Vec::new();
    let title = rule["title"].as_str().unwrap_or_default();
    let chars = title.chars().count();
    if chars > TITLE_CHARS_MAX {
        problems.push(format!("the title has {chars} characters, at most {TITLE_CHARS_MAX}"));
    }
    for step in rule["triage"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let chars = step.chars().count();
        if chars > STEP_CHARS_MAX {
            problems
                .push(format!("a step has {chars} characters, at most {STEP_CHARS_MAX}: {step}"));
        }
        if DONE_BY_THE_ALERT.iter().any(|begin| step.starts_with(begin)) {
            problems.push(format!("a step asks for what the alert already says: {step}"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_pass_and_long_ones_are_found() {
        let rule =
            |title: &str, step: &str| format!("id: a\ntitle: {title}\ntriage: [\"{step}\"]\n");
        let none = Vec::<String>::new();
        assert_eq!(problems(&rule("Root access key created", "Delete the key now.")), none);
        assert_eq!(problems(&rule(&"t".repeat(50), &"é".repeat(100))), none);
        for (title, step) in [
            ("t".repeat(51).as_str(), "Delete it."),
            ("t", "s".repeat(101).as_str()),
            ("t", "Count the failures."),
            ("t", "See whether a sign-in succeeded."),
        ] {
            assert_eq!(problems(&rule(title, step)).len(), 1, "{title} {step}");
        }
        assert_eq!(problems("title: [").len(), 1);
    }
}
