//! Which destinations receive an alert. Pure: depends on the configuration, the alert and the time at
//! which the alert was decided.

use std::collections::BTreeMap;

use rootwatch_core::alert::{Alert, AlertKind, IncidentSummary};
use rootwatch_core::finding::{RootUse, Severity};
use rootwatch_core::window::Approval;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::destination::DestinationConfig;
use crate::config::schema::{root_uses_schema, severity_schema};
use crate::time_of_day::TimeOfDay;

/// The kinds of alerts that a route can select. Tests and delivery outages ignore routes.
pub const ROUTED_KINDS: [&str; 7] =
    ["opened", "continued", "escalated", "outside_window", "acknowledged", "closed", "digest"];

/// `[[notify.route]]`: sends matching alerts to some destinations. An alert matches if it meets all
/// conditions of the route; an empty condition matches every alert.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Minimum severity of the alert.
    #[schemars(schema_with = "severity_schema")]
    pub min_severity: Option<Severity>,
    /// Account ids or account names; `*` matches any text.
    pub account: Vec<String>,
    /// Organizational units; `*` matches any text.
    pub unit: Vec<String>,
    /// Ids of matching rules; `*` matches any text.
    pub rule: Vec<String>,
    /// Classes of root use.
    #[schemars(schema_with = "root_uses_schema")]
    pub root_use: Vec<RootUse>,
    /// Kinds of alerts: `opened`, `continued`, `escalated`, `outside_window`, `acknowledged`,
    /// `closed`, `digest`.
    pub alert: Vec<String>,
    /// true: only alerts whose calls all fall inside an approved window; false: only the others.
    pub approved: Option<bool>,
    /// Time of day at which the alert is decided.
    pub time: Option<TimeOfDay>,
    /// Destination names. An empty list drops matching alerts.
    pub to: Vec<String>,
    /// true: also evaluate the routes that follow.
    #[serde(rename = "continue")]
    pub continues: bool,
}

/// The kind that a route means: version 0.1 had other names for three of them.
#[must_use]
pub fn routed_kind(name: &str) -> &str {
    match name {
        "reopened" => "continued",
        "rose" => "escalated",
        "left_window" => "outside_window",
        name => name,
    }
}

/// The destinations of an alert, in the order in which the routes name them, without duplicates.
///
/// A test goes to every destination and a delivery outage to every destination but the failing one,
/// whatever their `min_severity`. An acknowledgement goes only to channels that keep tickets.
#[must_use]
pub fn route(
    routes: &[Route],
    destinations: &BTreeMap<String, DestinationConfig>,
    alert: &Alert,
) -> Vec<String> {
    match &alert.kind {
        AlertKind::Test => return destinations.keys().cloned().collect(),
        AlertKind::DeliveryFailing { destination }
        | AlertKind::DeliveryRecovered { destination } => {
            return destinations.keys().filter(|name| *name != destination).cloned().collect();
        }
        _ => {}
    }
    let mut names: Vec<&String> = Vec::new();
    let mut has_match = false;
    for route in routes {
        if !matches(route, alert) {
            continue;
        }
        has_match = true;
        for name in &route.to {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !route.continues {
            break;
        }
    }
    if !has_match {
        names = destinations.keys().collect();
    }
    let is_for_tickets = matches!(alert.kind, AlertKind::Acknowledged { .. });
    let accepts = |name: &&String| {
        destinations.get(name.as_str()).is_some_and(|one| {
            alert.severity >= one.common.min_severity
                && (!is_for_tickets || one.channel.keeps_tickets())
        })
    };
    names.into_iter().filter(accepts).cloned().collect()
}

fn matches(route: &Route, alert: &Alert) -> bool {
    let about = |holds: &dyn Fn(&IncidentSummary) -> bool| alert.incidents.iter().any(holds);
    let any = |globs: &[String], text: &str| globs.iter().any(|glob| glob_matches(glob, text));
    let account = |incident: &IncidentSummary| {
        incident.accounts.iter().any(|account| {
            any(&route.account, &account.id)
                || account.name.as_deref().is_some_and(|name| any(&route.account, name))
        })
    };
    let unit = |incident: &IncidentSummary| {
        let units = incident.accounts.iter().filter_map(|account| account.unit.as_deref());
        units.into_iter().any(|unit| any(&route.unit, unit))
    };
    route.min_severity.is_none_or(|least| alert.severity >= least)
        && (route.alert.is_empty()
            || route.alert.iter().any(|kind| routed_kind(kind) == alert.kind.name()))
        && (route.account.is_empty() || about(&account))
        && (route.unit.is_empty() || about(&unit))
        && (route.rule.is_empty()
            || about(&|incident| incident.rules.iter().any(|rule| any(&route.rule, rule))))
        && (route.root_use.is_empty()
            || about(&|incident| route.root_use.contains(&incident.root_use)))
        && route
            .approved
            .is_none_or(|wanted| wanted == matches!(alert.approval, Approval::Inside(_)))
        && route.time.as_ref().is_none_or(|time| time.contains(alert.decided_at))
}

/// `*` matches any text, `?` one character, anything else itself; case-sensitive. Not `globset`: its
/// patterns are for paths, where `*` stops at `/`.
pub(crate) fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while position < text.len() {
        match glob.get(at) {
            Some('*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(letter) if *letter == '?' || *letter == text[position] => {
                at += 1;
                position += 1;
            }
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    position = *from;
                    at = *after + 1;
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(|letter| *letter == '*')
}
