//! What a look at CloudTrail found, in the form that somebody asked for.
//!
//! One [`Report`] goes in; [`table()`] writes it for a terminal, [`html()`] for a colleague, [`jsonl()`],
//! [`csv()`] and [`ocsf()`] for programs. Every writer is a function of its arguments: no clock, no
//! environment, no terminal is asked for anything. [`words`] holds what other parts of the program
//! need to speak in the same voice.
//!
//! Texts that whoever used the credentials could choose are shown with control characters, line
//! breaks and bidirectional overrides as visible escapes ([`words::visible`]); JSON carries them as
//! they came, escaped so that they do nothing on a terminal.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rootwatch_core::finding::Finding;
use rootwatch_core::incident::{Incident, IncidentId};
pub(crate) use rootwatch_core::words;
use rootwatch_scan::summary::Summary;

use self::tell::Told;

mod chart;
mod csv;
mod html;
mod json;
mod jsonl;
mod ocsf;
mod table;
mod tell;

#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;

pub(crate) use self::csv::csv;
pub(crate) use self::html::html;
pub(crate) use self::jsonl::jsonl;
pub(crate) use self::ocsf::ocsf;
pub(crate) use self::table::{skipped, table};

/// What a look at CloudTrail found.
#[derive(Debug, Clone)]
pub(crate) struct Report<'a> {
    /// The incidents, in any order. `table` and `html` tell these.
    pub(crate) incidents: &'a [Incident],
    /// The findings that were asked for, sorted by time, then event id. `jsonl`, `csv` and `ocsf`
    /// write these.
    pub(crate) findings: Vec<Shown<'a>>,
    /// What was looked at, and what could not be.
    pub(crate) summary: &'a Summary,
    /// When the report is made; `None` leaves the time out, so that equal inputs give equal bytes.
    pub(crate) generated_at: Option<Timestamp>,
    /// Names of accounts by their twelve digits; may be empty.
    pub(crate) account_names: BTreeMap<String, String>,
    /// What the rules say beyond their ids, by id; may be empty.
    pub(crate) rules: BTreeMap<String, RuleText>,
}

/// A finding with what a report says around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    /// The finding.
    pub(crate) finding: &'a Finding,
    /// The incident that it belongs to.
    pub(crate) incident_id: &'a IncidentId,
    /// The file in which it stands; `-` for standard input.
    pub(crate) file: &'a str,
}

/// What a report needs of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RuleText {
    /// The rule's title.
    pub(crate) title: String,
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
    /// True to colour. Nothing is said by colour alone.
    pub(crate) color: bool,
    /// The time zone in which times are told.
    pub(crate) zone: TimeZone,
    /// What the time zone is called, once per incident: `UTC`.
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
    /// The incidents, the worst first, then the earliest; those told in a line last.
    fn by_severity(&self) -> Vec<&Incident> {
        let mut incidents: Vec<&Incident> = self.incidents.iter().collect();
        incidents.sort_by(|a, b| {
            b.severity
                .cmp(&a.severity)
                .then(Told::is_brief(a).cmp(&Told::is_brief(b)))
                .then(a.first_at.cmp(&b.first_at))
                .then(a.id.cmp(&b.id))
        });
        incidents
    }

    /// The name of an account where it is known, else its twelve digits.
    fn account(&self, id: &str) -> String {
        let name = self.account_names.get(id).filter(|name| !name.trim().is_empty());
        words::cap(name.map_or(id, String::as_str), ACCOUNT_NAME_COLUMNS_MAX)
    }

    /// The name and the digits, which no line break may part.
    fn account_with_id(&self, id: &str) -> String {
        let name = self.account(id);
        let id = words::visible(id);
        if name == id { name } else { format!("{name}\u{a0}{id}") }
    }
}

/// Columns that the name of an account may take.
const ACCOUNT_NAME_COLUMNS_MAX: usize = 40;
