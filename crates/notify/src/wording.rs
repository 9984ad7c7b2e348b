//! An alert in words: one source, from which every channel takes what it has room for.
//!
//! The order is that in which somebody at three in the morning asks: which account, what was done,
//! how bad and why, from where, what to do first, where to look. Everything that whoever used the
//! credentials could choose goes through [`words::cap`], which makes control characters and
//! bidirectional overrides visible and bounds the length; what a channel's own markup needs on top
//! is the channel's business.

pub(crate) mod config;
pub(crate) mod line;
mod redact;
pub(crate) mod template;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rootwatch_core::alert::{AccountName, Alert, AlertKind, CloseReason, IncidentSummary};
use rootwatch_core::delivery::DeliveryId;
use rootwatch_core::finding::{Finding, Mfa, NeedsRoot, Outcome, RootUse, Severity};
use rootwatch_core::incident::{IncidentKind, IncidentState};
use rootwatch_core::window::{Approval, Approved};
use rootwatch_core::words::{self, fold, tell};
use serde_json::Value;

use self::config::{RedactConfig, TemplateConfig};

/// Columns of the compact wording: what a text message holds beside what a channel adds.
pub const COMPACT_COLUMNS_MAX: usize = 160;
/// Columns of the title.
const TITLE_COLUMNS_MAX: usize = 140;
/// Columns of any other single text.
const TEXT_COLUMNS_MAX: usize = 400;
/// Rows of the timeline.
const ROWS_MAX: usize = 12;
/// What is new, at most.
const FRESH_MAX: usize = 6;
/// Accounts that are named; the others are counted.
const ACCOUNTS_MAX: usize = 5;
/// Reasons that are told.
const REASONS_MAX: usize = 6;
/// Incidents of a digest that are listed.
const DIGEST_MAX: usize = 20;

/// An alert in words, from one source for all channels. All texts but `json` are safe to show,
/// but for what a channel's markup needs escaped.
#[derive(Debug, Clone, PartialEq)]
pub struct Wording {
    /// How bad.
    pub severity: Severity,
    /// What comes before everything else: that this is a test, or stands in for another message.
    pub banner: Option<String>,
    /// One line: how bad, what, which account.
    pub title: String,
    /// One line of at most [`COMPACT_COLUMNS_MAX`] columns, for a lock screen.
    pub compact: String,
    /// When, from where, by what way.
    pub lead: String,
    /// What is new since the last alert, each with its time.
    pub fresh: Vec<String>,
    /// What was done, in sentences.
    pub prose: Option<String>,
    /// Why it is as bad as it is.
    pub why: Vec<String>,
    /// What to do first, in order.
    pub next: Vec<String>,
    /// What happened, row by row.
    pub timeline: Vec<String>,
    /// Incidents of a digest, a line each.
    pub listed: Vec<String>,
    /// Incident, calls, last moment.
    pub foot: String,
    /// Where to look.
    pub link: Option<String>,
    /// For programs: the alert as it is, with title and compact wording.
    pub json: Value,
}

pub(crate) struct WordingOptions<'a> {
    pub(crate) link_base: Option<&'a str>,
    pub(crate) redact: &'a RedactConfig,
    pub(crate) stands_in_for: Option<&'a DeliveryId>,
    pub(crate) template: Option<&'a TemplateConfig>,
}

impl Wording {
    pub(crate) fn new(alert: &Alert, setting: &WordingOptions<'_>) -> Self {
        let mut wording = match (&alert.kind, alert.incident()) {
            (AlertKind::Digest, _) => digest(alert),
            (_, Some(brief)) => of_incident(alert, brief),
            (_, None) => of_telling(alert),
        };
        wording.link = setting.link_base.map(|base| match alert.incident() {
            Some(brief) => format!("{base}/v1/incidents/{}", brief.id),
            None => format!("{base}/v1/incidents"),
        });
        if let Some(other) = setting.stands_in_for {
            let whom = other.0.rsplit('@').next().unwrap_or_default();
            let text = format!("Sent here because {} could not be reached", words::cap(whom, 60));
            wording.banner = Some(text);
        }
        wording.json = json(alert, &wording);
        redact::apply(&mut wording, setting.redact);
        if let Some(template) = setting.template {
            for (text, fault) in template::apply(&mut wording, template) {
                tracing::warn!(
                    alert = alert.id,
                    text,
                    fault,
                    "a template failed; our own words go"
                );
            }
        }
        wording
    }

    /// All lines for people, in order, with their labels: for channels of plain text.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.banner.clone());
        lines.push(self.title.clone());
        lines.extend(self.fresh.iter().map(|fresh| format!("+ {fresh}")));
        lines.extend(Some(&self.lead).filter(|lead| !lead.is_empty()).cloned());
        lines.extend(self.prose.clone());
        if !self.why.is_empty() {
            lines.push(format!("Why {}: {}", self.severity, self.why.join(" · ")));
        }
        for (place, step) in self.next.iter().enumerate() {
            lines.push(format!("{}. {step}", place + 1));
        }
        lines.extend(self.listed.iter().cloned());
        lines.push(self.foot.clone());
        lines.extend(self.link.clone());
        lines
    }
}

/// The texts of a template that fail for an alert, and why.
pub(crate) fn template_faults(
    alert: &Alert,
    template: &TemplateConfig,
) -> Vec<template::TemplateFault> {
    let redact = RedactConfig::NOTHING;
    let setting =
        WordingOptions { link_base: None, redact: &redact, stands_in_for: None, template: None };
    template::apply(&mut Wording::new(alert, &setting), template)
}

fn of_incident(alert: &Alert, brief: &IncidentSummary) -> Wording {
    let story = tell::Story::of_brief(brief, &alert.findings);
    let accounts = accounts(&brief.accounts);
    let severity = brief.severity;
    let label = words::severity(severity);
    let what = words::cap(&brief.title, 90);
    let title = match &alert.kind {
        AlertKind::Escalated { from } => format!("{label} (was {from}) · {what} · {accounts}"),
        AlertKind::Continued => format!("{label} · Goes on: {what} · {accounts}"),
        AlertKind::OutsideWindow { window } => {
            let window = words::cap(window, 40);
            format!("{label} · Outside window {window}: {what} · {accounts}")
        }
        AlertKind::Acknowledged { by } => {
            format!("{} looks after it · {what} · {accounts}", words::cap(by, 60))
        }
        AlertKind::Closed { why } => match why {
            CloseReason::Quiet => format!("Quiet now · {what} · {accounts}"),
            CloseReason::Resolved => format!("Resolved · {what} · {accounts}"),
            CloseReason::Joined(into) => format!("Part of {into} · {what} · {accounts}"),
        },
        _ => match &alert.approval {
            Approval::Inside(of) => {
                format!("{label} · Approved ({}) · {what} · {accounts}", words::cap(&of.window, 40))
            }
            _ => format!("{label} · {what} · {accounts}"),
        },
    };
    let at = brief.first_at.map(clock).unwrap_or_default();
    let from = brief.addresses.first().map(|ip| format!(" from {}", words::cap(ip, 45)));
    let from = from.unwrap_or_default();
    let compact = match &alert.kind {
        AlertKind::Acknowledged { by } => {
            let (by, title) = (words::cap(by, 40), words::cap(&brief.title, 60));
            format!("TAKEN by {by}: {title} {}. Inc {}", short(brief), brief.id)
        }
        AlertKind::Closed { why } => {
            let how = match why {
                CloseReason::Quiet => "QUIET".to_owned(),
                CloseReason::Resolved => "RESOLVED".to_owned(),
                CloseReason::Joined(into) => format!("PART OF {into}"),
            };
            format!("{how} {} {}. Inc {}", words::cap(&brief.title, 60), short(brief), brief.id)
        }
        _ => format!(
            "{label}{} {} {} {at}Z{from}. Inc {}",
            match &alert.approval {
                Approval::Inside(_) => " APPROVED",
                Approval::Partly { .. } => " NOT ALL APPROVED",
                Approval::None | Approval::Unknown => "",
            },
            words::cap(&brief.title, 60),
            short(brief),
            brief.id
        ),
    };
    let is_over = matches!(alert.kind, AlertKind::Closed { .. });
    let is_update = matches!(
        alert.kind,
        AlertKind::Escalated { .. } | AlertKind::OutsideWindow { .. } | AlertKind::Continued
    );
    let prose = Some(tell::prose(&story)).filter(|prose| !prose.is_empty());
    let mut why: Vec<String> =
        brief.reasons.iter().map(|reason| words::cap(&reason.text, 120)).collect();
    why.dedup();
    why.truncate(REASONS_MAX);
    why.extend(approved(&alert.approval));
    let mut foot =
        format!("Incident {} · {}", brief.id, words::count(brief.findings_total, "call"),);
    // A sentence that counts fewer than there were has to say so.
    let quoted = alert.findings.len() as u64;
    if !alert.findings.is_empty() && quoted < brief.findings_total {
        foot.push_str(&format!(" ({} of them told here)", words::thousands(quoted)));
    }
    if let Some(last) = brief.last_at {
        foot.push_str(&format!(" · last {}", moment(last)));
    }
    if let Some(by) = &brief.by {
        let did = match brief.state {
            IncidentState::Resolved => "resolved",
            _ => "acknowledged",
        };
        foot.push_str(&format!(" · {did} by {}", words::cap(by, 60)));
    }
    for other in brief.related.iter().take(3) {
        foot.push_str(&format!(" · see also {other}"));
    }
    Wording {
        severity,
        banner: None,
        title: words::cap(&title, TITLE_COLUMNS_MAX),
        compact: words::cap(&compact, COMPACT_COLUMNS_MAX),
        lead: if is_over { ended(brief, &alert.findings) } else { lead(alert, brief, &story) },
        fresh: if is_update { fresh(alert) } else { Vec::new() },
        prose,
        why: if is_over { Vec::new() } else { why },
        next: if is_over {
            Vec::new()
        } else {
            alert.next.iter().map(|step| words::cap(step, TEXT_COLUMNS_MAX)).collect()
        },
        timeline: timeline(&story, &brief.accounts),
        listed: Vec::new(),
        foot,
        link: None,
        json: Value::Null,
    }
}

/// When, how late, by what way, from where; and whether the task needed the root user.
fn lead(alert: &Alert, brief: &IncidentSummary, story: &tell::Story<'_>) -> String {
    let mut parts = Vec::new();
    if let Some(first) = brief.first_at {
        let last = brief.last_at.unwrap_or(first);
        let mut when = from_to(first, last);
        when.push_str(&age(last, alert.decided_at));
        parts.push(when);
    }
    parts.push(words::capital(&tell::how(story)));
    let from = tell::from(story);
    if !from.is_empty() {
        parts.push(format!("From {from}"));
    }
    let is_root = matches!(brief.root_use, RootUse::Direct | RootUse::Possible);
    if is_root && brief.kind == IncidentKind::Session {
        parts.push(
            match mfa(story) {
                Mfa::Used => "MFA was used",
                Mfa::NotUsed => "No MFA",
                Mfa::NotStated => "MFA not stated",
            }
            .to_owned(),
        );
        match brief.needs_root {
            NeedsRoot::Yes => parts.push("A task that needs the root user".to_owned()),
            NeedsRoot::No => parts.push("Not a task that needs the root user".to_owned()),
            NeedsRoot::Unknown => {}
        }
    }
    words::cap(&format!("{}.", parts.join(". ")), TEXT_COLUMNS_MAX)
}

/// Whether it was approved; nothing where there are no windows.
fn approved(approval: &Approval) -> Option<String> {
    let told = |of: &Approved| {
        let [window, by, reason] =
            [&of.window, &of.by, &of.reason].map(|text| words::cap(text, 60));
        format!("window {window} of {by} until {}: {reason}", moment(of.until))
    };
    match approval {
        Approval::Unknown => None,
        Approval::None => Some("no approved window".to_owned()),
        Approval::Inside(of) => Some(format!("inside the {}", told(of))),
        Approval::Partly { window, outside } => {
            Some(format!("{} outside the {}", words::count(*outside, "call"), told(window)))
        }
    }
}

/// How long it lasted, and what it leaves behind.
fn ended(brief: &IncidentSummary, findings: &[Finding]) -> String {
    let mut text = String::new();
    if let (Some(first), Some(last)) = (brief.first_at, brief.last_at) {
        let lasted = std::time::Duration::try_from(last.duration_since(first)).unwrap_or_default();
        text = format!("{}, {} in all.", from_to(first, last), words::duration(lasted));
    }
    let left = still_there(findings);
    if !left.is_empty() {
        text.push_str(&format!(" Still there, as far as the records say: {}.", words::list(&left)));
    }
    words::cap(text.trim(), TEXT_COLUMNS_MAX)
}

/// Access keys that were created and not deleted.
fn still_there(findings: &[Finding]) -> Vec<String> {
    let deleted: Vec<&str> = findings
        .iter()
        .filter(|one| one.event_name.as_deref() == Some("DeleteAccessKey") && succeeded(one))
        .filter_map(|one| one.target.as_deref())
        .collect();
    let created = findings
        .iter()
        .filter(|one| one.event_name.as_deref() == Some("CreateAccessKey") && succeeded(one));
    created
        .filter_map(|one| one.session.issued_key_id.as_deref())
        .filter(|key| !deleted.contains(key))
        .take(3)
        .map(|key| format!("the access key {}", words::cap(key, 40)))
        .collect()
}

fn succeeded(finding: &Finding) -> bool {
    finding.outcome == Outcome::Success
}

fn mfa(story: &tell::Story<'_>) -> Mfa {
    let stated = |wanted| story.findings.iter().any(|finding| finding.mfa == wanted);
    if stated(Mfa::NotUsed) {
        Mfa::NotUsed
    } else if stated(Mfa::Used) {
        Mfa::Used
    } else {
        Mfa::NotStated
    }
}

/// What was not part of an earlier alert, the worst first, then in order of time.
fn fresh(alert: &Alert) -> Vec<String> {
    let mut new: Vec<&Finding> =
        alert.findings.iter().filter(|one| alert.fresh.contains(&one.key)).collect();
    new.sort_by_key(|one| std::cmp::Reverse(one.severity));
    let more = new.len().saturating_sub(FRESH_MAX);
    new.truncate(FRESH_MAX);
    new.sort_by_key(|one| one.event_time);
    let mut lines: Vec<String> = new
        .into_iter()
        .map(|one| {
            let at = one.event_time.map(|at| format!(" ({})", clock(at))).unwrap_or_default();
            format!("{}{at}", words::cap(&one.did, 100))
        })
        .collect();
    if more > 0 {
        lines.push(format!("and {}", words::count(more as u64, "call")));
    }
    lines
}

fn timeline(story: &tell::Story<'_>, accounts: &[AccountName]) -> Vec<String> {
    let name = |id: &str| {
        let named = accounts.iter().find(|account| account.id == id);
        named.and_then(|account| account.name.clone()).unwrap_or_else(|| id.to_owned())
    };
    let rows = fold::rows(story, &name);
    let keep = fold::keep(&rows, ROWS_MAX);
    let left_out = keep.iter().filter(|keep| !**keep).count();
    let kept = rows.iter().zip(keep).filter(|(_, keep)| *keep);
    let mut lines: Vec<String> = kept
        .map(|(row, _)| {
            let at = row.first_at.map(clock).unwrap_or_else(|| "--:--".to_owned());
            let sign = row.mark.sign(false);
            let where_ = row.account.as_ref().map(|one| format!(" · {one}")).unwrap_or_default();
            words::cap(&format!("{at} {sign} {}{where_}", row.what), 120)
        })
        .collect();
    if left_out > 0 {
        lines.push(format!("… {} left out", words::count(left_out as u64, "row")));
    }
    lines
}

fn digest(alert: &Alert) -> Wording {
    let total = alert.incidents.len() as u64 + alert.incidents_left_out;
    let title = format!("Digest · {}", words::count(total, "informational incident"));
    let mut listed: Vec<String> = alert
        .incidents
        .iter()
        .take(DIGEST_MAX)
        .map(|brief| {
            let when = brief.first_at.map(moment).unwrap_or_default();
            let what = words::cap(&brief.title, 90);
            format!("{when} · {what} · {} · {}", accounts(&brief.accounts), brief.id)
        })
        .collect();
    let more = total.saturating_sub(listed.len() as u64);
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    Wording {
        severity: alert.severity,
        banner: None,
        compact: words::cap(&title, COMPACT_COLUMNS_MAX),
        lead: "Root use that needs nobody's attention now, for the record.".to_owned(),
        title,
        fresh: Vec::new(),
        prose: None,
        why: Vec::new(),
        next: Vec::new(),
        timeline: Vec::new(),
        listed,
        foot: format!("Until {}", moment(alert.decided_at)),
        link: None,
        json: Value::Null,
    }
}

/// What is about no incident: a test, and telling itself.
fn of_telling(alert: &Alert) -> Wording {
    let note = alert.note.as_deref().map(|note| words::cap(note, TEXT_COLUMNS_MAX));
    let label = words::severity(alert.severity);
    let (banner, title, lead, next) = match &alert.kind {
        AlertKind::DeliveryFailing { destination } => (
            None,
            format!("{label} · Alerts to {} cannot be delivered", words::cap(destination, 60)),
            "Whoever is told there is told nothing. Alerts go to the next destination, if one is \
             configured, and are kept in the hub."
                .to_owned(),
            vec![
                "Read the newest incidents in the hub itself.".to_owned(),
                "Mend the destination: its last error says what is wrong.".to_owned(),
            ],
        ),
        AlertKind::DeliveryRecovered { destination } => (
            None,
            format!("Alerts to {} come through again", words::cap(destination, 60)),
            "What was given up meanwhile went to the next destination, or is in the hub."
                .to_owned(),
            Vec::new(),
        ),
        _ => (
            Some("TEST: nothing happened".to_owned()),
            "Test alert of Rootwatch".to_owned(),
            "If you can read this, alerts reach you here.".to_owned(),
            Vec::new(),
        ),
    };
    let compact = match &banner {
        Some(banner) => format!("{banner}. {title}"),
        None => title.clone(),
    };
    Wording {
        severity: alert.severity,
        banner,
        compact: words::cap(&compact, COMPACT_COLUMNS_MAX),
        title,
        lead,
        fresh: Vec::new(),
        prose: note,
        why: Vec::new(),
        next,
        timeline: Vec::new(),
        listed: Vec::new(),
        foot: moment(alert.decided_at),
        link: None,
        json: Value::Null,
    }
}

/// `prod-payments (222233334444, production)`; several with their number.
fn accounts(accounts: &[AccountName]) -> String {
    let one = |account: &AccountName| {
        let id = words::cap(&account.id, 20);
        let unit = account.unit.as_ref().map(|unit| format!(", {}", words::cap(unit, 40)));
        match &account.name {
            Some(name) => {
                format!("{} ({id}{})", words::cap(name, 50), unit.unwrap_or_default())
            }
            None => id,
        }
    };
    match accounts {
        [] => "no account stated".to_owned(),
        [account] => one(account),
        many => {
            let short = |account: &AccountName| {
                words::cap(account.name.as_deref().unwrap_or(&account.id), 40)
            };
            let mut names: Vec<String> = many.iter().take(ACCOUNTS_MAX).map(short).collect();
            if many.len() > ACCOUNTS_MAX {
                names.push(format!("{} more", many.len() - ACCOUNTS_MAX));
            }
            format!("{} accounts: {}", many.len(), names.join(", "))
        }
    }
}

/// `prod-payments 222233334444`, or how many there are.
fn short(brief: &IncidentSummary) -> String {
    match &brief.accounts[..] {
        [] => String::new(),
        [AccountName { id, name: Some(name), .. }] => {
            format!("{} {}", words::cap(name, 32), words::cap(id, 12))
        }
        [account] => words::cap(&account.id, 12),
        many => format!("{} accounts", many.len()),
    }
}

fn clock(at: Timestamp) -> String {
    words::clock(at, &TimeZone::UTC)
}

fn moment(at: Timestamp) -> String {
    format!("{} {} UTC", words::date(at, &TimeZone::UTC), clock(at))
}

/// `2026-05-04 13:58 → 14:31 UTC`; one moment when they share a minute.
fn from_to(first: Timestamp, last: Timestamp) -> String {
    let day = |at| words::date(at, &TimeZone::UTC);
    if (day(first), clock(first)) == (day(last), clock(last)) {
        moment(first)
    } else if day(first) == day(last) {
        format!("{} {} → {} UTC", day(first), clock(first), clock(last))
    } else {
        format!("{} {} → {}", day(first), clock(first), moment(last))
    }
}

/// How long ago the last call was, when that is worth a word.
fn age(last: Timestamp, now: Timestamp) -> String {
    let Ok(ago) = std::time::Duration::try_from(now.duration_since(last)) else {
        return String::new();
    };
    if ago < std::time::Duration::from_secs(1) {
        return String::new();
    }
    let ago_text = words::duration(ago);
    if ago > std::time::Duration::from_secs(3_600) {
        format!(" · reached us {ago_text} later")
    } else {
        format!(", {ago_text} ago")
    }
}

/// The alert as it is, with the words that people see.
fn json(alert: &Alert, wording: &Wording) -> Value {
    let mut value = serde_json::to_value(alert).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("title".to_owned(), wording.title.clone().into());
        fields.insert("compact".to_owned(), wording.compact.clone().into());
        fields.insert("link".to_owned(), wording.link.clone().into());
    }
    value
}
