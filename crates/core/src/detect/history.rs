//! What came before, as far as rules look back.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::detect::{Detected, is_client_address, lower_first};
use crate::finding::{Finding, Outcome, Reason, RootUse, Severity};
use crate::rules::{First, Rule, Ruleset};

/// Access keys that a [`History`] of a store remembers for one account. Beyond them every key
/// counts as known, so that whoever makes up keys costs no memory and nobody's attention.
pub const HISTORY_KEYS_MAX: usize = 10_000;
/// Addresses that a [`History`] of a store remembers for one account; as [`HISTORY_KEYS_MAX`].
pub const HISTORY_ADDRESSES_MAX: usize = 10_000;
/// Times that a [`History`] of a store remembers for one account and rule: the latest.
pub const HISTORY_SPOKEN_MAX: usize = 1_000;

/// What came before, as far as rules look back: which keys and addresses an account has used, and
/// when rules spoke that others follow.
///
/// Of a set, findings are settled in the order of time ([`crate::detect::settle`]). A hub settles them as they
/// come: what arrives before that which it follows does not speak by itself, and its incident says
/// so once both are there (see [`crate::correlate`]).
#[derive(Debug, Clone)]
pub struct History {
    accounts: HashMap<String, AccountPast>,
    bounded: bool,
    first_key: &'static str,
    first_address: &'static str,
}

/// What came before in one account.
#[derive(Debug, Clone, Default)]
struct AccountPast {
    keys: HashSet<String>,
    addresses: HashSet<String>,
    /// By rule: the times of its findings, ascending.
    spoken: HashMap<String, Vec<Timestamp>>,
}

impl Default for History {
    fn default() -> Self {
        Self::of_store()
    }
}

impl History {
    /// The history of one input that is read whole. Remembers everything; its reasons say "in this
    /// scan".
    #[must_use]
    pub fn of_input() -> Self {
        Self {
            accounts: HashMap::new(),
            bounded: false,
            first_key: "first use of this key in this scan",
            first_address: "address not seen before for this account in this scan",
        }
    }

    /// The history that a store keeps, to be filled with what it noted. Bounded by
    /// [`HISTORY_KEYS_MAX`], [`HISTORY_ADDRESSES_MAX`] and [`HISTORY_SPOKEN_MAX`].
    #[must_use]
    pub fn of_store() -> Self {
        Self {
            accounts: HashMap::new(),
            bounded: true,
            first_key: "first use of this key",
            first_address: "address not seen before for this account",
        }
    }

    /// This account has made calls with this access key. False when that was known, or too many
    /// are.
    pub fn note_key(&mut self, account: &str, key: &str) -> bool {
        let bounded = self.bounded;
        let keys = &mut self.account(account).keys;
        !(bounded && keys.len() >= HISTORY_KEYS_MAX) && keys.insert(key.to_owned())
    }

    /// This account's root user came through from this address. False when that was known, or too
    /// many are.
    pub fn note_address(&mut self, account: &str, address: &str) -> bool {
        let bounded = self.bounded;
        let addresses = &mut self.account(account).addresses;
        !(bounded && addresses.len() >= HISTORY_ADDRESSES_MAX)
            && addresses.insert(address.to_owned())
    }

    /// This rule spoke about this account.
    pub fn note_spoken(&mut self, account: &str, rule: &str, at: Timestamp) {
        let bounded = self.bounded;
        let spoken = &mut self.account(account).spoken;
        let times = match spoken.get_mut(rule) {
            Some(times) => times,
            None => spoken.entry(rule.to_owned()).or_default(),
        };
        // Findings come nearly in order.
        let place = times.partition_point(|time| *time <= at);
        times.insert(place, at);
        if bounded && times.len() > HISTORY_SPOKEN_MAX {
            times.remove(0);
        }
    }

    /// Drops the times before `at` at which rules spoke. Those older than
    /// [`Ruleset::looks_back`] before any finding that may still come are of no use.
    pub fn forget_before(&mut self, at: Timestamp) {
        for past in self.accounts.values_mut() {
            past.spoken.retain(|_, times| {
                times.drain(..times.partition_point(|time| *time < at));
                times.shrink_to_fit();
                !times.is_empty()
            });
        }
    }

    /// Decides about the rules that wait, notes what later findings may look back at, and gives
    /// the finding, if it still is one.
    pub fn settle(&mut self, detected: Detected, rules: &Ruleset) -> Option<Finding> {
        let Detected { mut finding, waiting } = detected;
        for index in waiting {
            let rule = &rules.rules()[index];
            if let Some(reason) = self.allows(rule, &finding) {
                speak(&mut finding, rule, reason);
            }
        }
        let is_undecided = finding.rules_undecided().is_some();
        if finding.root_use == RootUse::No && finding.rules.is_empty() && !is_undecided {
            return None;
        }
        self.judge_address(&mut finding);
        self.remember(&finding, rules);
        Some(finding)
    }

    fn account(&mut self, account: &str) -> &mut AccountPast {
        self.accounts.entry(account.to_owned()).or_default()
    }

    fn allows(&self, rule: &Rule, finding: &Finding) -> Option<Reason> {
        let past = self.accounts.get(finding.account_id.as_deref().unwrap_or_default());
        if let Some(follows) = &rule.follows {
            let at = finding.event_time?;
            let since = at - jiff::SignedDuration::from_mins(follows.within_minutes);
            let times = past.and_then(|past| past.spoken.get(&follows.rule));
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

    /// An address that this account's root user has not called from before, when it has called
    /// from others, raises the severity by one step, up to high.
    fn judge_address(&mut self, finding: &mut Finding) {
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

    fn remember(&mut self, finding: &Finding, rules: &Ruleset) {
        let account = finding.account_id.as_deref().unwrap_or_default();
        if let Some(key) = finding.access_key_id.as_deref() {
            self.note_key(account, key);
        }
        let Some(at) = finding.event_time else { return };
        for rule in &finding.rules {
            if rules.is_followed(rule) {
                self.note_spoken(account, rule, at);
            }
        }
    }
}

/// A rule that looked back speaks after all.
fn speak(finding: &mut Finding, rule: &Rule, reason: Reason) {
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

    fn settled(history: &mut History, sample: Sample, waiting: &[&str]) -> Finding {
        let rules = Ruleset::built_in();
        let place = |id: &&str| rules.rules().iter().position(|rule| rule.id == *id);
        let waiting = waiting.iter().filter_map(place).collect();
        history.settle(Detected { finding: sample.0, waiting }, &rules).expect("a finding")
    }

    fn codes(finding: &Finding) -> Vec<&str> {
        finding.reasons.iter().skip(1).map(|reason| reason.code.as_ref()).collect()
    }

    #[test]
    fn a_key_and_an_address_are_new_once_and_the_words_say_to_what() {
        let mut history = History::of_store();
        let use_of = |key: &str, from: &str| call(A, "14:00:00", "X").with_key(key).from(from);
        let first = ["root-access-key-first-used"];
        history.note_address(A, "192.0.2.10");
        let one = settled(&mut history, use_of("AKIA1", "203.0.113.77"), &first);
        assert_eq!(codes(&one), ["first_use", "new_address"]);
        assert_eq!(one.reasons[1].text, "first call with this key");
        assert_eq!(one.reasons[2].text, "first seen address for this account");
        let again = settled(&mut history, use_of("AKIA1", "203.0.113.77"), &first);
        assert!(codes(&again).is_empty() && again.rules.is_empty());
        let mut input = History::of_input();
        let one = settled(&mut input, use_of("AKIA1", "203.0.113.77"), &first);
        assert_eq!(one.reasons[1].text, "first use of this key in this scan");
    }

    #[test]
    fn what_a_store_noted_counts_and_what_is_later_does_not() {
        let after = ["root-console-login-after-failures"];
        let tried = ["13:03:11", "13:03:12", "14:00:00", "14:03:12", "14:03:13"];
        let severity = |times: &[&str]| {
            let mut history = History::of_store();
            for time in times {
                history.note_spoken(A, "root-console-login-failed", clock(time));
            }
            let mut sign_in = signed_in(A, "14:03:12", "192.0.2.10");
            sign_in.0.severity = Severity::Low;
            settled(&mut history, sign_in, &after).severity
        };
        assert_eq!(severity(&tried[1..4]), Severity::Critical);
        assert_eq!(severity(&tried[..3]), Severity::Low);
        assert_eq!(severity(&tried[2..]), Severity::Low);
    }

    #[test]
    fn a_history_of_a_store_is_bounded_and_calls_known_what_it_cannot_remember() {
        let mut history = History::of_store();
        for n in 0..HISTORY_KEYS_MAX {
            assert!(history.note_key(A, &format!("AKIA{n}")));
        }
        let one = call(A, "14:00:00", "X").with_key("AKIAONE");
        assert!(settled(&mut history, one, &["root-access-key-first-used"]).rules.is_empty());
        assert!(!history.note_key(A, "AKIAONE") && history.note_key("333344445555", "AKIAONE"));
        for n in 0..2 * HISTORY_SPOKEN_MAX as i64 {
            let at = clock("14:00:00") + jiff::SignedDuration::from_secs(n);
            history.note_spoken(A, "root-console-login-failed", at);
        }
        let spoken = |history: &History| history.accounts[A].spoken.values().map(Vec::len).sum();
        let number: usize = spoken(&history);
        assert_eq!(number, HISTORY_SPOKEN_MAX);
        history.forget_before(clock("23:00:00"));
        assert_eq!(spoken(&history), 0);
    }

    #[test]
    fn rules_look_back_as_far_as_the_longest_of_them() {
        assert_eq!(Ruleset::built_in().looks_back(), jiff::SignedDuration::from_hours(24));
        assert_eq!(Ruleset::empty().looks_back(), jiff::SignedDuration::ZERO);
    }
}
