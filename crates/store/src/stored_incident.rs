//! An incident as a store keeps it, with the decision of an operator.

use jiff::Timestamp;
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::incident::{Incident, IncidentState};
use serde::{Deserialize, Serialize};

/// An incident with what the store knows about it. If it was loaded for correlation, its findings
/// are only those that correlation needs: redundant ones are counted.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredIncident {
    /// The incident. Loaded for correlation, its `findings` leave redundant ones out.
    pub incident: Incident,
    /// Increases by one with every transaction that touches the incident; 1 when it opens.
    pub revision: u64,
    /// What destinations were notified of.
    pub notified: NotifiedState,
    /// All findings, redundant ones included.
    pub findings_total: u64,
    /// Who acknowledged or resolved it, and why.
    pub by: Option<Resolution>,
    /// When the incident was last written.
    pub changed_at: Timestamp,
}

/// Who acknowledged or resolved an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The new state of the incident.
    pub state: IncidentState,
    /// The operator: a token's name, or the name that the caller stated.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// The reason that the operator gave; at most [`NOTE_BYTES_MAX`] bytes.
    pub note: Option<String>,
}

/// Maximum bytes of an operator's note on an incident.
pub const NOTE_BYTES_MAX: usize = 2048;
