//! An incident in words: who, when, how, what was done, why it matters, what to do first.
//!
//! `table` and `html` show the same [`Told`]. All its texts are safe to show; HTML escapes them
//! once more in its own way.

use rootwatch_core::finding::{Finding, Mfa, Outcome, RootUse, Severity};
use rootwatch_core::incident::{Incident, IncidentKind};

use super::RuleText;
use super::fold::{self, Lane, Row, distinct};
use super::{Report, Style, words};

/// Parts of the sentence that says what was done; the gravest are kept.
const CLAUSES_MAX: usize = 8;
/// Addresses and accounts that are named one by one.
const NAMED_MAX: usize = 6;
/// First steps that are told.
const STEPS_MAX: usize = 3;
/// Columns of one reason or one step.
const TEXT_COLUMNS_MAX: usize = 300;

/// An incident in words.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) severity: Severity,
    pub(crate) id: String,
    pub(crate) title: String,
    /// The account with its digits, or `3 accounts`.
    pub(crate) account: String,
    /// The accounts one by one, where there are several.
    pub(crate) accounts: Vec<String>,
    /// `2026-05-04 13:58 → 14:31 UTC`.
    pub(crate) span: String,
    /// How long ago it ended, while that is what people ask first: `12 min ago`.
    pub(crate) ago: Option<String>,
    /// `root user: console → access key`.
    pub(crate) how: String,
    /// What was done, in order: one sentence.
    pub(crate) prose: String,
    /// From which addresses, and with what.
    pub(crate) from: String,
    /// Reasons, the strongest first.
    pub(crate) why: Vec<String>,
    /// Related incidents.
    pub(crate) related: Vec<String>,
    /// What to do first.
    pub(crate) next: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl Told {
    pub(crate) fn new(report: &Report<'_>, incident: &Incident, style: &Style) -> Self {
        let accounts: Vec<String> =
            incident.accounts.iter().map(|id| report.account_with_id(id)).collect();
        Self {
            severity: incident.severity,
            id: words::cap(&incident.id.0, 40),
            title: words::cap(&incident.title, TEXT_COLUMNS_MAX),
            account: match accounts.as_slice() {
                [] => "account not stated".to_owned(),
                [one] => one.clone(),
                many => words::count(many.len() as u64, "account"),
            },
            accounts: if accounts.len() > 1 { accounts } else { Vec::new() },
            span: span(incident, style),
            ago: ago(report, incident),
            how: how(incident),
            prose: prose(incident),
            from: from(incident),
            why: incident
                .reasons
                .iter()
                .map(|reason| words::cap(&reason.text, TEXT_COLUMNS_MAX))
                .collect(),
            related: incident.related.iter().map(|id| words::cap(&id.0, 40)).collect(),
            next: next(report, incident),
            rows: fold::rows(report, incident),
        }
    }

    /// Incidents that only say that AWS itself did something are told in a line.
    pub(crate) fn is_brief(incident: &Incident) -> bool {
        incident.severity == Severity::Informational && incident.root_use == RootUse::OnBehalf
    }
}

/// `2026-05-04 13:58 → 14:31 UTC`, with both dates where they differ.
pub(crate) fn span(incident: &Incident, style: &Style) -> String {
    let zone = &style.zone;
    let label = words::visible(&style.zone_label);
    let moment = |at| format!("{} {}", words::date(at, zone), words::clock(at, zone));
    match (incident.first_at, incident.last_at) {
        (Some(first), Some(last)) => {
            let (from, to) = (moment(first), moment(last));
            if from == to {
                format!("{from} {label}")
            } else if words::date(first, zone) == words::date(last, zone) {
                format!("{from} → {} {label}", words::clock(last, zone))
            } else {
                format!("{from} → {to} {label}")
            }
        }
        (Some(at), None) | (None, Some(at)) => format!("{} {label}", moment(at)),
        (None, None) => "time not stated".to_owned(),
    }
}

fn ago(report: &Report<'_>, incident: &Incident) -> Option<String> {
    let (now, last) = (report.generated_at?, incident.last_at?);
    let hours = now.duration_since(last).as_hours();
    (0..48).contains(&hours).then(|| words::relative(last, now))
}

fn how(incident: &Incident) -> String {
    match incident.kind {
        IncidentKind::Spray => return "root sign-in attempts from one address".to_owned(),
        IncidentKind::Watch => return "not root use; a rule asks to be told".to_owned(),
        IncidentKind::Privileged => {
            let caller = incident
                .findings
                .iter()
                .find_map(|finding| finding.actor.as_deref())
                .map(|actor| words::cap(actor, words::TEXT_COLUMNS_MAX));
            return match caller {
                Some(caller) => format!("privileged session, opened by {caller}"),
                None => "privileged session".to_owned(),
            };
        }
        IncidentKind::Session => {}
    }
    let mut ways: Vec<&str> = Vec::new();
    for finding in &incident.findings {
        let way = match Lane::of(finding) {
            Lane::SignIn if succeeded(finding, "ConsoleLogin") => "console",
            Lane::Console => "console",
            Lane::AccessKey => "access key",
            Lane::Privileged => "privileged session",
            Lane::Derived => "derived session",
            Lane::SignIn | Lane::Behalf | Lane::Watched => continue,
        };
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    let who = match incident.root_use {
        RootUse::Possible => "probably the root user",
        RootUse::OnBehalf => "an AWS service for the root user",
        _ => "root user",
    };
    if ways.is_empty() {
        let tried = incident.findings.iter().any(|finding| finding.session.sign_in);
        return if tried { format!("{who}, sign-in only") } else { who.to_owned() };
    }
    format!("{who}: {}", ways.join(" → "))
}

fn succeeded(finding: &Finding, name: &str) -> bool {
    finding.outcome == Outcome::Success && finding.event_name.as_deref() == Some(name)
}

/// One part of the sentence, with how much it matters and how often it was done.
struct Clause {
    words: String,
    weight: Severity,
    times: u64,
}

impl Clause {
    fn new(words: String, weight: Severity) -> Self {
        Self { words, weight, times: 1 }
    }

    fn told(self) -> String {
        if self.times > 1 {
            format!("{} {}", self.words, words::count(self.times, "time"))
        } else {
            self.words
        }
    }
}

fn prose(incident: &Incident) -> String {
    let clauses = match incident.kind {
        IncidentKind::Watch => Vec::new(),
        IncidentKind::Spray => spray(incident),
        IncidentKind::Session | IncidentKind::Privileged => session(incident),
    };
    if clauses.is_empty() {
        return sentence(&words::cap(&incident.title, TEXT_COLUMNS_MAX));
    }
    let parts = gravest(clauses);
    sentence(&parts.join(", "))
}

fn sentence(text: &str) -> String {
    let mut text = words::capital(text.trim());
    if !text.ends_with(['.', '…', '!', '?']) {
        text.push('.');
    }
    text
}

/// At most [`CLAUSES_MAX`] parts, in their order; what is left out is counted.
fn gravest(clauses: Vec<Clause>) -> Vec<String> {
    let left_out = clauses.len().saturating_sub(CLAUSES_MAX);
    let mut by_weight: Vec<usize> = (0..clauses.len()).collect();
    by_weight.sort_by_key(|index| std::cmp::Reverse(clauses[*index].weight));
    by_weight.truncate(CLAUSES_MAX);
    let mut parts: Vec<String> = clauses
        .into_iter()
        .enumerate()
        .filter(|(index, _)| by_weight.contains(index))
        .map(|(_, clause)| clause.told())
        .collect();
    if left_out > 0 {
        parts.push(format!("and did {} more", words::count(left_out as u64, "thing")));
    }
    parts
}

fn spray(incident: &Incident) -> Vec<Clause> {
    let tried = |finding: &&Finding| finding.session.sign_in;
    let tries: Vec<&Finding> = incident.findings.iter().filter(tried).collect();
    let failed = tries.iter().filter(|finding| finding.outcome == Outcome::Failure).count();
    let came_through = tries.iter().any(|finding| succeeded(finding, "ConsoleLogin"));
    let accounts = words::count(incident.accounts.len() as u64, "account");
    if failed == 0 {
        return Vec::new();
    }
    let mut text = format!(
        "the root user's sign-in failed {} in {accounts}",
        words::count(failed as u64, "time")
    );
    text.push_str(if came_through { "; one attempt came through" } else { "; none came through" });
    vec![Clause::new(text, incident.severity)]
}

fn session(incident: &Incident) -> Vec<Clause> {
    let mut clauses = Vec::new();
    clauses.extend(assumed(incident));
    clauses.extend(sign_in(incident));
    let mut read: Option<usize> = None;
    let mut read_count = 0;
    for finding in &incident.findings {
        if finding.session.sign_in || finding.root_use == RootUse::OnBehalf {
            continue;
        }
        let succeeded = finding.outcome == Outcome::Success;
        if succeeded && finding.event_name.as_deref() == Some("AssumeRoot") {
            continue;
        }
        if succeeded && finding.read_only == Some(true) && deed(finding).is_none() {
            read_count += 1;
            let index = *read.get_or_insert(clauses.len());
            if index == clauses.len() {
                clauses.push(Clause::new(String::new(), finding.severity));
            }
            continue;
        }
        let words = done(finding);
        match clauses.iter_mut().find(|clause| clause.words == words) {
            Some(clause) => {
                clause.weight = clause.weight.max(finding.severity);
                clause.times += 1;
            }
            None => clauses.push(Clause::new(words, finding.severity)),
        }
    }
    if let Some(clause) = read.and_then(|index| clauses.get_mut(index)) {
        clause.words = format!("made {}", words::count(read_count, "read-only call"));
    }
    clauses
}

/// The sign-in with what led to it, in one clause.
fn sign_in(incident: &Incident) -> Option<Clause> {
    let attempts: Vec<&Finding> =
        incident.findings.iter().filter(|finding| finding.session.sign_in).collect();
    let came_in = attempts.iter().position(|finding| succeeded(finding, "ConsoleLogin"));
    let before = &attempts[..came_in.unwrap_or(attempts.len())];
    let recovery = |name: &str| before.iter().any(|finding| succeeded(finding, name));
    let failed = before
        .iter()
        .filter(|finding| finding.outcome == Outcome::Failure)
        .filter(|finding| finding.event_name.as_deref() == Some("ConsoleLogin"))
        .count();
    let weight = attempts.iter().map(|finding| finding.severity).max().unwrap_or_default();
    let mut led = Vec::new();
    if recovery("PasswordRecoveryCompleted") {
        led.push("a password recovery".to_owned());
    } else if recovery("PasswordRecoveryRequested") {
        led.push("a request for password recovery".to_owned());
    }
    if failed > 0 {
        led.push(words::count(failed as u64, "failed attempt"));
    }
    let words = match came_in.and_then(|index| attempts.get(index)) {
        Some(finding) => {
            let mfa = match finding.mfa {
                Mfa::Used => " with MFA",
                Mfa::NotUsed => " without MFA",
                Mfa::NotStated => "",
            };
            let after = if led.is_empty() { "" } else { " after " };
            format!("signed in{mfa}{after}{}", words::list(&led))
        }
        None if failed > 0 => {
            let times = words::count(failed as u64, "time");
            format!("sign-in failed {times}; no attempt came through")
        }
        None if !led.is_empty() => format!("{}, no sign-in seen", words::list(&led)),
        None => return None,
    };
    Some(Clause::new(words, weight.max(Severity::Low)))
}

/// All `AssumeRoot` calls that came through, in one clause.
fn assumed(incident: &Incident) -> Option<Clause> {
    let calls = || incident.findings.iter().filter(|finding| succeeded(finding, "AssumeRoot"));
    let weight = calls().map(|finding| finding.severity).max()?;
    let target = |finding: &Finding| finding.session.target_account_id.clone();
    let accounts = distinct(calls().filter_map(target)).len().max(1) as u64;
    let tasks = distinct(calls().map(|finding| match finding.session.task_policy.as_deref() {
        Some("IAMAuditRootUserCredentials") => "to audit root credentials".to_owned(),
        Some("IAMCreateRootUserPassword") => "to create a root password".to_owned(),
        Some("IAMDeleteRootUserCredentials") => "to delete root credentials".to_owned(),
        Some("S3UnlockBucketPolicy") => "to unlock a bucket policy".to_owned(),
        Some("SQSUnlockQueuePolicy") => "to unlock a queue policy".to_owned(),
        Some(policy) => format!("with the task policy {}", words::cap(policy, 80)),
        None => "for a task that the record does not name".to_owned(),
    }));
    let number = calls().count() as u64;
    let sessions = if number == 1 {
        "a privileged session".to_owned()
    } else {
        format!("{number} privileged sessions")
    };
    let words = format!(
        "opened {sessions} in {} {}",
        words::count(accounts, "account"),
        words::list(&tasks)
    );
    Some(Clause::new(words, weight))
}

/// What one call that changes something, or failed, did.
fn done(finding: &Finding) -> String {
    let Some(name) = finding.event_name.as_deref() else {
        return words::cap(&finding.title, TEXT_COLUMNS_MAX);
    };
    let shown = words::cap(name, 80);
    if finding.outcome == Outcome::Failure {
        return if fold::is_denial(finding) {
            format!("was denied {shown}")
        } else {
            format!("failed at {shown}")
        };
    }
    if finding.root_use == RootUse::Derived {
        return match finding.region.as_deref() {
            Some(region) => format!("used that session for {shown} in {}", words::visible(region)),
            None => format!("used that session for {shown}"),
        };
    }
    if let Some(deed) = deed(finding) {
        return deed;
    }
    DEEDS
        .iter()
        .find(|(event, _)| *event == name)
        .map_or_else(|| format!("called {shown}"), |(_, deed)| (*deed).to_owned())
}

/// The words of a rule where they say what somebody did: `created a root access key`. Others say
/// that something happened (`key disabled`) or only that there was a call.
fn deed(finding: &Finding) -> Option<String> {
    let verb = finding.did.split(' ').next().unwrap_or_default();
    let vague = ["used", "signed", "failed", "denied", "passed"].contains(&verb);
    let is_verb =
        verb.ends_with("ed") && verb.len() > 3 || ["gave", "wrote", "read"].contains(&verb);
    let audit = finding.root_use == RootUse::Privileged && verb == "read";
    let spoken = !finding.rules.is_empty() && is_verb && !vague && !audit;
    spoken.then(|| words::cap(&finding.did, words::TEXT_COLUMNS_MAX))
}

/// What some calls do, in words, where the words of their rules do not fit into a sentence. Others
/// are told by their name.
const DEEDS: [(&str, &str); 17] = [
    ("GetFederationToken", "issued a federation token"),
    ("GetSessionToken", "issued a session token"),
    ("StopLogging", "stopped a trail"),
    ("DeleteTrail", "deleted a trail"),
    ("UpdateTrail", "changed a trail"),
    ("PutEventSelectors", "changed what a trail records"),
    ("DeleteDetector", "deleted a GuardDuty detector"),
    ("StopConfigurationRecorder", "stopped the Config recorder"),
    ("DisableKey", "disabled a key"),
    ("ScheduleKeyDeletion", "scheduled a key to be deleted"),
    ("RunInstances", "started EC2 instances"),
    ("CloseAccount", "closed the account"),
    ("LeaveOrganization", "took the account out of the organisation"),
    ("DeleteOrganization", "deleted the organisation"),
    ("EnableRegion", "enabled a region"),
    ("DisableRegion", "disabled a region"),
    ("SetSecurityQuestions", "changed the security questions"),
];

/// `203.0.113.77 (Chrome on Windows) · access key from 198.51.100.23 (AWS CLI)`.
fn from(incident: &Incident) -> String {
    let mut parts = Vec::new();
    for address in incident.addresses.iter().take(NAMED_MAX) {
        let calls = || {
            incident
                .findings
                .iter()
                .filter(|finding| finding.source_ip.as_deref() == Some(address.as_str()))
        };
        let mut agents =
            distinct(calls().filter_map(|finding| words::agent(finding.user_agent.as_deref())));
        let more = agents.len().saturating_sub(2);
        agents.truncate(2);
        if more > 0 {
            agents.push(format!("{more} more"));
        }
        let mut text = words::cap(address, 80);
        if !agents.is_empty() {
            text = format!("{text} ({})", words::list(&agents));
        }
        let lanes: Vec<Lane> = calls().map(Lane::of).collect();
        let issued = |lane: &Lane| matches!(lane, Lane::AccessKey | Lane::Derived);
        if lanes.contains(&Lane::AccessKey) && lanes.iter().all(issued) {
            text = format!("access key used from {text}");
        } else if lanes.contains(&Lane::Derived) && lanes.iter().all(issued) {
            text = format!("derived session from {text}");
        }
        parts.push(text);
    }
    let more = incident.addresses.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        parts.push(format!("{} more", words::thousands(more as u64)));
    }
    parts.join(" · ")
}

/// What to do first: the first step of each of the gravest findings' rules, then their second
/// steps, each step once.
fn next(report: &Report<'_>, incident: &Incident) -> Vec<String> {
    let mut findings: Vec<&Finding> = incident.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let Some(worst) = findings.first().map(|finding| finding.severity) else { return Vec::new() };
    let rules: Vec<&RuleText> = findings
        .iter()
        .take_while(|finding| finding.severity == worst)
        .filter_map(|finding| report.rules.get(finding.rules.first()?))
        .collect();
    let mut steps: Vec<String> = Vec::new();
    for depth in 0..STEPS_MAX {
        for step in rules.iter().filter_map(|rule| rule.triage.get(depth)) {
            let step = words::cap(step.trim(), TEXT_COLUMNS_MAX);
            if steps.len() < STEPS_MAX && !steps.contains(&step) {
                steps.push(step);
            }
        }
    }
    steps
}
