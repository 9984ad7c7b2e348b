//! Findings, batches, deliveries and unverified records, written short.
//!
//! [`finding`] has builders for findings of every kind; what is here builds what a store is given.

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{Alert, AlertKind, IncidentSummary};
use rootwatch_core::correlate::{CorrelatePolicy, OpenIncidents, correlate_batch};
use rootwatch_core::delivery::Delivery;
use rootwatch_core::finding::{
    Addendum, Finding, NeedsRoot, Outcome, Reason, RootUse, SessionFacts, Severity,
};
use rootwatch_core::incident::{IncidentHead, IncidentId, IncidentKind, IncidentState};
use rootwatch_store::{Batch, Unverified};

pub use rootwatch_core::sample as finding;
pub use rootwatch_core::sample::call_at as call;

use crate::random::Random;

/// The management account.
pub const MGMT: &str = "111122223333";
/// A member account.
pub const PROD: &str = "222233334444";
/// Another member account.
pub const SANDBOX: &str = "333344445555";
const ADDRESSES: [&str; 3] = ["203.0.113.77", "198.51.100.23", "192.0.2.10"];

/// This many seconds after the start of the samples.
///
/// # Panics
/// When that is out of range.
#[must_use]
pub fn at(secs: i64) -> Timestamp {
    let begin: Timestamp = "2026-05-04T10:00:00Z".parse().expect("a time");
    begin + SignedDuration::from_secs(secs)
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
fn any(random: &mut Random) -> Finding {
    let moment = |random: &mut Random| {
        // Steps at, just under and just over the gaps of the policy.
        let step = random.below(60) as i64;
        at(step * 150 + step % 3)
    };
    let (time, other) = (moment(random), moment(random));
    let account = [PROD, SANDBOX, MGMT][random.below(3)];
    let address = ADDRESSES[random.below(3)];
    let long_term = random.one_in(2);
    let which = random.below(3);
    let key = format!("{}{which}", if long_term { "AKIA" } else { "ASIA" });
    let with_key = |mut one: Finding| {
        one.access_key_id = Some(key.clone());
        one.session.long_term_key = long_term;
        one
    };
    let mut one = match random.below(15) {
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
    if one.source_ip.is_none() && random.one_in(2) {
        one.source_ip = Some(address.to_owned());
    }
    match random.below(14) {
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
pub fn findings(random: &mut Random, number: usize) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::with_capacity(number);
    while all.len() < number {
        if random.one_in(6) && !all.is_empty() {
            // A later record of the same event, which says a little more.
            let mut one = all[random.below(all.len())].clone();
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
        let sample = any(random);
        let echoes = if random.one_in(3) { random.below(30) } else { 0 };
        let pace = random.below(30) as i64;
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
