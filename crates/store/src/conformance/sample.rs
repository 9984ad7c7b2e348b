//! Findings, alerts and chance for the tests of a store.

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{Alert, AlertKind, Delivery, IncidentSummary};
use rootwatch_core::correlate::{CorrelatePolicy, OpenIncidents, correlate_batch};
use rootwatch_core::finding::{
    Addendum, Finding, FindingKey, Mfa, NeedsRoot, Outcome, Reason, RootUse, SessionFacts, Severity,
};
use rootwatch_core::incident::{IncidentHead, IncidentId, IncidentKind, IncidentState};

use crate::{Batch, Unverified};

pub const MGMT: &str = "111122223333";
pub const PROD: &str = "222233334444";
pub const SANDBOX: &str = "333344445555";
const ADDRESSES: [&str; 3] = ["203.0.113.77", "198.51.100.23", "192.0.2.10"];

/// Numbers that look random and follow from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.word() % end as u64) as usize
    }

    /// True one time out of so many.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// So many seconds into the day of these samples.
#[must_use]
pub fn at(secs: i64) -> Timestamp {
    let begin: Timestamp = "2026-05-04T10:00:00Z".parse().expect("a time");
    begin + SignedDuration::from_secs(secs)
}

/// A direct, low, successful call of the root user.
#[must_use]
pub fn call(account: &str, time: Timestamp, name: &str) -> Finding {
    let key = format!("{account} {time} {name}");
    Finding {
        key: FindingKey(key.clone()),
        event_id: Some(format!("event of {key}")),
        event_time: Some(time),
        account_id: Some(account.to_owned()),
        recipient_account_id: Some(account.to_owned()),
        region: Some("us-east-1".to_owned()),
        event_source: None,
        event_name: Some(name.to_owned()),
        root_use: RootUse::Direct,
        severity: Severity::Low,
        rules: Vec::new(),
        title: format!("Root user called {name}"),
        did: name.to_owned(),
        reasons: vec![Reason::new("root_identity", "the root user itself called")],
        outcome: Outcome::Success,
        error_code: None,
        error_message: None,
        mfa: Mfa::NotStated,
        source_ip: None,
        user_agent: None,
        access_key_id: None,
        read_only: None,
        needs_root: NeedsRoot::Unknown,
        actor: None,
        target: None,
        shared_event_id: None,
        addendum: None,
        session: SessionFacts {
            principal_type: Some("Root".to_owned()),
            principal_arn: Some(format!("arn:aws:iam::{account}:root")),
            ..SessionFacts::default()
        },
    }
}

/// A sign-in from an address.
#[must_use]
pub fn sign_in(account: &str, time: Timestamp, address: &str, outcome: Outcome) -> Finding {
    let mut one = call(account, time, "ConsoleLogin");
    one.source_ip = Some(address.to_owned());
    one.key.0.push_str(address);
    one.outcome = outcome;
    one.session.sign_in = true;
    if outcome == Outcome::Success {
        one.severity = Severity::High;
    }
    one
}

/// A call in the session that began then.
#[must_use]
pub fn in_session(account: &str, time: Timestamp, name: &str, began: Timestamp) -> Finding {
    let mut one = call(account, time, name);
    one.session.created_at = Some(began);
    one
}

/// One that stands alone: its own account and day.
#[must_use]
pub fn lonely(number: usize) -> Finding {
    let account = format!("{:012}", 100_000_000_000 + number as u64);
    call(&account, at(number as i64 * 7), "ListUsers")
}

/// A finding out of a small world, in which keys, addresses and times often meet.
fn any(chance: &mut Chance) -> Finding {
    let moment = |chance: &mut Chance| {
        // Steps at, just under and just over the gaps of the policy.
        let step = chance.below(60) as i64;
        at(step * 150 + step % 3)
    };
    let (time, other) = (moment(chance), moment(chance));
    let account = [PROD, SANDBOX, MGMT][chance.below(3)];
    let address = ADDRESSES[chance.below(3)];
    let long_term = chance.one_in(2);
    let which = chance.below(3);
    let key = format!("{}{which}", if long_term { "AKIA" } else { "ASIA" });
    let with_key = |mut one: Finding| {
        one.access_key_id = Some(key.clone());
        one.session.long_term_key = long_term;
        one
    };
    let mut one = match chance.below(15) {
        0..=3 => sign_in(account, time, address, Outcome::Failure),
        4 | 5 => sign_in(account, time, address, Outcome::Success),
        6 => {
            let mut one = call(account, time, "PasswordRecoveryCompleted");
            one.session = SessionFacts { sign_in: true, ..SessionFacts::default() };
            one.root_use = RootUse::Possible;
            one
        }
        7 => {
            let mut one = call(account, time, "CloseAccount");
            one.session = SessionFacts::default();
            one.root_use = RootUse::Possible;
            one
        }
        8 => in_session(account, time, "ListUsers", other),
        9 => with_key(in_session(account, time, "GetUser", time)),
        10 => {
            let mut one = with_key(call(account, time, "ListBuckets"));
            one.outcome = Outcome::Failure;
            one.error_code = Some("AccessDenied".to_owned());
            one.rules = vec!["denied-with-root".to_owned()];
            one
        }
        11 => {
            let mut one = in_session(account, time, "CreateAccessKey", other);
            one.session.issued_key_id = Some(key.clone());
            one.severity = Severity::Critical;
            one.rules = vec!["key-made".to_owned(), "any-write".to_owned()];
            one
        }
        12 => {
            let mut one = call(MGMT, time, "AssumeRoot");
            one.key.0.push_str(account);
            one.actor = Some("maria".to_owned());
            one.root_use = RootUse::Privileged;
            one.severity = Severity::Informational;
            one.session.principal_type = Some("AssumedRole".to_owned());
            one.session.principal_arn = Some("maria".to_owned());
            one.session.target_account_id = Some(account.to_owned());
            one.session.task_policy = Some("IAMAuditRootUserCredentials".to_owned());
            one.session.issued_key_id = Some(key.clone());
            one
        }
        13 => {
            let mut one = call(account, time, "RunInstances");
            one.session.invoked_by = Some("autoscaling.amazonaws.com".to_owned());
            one.source_ip = Some("autoscaling.amazonaws.com".to_owned());
            one.root_use = RootUse::OnBehalf;
            one.severity = Severity::Informational;
            return one;
        }
        _ => {
            let mut one = call(account, time, "StopLogging");
            one.actor = Some("eve".to_owned());
            one.root_use = RootUse::No;
            one.severity = Severity::High;
            one.rules = vec!["logging-stopped".to_owned()];
            one.session.principal_type = Some("IAMUser".to_owned());
            one.session.principal_arn = Some("eve".to_owned());
            one
        }
    };
    if one.source_ip.is_none() && chance.one_in(2) {
        one.source_ip = Some(address.to_owned());
    }
    match chance.below(14) {
        8 => one.event_time = None,
        9 => one.shared_event_id = Some(which.to_string()),
        10 => one.session.sign_in_session_arn = Some(format!("arn:{which}")),
        _ => {}
    }
    one
}

/// Findings that often meet: sprays, sessions, `AssumeRoot`, corrections, long-term keys, and many
/// that say again what another says. Each has a key of its own.
#[must_use]
pub fn findings(chance: &mut Chance, number: usize) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::with_capacity(number);
    while all.len() < number {
        if chance.one_in(6) && !all.is_empty() {
            // A later record of the same event, which says a little more.
            let mut one = all[chance.below(all.len())].clone();
            one.addendum = Some(Addendum {
                reason: "UPDATED_DATA".to_owned(),
                original_event_id: one.event_id.take(),
                updated_fields: Some("userAgent".to_owned()),
            });
            one.user_agent = Some("corrected".to_owned());
            one.event_id = Some(format!("correction {}", all.len()));
            all.push(one);
            continue;
        }
        let sample = any(chance);
        let echoes = if chance.one_in(3) { chance.below(30) } else { 0 };
        let pace = chance.below(30) as i64;
        for nth in 0..=echoes {
            let mut one = sample.clone();
            one.event_time = one.event_time.map(|time| {
                time + SignedDuration::from_secs(pace * i64::try_from(nth).unwrap_or_default())
            });
            if nth > 0 {
                one.event_id = None;
            }
            if nth % 9 == 8 {
                one.severity = Severity::High;
                one.reasons.push(Reason::new("worse", "worse"));
            }
            all.push(one);
        }
    }
    all.truncate(number);
    for (place, one) in all.iter_mut().enumerate() {
        // The event id stays what corrections name; the key is a finding's own.
        one.key.0.push_str(&format!(" {place:04}"));
    }
    all
}

/// The batch that opens the incidents of these findings.
#[must_use]
pub fn opening(findings: Vec<Finding>) -> Batch {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    Batch {
        changes: correlate_batch(&mut open, findings),
        now: Some(at(100_000)),
        ..Batch::default()
    }
}

/// A delivery of this alert in this thread.
#[must_use]
pub fn delivery(alert: &str, thread: &str, destination: &str, now: Timestamp) -> Delivery {
    let brief = IncidentSummary {
        head: IncidentHead {
            id: IncidentId(thread.to_owned()),
            kind: IncidentKind::Session,
            state: IncidentState::Open,
            severity: Severity::High,
            title: "Root user called ListUsers".to_owned(),
            accounts: Vec::new(),
            root_use: RootUse::Direct,
            reasons: Vec::new(),
            first_at: None,
            last_at: None,
            addresses: Vec::new(),
            related: Vec::new(),
        },
        findings_total: 1,
        rules: Vec::new(),
        needs_root: NeedsRoot::Unknown,
        by: None,
    };
    let alert = Alert {
        id: alert.to_owned(),
        kind: AlertKind::Opened,
        decided_at: now,
        received_at: None,
        severity: Severity::High,
        incidents: vec![brief],
        incidents_left_out: 0,
        findings: Vec::new(),
        fresh: Vec::new(),
        next: Vec::new(),
        approval: rootwatch_core::window::Approval::Unknown,
        note: None,
    };
    Delivery::new(alert, destination, now)
}

/// A record that is not trusted.
#[must_use]
pub fn unverified(number: usize) -> Unverified {
    let finding = lonely(number);
    Unverified {
        key: finding.key.clone(),
        received_at: at(number as i64 / 2),
        source: "http:test".to_owned(),
        reason: "of another organization".to_owned(),
        finding,
    }
}
