//! Detection rules: event patterns with an id, a severity and texts for people.
//!
//! A rule is one YAML file. The built-in rules are in `crates/core/rules/` and are embedded at
//! build; a user's own rules have the same form.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::finding::{NeedsRoot, Severity};
use crate::pattern::{EventPattern, PatternError, PatternSet};

/// A detection rule, as written in its file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Permanent; the name of its file: `root-console-login-without-mfa`.
    pub id: String,
    /// One line for people.
    pub title: String,
    /// What the caller did, short enough for a timeline: a verb in the past tense and its object, as it
    /// continues a sentence about the caller (`created a root access key`). Left out where the rule
    /// says how a call was made and not what it did; the name of the call stands for it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did: Option<String>,
    /// Severity of a match.
    pub severity: Severity,
    /// Whether the task needs the root user, by AWS's published list.
    #[serde(default)]
    pub needs_root: NeedsRoot,
    /// The event pattern, in the form that EventBridge accepts.
    pub pattern: serde_json::Value,
    /// Matches only after another rule has matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
    /// Matches only the first finding of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<First>,
    /// Why it matters.
    pub why: String,
    /// What to do, most urgent first.
    pub triage: Vec<String>,
    /// When it matches although nothing is wrong.
    pub false_positives: Vec<String>,
    /// What it does not detect.
    pub blind_spots: Vec<String>,
    /// MITRE ATT&CK technique ids.
    pub attack: Vec<String>,
    /// Further reading.
    pub references: Vec<String>,
    /// The rule's own tests.
    #[serde(default)]
    pub tests: Vec<RuleTest>,
}

impl Rule {
    /// True for a rule that needs more than one record, because of `follows` or `first`.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        self.follows.is_some() || self.first.is_some()
    }
}

/// Requires earlier matches of another rule in the same account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follows {
    /// Id of the other rule.
    pub rule: String,
    /// How many of its matches.
    #[serde(default = "one")]
    pub at_least: usize,
    /// Within this many minutes before.
    pub within_minutes: i64,
}

fn one() -> usize {
    1
}

/// Requires the first finding of an account with this value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// The first with this access key.
    AccessKeyId,
}

/// A record, or several in order, on the last of which a rule must match or must not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTest {
    /// A sentence.
    pub name: String,
    /// One record: the path of its file, or the record itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<TestRecord>,
    /// Several, in order; the last is the one tested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<TestRecord>,
    /// Whether the rule must match.
    #[serde(rename = "match")]
    pub matches: bool,
}

impl RuleTest {
    /// The records in order.
    pub fn all_records(&self) -> impl Iterator<Item = &TestRecord> {
        self.record.iter().chain(&self.records)
    }
}

/// A record in a rule's test.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TestRecord {
    /// Path of a file.
    File(String),
    /// The record itself.
    Inline(serde_json::Map<String, serde_json::Value>),
}

/// Why a rule cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The YAML cannot be read as a rule.
    #[error("{file}: {message}")]
    Yaml {
        /// File name.
        file: String,
        /// The parser's message, with line and column.
        message: String,
    },
    /// The pattern is refused.
    #[error("{file}: pattern: {source}")]
    Pattern {
        /// File name.
        file: String,
        /// Reason and position, counted in the pattern written as JSON.
        source: PatternError,
    },
    /// The rule is inconsistent with itself or another rule.
    #[error("{file}: {message}")]
    Unsound {
        /// File name.
        file: String,
        /// The inconsistency.
        message: String,
    },
}

/// A rule file's name and text.
#[derive(Debug, Clone)]
pub struct RuleFile {
    /// Its name in errors: a path.
    pub name: String,
    /// Its YAML.
    pub text: String,
}

/// Compiled rules: the built-in ones and the user's.
#[derive(Debug)]
pub struct Ruleset {
    rules: Vec<Rule>,
    patterns: PatternSet,
    parsed: Vec<EventPattern>,
    by_id: HashMap<String, usize>,
}

const BUILT_IN: &str = include_str!(concat!(env!("OUT_DIR"), "/rules.json"));
const BUILT_IN_TESTS: &str = include_str!(concat!(env!("OUT_DIR"), "/rule_tests.json"));

/// A built-in rule's test with its records as text.
#[derive(Debug, Clone, Deserialize)]
pub struct BuiltInTest {
    /// Id of the rule.
    pub rule: String,
    /// A sentence.
    pub name: String,
    /// The records' JSON, in order.
    pub records: Vec<String>,
    /// Whether the rule must match the last.
    #[serde(rename = "match")]
    pub matches: bool,
}

impl Ruleset {
    /// The rules that come with the program.
    ///
    /// # Panics
    /// Never with a build that passed its tests: the embedded rules are checked there.
    #[must_use]
    #[expect(clippy::expect_used, reason = "embedded at build; a test loads them")]
    pub fn built_in() -> Self {
        let rules: Vec<Rule> = serde_json::from_str(BUILT_IN).expect("embedded rules are sound");
        let named = rules.into_iter().map(|rule| (rule.id.clone(), rule)).collect();
        Self::compile(named).expect("embedded rules are sound")
    }

    /// No rules: root use alone is detected.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            rules: Vec::new(),
            patterns: PatternSet::new(Vec::new()),
            parsed: Vec::new(),
            by_id: HashMap::new(),
        }
    }

    /// The built-in rules together with the user's.
    ///
    /// # Errors
    /// Every file that cannot be used, each with its reason; a user's rule may not take the id of
    /// another.
    pub fn built_in_and(files: &[RuleFile]) -> Result<Self, Vec<RuleError>> {
        let built_in = Self::built_in();
        let (own, mut errors) = parse_all(files);
        let named = built_in.rules.into_iter().map(|rule| (rule.id.clone(), rule)).chain(own);
        match Self::compile(named.collect()) {
            Ok(set) if errors.is_empty() => Ok(set),
            Ok(_) => Err(errors),
            Err(more) => {
                errors.extend(more);
                Err(errors)
            }
        }
    }

    /// The given rules and no others.
    ///
    /// # Errors
    /// As [`Ruleset::built_in_and`].
    pub fn only(files: &[RuleFile]) -> Result<Self, Vec<RuleError>> {
        let (own, errors) = parse_all(files);
        if errors.is_empty() { Self::compile(own) } else { Err(errors) }
    }

    /// The built-in rules with the given ones in the place of those with the same id, for testing
    /// a rule while it is written.
    ///
    /// # Errors
    /// As [`Ruleset::built_in_and`].
    pub fn built_in_replaced_by(files: &[RuleFile]) -> Result<Self, Vec<RuleError>> {
        let (own, errors) = parse_all(files);
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut named: Vec<(String, Rule)> = Self::built_in()
            .rules
            .into_iter()
            .filter(|rule| own.iter().all(|(_, other)| other.id != rule.id))
            .map(|rule| (rule.id.clone(), rule))
            .collect();
        named.extend(own);
        Self::compile(named)
    }

    fn compile(named: Vec<(String, Rule)>) -> Result<Self, Vec<RuleError>> {
        let mut errors = Vec::new();
        let mut by_id: HashMap<String, usize> = HashMap::new();
        let mut parsed = Vec::with_capacity(named.len());
        for (index, (file, rule)) in named.iter().enumerate() {
            if by_id.insert(rule.id.clone(), index).is_some() {
                let message = format!("there is already a rule `{}`", rule.id);
                errors.push(RuleError::Unsound { file: file.clone(), message });
            }
            match EventPattern::parse(&rule.pattern.to_string()) {
                Ok(pattern) => parsed.push(pattern),
                Err(source) => errors.push(RuleError::Pattern { file: file.clone(), source }),
            }
        }
        for (file, rule) in &named {
            let Some(follows) = &rule.follows else { continue };
            if !by_id.contains_key(&follows.rule) {
                let message = format!("follows `{}`, but there is no such rule", follows.rule);
                errors.push(RuleError::Unsound { file: file.clone(), message });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let rules = named.into_iter().map(|(_, rule)| rule).collect();
        Ok(Self { rules, patterns: PatternSet::new(parsed.clone()), parsed, by_id })
    }

    /// All rules, the built-in ones first, by id.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Rule> {
        self.by_id.get(id).map(|index| &self.rules[*index])
    }

    /// The compiled patterns, in the order of [`Ruleset::rules`].
    #[must_use]
    pub fn patterns(&self) -> &PatternSet {
        &self.patterns
    }

    /// The parsed patterns, in the order of [`Ruleset::rules`].
    #[must_use]
    pub fn parsed(&self) -> &[EventPattern] {
        &self.parsed
    }

    /// How far back the rules look: the longest `within_minutes`.
    #[must_use]
    pub fn look_back(&self) -> jiff::SignedDuration {
        let spans = self.rules.iter().filter_map(|rule| rule.follows.as_ref());
        let minutes = spans.map(|follows| follows.within_minutes).max().unwrap_or_default();
        jiff::SignedDuration::from_mins(minutes)
    }

    /// True if some rule follows the rule with this id.
    #[must_use]
    pub fn is_followed(&self, id: &str) -> bool {
        let mut spans = self.rules.iter().filter_map(|rule| rule.follows.as_ref());
        spans.any(|follows| follows.rule == id)
    }

    /// True if every alternative of the rule's pattern constrains the identity. Rules that apply to
    /// any caller (for example "trail stopped") return false.
    #[must_use]
    pub fn asks_for_identity(&self, index: usize) -> bool {
        let alternatives = self.parsed[index].alternatives();
        !alternatives.is_empty()
            && alternatives.iter().all(|fields| {
                fields.iter().any(|(path, _)| path.iter().any(|part| part == "userIdentity"))
            })
    }
}

/// The tests of the built-in rules.
///
/// # Panics
/// As [`Ruleset::built_in`].
#[must_use]
#[expect(clippy::expect_used, reason = "embedded at build; a test loads them")]
pub fn built_in_tests() -> Vec<BuiltInTest> {
    serde_json::from_str(BUILT_IN_TESTS).expect("embedded tests are sound")
}

fn parse_all(files: &[RuleFile]) -> (Vec<(String, Rule)>, Vec<RuleError>) {
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        match parse_rule(file) {
            Ok(rule) => rules.push((file.name.clone(), rule)),
            Err(error) => errors.push(error),
        }
    }
    (rules, errors)
}

/// Reads one rule file.
///
/// # Errors
/// When it is not YAML, misses or misspells a field, or its id is not the name of its file.
pub fn parse_rule(file: &RuleFile) -> Result<Rule, RuleError> {
    let rule: Rule = serde_saphyr::from_str(&file.text).map_err(|error| RuleError::Yaml {
        file: file.name.clone(),
        message: error.to_string().trim_end().to_owned(),
    })?;
    let unsound = |message: String| RuleError::Unsound { file: file.name.clone(), message };
    let stem = file.name.rsplit(['/', '\\']).next().and_then(|name| name.rsplit_once('.'));
    if let Some((stem, _)) = stem
        && stem != rule.id
    {
        return Err(unsound(format!("the id `{}` is not the name of the file", rule.id)));
    }
    if !rule.tests.iter().any(|test| test.matches) || rule.tests.iter().all(|test| test.matches) {
        return Err(unsound(
            "needs at least one test with `match: true` and one with `match: false`".to_owned(),
        ));
    }
    if rule.tests.iter().any(|test| test.all_records().next().is_none()) {
        return Err(unsound("a test without a record".to_owned()));
    }
    if let Some(did) = &rule.did
        && !begins_in_past_tense(did)
    {
        return Err(unsound(format!(
            "`did` is `{did}`, but it has to begin with a verb in the past tense, for example \
             `created a root access key`"
        )));
    }
    if rule.triage.is_empty() || rule.false_positives.is_empty() || rule.blind_spots.is_empty() {
        return Err(unsound(
            "triage, false_positives and blind_spots need an entry each".to_owned(),
        ));
    }
    Ok(rule)
}

/// Verbs whose past tense does not end in `-ed`.
const IRREGULAR_VERBS: [&str; 27] = [
    "began", "bought", "broke", "built", "chose", "cut", "did", "gave", "got", "hid", "left",
    "lost", "made", "put", "ran", "read", "reset", "sent", "set", "shut", "sold", "split", "spent",
    "took", "was", "withdrew", "wrote",
];

/// True when a text begins with a verb in the past tense. The texts of rules continue sentences, so
/// this is checked when a rule is loaded instead of guessed when a sentence is written.
fn begins_in_past_tense(text: &str) -> bool {
    let verb = text.split(' ').next().unwrap_or_default();
    let is_word = !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_lowercase());
    is_word && (verb.ends_with("ed") || IRREGULAR_VERBS.contains(&verb))
}
