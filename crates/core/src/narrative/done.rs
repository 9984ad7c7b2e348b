//! What was done, in one sentence.

use super::IncidentFacts;
use crate::finding::{Finding, Mfa, Outcome, RootUse, Severity};
use crate::incident::IncidentKind;
use crate::{classify, text};

/// Clauses of the sentence; the most severe are kept.
const CLAUSES_MAX: usize = 8;
/// Columns of a title that stands for the sentence.
const TITLE_COLUMNS_MAX: usize = 300;

/// One clause of the sentence: `created a root access key`.
struct Clause {
    words: String,
    severity: Severity,
    times: u64,
}

impl Clause {
    fn new(words: String, severity: Severity) -> Self {
        Self { words, severity, times: 1 }
    }

    fn text(self) -> String {
        if self.times > 1 {
            format!("{} {}", self.words, text::count(self.times, "time"))
        } else {
            self.words
        }
    }
}

/// What was done, in order: one sentence.
pub(super) fn prose(facts: &IncidentFacts<'_>) -> String {
    let clauses = match facts.kind {
        IncidentKind::RuleMatch | IncidentKind::DeliveryOutage => Vec::new(),
        IncidentKind::Spray => spray(facts),
        IncidentKind::Session | IncidentKind::Privileged => session(facts),
    };
    if clauses.is_empty() {
        return text::sentence(&text::cap(facts.title, TITLE_COLUMNS_MAX));
    }
    text::sentence(&most_severe(clauses).join(", "))
}

/// At most [`CLAUSES_MAX`] clauses, in their order; the others are counted.
fn most_severe(clauses: Vec<Clause>) -> Vec<String> {
    let left_out = clauses.len().saturating_sub(CLAUSES_MAX);
    let mut kept: Vec<usize> = (0..clauses.len()).collect();
    kept.sort_by_key(|index| std::cmp::Reverse(clauses[*index].severity));
    kept.truncate(CLAUSES_MAX);
    let mut parts: Vec<String> = clauses
        .into_iter()
        .enumerate()
        .filter(|(index, _)| kept.contains(index))
        .map(|(_, clause)| clause.text())
        .collect();
    if left_out > 0 {
        parts.push(format!("and did {} more", text::count(left_out as u64, "thing")));
    }
    parts
}

fn spray(facts: &IncidentFacts<'_>) -> Vec<Clause> {
    let sign_ins = || facts.findings.iter().filter(|finding| finding.session.sign_in);
    let failed = sign_ins().filter(|finding| finding.outcome == Outcome::Failure).count() as u64;
    let is_success = |finding: &&Finding| succeeded(finding, "ConsoleLogin");
    let has_success = sign_ins().any(|finding| is_success(finding));
    if failed == 0 {
        return Vec::new();
    }
    let failed = text::count(failed, "failed root sign-in");
    let accounts = text::count(facts.accounts.len() as u64, "account");
    let end = if has_success { "one succeeded" } else { "none succeeded" };
    vec![Clause::new(format!("{failed} in {accounts}, {end}"), facts.severity)]
}

fn session(facts: &IncidentFacts<'_>) -> Vec<Clause> {
    let mut clauses = Vec::new();
    clauses.extend(assumed_root(facts));
    clauses.extend(sign_in(facts));
    let mut reads: Option<usize> = None;
    let mut reads_count = 0;
    for &finding in &facts.findings {
        if finding.session.sign_in
            || finding.root_use == RootUse::OnBehalf
            || succeeded(finding, "AssumeRoot")
        {
            continue;
        }
        let is_read = finding.outcome == Outcome::Success && finding.read_only == Some(true);
        if is_read && rule_words(finding).is_none() {
            reads_count += 1;
            let index = *reads.get_or_insert(clauses.len());
            if index == clauses.len() {
                clauses.push(Clause::new(String::new(), finding.severity));
            }
            continue;
        }
        let words = call(finding);
        match clauses.iter_mut().find(|clause| clause.words == words) {
            Some(clause) => {
                clause.severity = clause.severity.max(finding.severity);
                clause.times += 1;
            }
            None => clauses.push(Clause::new(words, finding.severity)),
        }
    }
    if let Some(clause) = reads.and_then(|index| clauses.get_mut(index)) {
        clause.words = format!("made {}", text::count(reads_count, "read-only call"));
    }
    clauses
}

/// The sign-in with what came before it, in one clause.
fn sign_in(facts: &IncidentFacts<'_>) -> Option<Clause> {
    let attempts: Vec<&Finding> =
        facts.findings.iter().copied().filter(|finding| finding.session.sign_in).collect();
    let success = attempts.iter().position(|finding| succeeded(finding, "ConsoleLogin"));
    let before = &attempts[..success.unwrap_or(attempts.len())];
    let recovery = |name: &str| before.iter().any(|finding| succeeded(finding, name));
    let failed = before
        .iter()
        .filter(|finding| finding.outcome == Outcome::Failure)
        .filter(|finding| finding.event_name.as_deref() == Some("ConsoleLogin"))
        .count() as u64;
    let severity = attempts.iter().map(|finding| finding.severity).max().unwrap_or_default();
    let mut preceding = Vec::new();
    if recovery("PasswordRecoveryCompleted") {
        preceding.push("a password recovery".to_owned());
    } else if recovery("PasswordRecoveryRequested") {
        preceding.push("a request for password recovery".to_owned());
    }
    let words = match success.and_then(|index| attempts.get(index)) {
        Some(finding) => {
            let mfa = match finding.mfa {
                Mfa::Used => " with MFA",
                Mfa::NotUsed => " without MFA",
                Mfa::NotStated => "",
            };
            if failed > 0 {
                preceding.push(text::count(failed, "failed attempt"));
            }
            let after = if preceding.is_empty() { "" } else { " after " };
            format!("signed in{mfa}{after}{}", text::list(&preceding))
        }
        None if failed > 0 => {
            preceding.push(text::count(failed, "failed sign-in"));
            let none = if failed > 1 { ", none succeeded" } else { "" };
            format!("{}{none}", text::list(&preceding))
        }
        None if !preceding.is_empty() => {
            format!("{}, no sign-in seen", text::list(&preceding))
        }
        None => return None,
    };
    Some(Clause::new(words, severity.max(Severity::Low)))
}

/// All `AssumeRoot` calls that succeeded, in one clause.
fn assumed_root(facts: &IncidentFacts<'_>) -> Option<Clause> {
    let calls =
        || facts.findings.iter().copied().filter(|finding| succeeded(finding, "AssumeRoot"));
    let severity = calls().map(|finding| finding.severity).max()?;
    let target = |finding: &Finding| finding.session.target_account_id.clone();
    let accounts = text::distinct(calls().filter_map(target)).len().max(1) as u64;
    let tasks =
        text::distinct(calls().map(|finding| match finding.session.task_policy.as_deref() {
            Some("IAMAuditRootUserCredentials") => "to audit root credentials".to_owned(),
            Some("IAMCreateRootUserPassword") => "to create a root password".to_owned(),
            Some("IAMDeleteRootUserCredentials") => "to delete root credentials".to_owned(),
            Some("S3UnlockBucketPolicy") => "to unlock a bucket policy".to_owned(),
            Some("SQSUnlockQueuePolicy") => "to unlock a queue policy".to_owned(),
            Some(policy) => format!("with the task policy {}", text::cap(policy, 80)),
            None => "for a task that the record does not name".to_owned(),
        }));
    let number = calls().count() as u64;
    let sessions = if number == 1 {
        "a privileged session".to_owned()
    } else {
        format!("{number} privileged sessions")
    };
    let accounts = text::count(accounts, "account");
    let words = format!("opened {sessions} in {accounts} {}", text::list(&tasks));
    Some(Clause::new(words, severity))
}

/// What one call that changes something, or failed, did.
fn call(finding: &Finding) -> String {
    let Some(name) = finding.event_name.as_deref() else {
        return text::cap(&finding.title, TITLE_COLUMNS_MAX);
    };
    let name = text::cap(name, 80);
    if finding.outcome == Outcome::Failure {
        return if classify::was_denied(finding) {
            format!("was denied {name}")
        } else {
            format!("failed at {name}")
        };
    }
    if finding.root_use == RootUse::Derived {
        let place =
            finding.region.as_deref().map(|region| format!(" in {}", text::visible(region)));
        return format!("called {name}{} with a root-issued session", place.unwrap_or_default());
    }
    rule_words(finding).unwrap_or_else(|| format!("called {name}"))
}

/// The words of the rule that matched, in the past tense: `created a root access key`. `None` where no
/// rule says what was done; [`Finding::did`] is then the name of the call.
fn rule_words(finding: &Finding) -> Option<String> {
    let is_call = finding.event_name.as_deref().is_some_and(|name| name == finding.did);
    let has_words = !finding.rules.is_empty() && !finding.did.is_empty() && !is_call;
    has_words.then(|| text::cap(&finding.did, text::TEXT_COLUMNS_MAX))
}

fn succeeded(finding: &Finding, name: &str) -> bool {
    finding.outcome == Outcome::Success && finding.event_name.as_deref() == Some(name)
}
