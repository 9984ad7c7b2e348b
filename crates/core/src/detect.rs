//! Detection: a record becomes a finding when the root user had a part in it or a rule speaks.
//!
//! **The floor**: `direct`, `privileged`, `derived`, `possible` and `on_behalf` are findings even
//! when no rule knows the API. Rules name what was done, raise the severity and bring the triage;
//! they remove nothing.

mod history;
mod undecided;

use jiff::Timestamp;

use crate::decode::Event;
use crate::finding::{
    Addendum, Finding, FindingKey, Mfa, NeedsRoot, Outcome, Reason, RootUse, SessionFacts, Severity,
};
use crate::fnv;
use crate::judge::{self, Judgement, judge};
use crate::pattern::{Matcher, Matches};
use crate::record::{Record, text_at};
use crate::rules::{Rule, Ruleset};
pub use history::{HISTORY_ADDRESSES_MAX, HISTORY_KEYS_MAX, HISTORY_SPOKEN_MAX, History};
pub use undecided::UNDECIDED_NAMED_MAX;

/// Longest free text that a finding keeps, in bytes. Whoever used the credentials chose it.
pub const TEXT_BYTES_MAX: usize = 1024;

/// A finding, and the rules whose pattern matched but which speak only after or for the first of
/// something: [`settle`] decides about them.
#[derive(Debug, Clone)]
pub struct Detected {
    /// What the record says by itself.
    pub finding: Finding,
    /// Indexes into [`Ruleset::rules`].
    pub waiting: Vec<usize>,
}

/// Judges events one after the other, with memory that is used again.
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
        let judgement = judge(&event.record);
        let Matches { matched, undecided } = self.matching(event);
        if judgement.root_use == RootUse::No && matched.is_empty() && undecided.is_empty() {
            return None;
        }
        let (matched, undecided) = (matched.to_vec(), undecided.to_vec());
        let (waiting, matched): (Vec<_>, Vec<_>) =
            matched.into_iter().partition(|index| self.rules.rules()[*index].is_deferred());
        let mut finding = self.finding(event, judgement, &matched);
        if !undecided.is_empty() {
            undecided::note(&mut finding, &undecided, self.rules);
        }
        Some(Detected { finding, waiting })
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

    fn finding(&self, event: &Event<'_>, judgement: Judgement, speaking: &[usize]) -> Finding {
        let record = &event.record;
        let mut rules: Vec<(usize, &Rule)> =
            speaking.iter().map(|index| (*index, &self.rules.rules()[*index])).collect();
        rules.sort_by_cached_key(|(_, rule)| {
            (std::cmp::Reverse((rule.severity, specificity(&rule.pattern))), rule.id.clone())
        });
        let outcome = judge::outcome(record);
        let mfa = judge::mfa(record);
        let root_use = judgement.root_use;
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
            reasons: judgement.reasons,
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
        self.weigh(&mut finding, &rules);
        // A rule that does not ask how the call ended says that something was done. It was not: the
        // words of a call that was denied or failed come from the call alone.
        if outcome == Outcome::Failure && !first.is_some_and(|rule| asks_for_outcome(&rule.pattern))
        {
            let word = match finding.error_code.as_deref() {
                Some(code) if judge::is_denied(code) => "denied",
                _ => "failed",
            };
            finding.did = format!("{word}: {}", did(record));
            finding.title = failed_title(record, root_use, word);
        }
        finding
    }

    /// Sets the severity and says what raised it.
    fn weigh(&self, finding: &mut Finding, rules: &[(usize, &Rule)]) {
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
                        reasons.push(Reason::new(
                            "not_root_task",
                            "not a task that needs the root user",
                        ));
                    }
                }
                if finding.mfa == Mfa::NotUsed && called {
                    if !finding.session.sign_in {
                        severity = severity.max(severity.raised().min(Severity::High));
                    }
                    reasons.push(Reason::new("no_mfa", "no MFA"));
                }
                if finding.session.long_term_key {
                    severity = severity.max(Severity::High);
                    reasons.push(Reason::new("long_term_key", "long-term root key"));
                }
                let off_watch = rules.iter().any(|(index, rule)| {
                    rule.severity >= Severity::High
                        && rule.needs_root == NeedsRoot::No
                        && !self.rules.asks_for_identity(*index)
                });
                if off_watch && called {
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
        if finding.root_use != RootUse::OnBehalf
            && finding.error_code.as_deref().is_some_and(judge::is_denied)
        {
            if finding.root_use == RootUse::Direct {
                severity = severity.max(Severity::High);
                reasons.push(Reason::new(
                    "denied",
                    "denied by a policy: the caller has root credentials",
                ));
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
}

impl Severity {
    /// One step worse.
    #[must_use]
    pub fn raised(self) -> Self {
        match self {
            Self::Informational => Self::Low,
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
            Self::High | Self::Critical => Self::Critical,
        }
    }
}

/// Puts detected findings in order, drops repeats, and decides about the rules that look back:
/// what follows something, what is the first of something, which address is new to an account.
///
/// Returns the findings sorted by time, then key (those without a time last), and how many were
/// repeats. A pure function of the set: the order of the input does not matter.
#[must_use]
pub fn settle(mut detected: Vec<Detected>, rules: &Ruleset) -> (Vec<Finding>, u64) {
    // Two records with one key are one record delivered twice, and equal. Were they not, which of
    // them counts must still not depend on which came first.
    detected.sort_by(|a, b| {
        order(&a.finding)
            .cmp(&order(&b.finding))
            .then_with(|| format!("{:?}", a.finding).cmp(&format!("{:?}", b.finding)))
    });
    let before = detected.len();
    detected.dedup_by(|a, b| a.finding.key == b.finding.key);
    let repeats = (before - detected.len()) as u64;

    let mut history = History::of_input();
    let settled = detected.into_iter().filter_map(|one| history.settle(one, rules));
    (settled.collect(), repeats)
}

/// The order of findings: by time, then key; those without a time last.
fn order(finding: &Finding) -> (bool, Option<Timestamp>, &FindingKey) {
    (finding.event_time.is_none(), finding.event_time, &finding.key)
}

/// True for an IP address; false for a service's name and `AWS Internal`.
#[must_use]
pub fn is_client_address(source_ip: &str) -> bool {
    source_ip.parse::<std::net::IpAddr>().is_ok()
}

/// How many leaves a pattern constrains: of two rules that say the same of severity, the one that
/// says more gives the title.
fn specificity(pattern: &serde_json::Value) -> usize {
    match pattern {
        serde_json::Value::Object(fields) => fields.values().map(specificity).sum(),
        _ => 1,
    }
}

/// See [`FindingKey`].
fn key(record: &Record<'_>) -> FindingKey {
    let part = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let id = match record.event_id.as_deref() {
        Some(id) => id.to_owned(),
        None => format!("fnv-{:016x}", fnv::hash(record.json.as_bytes())),
    };
    let account = record.recipient_account_id.as_deref().or(record.identity.account_id.as_deref());
    FindingKey(format!(
        "{}/{}/{}/{}/{}",
        part(account),
        id,
        part(record.service()),
        part(record.event_name.as_deref()),
        record.event_time.map_or_else(|| "-".to_owned(), |at| at.to_string()),
    ))
}

fn session_facts(record: &Record<'_>) -> SessionFacts {
    let identity = &record.identity;
    let session = &identity.session;
    let named = |name: &str| record.is_named(name);
    let issued_key_id = if record.response_elements.is_none() {
        None
    } else if named("CreateAccessKey") {
        text_at(record.response_elements, &["accessKey", "accessKeyId"])
    } else if named("AssumeRoot") || named("GetFederationToken") || named("GetSessionToken") {
        text_at(record.response_elements, &["credentials", "accessKeyId"])
    } else {
        None
    };
    let is_assume_root = named("AssumeRoot");
    let ask = |path: &[&str]| {
        if is_assume_root { text_at(record.request_parameters, path) } else { None }
    };
    SessionFacts {
        sign_in_session_arn: owned(session.sign_in_session_arn.as_deref()),
        created_at: session.created_at,
        principal_arn: owned(identity.arn.as_deref()),
        principal_type: owned(identity.kind.as_deref()),
        long_term_key: identity.access_key_id.as_deref().is_some_and(|key| key.starts_with("AKIA")),
        issued_key_id,
        target_account_id: ask(&["targetPrincipal"]).as_deref().and_then(account_in),
        task_policy: ask(&["taskPolicyArn", "arn"])
            .or_else(|| ask(&["taskPolicyArn"]))
            .map(|arn| arn.rsplit('/').next().unwrap_or(&arn).to_owned()),
        assumed_root: session.assumed_root == Some(true),
        sign_in: record.is_from("signin")
            && record.event_name.as_deref().is_some_and(|name| {
                matches!(name, "ConsoleLogin" | "CheckMfa" | "ExternalIdPDirectoryLogin")
                    || judge::ROOT_SIGN_IN_ACTIONS.contains(&name)
            }),
        invoked_by: owned(identity.invoked_by.as_deref()),
    }
}

/// The account in `222233334444` or `arn:aws:iam::222233334444:root`.
fn account_in(principal: &str) -> Option<String> {
    principal
        .split(':')
        .find(|part| part.len() == 12 && part.bytes().all(|byte| byte.is_ascii_digit()))
        .map(str::to_owned)
}

/// The account of the root user; the recipient where the record names none.
fn account_of(record: &Record<'_>, root_use: RootUse, session: &SessionFacts) -> Option<String> {
    let identity = &record.identity;
    let stated = match root_use {
        RootUse::Privileged if session.target_account_id.is_some() => {
            session.target_account_id.clone()
        }
        RootUse::Derived => {
            owned(identity.account_id.as_deref().or(identity.session.issuer_account_id.as_deref()))
        }
        _ => owned(identity.account_id.as_deref())
            .or_else(|| identity.arn.as_deref().and_then(account_in)),
    };
    stated.or_else(|| owned(record.recipient_account_id.as_deref()))
}

/// Who did it, when that is not the root user itself.
fn actor(record: &Record<'_>, root_use: RootUse) -> Option<String> {
    let identity = &record.identity;
    match root_use {
        RootUse::Direct | RootUse::Possible => None,
        RootUse::OnBehalf => owned(identity.invoked_by.as_deref().or(record.source_ip.as_deref())),
        RootUse::Privileged if !record.is_named("AssumeRoot") => None,
        _ => owned(
            identity
                .arn
                .as_deref()
                .or(identity.principal_id.as_deref())
                .or(identity.invoked_by.as_deref()),
        ),
    }
}

/// Request parameters that say what a call was done to; of the first two found, arns and urls are
/// shortened to their last part.
const TARGETS: [&str; 22] = [
    "bucketName",
    "userName",
    "roleName",
    "groupName",
    "policyArn",
    "policyName",
    "accessKeyId",
    "virtualMFADeviceName",
    "serialNumber",
    "trailName",
    "name",
    "rule",
    "detectorId",
    "targetPrincipal",
    "accountId",
    "regionName",
    "queueUrl",
    "topicArn",
    "subscriptionArn",
    "keyId",
    "functionName",
    "servicePrincipal",
];

fn target(record: &Record<'_>) -> Option<String> {
    let parameters: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(record.request_parameters?.get()).ok()?;
    let mut parts = Vec::new();
    for name in TARGETS {
        if let Some(serde_json::Value::String(text)) = parameters.get(name) {
            let short = if text.starts_with("arn:") || text.starts_with("https:") {
                text.rsplit(['/', ':']).next().unwrap_or(text)
            } else {
                text
            };
            if !short.is_empty() {
                parts.push(cut(short));
            }
        }
        if parts.len() == 2 {
            break;
        }
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn title(record: &Record<'_>, root_use: RootUse) -> String {
    let call = did(record);
    let service = record.service().map(|service| format!(" ({})", cut(service)));
    let service = service.unwrap_or_default();
    match root_use {
        RootUse::Direct => format!("Root user called {call}{service}"),
        RootUse::Privileged => format!("Privileged root session called {call}{service}"),
        RootUse::Derived => format!("Session issued by the root user called {call}{service}"),
        RootUse::OnBehalf => match record.identity.invoked_by.as_deref() {
            Some(by) => format!("{} called {call} for the root user", cut(by)),
            None => format!("AWS service event {call}{service}"),
        },
        RootUse::Possible => format!("Account action {call}{service}, identity not stated"),
        RootUse::No => format!("{call}{service}"),
    }
}

/// The title of a call that did not succeed: `Root user was denied StopLogging (cloudtrail)`.
fn failed_title(record: &Record<'_>, root_use: RootUse, word: &str) -> String {
    let call = did(record);
    let service = record.service().map(|service| format!(" ({})", cut(service)));
    let service = service.unwrap_or_default();
    let (was_denied, is_denied) = match word {
        "denied" => ("was denied", "denied"),
        _ => ("failed at", "failed"),
    };
    match root_use {
        RootUse::Direct => format!("Root user {was_denied} {call}{service}"),
        RootUse::Privileged if record.is_named("AssumeRoot") => {
            match session_facts(record).task_policy {
                Some(policy) => format!("AssumeRoot {is_denied}, task policy {}", cut(&policy)),
                None => format!("AssumeRoot {is_denied}"),
            }
        }
        RootUse::Privileged => format!("Privileged root session {was_denied} {call}{service}"),
        RootUse::Derived => format!("Session issued by the root user {was_denied} {call}{service}"),
        RootUse::OnBehalf | RootUse::Possible | RootUse::No => {
            format!("{call}{service} {is_denied}")
        }
    }
}

fn did(record: &Record<'_>) -> String {
    cut(record.event_name.as_deref().unwrap_or("an unnamed action"))
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(cut)
}

/// Cuts a text at [`TEXT_BYTES_MAX`].
fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = TEXT_BYTES_MAX - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// True when a pattern constrains how the call ended.
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

/// A title inside a sentence. Only `Root user …` starts in lower case there: most other titles begin with a
/// name (`AWS Config`, `AssumeRoot`, `KMS key`).
fn lower_first(text: &str) -> String {
    match text.strip_prefix("Root ") {
        Some(rest) => format!("root {rest}"),
        None => text.to_owned(),
    }
}
