//! What happened in an incident, in sentences.

use super::TEXT_COLUMNS_MAX as WORD_COLUMNS_MAX;
use super::fold::{Lane, distinct, is_denial};
use crate::alert::IncidentSummary;
use crate::finding::{Finding, Mfa, Outcome, RootUse, Severity};
use crate::incident::{Incident, IncidentKind};

/// Parts of the sentence that says what was done; the gravest are kept.
const CLAUSES_MAX: usize = 8;
/// Addresses that are named one by one.
const NAMED_MAX: usize = 6;
/// Columns of one reason or one step.
const TEXT_COLUMNS_MAX: usize = 300;

/// What is told of an incident: itself, or what an alert carries of it.
#[derive(Debug, Clone)]
pub struct Story<'a> {
    /// See [`Incident::kind`].
    pub kind: IncidentKind,
    /// See [`Incident::severity`].
    pub severity: Severity,
    /// See [`Incident::title`].
    pub title: &'a str,
    /// See [`Incident::root_use`].
    pub root_use: RootUse,
    /// How many accounts are concerned.
    pub accounts: usize,
    /// See [`Incident::addresses`].
    pub addresses: &'a [String],
    /// The findings, sorted by time: all of them, or those that are quoted.
    pub findings: Vec<&'a Finding>,
}

impl<'a> Story<'a> {
    /// Of an alert's incident, as far as its findings go.
    #[must_use]
    pub fn of_brief(brief: &'a IncidentSummary, findings: &'a [Finding]) -> Self {
        Self {
            kind: brief.kind,
            severity: brief.severity,
            title: &brief.title,
            root_use: brief.root_use,
            accounts: brief.accounts.len(),
            addresses: &brief.addresses,
            findings: findings.iter().collect(),
        }
    }
}

impl<'a> From<&'a Incident> for Story<'a> {
    fn from(incident: &'a Incident) -> Self {
        Self {
            kind: incident.kind,
            severity: incident.severity,
            title: &incident.title,
            root_use: incident.root_use,
            accounts: incident.accounts.len(),
            addresses: &incident.addresses,
            findings: incident.findings.iter().collect(),
        }
    }
}

/// Who acted, and by which ways: `root user: console → access key`.
#[must_use]
pub fn how(story: &Story<'_>) -> String {
    match story.kind {
        IncidentKind::Spray => return "root sign-in attempts from one address".to_owned(),
        IncidentKind::RuleMatch => return "not root use; a rule asks to be told".to_owned(),
        IncidentKind::Privileged => {
            let caller = story
                .findings
                .iter()
                .copied()
                .find_map(|finding| finding.actor.as_deref())
                .map(|actor| super::cap(actor, WORD_COLUMNS_MAX));
            return match caller {
                Some(caller) => format!("privileged session, opened by {caller}"),
                None => "privileged session".to_owned(),
            };
        }
        IncidentKind::DeliveryOutage => return "alerts cannot be delivered".to_owned(),
        IncidentKind::Session => {}
    }
    let mut ways: Vec<&str> = Vec::new();
    for &finding in &story.findings {
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
    let who = match story.root_use {
        RootUse::Possible => "probably the root user",
        RootUse::OnBehalf => "an AWS service for the root user",
        _ => "root user",
    };
    if ways.is_empty() {
        let tried = story.findings.iter().copied().any(|finding| finding.session.sign_in);
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
            format!("{} {}", self.words, super::count(self.times, "time"))
        } else {
            self.words
        }
    }
}

/// What was done, in order: one sentence.
#[must_use]
pub fn prose(story: &Story<'_>) -> String {
    let clauses = match story.kind {
        IncidentKind::RuleMatch | IncidentKind::DeliveryOutage => Vec::new(),
        IncidentKind::Spray => spray(story),
        IncidentKind::Session | IncidentKind::Privileged => session(story),
    };
    if clauses.is_empty() {
        return sentence(&super::cap(story.title, TEXT_COLUMNS_MAX));
    }
    let parts = gravest(clauses);
    sentence(&parts.join(", "))
}

/// The text as a sentence: a capital at its beginning, a full stop at its end.
#[must_use]
pub fn sentence(text: &str) -> String {
    let mut text = super::capital(text.trim());
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
        parts.push(format!("and did {} more", super::count(left_out as u64, "thing")));
    }
    parts
}

fn spray(story: &Story<'_>) -> Vec<Clause> {
    let tried = |finding: &&Finding| finding.session.sign_in;
    let tries: Vec<&Finding> = story.findings.iter().copied().filter(tried).collect();
    let failed = tries.iter().filter(|finding| finding.outcome == Outcome::Failure).count();
    let came_through = tries.iter().any(|finding| succeeded(finding, "ConsoleLogin"));
    let accounts = super::count(story.accounts as u64, "account");
    if failed == 0 {
        return Vec::new();
    }
    let mut text = format!(
        "the root user's sign-in failed {} in {accounts}",
        super::count(failed as u64, "time")
    );
    text.push_str(if came_through { "; one attempt came through" } else { "; none came through" });
    vec![Clause::new(text, story.severity)]
}

fn session(story: &Story<'_>) -> Vec<Clause> {
    let mut clauses = Vec::new();
    clauses.extend(assumed(story));
    clauses.extend(sign_in(story));
    let mut read: Option<usize> = None;
    let mut read_count = 0;
    for &finding in &story.findings {
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
        clause.words = format!("made {}", super::count(read_count, "read-only call"));
    }
    clauses
}

/// The sign-in with what led to it, in one clause.
fn sign_in(story: &Story<'_>) -> Option<Clause> {
    let attempts: Vec<&Finding> =
        story.findings.iter().copied().filter(|finding| finding.session.sign_in).collect();
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
        led.push(super::count(failed as u64, "failed attempt"));
    }
    let words = match came_in.and_then(|index| attempts.get(index)) {
        Some(finding) => {
            let mfa = match finding.mfa {
                Mfa::Used => " with MFA",
                Mfa::NotUsed => " without MFA",
                Mfa::NotStated => "",
            };
            let after = if led.is_empty() { "" } else { " after " };
            format!("signed in{mfa}{after}{}", super::list(&led))
        }
        None if failed > 0 => {
            let times = super::count(failed as u64, "time");
            format!("sign-in failed {times}; no attempt came through")
        }
        None if !led.is_empty() => format!("{}, no sign-in seen", super::list(&led)),
        None => return None,
    };
    Some(Clause::new(words, weight.max(Severity::Low)))
}

/// All `AssumeRoot` calls that came through, in one clause.
fn assumed(story: &Story<'_>) -> Option<Clause> {
    let calls =
        || story.findings.iter().copied().filter(|finding| succeeded(finding, "AssumeRoot"));
    let weight = calls().map(|finding| finding.severity).max()?;
    let target = |finding: &Finding| finding.session.target_account_id.clone();
    let accounts = distinct(calls().filter_map(target)).len().max(1) as u64;
    let tasks = distinct(calls().map(|finding| match finding.session.task_policy.as_deref() {
        Some("IAMAuditRootUserCredentials") => "to audit root credentials".to_owned(),
        Some("IAMCreateRootUserPassword") => "to create a root password".to_owned(),
        Some("IAMDeleteRootUserCredentials") => "to delete root credentials".to_owned(),
        Some("S3UnlockBucketPolicy") => "to unlock a bucket policy".to_owned(),
        Some("SQSUnlockQueuePolicy") => "to unlock a queue policy".to_owned(),
        Some(policy) => format!("with the task policy {}", super::cap(policy, 80)),
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
        super::count(accounts, "account"),
        super::list(&tasks)
    );
    Some(Clause::new(words, weight))
}

/// What one call that changes something, or failed, did.
fn done(finding: &Finding) -> String {
    let Some(name) = finding.event_name.as_deref() else {
        return super::cap(&finding.title, TEXT_COLUMNS_MAX);
    };
    let shown = super::cap(name, 80);
    if finding.outcome == Outcome::Failure {
        return if is_denial(finding) {
            format!("was denied {shown}")
        } else {
            format!("failed at {shown}")
        };
    }
    if finding.root_use == RootUse::Derived {
        return match finding.region.as_deref() {
            Some(region) => format!("used that session for {shown} in {}", super::visible(region)),
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
    spoken.then(|| super::cap(&finding.did, WORD_COLUMNS_MAX))
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

/// From which addresses, and with what: `203.0.113.77 (Chrome on Windows) · access key used from 198.51.100.23 (AWS CLI)`.
#[must_use]
pub fn from(story: &Story<'_>) -> String {
    let mut parts = Vec::new();
    for address in story.addresses.iter().take(NAMED_MAX) {
        let calls = || {
            story
                .findings
                .iter()
                .copied()
                .filter(|finding| finding.source_ip.as_deref() == Some(address.as_str()))
        };
        let mut agents =
            distinct(calls().filter_map(|finding| super::agent(finding.user_agent.as_deref())));
        let more = agents.len().saturating_sub(2);
        agents.truncate(2);
        if more > 0 {
            agents.push(format!("{more} more"));
        }
        let mut text = super::cap(address, 80);
        if !agents.is_empty() {
            text = format!("{text} ({})", super::list(&agents));
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
    let more = story.addresses.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        parts.push(format!("{} more", super::thousands(more as u64)));
    }
    parts.join(" · ")
}
