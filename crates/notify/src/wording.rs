//! An alert in words: one source, from which every channel takes what it has room for.
//!
//! The order is that in which somebody at three in the morning asks: which account, what was done,
//! how bad and why, from where, what to do first, where to look. What an incident is comes from
//! [`IncidentView`]; what an alert adds (its kind, the approval, what is new) is worded here. All
//! texts are safe to show; what a channel's own markup needs on top is the channel's business.

pub(crate) mod config;
mod headline;
pub(crate) mod line;
mod notice;
mod redact;
mod still_active;
pub(crate) mod template;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rootwatch_core::alert::{Alert, AlertKind, CloseReason, IncidentSummary};
use rootwatch_core::delivery::DeliveryId;
use rootwatch_core::finding::{Finding, Mfa, NeedsRoot, RootUse, Severity};
use rootwatch_core::incident::{IncidentKind, IncidentState};
use rootwatch_core::narrative::{AccountName, IncidentView};
use rootwatch_core::window::{Approval, Approved};
use rootwatch_core::{text, timeline};
use serde_json::Value;

use self::config::{RedactConfig, TemplateConfig};
use self::headline::Headline;
use self::line::LineParts;

/// Columns of the compact wording: what a text message holds beside what a channel adds.
pub const COMPACT_COLUMNS_MAX: usize = 160;
/// Columns of the title.
const TITLE_COLUMNS_MAX: usize = 140;
/// Columns of any other single text.
const TEXT_COLUMNS_MAX: usize = 400;
/// Rows of the timeline.
const ROWS_MAX: usize = 12;
/// New calls that an update lists.
const FRESH_MAX: usize = 6;
/// Accounts that are named; the others are counted.
const ACCOUNTS_MAX: usize = 5;
/// Reasons that are shown.
const REASONS_MAX: usize = 6;

/// An alert in words, from one source for all channels. All texts but `json` are safe to show, but
/// for what a channel's markup needs escaped.
#[derive(Debug, Clone, PartialEq)]
pub struct Wording {
    /// How bad.
    pub severity: Severity,
    /// What comes before everything else: that this is a test, or replaces another message.
    pub banner: Option<String>,
    /// The first part of the title: the severity or the state. `title` begins with it, unless a
    /// template made the title.
    pub label: String,
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
    /// Incident, calls, last moment, how to look it up.
    pub foot: String,
    /// A page about it that a person can open. None as long as the hub has no pages; the address in
    /// its API is in `json`, for programs with a token.
    pub link: Option<String>,
    /// What the shortest channels make their one line of; none where it is about no incident.
    pub(crate) parts: Option<LineParts>,
    /// For programs: the alert as it is, with title, compact wording and its address in the API.
    pub json: Value,
}

pub(crate) struct WordingOptions<'a> {
    /// The hub's address as people reach it.
    pub(crate) link_base: Option<&'a str>,
    pub(crate) redact: &'a RedactConfig,
    /// The delivery that failed and that this one replaces.
    pub(crate) stands_in_for: Option<&'a DeliveryId>,
    pub(crate) template: Option<&'a TemplateConfig>,
}

impl Wording {
    pub(crate) fn new(alert: &Alert, options: &WordingOptions<'_>) -> Self {
        let mut wording = match (&alert.kind, alert.incident()) {
            (AlertKind::Digest, _) | (_, None) => notice::wording(alert),
            (_, Some(summary)) => of_incident(alert, summary),
        };
        let api = options.link_base.map(|base| match alert.incident() {
            Some(summary) => format!("{base}/v1/incidents/{}", summary.id),
            None => format!("{base}/v1/incidents"),
        });
        if let (Some(_), Some(summary)) = (&api, alert.incident()) {
            // No address to click on: a browser has no token and shows an error.
            wording.foot.push_str(&format!(
                " · details: GET /v1/incidents/{} on the hub, with a token of scope read",
                summary.id
            ));
        }
        if let Some(other) = options.stands_in_for {
            let destination = other.0.rsplit('@').next().unwrap_or_default();
            let rerouted =
                format!("Sent here because delivery to {} failed", text::cap(destination, 60));
            wording.banner = Some(match wording.banner {
                Some(banner) => format!("{banner} · {rerouted}"),
                None => rerouted,
            });
        }
        wording.json = json(alert, &wording, api);
        redact::apply(&mut wording, options.redact);
        if let Some(template) = options.template {
            for (text, fault) in template::apply(&mut wording, template) {
                tracing::warn!(
                    alert = alert.id,
                    text,
                    fault,
                    "template failed, sending the built-in text"
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
    let options =
        WordingOptions { link_base: None, redact: &redact, stands_in_for: None, template: None };
    template::apply(&mut Wording::new(alert, &options), template)
}

fn of_incident(alert: &Alert, summary: &IncidentSummary) -> Wording {
    let headline = Headline::of(alert);
    let facts = summary.facts(&alert.findings);
    let view = IncidentView::new(&facts, &alert.next, &TimeZone::UTC, "UTC");
    let title = format!(
        "{} · {} · {}",
        headline.title,
        text::cap(&view.title, 90),
        accounts(&summary.accounts)
    );
    let (why, next) = if headline.is_over {
        (Vec::new(), Vec::new())
    } else {
        (why(&view, &alert.approval), view.do_first.clone())
    };
    let lead = if headline.is_over { ended(alert, summary) } else { lead(alert, summary, &view) };
    let timeline = timeline(&view);
    Wording {
        severity: summary.severity,
        banner: None,
        title: text::cap(&title, TITLE_COLUMNS_MAX),
        compact: view.compact.text(&headline.compact, COMPACT_COLUMNS_MAX),
        parts: Some(LineParts {
            is_short: matches!(
                alert.kind,
                AlertKind::Acknowledged { .. } | AlertKind::Closed { .. }
            ),
            label: headline.compact,
            incident: view.compact,
        }),
        label: headline.title,
        lead,
        fresh: if headline.is_update { fresh(alert) } else { Vec::new() },
        why,
        next,
        timeline,
        listed: Vec::new(),
        foot: foot(alert, summary),
        prose: Some(view.prose).filter(|prose| !prose.is_empty()),
        link: None,
        json: Value::Null,
    }
}

/// When, who, from where, whether with MFA, whether the task needed the root user, and whether it was
/// approved.
fn lead(alert: &Alert, summary: &IncidentSummary, view: &IncidentView) -> String {
    let mut parts = Vec::new();
    if let Some(first) = summary.first_at {
        let last = summary.last_at.unwrap_or(first);
        let age = Age::of(last, alert.decided_at);
        match age {
            Age::None => parts.push(view.when.clone()),
            Age::Recent(ago) => parts.push(format!("{}, {ago} ago", view.when)),
            Age::Late(late) => {
                parts.push(view.when.clone());
                parts.push(format!("Arrived {late} late"));
            }
        }
    }
    parts.push(text::capital(&view.who));
    if !view.from.is_empty() {
        parts.push(format!("From {}", view.from));
    }
    let mfa = view.mfa.map(|mfa| match mfa {
        Mfa::Used => "MFA was used",
        Mfa::NotUsed => "No MFA",
        Mfa::NotStated => "MFA not stated",
    });
    parts.extend(mfa.map(str::to_owned));
    let is_root = matches!(summary.root_use, RootUse::Direct | RootUse::Possible);
    if is_root && summary.kind == IncidentKind::Session {
        match view.needs_root {
            NeedsRoot::Yes => parts.push("A task that needs the root user".to_owned()),
            NeedsRoot::No => parts.push("Not a task that needs the root user".to_owned()),
            NeedsRoot::Unknown => {}
        }
    }
    parts.extend(approved(&alert.approval));
    text::cap(&format!("{}.", parts.join(". ")), TEXT_COLUMNS_MAX)
}

/// Why it is as bad as it is. A missing approval is a reason; an approval is not, so [`lead`] has it.
fn why(view: &IncidentView, approval: &Approval) -> Vec<String> {
    let mut why: Vec<String> = view.why.iter().map(|reason| text::cap(reason, 120)).collect();
    why.dedup();
    why.truncate(REASONS_MAX);
    if *approval == Approval::None {
        why.push("no approved window".to_owned());
    }
    why
}

/// Who approved it; nothing where there is no window.
fn approved(approval: &Approval) -> Option<String> {
    let window = |of: &Approved| {
        let [window, by, reason] = [&of.window, &of.by, &of.reason].map(|text| text::cap(text, 60));
        format!("{window} ({by}, until {}): {reason}", moment(of.until))
    };
    match approval {
        Approval::Unknown | Approval::None => None,
        Approval::Inside(of) => Some(format!("Approved: {}", window(of))),
        Approval::Partly { window: of, outside } => {
            let outside = text::count(*outside, "call");
            Some(format!("Not all approved: {outside} outside {}", window(of)))
        }
    }
}

/// How long it lasted, and what it leaves behind.
fn ended(alert: &Alert, summary: &IncidentSummary) -> String {
    let mut parts = Vec::new();
    if let (Some(first), Some(last)) = (summary.first_at, summary.last_at) {
        let when = text::time_range(Some(first), Some(last), &TimeZone::UTC, "UTC");
        parts.push(format!("{when} ({})", text::span(first, last)));
    }
    let is_quiet = matches!(&alert.kind, AlertKind::Closed { why: CloseReason::Quiet });
    if is_quiet {
        parts.push("No call since then. Not resolved".to_owned());
    }
    let active = still_active::still_active(&alert.findings);
    if !active.is_empty() {
        parts.push(format!("Still active, as far as the records show: {}", text::list(&active)));
    }
    let sentences = parts.join(". ");
    if sentences.is_empty() {
        sentences
    } else {
        text::cap(&format!("{sentences}."), TEXT_COLUMNS_MAX)
    }
}

/// The incident, its calls, the last moment, who handled it, and related incidents.
fn foot(alert: &Alert, summary: &IncidentSummary) -> String {
    let calls = text::count(summary.findings_total, "call");
    let mut foot = format!("Incident {} · {calls}", summary.id);
    // A sentence that counts fewer calls than there were has to say so.
    let shown = alert.findings.len() as u64;
    if !alert.findings.is_empty() && shown < summary.findings_total {
        foot.push_str(&format!(", {} shown", text::thousands(shown)));
    }
    if let Some(last) = summary.last_at {
        foot.push_str(&format!(" · last {}", moment(last)));
    }
    if let Some(by) = &summary.by {
        let did = match summary.state {
            IncidentState::Resolved => "resolved",
            _ => "acknowledged",
        };
        foot.push_str(&format!(" · {did} by {}", text::cap(by, 60)));
    }
    for other in summary.related.iter().take(3) {
        foot.push_str(&format!(" · see also {other}"));
    }
    foot
}

/// What was not part of an earlier alert, the most severe first, then in order of time.
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
            format!("{}{at}", text::cap(&one.did, 100))
        })
        .collect();
    if more > 0 {
        lines.push(format!("and {}", text::count(more as u64, "more call")));
    }
    lines
}

fn timeline(view: &IncidentView) -> Vec<String> {
    let keep = timeline::keep(&view.rows, ROWS_MAX);
    let left_out = keep.iter().filter(|keep| !**keep).count();
    let kept = view.rows.iter().zip(keep).filter(|(_, keep)| *keep);
    let mut lines: Vec<String> = kept
        .map(|(row, _)| {
            let at = row.first_at.map(clock).unwrap_or_else(|| "--:--".to_owned());
            let sign = row.mark.sign(false);
            let account = row.account.as_ref().map(|one| format!(" · {one}")).unwrap_or_default();
            text::cap(&format!("{at} {sign} {}{account}", row.what), 120)
        })
        .collect();
    if left_out > 0 {
        lines.push(format!("… {} left out", text::count(left_out as u64, "row")));
    }
    lines
}

/// `prod-payments (222233334444, production)`; several with their number.
fn accounts(accounts: &[AccountName]) -> String {
    match accounts {
        [] => "account unknown".to_owned(),
        [account] => {
            let AccountName { id, name, unit } = account.shown();
            let unit = unit.map(|unit| format!(", {unit}")).unwrap_or_default();
            name.map_or(id.clone(), |name| format!("{name} ({id}{unit})"))
        }
        many => {
            let mut names: Vec<String> =
                many.iter().take(ACCOUNTS_MAX).map(|account| account.shown().short()).collect();
            if many.len() > ACCOUNTS_MAX {
                names.push(format!("{} more", many.len() - ACCOUNTS_MAX));
            }
            format!("{} accounts: {}", many.len(), names.join(", "))
        }
    }
}

fn clock(at: Timestamp) -> String {
    text::clock(at, &TimeZone::UTC)
}

fn moment(at: Timestamp) -> String {
    format!("{} {} UTC", text::date(at, &TimeZone::UTC), clock(at))
}

/// How old the last call is when the alert is decided.
enum Age {
    /// Less than a second, or in the future.
    None,
    /// Up to an hour.
    Recent(String),
    /// More: the record came late.
    Late(String),
}

impl Age {
    fn of(last: Timestamp, now: Timestamp) -> Self {
        let Ok(age) = std::time::Duration::try_from(now.duration_since(last)) else {
            return Self::None;
        };
        match age.as_secs() {
            0 => Self::None,
            1..=3_600 => Self::Recent(text::duration(age)),
            _ => Self::Late(text::duration(age)),
        }
    }
}

/// The alert as it is, with the words that people see and its address in the API.
fn json(alert: &Alert, wording: &Wording, api: Option<String>) -> Value {
    let mut value = serde_json::to_value(alert).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("title".to_owned(), wording.title.clone().into());
        fields.insert("compact".to_owned(), wording.compact.clone().into());
        fields.insert("link".to_owned(), api.into());
    }
    value
}
