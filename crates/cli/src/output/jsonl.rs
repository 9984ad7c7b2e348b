//! `--format jsonl`: one finding a line, for programs.

use std::io::{self, Write};

use rootwatch_core::finding::Finding;
use serde::Serialize;

use super::{Report, Shown, json, text};

/// The fields of a finding in the order that is promised. What a record does not state is `null`.
/// `csv` has the same fields as columns.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) event_id: Option<&'a str>,
    pub(crate) event_time: Option<String>,
    pub(crate) account_id: Option<&'a str>,
    pub(crate) recipient_account_id: Option<&'a str>,
    pub(crate) region: Option<&'a str>,
    pub(crate) event_source: Option<&'a str>,
    pub(crate) event_name: Option<&'a str>,
    pub(crate) root_use: &'static str,
    pub(crate) severity: &'static str,
    pub(crate) rules: &'a [String],
    pub(crate) title: &'a str,
    pub(crate) reasons: Vec<&'a str>,
    pub(crate) outcome: &'static str,
    pub(crate) error_code: Option<&'a str>,
    pub(crate) mfa: &'static str,
    pub(crate) source_ip: Option<&'a str>,
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) access_key_id: Option<&'a str>,
    pub(crate) read_only: Option<bool>,
    pub(crate) incident_id: &'a str,
    pub(crate) file: &'a str,
}

impl<'a> From<&Shown<'a>> for Line<'a> {
    fn from(shown: &Shown<'a>) -> Self {
        let finding: &'a Finding = shown.finding;
        Self {
            event_id: finding.event_id.as_deref(),
            event_time: finding.event_time.map(text::rfc3339),
            account_id: finding.account_id.as_deref(),
            recipient_account_id: finding.recipient_account_id.as_deref(),
            region: finding.region.as_deref(),
            event_source: finding.event_source.as_deref(),
            event_name: finding.event_name.as_deref(),
            root_use: finding.root_use.name(),
            severity: finding.severity.name(),
            rules: &finding.rules,
            title: &finding.title,
            reasons: finding.reasons.iter().map(|reason| reason.text.as_ref()).collect(),
            outcome: finding.outcome.name(),
            error_code: finding.error_code.as_deref(),
            mfa: finding.mfa.name(),
            source_ip: finding.source_ip.as_deref(),
            user_agent: finding.user_agent.as_deref(),
            access_key_id: finding.access_key_id.as_deref(),
            read_only: finding.read_only,
            incident_id: &shown.incident_id.0,
            file: shown.file,
        }
    }
}

/// Writes one finding a line as JSON.
///
/// # Errors
///
/// When `out` cannot be written to.
pub(crate) fn jsonl(out: &mut dyn Write, report: &Report<'_>) -> io::Result<()> {
    for shown in &report.findings {
        json::line(out, &Line::from(shown))?;
    }
    Ok(())
}
