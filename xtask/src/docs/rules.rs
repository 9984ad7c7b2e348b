//! `docs/reference/rules/`: a page for each rule, and an index.

use std::fmt::Write as _;

use rootwatch_core::finding::{NeedsRoot, Severity};
use rootwatch_core::rules::{Rule, Ruleset};

use super::markdown::{cell, plain};

/// Where the pages are.
pub(super) const FOLDER: &str = "docs/reference/rules";

/// The index and the pages, by their paths.
pub(super) fn pages() -> anyhow::Result<Vec<(String, String)>> {
    let rules = Ruleset::built_in();
    let mut pages = vec![(format!("{FOLDER}/README.md"), index(rules.rules())?)];
    for rule in rules.rules() {
        pages.push((format!("{FOLDER}/{}.md", rule.id), page(rule)?));
    }
    Ok(pages)
}

fn index(rules: &[Rule]) -> anyhow::Result<String> {
    let mut text = String::from(
        "# Detection rules\n\n\
         Generated from `crates/core/rules/` (`cargo xtask docs`); do not edit.\n\n\
         Root use is always a finding, even when no rule matches. A rule adds a name, a severity and \
         what to do first. Each event pattern can be pasted into EventBridge. \
         [Write your own](../../how-to/write-rules.md).\n\n",
    );
    writeln!(text, "{} rules:\n", rules.len())?;
    text.push_str("| Severity | Rule | Title |\n|---|---|---|\n");
    let mut severities = Severity::ALL;
    severities.reverse();
    for severity in severities {
        for rule in rules.iter().filter(|rule| rule.severity == severity) {
            let (id, title) = (&rule.id, cell(&rule.title));
            writeln!(text, "| {severity} | [`{id}`]({id}.md) | {title} |")?;
        }
    }
    Ok(text)
}

fn page(rule: &Rule) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(text, "# {}\n", plain(&rule.title))?;
    writeln!(
        text,
        "Generated from `crates/core/rules/{}.yaml` (`cargo xtask docs`); do not edit. \
         [All rules](README.md)\n",
        rule.id
    )?;
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(text, "| Rule | `{}` |", rule.id)?;
    writeln!(text, "| Severity | {} |", rule.severity)?;
    writeln!(text, "| Needs the root user | {} |", needs_root(rule.needs_root))?;
    if let Some(follows) = &rule.follows {
        let (count, id, minutes) = (follows.at_least, &follows.rule, follows.within_minutes);
        let finding = if count == 1 { "finding" } else { "findings" };
        writeln!(
            text,
            "| Matches only after | {count} {finding} of [`{id}`]({id}.md) within {minutes} minutes |"
        )?;
    }
    if rule.first.is_some() {
        writeln!(text, "| Matches only | the first finding with an access key |")?;
    }
    if !rule.attack.is_empty() {
        let ids: Vec<String> = rule.attack.iter().map(|id| technique(id)).collect();
        writeln!(text, "| MITRE ATT&CK | {} |", ids.join(", "))?;
    }
    writeln!(text, "\n{}", plain(&rule.why))?;
    writeln!(text, "\n## Do first\n")?;
    for (index, step) in rule.triage.iter().enumerate() {
        writeln!(text, "{}. {}", index + 1, plain(step))?;
    }
    writeln!(text, "\nCommands: [respond to an alert](../../how-to/respond.md).")?;
    for (title, lines) in
        [("False positives", &rule.false_positives), ("Blind spots", &rule.blind_spots)]
    {
        writeln!(text, "\n## {title}\n")?;
        for line in lines {
            writeln!(text, "- {}", plain(line))?;
        }
    }
    let pattern = serde_json::to_string_pretty(&rule.pattern)?;
    writeln!(text, "\n## Event pattern\n\n```json\n{pattern}\n```")?;
    if !rule.references.is_empty() {
        writeln!(text, "\n## References\n")?;
        for line in &rule.references {
            let is_address = line.starts_with("https://") && !line.contains(char::is_whitespace);
            let line = if is_address { format!("<{line}>") } else { plain(line) };
            writeln!(text, "- {line}")?;
        }
    }
    Ok(text)
}

fn needs_root(needs: NeedsRoot) -> &'static str {
    match needs {
        NeedsRoot::Yes => "yes: the task is on AWS's list of tasks that require the root user",
        NeedsRoot::No => "no: a role could have done it",
        NeedsRoot::Unknown => "unknown: not decided by the call alone",
    }
}

/// `T1562.001` with a link to its page.
fn technique(id: &str) -> String {
    let is_id = id.starts_with('T') && id[1..].bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_id {
        format!("[{id}](https://attack.mitre.org/techniques/{}/)", id.replace('.', "/"))
    } else {
        plain(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_row_and_a_page_worst_first() {
        let rules = Ruleset::built_in();
        let pages = pages().expect("pages");
        let (_, index) = &pages[0];
        assert_eq!(pages.len(), rules.rules().len() + 1);
        for rule in rules.rules() {
            assert!(index.contains(&format!("[`{0}`]({0}.md)", rule.id)), "{}", rule.id);
            let path = format!("{FOLDER}/{}.md", rule.id);
            let page = pages.iter().find(|(own, _)| *own == path);
            assert!(page.is_some_and(|(_, page)| page.contains("## Do first")), "{path}");
        }
        let first = |severity: &str| index.find(&format!("\n| {severity} |")).expect("a row");
        assert!(first("critical") < first("high") && first("high") < first("low"));
    }
}
