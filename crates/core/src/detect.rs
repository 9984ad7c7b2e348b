//! Detection: a record becomes a finding if it is root use or if a rule matches.
//!
//! Root use is always a finding: `direct`, `privileged`, `derived`, `possible` and `on_behalf`, even
//! if no rule knows the API. Rules name the action, raise the severity and add the steps to take;
//! they remove nothing.
//!
//! [`Detector::detect`] decides everything that one record tells: class, matching rules, severity,
//! reasons. [`finalize`] decides what needs more than one record: order, duplicates, rules with
//! `follows` or `first`, and addresses that are new to an account.

mod facts;
mod history;
mod score;
mod texts;
mod undecided;

use jiff::Timestamp;

use crate::classify::{self, Classification, classify};
use crate::decode::Event;
use crate::finding::{Addendum, Finding, FindingKey, NeedsRoot, Outcome, RootUse, Severity};
use crate::pattern::{Matcher, Matches};
use crate::rules::{Rule, Ruleset};
use facts::{account_of, actor, key, session_facts, target};
pub use history::{
    Detected, HISTORY_ADDRESSES_MAX, HISTORY_KEYS_MAX, HISTORY_MATCHES_MAX, History,
};
pub use texts::TEXT_BYTES_MAX;
use texts::{did, failed_did, failed_title, owned, title};
pub use undecided::UNDECIDED_NAMED_MAX;

/// Detects findings in one event after the other, reusing its memory.
#[derive(Debug)]
pub struct Detector<'r> {
    rules: &'r Ruleset,
    matcher: Matcher<'r>,
    /// Indexes of all rules: those that are undecided on an event that cannot be read.
    all: Vec<usize>,
}

impl<'r> Detector<'r> {
    /// A detector for these rules.
    #[must_use]
    pub fn new(rules: &'r Ruleset) -> Self {
        let matcher = rules.patterns().matcher();
        Self { rules, matcher, all: (0..rules.rules().len()).collect() }
    }

    /// `None` only for a record without root use that no rule matches or may match.
    pub fn detect(&mut self, event: &Event<'_>) -> Option<Detected> {
        let class = classify(&event.record);
        let Matches { matched, undecided } = self.matching(event);
        if class.root_use == RootUse::No && matched.is_empty() && undecided.is_empty() {
            return None;
        }
        let (matched, undecided) = (matched.to_vec(), undecided.to_vec());
        let (deferred, matched): (Vec<_>, Vec<_>) =
            matched.into_iter().partition(|index| self.rules.rules()[*index].is_deferred());
        let mut finding = self.finding(event, class, &matched);
        if !undecided.is_empty() {
            undecided::note(&mut finding, &undecided, self.rules);
        }
        Some(Detected { finding, deferred })
    }

    /// The rules whose pattern matches, and those whose pattern could not be decided.
    pub fn matching(&mut self, event: &Event<'_>) -> Matches<'_> {
        let envelope = &event.envelope;
        let stated = [
            ("id", &envelope.id),
            ("detail-type", &envelope.detail_type),
            ("source", &envelope.source),
            ("account", &envelope.account),
            ("time", &envelope.time),
            ("region", &envelope.region),
        ];
        let mut fields = [("version", "0"); 7];
        let mut count = 1;
        for (name, text) in stated {
            if let Some(text) = text.as_deref() {
                fields[count] = (name, text);
                count += 1;
            }
        }
        // The record's JSON has been parsed, so this fails only where a field of a rule is nested
        // deeper than patterns follow. Then nothing is known of any rule.
        self.matcher
            .run_in_envelope(&fields[..count], event.record.json)
            .unwrap_or(Matches { matched: &[], undecided: &self.all })
    }

    fn finding(&self, event: &Event<'_>, class: Classification, matched: &[usize]) -> Finding {
        let record = &event.record;
        let mut rules: Vec<(usize, &Rule)> =
            matched.iter().map(|index| (*index, &self.rules.rules()[*index])).collect();
        rules.sort_by_cached_key(|(_, rule)| {
            (std::cmp::Reverse((rule.severity, specificity(&rule.pattern))), rule.id.clone())
        });
        let outcome = classify::outcome(record);
        let mfa = classify::mfa(record);
        let root_use = class.root_use;
        let session = session_facts(record);
        let first = rules.first().map(|(_, rule)| *rule);
        let mut finding = Finding {
            key: key(record),
            event_id: owned(record.event_id.as_deref()),
            event_time: record.event_time,
            account_id: account_of(record, root_use, &session),
            recipient_account_id: owned(record.recipient_account_id.as_deref()),
            region: owned(record.region.as_deref()),
            event_source: owned(record.event_source.as_deref()),
            event_name: owned(record.event_name.as_deref()),
            root_use,
            severity: Severity::Informational,
            rules: rules.iter().map(|(_, rule)| rule.id.clone()).collect(),
            title: first.map_or_else(|| title(record, root_use), |rule| rule.title.clone()),
            did: rules.iter().find_map(|(_, rule)| rule.did.clone()).unwrap_or_else(|| did(record)),
            reasons: class.reasons,
            outcome,
            error_code: owned(record.error_code.as_deref()),
            error_message: owned(record.error_message.as_deref()),
            mfa,
            source_ip: owned(record.source_ip.as_deref()),
            user_agent: owned(record.user_agent.as_deref()),
            access_key_id: owned(record.identity.access_key_id.as_deref()),
            read_only: record.read_only,
            needs_root: first.map_or(NeedsRoot::Unknown, |rule| rule.needs_root),
            actor: actor(record, root_use),
            target: target(record),
            shared_event_id: owned(record.shared_event_id.as_deref()),
            addendum: record.addendum.as_ref().map(|addendum| Addendum {
                reason: addendum.reason.as_deref().unwrap_or_default().to_owned(),
                original_event_id: owned(addendum.original_event_id.as_deref()),
                updated_fields: owned(addendum.updated_fields.as_deref()),
            }),
            session,
        };
        score::score(&mut finding, &rules, self.rules);
        // The texts of a rule that does not look at the outcome say that the action was done. If the
        // call was denied or failed, the texts come from the call alone.
        if outcome == Outcome::Failure && !first.is_some_and(|rule| asks_for_outcome(&rule.pattern))
        {
            let is_denied = classify::was_denied(&finding);
            finding.did = failed_did(record, is_denied);
            finding.title = failed_title(record, root_use, is_denied);
        }
        finding
    }
}

/// Sorts findings, drops duplicates, and decides what needs more than one record: rules with
/// `follows` or `first`, and addresses that are new to an account.
///
/// Returns the findings sorted by time, then key (those without a time last), and the number of
/// duplicates. A pure function of the set: the order of the input does not matter.
#[must_use]
pub fn finalize(mut detected: Vec<Detected>, rules: &Ruleset) -> (Vec<Finding>, u64) {
    // Two records with one key are one record delivered twice, and equal. If they are not, which of
    // them counts must not depend on the order of arrival either.
    detected.sort_by(|a, b| {
        order(&a.finding).cmp(&order(&b.finding)).then_with(|| a.finding.cmp(&b.finding))
    });
    let before = detected.len();
    detected.dedup_by(|a, b| a.finding.key == b.finding.key);
    let repeats = (before - detected.len()) as u64;

    let mut history = History::of_input();
    let findings = detected.into_iter().filter_map(|one| history.finalize(one, rules));
    (findings.collect(), repeats)
}

/// The order of findings: by time, then key; those without a time last.
fn order(finding: &Finding) -> (bool, Option<Timestamp>, &FindingKey) {
    (finding.event_time.is_none(), finding.event_time, &finding.key)
}

/// How many leaves a pattern constrains. Of two rules with equal severity, the more specific one
/// gives the title.
fn specificity(pattern: &serde_json::Value) -> usize {
    match pattern {
        serde_json::Value::Object(fields) => fields.values().map(specificity).sum(),
        _ => 1,
    }
}

/// True if a pattern constrains the outcome of the call.
fn asks_for_outcome(pattern: &serde_json::Value) -> bool {
    match pattern {
        serde_json::Value::Object(fields) => fields.iter().any(|(name, value)| {
            matches!(name.as_str(), "errorCode" | "errorMessage" | "responseElements")
                || asks_for_outcome(value)
        }),
        serde_json::Value::Array(ways) => ways.iter().any(asks_for_outcome),
        _ => false,
    }
}
