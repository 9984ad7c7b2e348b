//! `rootwatch rules`: lists, shows and tests the detection rules.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use rootwatch_core::decode::{Event, Item, Limits, decode_log};
use rootwatch_core::detect::{Detected, Detector, finalize};
use rootwatch_core::finding::NeedsRoot;
use rootwatch_core::rules::{Rule, RuleError, RuleFile, Ruleset, TestRecord, built_in_tests};

use crate::args::{ListFormat, RulesCommand};
use crate::output::text;
use crate::report::Hint;

/// Jaro-Winkler similarity from which an unknown id is probably a typing error.
const SIMILARITY_MIN: f64 = 0.85;
/// Largest size of a rule file in bytes.
const RULE_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn run(command: RulesCommand) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    let code = match command {
        RulesCommand::List { rules, format } => list(&mut out, &load(&rules)?, format),
        RulesCommand::Show { id, rules, pattern } => show(&mut out, &load(&rules)?, &id, pattern),
        RulesCommand::Test { paths } if paths.is_empty() => test_built_in(&mut out),
        RulesCommand::Test { paths } => test_files(&mut out, &paths),
    }?;
    out.flush()?;
    Ok(code)
}

/// Loads the built-in rules and those in folders.
pub(crate) fn load(folders: &[PathBuf]) -> anyhow::Result<Ruleset> {
    if folders.is_empty() {
        return Ok(Ruleset::built_in());
    }
    let mut files = Vec::new();
    for folder in folders {
        files.extend(read_rules(folder)?);
    }
    Ruleset::built_in_and(&files).map_err(|errors| refused(&errors))
}

fn refused(errors: &[RuleError]) -> anyhow::Error {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Hint::error(
        format!("{} refused\n{}", text::count(errors.len() as u64, "rule"), lines.join("\n")),
        "`rootwatch rules show root-bucket-deleted` shows a short rule; docs/how-to/write-rules.md explains all keys",
    )
}

/// The rule files of a path: the file itself, or all `*.yaml` below the folder, sorted.
fn read_rules(path: &Path) -> anyhow::Result<Vec<RuleFile>> {
    let mut paths = Vec::new();
    if path.is_dir() {
        find_rules(path, &mut paths)
            .with_context(|| format!("cannot read rules from {}", path.display()))?;
        paths.sort();
        if paths.is_empty() {
            return Err(Hint::error(
                format!("no rules in {}", path.display()),
                "rule files end in .yaml",
            ));
        }
    } else {
        paths.push(path.to_owned());
    }
    paths.into_iter().map(|path| read_rule(&path)).collect()
}

fn find_rules(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // Links are not followed: rules are in the folder itself.
        if entry.file_type()?.is_dir() {
            find_rules(&path, paths)?;
        } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            paths.push(path);
        }
    }
    Ok(())
}

fn read_rule(path: &Path) -> anyhow::Result<RuleFile> {
    let name = path.display().to_string();
    let cannot_read = || format!("cannot read rules from {name}");
    let size = std::fs::metadata(path).with_context(cannot_read)?.len();
    if size > RULE_BYTES_MAX {
        anyhow::bail!(
            "{name}: a rule may have at most {RULE_BYTES_MAX} bytes, this file has {size}"
        );
    }
    let text = std::fs::read_to_string(path).with_context(cannot_read)?;
    Ok(RuleFile { name, text })
}

fn list(
    out: &mut dyn Write,
    rules: &Ruleset,
    format: Option<ListFormat>,
) -> anyhow::Result<ExitCode> {
    let default = if io::stdout().is_terminal() { ListFormat::Table } else { ListFormat::Jsonl };
    match format.unwrap_or(default) {
        ListFormat::Jsonl => {
            for rule in rules.rules() {
                writeln!(out, "{}", serde_json::to_string(rule)?)?;
            }
        }
        ListFormat::Table => {
            let wide = rules.rules().iter().map(|rule| rule.id.len()).max().unwrap_or(0);
            for rule in rules.rules() {
                writeln!(out, "{:13}  {:wide$}  {}", rule.severity, rule.id, rule.title)?;
            }
            writeln!(out, "{}", text::count(rules.rules().len() as u64, "rule"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(
    out: &mut dyn Write,
    rules: &Ruleset,
    id: &str,
    only_pattern: bool,
) -> anyhow::Result<ExitCode> {
    let Some(rule) = rules.get(id) else {
        let similarity = |rule: &Rule| strsim::jaro_winkler(id, &rule.id);
        let nearest = rules
            .rules()
            .iter()
            .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
            .filter(|rule| similarity(rule) >= SIMILARITY_MIN);
        let hint = match nearest {
            Some(rule) => format!("did you mean `{}`?", rule.id),
            None => {
                let count = text::count(rules.rules().len() as u64, "rule");
                format!("`rootwatch rules list` shows all {count}")
            }
        };
        return Err(Hint::error(format!("unknown rule `{id}`"), hint));
    };
    let pattern = serde_json::to_string_pretty(&rule.pattern)?;
    if only_pattern {
        writeln!(out, "{pattern}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}\n{}\n", rule.title, rule.id)?;
    writeln!(out, "severity    {}", rule.severity)?;
    writeln!(out, "needs root  {}", needs_root(rule))?;
    if let Some(follows) = &rule.follows {
        writeln!(
            out,
            "requires    {} of `{}` in the previous {}",
            text::count(follows.at_least as u64, "match"),
            follows.rule,
            text::count(follows.within_minutes.unsigned_abs(), "minute"),
        )?;
    }
    if rule.first.is_some() {
        writeln!(out, "requires    first use of an access key")?;
    }
    if !rule.attack.is_empty() {
        writeln!(out, "ATT&CK      {}", rule.attack.join(", "))?;
    }
    writeln!(out, "\nWhy\n{}", indent(&rule.why, "  "))?;
    writeln!(out, "\nDo first")?;
    for (index, step) in rule.triage.iter().enumerate() {
        writeln!(out, "{}", indent_after(&format!("  {}  ", index + 1), step))?;
    }
    for (title, lines) in [
        ("False positives", &rule.false_positives),
        ("Blind spots", &rule.blind_spots),
        ("References", &rule.references),
    ] {
        writeln!(out, "\n{title}")?;
        for line in lines {
            // A wrapped address cannot be opened.
            let is_address = line.starts_with("https://");
            let text = if is_address { format!("  - {line}") } else { indent_after("  - ", line) };
            writeln!(out, "{text}")?;
        }
    }
    writeln!(out, "\nEvent pattern\n{pattern}")?;
    Ok(ExitCode::SUCCESS)
}

/// Says whether the task that a rule detects needs the root user.
fn needs_root(rule: &Rule) -> &'static str {
    match rule.needs_root {
        NeedsRoot::Yes => "yes: on AWS's list of tasks that require the root user",
        NeedsRoot::No => "no: a role could have done it",
        NeedsRoot::Unknown => "not applicable or unknown",
    }
}

fn indent(text: &str, by: &str) -> String {
    text::wrap(text, 88).iter().map(|line| format!("{by}{line}")).collect::<Vec<_>>().join("\n")
}

fn indent_after(first: &str, text: &str) -> String {
    let rest = " ".repeat(first.len());
    let lines = text::wrap(text, 92 - first.len());
    lines
        .iter()
        .enumerate()
        .map(|(index, line)| format!("{}{line}", if index == 0 { first } else { &rest }))
        .collect::<Vec<_>>()
        .join("\n")
}

/// One test, ready to run.
struct Case {
    rule: String,
    name: String,
    records: Vec<String>,
    matches: bool,
}

fn test_built_in(out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let cases = built_in_tests()
        .into_iter()
        .map(|test| Case {
            rule: test.rule,
            name: test.name,
            records: test.records,
            matches: test.matches,
        })
        .collect();
    run_cases(out, &Ruleset::built_in(), cases)
}

fn test_files(out: &mut dyn Write, paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(read_rules(path)?);
    }
    // A file of a built-in rule replaces that rule.
    let rules = Ruleset::built_in_replaced_by(&files).map_err(|errors| refused(&errors))?;
    let mut cases = Vec::new();
    for file in &files {
        let rule = rootwatch_core::rules::parse_rule(file)?;
        for test in &rule.tests {
            let records = test
                .all_records()
                .map(|record| record_text(&file.name, record))
                .collect::<anyhow::Result<Vec<_>>>()?;
            cases.push(Case {
                rule: rule.id.clone(),
                name: test.name.clone(),
                records,
                matches: test.matches,
            });
        }
    }
    run_cases(out, &rules, cases)
}

/// Reads a test's record: relative to the rule's folder or one above it, then to the working directory.
fn record_text(rule_file: &str, record: &TestRecord) -> anyhow::Result<String> {
    let path = match record {
        TestRecord::Inline(fields) => return Ok(serde_json::to_string(fields)?),
        TestRecord::File(path) => Path::new(path),
    };
    let mut candidates: Vec<PathBuf> =
        Path::new(rule_file).ancestors().skip(1).map(|folder| folder.join(path)).collect();
    candidates.push(path.to_owned());
    let found = candidates.iter().find(|candidate| candidate.is_file()).ok_or_else(|| {
        Hint::error(
            format!("{rule_file}: record `{}` not found", path.display()),
            "give its path relative to the rule's folder, a folder above it, or the working directory",
        )
    })?;
    std::fs::read_to_string(found)
        .with_context(|| format!("cannot read the record {}", found.display()))
}

fn run_cases(out: &mut dyn Write, rules: &Ruleset, cases: Vec<Case>) -> anyhow::Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for case in cases {
        let problem = match last_record_matches(rules, &case) {
            Ok(matched) if matched == case.matches => None,
            Ok(true) => Some("rule matched, expected no match".to_owned()),
            Ok(false) => Some("rule did not match, expected a match".to_owned()),
            Err(reason) => Some(reason),
        };
        match problem {
            None => passed += 1,
            Some(problem) => {
                failed += 1;
                writeln!(out, "FAILED {}: {}: {problem}", case.rule, case.name)?;
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True if the rule matches the last record.
fn last_record_matches(rules: &Ruleset, case: &Case) -> Result<bool, String> {
    let mut detector = Detector::new(rules);
    let mut detected: Vec<Detected> = Vec::new();
    let mut last = None;
    for text in &case.records {
        last = None;
        let mut count = 0;
        let mut problem = None;
        decode_log(text.as_bytes(), &Limits::default(), &mut |_, item| match item {
            Item::Event(event) => {
                count += 1;
                last = detect_one(&mut detector, &event, &mut detected);
            }
            Item::PassedOver(_) => count += 1,
            Item::Skipped(skipped) => problem = Some(skipped.reason),
        });
        if let Some(problem) = problem {
            return Err(format!("a record cannot be decoded: {problem}"));
        }
        if count == 0 {
            return Err("a record file is empty".to_owned());
        }
    }
    let Some(key) = last else { return Ok(false) };
    let (findings, _) = finalize(detected, rules);
    Ok(findings
        .iter()
        .find(|finding| finding.key == key)
        .is_some_and(|finding| finding.rules.contains(&case.rule)))
}

fn detect_one(
    detector: &mut Detector<'_>,
    event: &Event<'_>,
    detected: &mut Vec<Detected>,
) -> Option<rootwatch_core::finding::FindingKey> {
    let found = detector.detect(event)?;
    let key = found.finding.key.clone();
    detected.push(found);
    Some(key)
}
