//! Incidents: the findings of one root session, with a life.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, FindingKey, Reason, RootUse, Severity};

/// The name of an incident, short enough to say on the telephone: `7K2-MPX`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IncidentId(pub String);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where an incident is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// More may come.
    #[default]
    Open,
    /// Closed by silence.
    Quiet,
    /// Somebody looks after it.
    Acknowledged,
    /// Somebody says that it is over.
    Resolved,
}

/// What gathered the findings of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// One root session: what led to it, what it did, what it issued.
    Session,
    /// Privileged sessions that one caller opened (`AssumeRoot`), with what they did.
    Privileged,
    /// One address tried the root user's sign-in in several accounts.
    Spray,
    /// A rule spoke on a record that is not root use.
    Watch,
}

/// Findings that belong together. All but the id and the state follow from the findings, in
/// whatever order they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Stays the same for the life of the incident.
    pub id: IncidentId,
    /// What gathered the findings.
    pub kind: IncidentKind,
    /// Where the incident is in its life.
    pub state: IncidentState,
    /// The worst of the findings, raised by what they mean together.
    pub severity: Severity,
    /// One line for people.
    pub title: String,
    /// Accounts whose root user is concerned, sorted. More than one for a spray or for privileged
    /// sessions into several accounts.
    pub accounts: Vec<String>,
    /// The strongest root use among the findings.
    pub root_use: RootUse,
    /// Why the severity is what it is, the strongest first, each code once.
    pub reasons: Vec<Reason>,
    /// The first moment of which a finding speaks.
    pub first_at: Option<Timestamp>,
    /// The last moment of which a finding speaks.
    pub last_at: Option<Timestamp>,
    /// Addresses from which a client called, in order of first use; service names left out.
    pub addresses: Vec<String>,
    /// Other incidents that belong to the same story (the spray that came before a break-in).
    pub related: Vec<IncidentId>,
    /// The findings, sorted by time, then key. Each once.
    pub findings: Vec<Finding>,
}

impl Incident {
    /// True when the finding is already in the incident.
    #[must_use]
    pub fn holds(&self, key: &FindingKey) -> bool {
        self.findings.iter().any(|finding| &finding.key == key)
    }
}
