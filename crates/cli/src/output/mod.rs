//! The result of a scan, in the requested format.
//!
//! One [`Report`] goes in; [`table()`] writes it for a terminal, [`html()`] for a colleague, [`jsonl()`],
//! [`csv()`] and [`ocsf()`] for programs. Every writer is a function of its arguments: it reads no
//! clock, no environment and no terminal. `table` and `html` lay out the same [`IncidentView`].
//!
//! Texts that a caller of AWS could choose are shown with control characters, line breaks and
//! bidirectional overrides as visible escapes ([`text::visible`]); JSON carries them unchanged, escaped
//! so that they do nothing on a terminal.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rootwatch_core::finding::{Finding, RootUse, Severity};
use rootwatch_core::incident::{Incident, IncidentId};
use rootwatch_core::narrative::{AccountName, IncidentFacts, IncidentView, RuleSteps, do_first};
pub(crate) use rootwatch_core::text;
use rootwatch_scan::summary::Summary;

mod chart;
mod csv;
mod html;
mod json;
mod jsonl;
mod ocsf;
mod table;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub(crate) use self::csv::csv;
pub(crate) use self::html::html;
pub(crate) use self::jsonl::jsonl;
pub(crate) use self::ocsf::ocsf;
pub(crate) use self::table::{skipped, table};

/// The result of a scan.
#[derive(Debug, Clone)]
pub(crate) struct Report<'a> {
    /// The incidents, in any order. `table` and `html` show these.
    pub(crate) incidents: &'a [Incident],
    /// The requested findings, sorted by time, then event id. `jsonl`, `csv` and `ocsf` write these.
    pub(crate) findings: Vec<Shown<'a>>,
    /// What was read, and what could not be.
    pub(crate) summary: &'a Summary,
    /// When the report is made; `None` leaves the time out, so that equal inputs give equal bytes.
    pub(crate) generated_at: Option<Timestamp>,
    /// Names of accounts by their twelve digits; may be empty.
    pub(crate) account_names: BTreeMap<String, String>,
    /// What a report needs of the rules, by id; may be empty.
    pub(crate) rules: BTreeMap<String, RuleText>,
}

/// A finding with its incident and its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    /// The finding.
    pub(crate) finding: &'a Finding,
    /// Its incident.
    pub(crate) incident_id: &'a IncidentId,
    /// Its file; `-` for standard input.
    pub(crate) file: &'a str,
}

/// What a report needs of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RuleText {
    /// The rule's title.
    pub(crate) title: String,
    /// The rule's severity.
    pub(crate) severity: Severity,
    /// What to do first, in order.
    pub(crate) triage: Vec<String>,
    /// MITRE ATT&CK techniques, such as `T1078.004`.
    pub(crate) attack: Vec<String>,
}

/// How a report is laid out for people.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    /// Columns of the terminal. Below [`Style::COLUMNS_MIN`] counts as that many.
    pub(crate) width: usize,
    /// True to use colors. Color alone carries no meaning.
    pub(crate) color: bool,
    /// The time zone of all times.
    pub(crate) zone: TimeZone,
    /// The name of the time zone, once per incident: `UTC`.
    pub(crate) zone_label: String,
    /// True to use ASCII in place of `✗ → · …`.
    pub(crate) ascii: bool,
}

impl Style {
    /// The narrowest layout, in columns.
    pub(crate) const COLUMNS_MIN: usize = 40;
}

impl Default for Style {
    fn default() -> Self {
        Self {
            width: 100,
            color: false,
            zone: TimeZone::UTC,
            zone_label: "UTC".to_owned(),
            ascii: false,
        }
    }
}

impl Report<'_> {
    /// The incidents, the most severe first, then the earliest; one-line incidents last.
    fn by_severity(&self) -> Vec<&Incident> {
        let mut incidents: Vec<&Incident> = self.incidents.iter().collect();
        incidents.sort_by(|a, b| {
            b.severity
                .cmp(&a.severity)
                .then(is_one_line(a).cmp(&is_one_line(b)))
                .then(a.first_at.cmp(&b.first_at))
                .then(a.id.cmp(&b.id))
        });
        incidents
    }

    /// The incident in words, with times in the zone of `style`.
    fn view(&self, incident: &Incident, style: &Style) -> IncidentView {
        let facts = IncidentFacts::of(incident, &|id| self.account_name(id));
        let rule = |id: &str| {
            let rule = self.rules.get(id)?;
            Some(RuleSteps { severity: rule.severity, triage: &rule.triage })
        };
        let steps = do_first(incident.kind, incident.root_use, &incident.findings, &rule);
        IncidentView::new(&facts, &steps, &style.zone, &text::visible(&style.zone_label))
    }

    /// How long ago the incident ended, within two days: `12 min ago`.
    fn ago(&self, incident: &Incident) -> Option<String> {
        let (now, last) = (self.generated_at?, incident.last_at?);
        let hours = now.duration_since(last).as_hours();
        (0..48).contains(&hours).then(|| text::relative(last, now))
    }

    /// The name of an account where it is known, else its twelve digits. Safe to show.
    fn account(&self, id: &str) -> String {
        self.account_name(id).shown().short()
    }

    fn account_name(&self, id: &str) -> AccountName {
        let name = self.account_names.get(id).cloned();
        AccountName { id: id.to_owned(), name, unit: None }
    }
}

/// Informational incidents in which only AWS itself acted take one line.
fn is_one_line(incident: &Incident) -> bool {
    incident.severity == Severity::Informational && incident.root_use == RootUse::OnBehalf
}

/// The account of an incident with its digits, or `3 accounts`.
fn account(view: &IncidentView) -> String {
    match view.accounts.as_slice() {
        [] => "account unknown".to_owned(),
        [one] => one.with_id(),
        many => text::count(many.len() as u64, "account"),
    }
}

/// The accounts one by one, where there are several.
fn accounts(view: &IncidentView) -> Vec<String> {
    match view.accounts.as_slice() {
        [] | [_] => Vec::new(),
        many => many.iter().map(AccountName::with_id).collect(),
    }
}
