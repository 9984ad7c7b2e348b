//! `cargo xtask docs`: documentation that is generated from the code which obeys it.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, bail};
use rootwatch_core::finding::{NeedsRoot, Severity};
use rootwatch_core::rules::{Rule, Ruleset};

use crate::run::{cargo, output_of, root};

pub(crate) const HELP: &str = "\
cargo xtask docs [--check]

Writes docs/rules.md from the rules, docs/cli.md from the program's own help, docs/config.md and
docs/rootwatch.schema.json from the schema of the configuration, and docs/channels.md from what the
channels say of themselves.
--check writes nothing and fails with the names of the files that are stale.";

pub(crate) fn command(words: &[&str]) -> anyhow::Result<()> {
    match words {
        [] => write_all(),
        ["--check"] => check(),
        _ => bail!("unknown arguments: see `cargo xtask docs --help`"),
    }
}

/// The generated files, by their paths.
fn generated() -> anyhow::Result<Vec<(&'static str, String)>> {
    let program = |words: &[&str]| {
        let run = ["run", "--quiet", "--package", "rootwatch", "--"];
        output_of(cargo(&[&run, words].concat()))
    };
    Ok(vec![
        ("docs/rules.md", rules_page(Ruleset::built_in().rules())?),
        ("docs/cli.md", program(&["reference", "cli"])?),
        ("docs/config.md", program(&["reference", "config"])?),
        ("docs/channels.md", program(&["reference", "channels"])?),
        ("docs/rootwatch.schema.json", program(&["config", "schema"])?),
    ])
}

fn write_all() -> anyhow::Result<()> {
    for (path, text) in generated()? {
        let place = root().join(path);
        if fs::read_to_string(&place).is_ok_and(|old| old == text) {
            println!("{path} is fresh");
            continue;
        }
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&place, text).with_context(|| format!("cannot write {path}"))?;
        println!("{path} written");
    }
    Ok(())
}

pub(crate) fn check() -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for (path, text) in generated()? {
        // A checkout may have changed line ends.
        let old = fs::read_to_string(root().join(path)).map(|old| old.replace("\r\n", "\n"));
        if !old.is_ok_and(|old| old == text) {
            stale.push(path);
        }
    }
    if !stale.is_empty() {
        bail!("stale: {} (write them with `cargo xtask docs`)", stale.join(", "));
    }
    Ok(())
}

/// `docs/rules.md`.
fn rules_page(rules: &[Rule]) -> anyhow::Result<String> {
    let mut text = String::from(
        "# The detection rules\n\n\
         Generated from `crates/core/rules/` (`cargo xtask docs`); do not edit.\n\n\
         Root use is always a finding, whether or not a rule knows the call. A rule names what was \
         done, raises the severity and says what to do. Each event pattern can be pasted into \
         EventBridge.\n\n",
    );
    writeln!(text, "{} rules:\n", rules.len())?;
    text.push_str("| Severity | Rule | What it tells |\n|---|---|---|\n");
    let mut severities = Severity::ALL;
    severities.reverse();
    for severity in severities {
        for rule in rules.iter().filter(|rule| rule.severity == severity) {
            let (id, title) = (&rule.id, cell(&rule.title));
            writeln!(text, "| {severity} | [`{id}`](#{id}) | {title} |")?;
        }
    }
    for rule in rules {
        section(&mut text, rule)?;
    }
    Ok(text)
}

fn section(text: &mut String, rule: &Rule) -> anyhow::Result<()> {
    writeln!(text, "\n## {}\n\n**{}**\n", rule.id, plain(&rule.title))?;
    writeln!(text, "- Severity: {}", rule.severity)?;
    let needs_root = match rule.needs_root {
        NeedsRoot::Yes => "yes, the task is on AWS's list of those that require the root user",
        NeedsRoot::No => "no, a role could have done it",
        NeedsRoot::Unknown => "the question does not arise",
    };
    writeln!(text, "- Needs the root user: {needs_root}")?;
    if let Some(follows) = &rule.follows {
        let (count, id, minutes) = (follows.at_least, &follows.rule, follows.within_minutes);
        let finding = if count == 1 { "finding" } else { "findings" };
        writeln!(
            text,
            "- Only after: {count} {finding} of [`{id}`](#{id}) within {minutes} minutes"
        )?;
    }
    if rule.first.is_some() {
        writeln!(text, "- Only first: speaks for the first finding with an access key")?;
    }
    if !rule.attack.is_empty() {
        let ids: Vec<String> = rule.attack.iter().map(|id| technique(id)).collect();
        writeln!(text, "- ATT&CK: {}", ids.join(", "))?;
    }
    writeln!(text, "\n{}", plain(&rule.why))?;
    writeln!(text, "\n### What to do\n")?;
    for (index, step) in rule.triage.iter().enumerate() {
        writeln!(text, "{}. {}", index + 1, plain(step))?;
    }
    for (title, lines) in
        [("May be harmless when", &rule.false_positives), ("Cannot see", &rule.blind_spots)]
    {
        writeln!(text, "\n### {title}\n")?;
        for line in lines {
            writeln!(text, "- {}", plain(line))?;
        }
    }
    if !rule.references.is_empty() {
        writeln!(text, "\n### Read on\n")?;
        for line in &rule.references {
            let is_address = line.starts_with("https://") && !line.contains(char::is_whitespace);
            let line = if is_address { format!("<{line}>") } else { plain(line) };
            writeln!(text, "- {line}")?;
        }
    }
    let pattern = serde_json::to_string_pretty(&rule.pattern)?;
    writeln!(text, "\n### Event pattern\n\n```json\n{pattern}\n```")?;
    Ok(())
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

/// Text that Markdown shows as it is, but for `code` between backticks.
fn plain(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts = text.split('`').collect::<Vec<_>>();
    // A backtick without a partner is a character like others.
    let stray = if parts.len().is_multiple_of(2) { parts.pop() } else { None };
    let mut out = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index % 2 == 1 {
            write!(out, "`{part}`").unwrap_or_default();
        } else {
            escape(&mut out, part);
        }
    }
    if let Some(stray) = stray {
        out.push_str("\\`");
        escape(&mut out, stray);
    }
    // What would begin a heading, a list or a quote.
    let digits = out.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 && matches!(out.as_bytes().get(digits), Some(b'.' | b')')) {
        out.insert(digits, '\\');
    } else if out.starts_with(['#', '-', '+', '=']) {
        out.insert(0, '\\');
    }
    out
}

fn escape(out: &mut String, text: &str) {
    for (at, c) in text.char_indices() {
        // An underscore within a word is no emphasis.
        let is_inner = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let is_mark = match c {
            '\\' | '*' | '[' | ']' | '<' | '>' | '&' | '~' => true,
            '_' => !(at > 0 && is_inner(bytes.get(at - 1)) && is_inner(bytes.get(at + 1))),
            _ => false,
        };
        if is_mark {
            out.push('\\');
        }
        out.push(c);
    }
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    plain(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is_and_code_stays_code() {
        for (text, markdown) in [
            ("Ask the caller why.", "Ask the caller why."),
            ("set `a_b*c` to *", "set `a_b*c` to \\*"),
            ("<script> & [x](y)", "\\<script\\> \\& \\[x\\](y)"),
            ("snake_case and _this_", "snake_case and \\_this\\_"),
            ("a ` stray", "a \\` stray"),
            ("# not a heading", "\\# not a heading"),
            ("1. not a list", "1\\. not a list"),
            ("two\n  lines", "two lines"),
        ] {
            assert_eq!(plain(text), markdown);
        }
        assert_eq!(cell("a | `b|c`"), "a \\| `b\\|c`");
    }

    #[test]
    fn every_rule_has_a_row_and_a_section_worst_first() {
        let rules = Ruleset::built_in();
        let page = rules_page(rules.rules()).expect("a page");
        for rule in rules.rules() {
            assert!(page.contains(&format!("\n## {}\n", rule.id)), "{}", rule.id);
            assert!(page.contains(&format!("[`{0}`](#{0})", rule.id)), "{}", rule.id);
        }
        let first = |severity: &str| page.find(&format!("\n| {severity} |")).expect("a row");
        assert!(first("critical") < first("high") && first("high") < first("low"));
    }
}
