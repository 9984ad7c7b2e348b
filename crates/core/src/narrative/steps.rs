//! What to do first: one order, used by every output.

use std::cmp::Reverse;

use crate::finding::{Finding, RootUse, Severity};
use crate::incident::IncidentKind;
use crate::rules::Rule;

/// Steps at most. A person who was woken reads three; the rules, the pages and `rules show` list all.
pub const DO_FIRST_MAX: usize = 3;

/// The step where no rule gives one.
const STEP_WITHOUT_RULE: &str =
    "Phone the account's custodians: was it you? For what, and which ticket?";
/// The step for an incident about deliveries that fail.
const STEP_DELIVERY_OUTAGE: &str =
    "Check the hub for missed alerts, then fix the destination: its last error says what is wrong.";

/// What [`do_first`] needs of a rule.
#[derive(Debug, Clone, Copy)]
pub struct RuleSteps<'a> {
    /// See [`Rule::severity`].
    pub severity: Severity,
    /// See [`Rule::triage`].
    pub triage: &'a [String],
}

impl<'a> From<&'a Rule> for RuleSteps<'a> {
    fn from(rule: &'a Rule) -> Self {
        Self { severity: rule.severity, triage: &rule.triage }
    }
}

/// What to do first: the steps of the most severe rule that matched, in its order, then those of the
/// next, each step once, at most [`DO_FIRST_MAX`]. Of equally severe rules the one that came up last
/// comes first.
///
/// A rule's steps are written to be followed one after the other, so they are not mixed with those of
/// other rules: "reset the password" from one and "delete the key" from another could put the second
/// step of a task before its first. The most severe rule comes first because the incident has its
/// severity from it. Of equals the newest comes first because the advice of an update has to fit its
/// news: once a root key was created after a sign-in, "delete the key" comes before "ask about the
/// sign-in", which the alert before it said.
#[must_use]
pub fn do_first<'f, 'r>(
    kind: IncidentKind,
    root_use: RootUse,
    findings: impl IntoIterator<Item = &'f Finding>,
    rule: &dyn Fn(&str) -> Option<RuleSteps<'r>>,
) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    let rules = matched(findings, &|id| rule(id).map(|rule| rule.severity));
    for step in rules.into_iter().filter_map(rule).flat_map(|rule| rule.triage) {
        if steps.len() == DO_FIRST_MAX {
            break;
        }
        if !steps.contains(step) {
            steps.push(step.clone());
        }
    }
    if steps.is_empty() {
        match kind {
            IncidentKind::DeliveryOutage => steps.push(STEP_DELIVERY_OUTAGE.to_owned()),
            _ if root_use == RootUse::No => {}
            _ => steps.push(STEP_WITHOUT_RULE.to_owned()),
        }
    }
    steps
}

/// The rules that matched: the most severe first, then those that came up last, those of one finding in
/// its order. A rule that no longer exists comes last.
fn matched<'f>(
    findings: impl IntoIterator<Item = &'f Finding>,
    severity: &dyn Fn(&str) -> Option<Severity>,
) -> Vec<&'f str> {
    let mut ids: Vec<(usize, &str)> = Vec::new();
    for (place, finding) in findings.into_iter().enumerate() {
        for id in &finding.rules {
            if !ids.iter().any(|(_, known)| known == id) {
                ids.push((place, id));
            }
        }
    }
    ids.sort_by_key(|(place, id)| (Reverse(severity(id)), Reverse(*place)));
    ids.into_iter().map(|(_, id)| id).collect()
}

/// Ids of the rules that matched, each once: the most severe first, then by id. A rule that no longer
/// exists comes last.
#[must_use]
pub fn rules_by_severity<'f>(
    findings: impl IntoIterator<Item = &'f Finding>,
    severity: &dyn Fn(&str) -> Option<Severity>,
) -> Vec<String> {
    let mut ids = matched(findings, severity);
    ids.sort_by_key(|id| (Reverse(severity(id)), *id));
    ids.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Ruleset;
    use crate::sample::call;

    fn finding(time: &str, rules: &[&str]) -> Finding {
        let mut sample = call("222233334444", time, "X");
        sample.rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
        sample.0
    }

    fn steps(findings: &[Finding], root_use: RootUse) -> Vec<String> {
        let rules = Ruleset::built_in();
        let rule = |id: &str| rules.get(id).map(RuleSteps::from);
        do_first(IncidentKind::Session, root_use, findings, &rule)
    }

    fn triage(id: &str) -> Vec<String> {
        Ruleset::built_in().get(id).map(|rule| rule.triage.clone()).unwrap_or_default()
    }

    #[test]
    fn the_steps_of_the_most_severe_rule_come_first_and_of_equals_those_of_the_newest() {
        let (login, key) = ("root-console-login-without-mfa", "root-access-key-created");
        let all = [
            finding("14:03:00", &[login]),
            finding("14:07:00", &[key]),
            finding("14:08:00", &["root-console-login-failed"]),
        ];
        assert_eq!(steps(&all, RootUse::Direct), triage(key)[..DO_FIRST_MAX]);
        assert_eq!(steps(&all[..1], RootUse::Direct), triage(login)[..DO_FIRST_MAX]);
    }

    #[test]
    fn without_a_rule_somebody_asks_the_custodians_and_only_about_root_use() {
        let all = [finding("14:03:00", &["a-rule-that-is-gone"])];
        assert_eq!(steps(&all, RootUse::Direct), [STEP_WITHOUT_RULE]);
        assert!(steps(&all, RootUse::No).is_empty());
    }
}
