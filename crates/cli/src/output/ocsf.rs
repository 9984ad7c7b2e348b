//! `--format ocsf`: one Detection Finding of the Open Cybersecurity Schema Framework a line; see
//! [`rootwatch_core::ocsf`]. The tests hold every line against `tests/schemas/ocsf-2004.schema.json`,
//! which is written from the published schema.

use std::collections::HashMap;
use std::io::{self, Write};

use rootwatch_core::incident::{IncidentId, IncidentState};
use rootwatch_core::ocsf::{Context, RuleText, detection};

use super::{Report, json as json_line};

/// Writes one Detection Finding (class 2004) a line.
///
/// # Errors
///
/// When `out` cannot be written to.
pub(crate) fn ocsf(out: &mut dyn Write, report: &Report<'_>) -> io::Result<()> {
    let states: HashMap<&IncidentId, IncidentState> =
        report.incidents.iter().map(|incident| (&incident.id, incident.state)).collect();
    let name_of = |id: &str| report.account_names.get(id).cloned();
    let rule_of = |id: &str| {
        let rule = report.rules.get(id)?;
        Some(RuleText { title: &rule.title, triage: &rule.triage, attack: &rule.attack })
    };
    let context = Context { rule_of: &rule_of, name_of: &name_of, at: report.generated_at };
    for shown in &report.findings {
        let state = states.get(shown.incident_id).copied();
        let line = detection(&context, shown.finding, shown.incident_id, state, Some(shown.file));
        json_line::line(out, &line)?;
    }
    Ok(())
}
