//! An incident in words: who, when, how, what was done, why it matters, what to do first.
//!
//! `table` and `html` show the same [`Told`]. All its texts are safe to show; HTML escapes them
//! once more in its own way.

use rootwatch_core::finding::{Finding, RootUse, Severity};
use rootwatch_core::incident::Incident;
use rootwatch_core::words::fold::{self, Row};
use rootwatch_core::words::tell::{self, Story};

use super::RuleText;
use super::{Report, Style, words};

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
        let story = Story::from(incident);
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
            how: tell::how(&story),
            prose: tell::prose(&story),
            from: tell::from(&story),
            why: incident
                .reasons
                .iter()
                .map(|reason| words::cap(&reason.text, TEXT_COLUMNS_MAX))
                .collect(),
            related: incident.related.iter().map(|id| words::cap(&id.0, 40)).collect(),
            next: next(report, incident),
            rows: fold::rows(&story, &|id| report.account(id)),
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
