//! Earlier findings, as far as rules with `follows` or `first` need them.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::detect::texts::lower_first;
use crate::finding::{Finding, Outcome, Reason, RootUse, Severity, is_client_address};
use crate::rules::{First, Rule, Ruleset};

/// A finding, and the matching rules that need more than one record: [`History::finalize`] decides
/// them.
#[derive(Debug, Clone)]
pub struct Detected {
    /// The finding by its own record.
    pub finding: Finding,
    /// Rules with `follows` or `first` whose pattern matched: indexes into [`Ruleset::rules`].
    pub deferred: Vec<usize>,
}

/// Access keys that a [`History`] of a store keeps for one account. Beyond that, every key counts as
/// known, so that made-up keys cost no memory and raise no alert.
pub const HISTORY_KEYS_MAX: usize = 10_000;
/// Addresses that a [`History`] of a store keeps for one account; as [`HISTORY_KEYS_MAX`].
pub const HISTORY_ADDRESSES_MAX: usize = 10_000;
/// Matches that a [`History`] of a store keeps for one account and rule: the latest.
pub const HISTORY_MATCHES_MAX: usize = 1_000;

/// Earlier findings, as far as rules need them: the keys and addresses that an account has used, and
/// the matches of rules that other rules follow.
///
/// A scan finalizes its findings sorted by time (`crate::detect::finalize`). A hub finalizes them as
/// they arrive: if a record arrives before the one that its rule follows, the rule does not match,
/// and the incident is scored when both are there (see [`crate::correlate`]).
#[derive(Debug, Clone)]
pub struct History {
    accounts: HashMap<String, AccountPast>,
    bounded: bool,
    first_key: &'static str,
    first_address: &'static str,
}

/// Earlier findings of one account.
#[derive(Debug, Clone, Default)]
struct AccountPast {
    keys: HashSet<String>,
    addresses: HashSet<String>,
    /// By rule: the times of its matches, ascending.
    matches: HashMap<String, Vec<Timestamp>>,
}

impl Default for History {
    fn default() -> Self {
        Self::of_store()
    }
}

impl History {
    /// The history of a scan. Keeps everything; its reasons say "in this scan".
    #[must_use]
    pub fn of_input() -> Self {
        Self {
            accounts: HashMap::new(),
            bounded: false,
            first_key: "first use of this key in this scan",
            first_address: "address not seen before for this account in this scan",
        }
    }

    /// The history of a store, to be filled from it. Bounded by [`HISTORY_KEYS_MAX`],
    /// [`HISTORY_ADDRESSES_MAX`] and [`HISTORY_MATCHES_MAX`].
    #[must_use]
    pub fn of_store() -> Self {
        Self {
            accounts: HashMap::new(),
            bounded: true,
            first_key: "first use of this key",
            first_address: "address not seen before for this account",
        }
    }

    /// Notes that this account used this access key. False if it is known, or if too many are.
    pub fn note_key(&mut self, account: &str, key: &str) -> bool {
        let bounded = self.bounded;
        let keys = &mut self.account(account).keys;
        !(bounded && keys.len() >= HISTORY_KEYS_MAX) && keys.insert(key.to_owned())
    }

    /// Notes that this account's root user called from this address. False if it is known, or if too
    /// many are.
    pub fn note_address(&mut self, account: &str, address: &str) -> bool {
        let bounded = self.bounded;
        let addresses = &mut self.account(account).addresses;
        !(bounded && addresses.len() >= HISTORY_ADDRESSES_MAX)
            && addresses.insert(address.to_owned())
    }

    /// Notes that this rule matched on this account.
    pub fn note_match(&mut self, account: &str, rule: &str, at: Timestamp) {
        let bounded = self.bounded;
        let matches = &mut self.account(account).matches;
        let times = match matches.get_mut(rule) {
            Some(times) => times,
            None => matches.entry(rule.to_owned()).or_default(),
        };
        // Findings arrive nearly sorted.
        let place = times.partition_point(|time| *time <= at);
        times.insert(place, at);
        if bounded && times.len() > HISTORY_MATCHES_MAX {
            times.remove(0);
        }
    }

    /// Evicts matches before `at`. No rule needs those older than [`Ruleset::look_back`] before the
    /// oldest finding that may still arrive.
    pub fn evict_before(&mut self, at: Timestamp) {
        for past in self.accounts.values_mut() {
            past.matches.retain(|_, times| {
                times.drain(..times.partition_point(|time| *time < at));
                times.shrink_to_fit();
                !times.is_empty()
            });
        }
    }

    /// Evaluates the deferred rules (`follows`, `first`), notes what later findings need, and returns
    /// the finding, unless it is not root use and no rule matched.
    pub fn finalize(&mut self, detected: Detected, rules: &Ruleset) -> Option<Finding> {
        let Detected { mut finding, deferred } = detected;
        for index in deferred {
            let rule = &rules.rules()[index];
            if let Some(reason) = self.reason_to_match(rule, &finding) {
                add_match(&mut finding, rule, reason);
            }
        }
        let is_undecided = finding.rules_undecided().is_some();
        if finding.root_use == RootUse::No && finding.rules.is_empty() && !is_undecided {
            return None;
        }
        self.score_address(&mut finding);
        self.note(&finding, rules);
        Some(finding)
    }

    fn account(&mut self, account: &str) -> &mut AccountPast {
        self.accounts.entry(account.to_owned()).or_default()
    }

    fn reason_to_match(&self, rule: &Rule, finding: &Finding) -> Option<Reason> {
        let past = self.accounts.get(finding.account_id.as_deref().unwrap_or_default());
        if let Some(follows) = &rule.follows {
            let at = finding.event_time?;
            let since = at - jiff::SignedDuration::from_mins(follows.within_minutes);
            let times = past.and_then(|past| past.matches.get(&follows.rule));
            let count = times.map_or(0, |times| {
                times.partition_point(|time| *time <= at)
                    - times.partition_point(|time| *time < since)
            });
            if count < follows.at_least {
                return None;
            }
        }
        if rule.first == Some(First::AccessKeyId) {
            let key = finding.access_key_id.as_deref()?;
            let full = |keys: &HashSet<String>| self.bounded && keys.len() >= HISTORY_KEYS_MAX;
            if past.is_some_and(|past| past.keys.contains(key) || full(&past.keys)) {
                return None;
            }
            return Some(Reason::new("first_use", self.first_key));
        }
        Some(Reason { code: "follows".into(), text: lower_first(&rule.title).into() })
    }

    /// Raises the severity by one step, up to high, for an address that this account's root user has
    /// not used before, if it has used others.
    fn score_address(&mut self, finding: &mut Finding) {
        if finding.root_use != RootUse::Direct || finding.outcome == Outcome::Failure {
            return;
        }
        let Some(address) = finding.source_ip.as_deref().filter(|ip| is_client_address(ip)) else {
            return;
        };
        let account = finding.account_id.as_deref().unwrap_or_default();
        let had_others = !self.account(account).addresses.is_empty();
        if self.note_address(account, address) && had_others {
            if finding.severity < Severity::High {
                finding.severity = finding.severity.raised();
            }
            finding.reasons.push(Reason::new("new_address", self.first_address));
        }
    }

    fn note(&mut self, finding: &Finding, rules: &Ruleset) {
        let account = finding.account_id.as_deref().unwrap_or_default();
        if let Some(key) = finding.access_key_id.as_deref() {
            self.note_key(account, key);
        }
        let Some(at) = finding.event_time else { return };
        for rule in &finding.rules {
            if rules.is_followed(rule) {
                self.note_match(account, rule, at);
            }
        }
    }
}

/// Adds a deferred rule that matches.
fn add_match(finding: &mut Finding, rule: &Rule, reason: Reason) {
    if rule.severity >= finding.severity {
        finding.rules.insert(0, rule.id.clone());
        finding.title.clone_from(&rule.title);
    } else {
        finding.rules.push(rule.id.clone());
    }
    finding.severity = finding.severity.max(rule.severity);
    finding.reasons.push(reason);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Sample, call, clock, signed_in};

    const A: &str = "222233334444";

    fn finalized(history: &mut History, sample: Sample, deferred: &[&str]) -> Finding {
        let rules = Ruleset::built_in();
        let place = |id: &&str| rules.rules().iter().position(|rule| rule.id == *id);
        let deferred = deferred.iter().filter_map(place).collect();
        history.finalize(Detected { finding: sample.0, deferred }, &rules).expect("a finding")
    }

    fn codes(finding: &Finding) -> Vec<&str> {
        finding.reasons.iter().skip(1).map(|reason| reason.code.as_ref()).collect()
    }

    #[test]
    fn a_key_and_an_address_are_new_once_and_a_scan_says_that_only_it_counts() {
        let mut history = History::of_store();
        let use_of = |key: &str, from: &str| call(A, "14:00:00", "X").with_key(key).from(from);
        let first = ["root-access-key-first-used"];
        history.note_address(A, "192.0.2.10");
        let one = finalized(&mut history, use_of("AKIA1", "203.0.113.77"), &first);
        assert_eq!(codes(&one), ["first_use", "new_address"]);
        assert_eq!(one.reasons[1].text, "first use of this key");
        assert_eq!(one.reasons[2].text, "address not seen before for this account");
        let again = finalized(&mut history, use_of("AKIA1", "203.0.113.77"), &first);
        assert!(codes(&again).is_empty() && again.rules.is_empty());
        let mut input = History::of_input();
        let one = finalized(&mut input, use_of("AKIA1", "203.0.113.77"), &first);
        assert_eq!(one.reasons[1].text, "first use of this key in this scan");
    }

    #[test]
    fn earlier_matches_of_a_store_count_and_later_ones_do_not() {
        let after = ["root-console-login-after-failures"];
        let tried = ["13:03:11", "13:03:12", "14:00:00", "14:03:12", "14:03:13"];
        let severity = |times: &[&str]| {
            let mut history = History::of_store();
            for time in times {
                history.note_match(A, "root-console-login-failed", clock(time));
            }
            let mut sign_in = signed_in(A, "14:03:12", "192.0.2.10");
            sign_in.0.severity = Severity::Low;
            finalized(&mut history, sign_in, &after).severity
        };
        assert_eq!(severity(&tried[1..4]), Severity::Critical);
        assert_eq!(severity(&tried[..3]), Severity::Low);
        assert_eq!(severity(&tried[2..]), Severity::Low);
    }

    #[test]
    fn the_history_of_a_store_is_bounded_and_beyond_that_everything_counts_as_known() {
        let mut history = History::of_store();
        for n in 0..HISTORY_KEYS_MAX {
            assert!(history.note_key(A, &format!("AKIA{n}")));
        }
        let one = call(A, "14:00:00", "X").with_key("AKIAONE");
        assert!(finalized(&mut history, one, &["root-access-key-first-used"]).rules.is_empty());
        assert!(!history.note_key(A, "AKIAONE") && history.note_key("333344445555", "AKIAONE"));
        for n in 0..2 * HISTORY_MATCHES_MAX as i64 {
            let at = clock("14:00:00") + jiff::SignedDuration::from_secs(n);
            history.note_match(A, "root-console-login-failed", at);
        }
        let kept = |history: &History| history.accounts[A].matches.values().map(Vec::len).sum();
        let number: usize = kept(&history);
        assert_eq!(number, HISTORY_MATCHES_MAX);
        history.evict_before(clock("23:00:00"));
        assert_eq!(kept(&history), 0);
    }

    #[test]
    fn the_longest_rule_decides_how_far_to_look_back() {
        assert_eq!(Ruleset::built_in().look_back(), jiff::SignedDuration::from_hours(24));
        assert_eq!(Ruleset::empty().look_back(), jiff::SignedDuration::ZERO);
    }
}
