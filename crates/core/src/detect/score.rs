//! Scores a finding: its severity, and the reasons for it.
//!
//! Root use has a lowest severity that no rule removes or lowers. Rules raise it, and so do facts of
//! the record: no MFA, a long-term key, a denied call, a change to monitoring. What other records
//! say (an address or key used for the first time) is scored in [`crate::detect::history`], what the
//! findings of an incident say together in [`crate::correlate`].

use crate::classify::{lacks_mfa, was_denied};
use crate::detect::texts::{cut, lower_first};
use crate::finding::{Finding, NeedsRoot, Outcome, Reason, RootUse, Severity};
use crate::rules::{Rule, Ruleset};

/// Sets the severity of a finding by its matching rules and by its facts, and adds the reasons.
pub(super) fn score(finding: &mut Finding, rules: &[(usize, &Rule)], ruleset: &Ruleset) {
    let by_rules = rules.iter().map(|(_, rule)| rule.severity).max();
    let called = finding.outcome == Outcome::Success;
    let is_read = finding.read_only == Some(true);
    let mut severity = by_rules.unwrap_or_default();
    let mut reasons = Vec::new();
    match finding.root_use {
        RootUse::Direct => {
            severity = severity.max(Severity::Low);
            if !is_read && called && !finding.session.sign_in {
                if by_rules.is_none() {
                    severity = severity.max(Severity::Medium);
                }
                if finding.needs_root != NeedsRoot::Yes {
                    reasons
                        .push(Reason::new("not_root_task", "not a task that needs the root user"));
                }
            }
            if lacks_mfa(finding) {
                if !finding.session.sign_in {
                    severity = severity.max(severity.raised().min(Severity::High));
                }
                reasons.push(Reason::new("no_mfa", "no MFA"));
            }
            if finding.session.long_term_key {
                severity = severity.max(Severity::High);
                reasons.push(Reason::new("long_term_key", "long-term root key"));
            }
            let against_monitoring = rules.iter().any(|(index, rule)| {
                rule.severity >= Severity::High
                    && rule.needs_root == NeedsRoot::No
                    && !ruleset.asks_for_identity(*index)
            });
            if against_monitoring && called {
                severity = Severity::Critical;
                reasons.push(Reason::new(
                    "root_against_monitoring",
                    "the root user changed monitoring or governance settings",
                ));
            }
        }
        RootUse::Derived => severity = severity.max(Severity::Medium),
        RootUse::Possible => severity = severity.max(Severity::Low),
        RootUse::Privileged if by_rules.is_none() && !is_read => {
            severity = severity.max(Severity::Medium);
            reasons.push(Reason::new(
                "unknown_privileged_call",
                "call not expected in a privileged session",
            ));
        }
        RootUse::Privileged | RootUse::No => {}
        RootUse::OnBehalf => severity = Severity::Informational,
    }
    if finding.root_use != RootUse::OnBehalf && was_denied(finding) {
        if finding.root_use == RootUse::Direct {
            severity = severity.max(Severity::High);
            reasons
                .push(Reason::new("denied", "denied by a policy: the caller has root credentials"));
        } else {
            reasons.push(Reason::new("denied", "denied by a policy"));
        }
    }
    if let Some(addendum) = &finding.addendum {
        let text = match addendum.reason.as_str() {
            "UPDATED_DATA" => "CloudTrail corrected an earlier record".to_owned(),
            other => format!("CloudTrail delivered this record late ({})", cut(other)),
        };
        reasons.push(Reason { code: "late".into(), text: text.into() });
    }
    if let Some((_, rule)) = rules.first()
        && rule.severity == severity
        && rule.severity >= Severity::High
    {
        reasons.push(Reason { code: "rule".into(), text: lower_first(&rule.title).into() });
    }
    finding.severity = severity;
    finding.reasons.extend(reasons);
}
