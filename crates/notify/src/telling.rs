//! Alerts about telling itself.

use jiff::Timestamp;
use rootwatch_core::alert::{Alert, AlertKind};
use rootwatch_core::finding::Severity;

/// The note that says since when a destination has been broken.
pub(crate) fn note(destination: &str) -> String {
    format!("telling:{destination}")
}

/// Deliveries to a destination fail for good. `why` holds no secret.
pub(crate) fn broken(destination: &str, why: &str, now: Timestamp) -> Alert {
    let kind = AlertKind::TellingBroken { destination: destination.to_owned() };
    alert(format!("telling-{destination}-{}.1", now.as_second()), kind, Severity::High, why, now)
}

/// Deliveries to a destination come through again.
pub(crate) fn mended(destination: &str, now: Timestamp) -> Alert {
    let kind = AlertKind::TellingMended { destination: destination.to_owned() };
    alert(format!("telling-{destination}-{}.2", now.as_second()), kind, Severity::Low, "", now)
}

fn alert(id: String, kind: AlertKind, severity: Severity, note: &str, now: Timestamp) -> Alert {
    Alert {
        id,
        kind,
        decided_at: now,
        received_at: None,
        severity,
        incidents: Vec::new(),
        incidents_left_out: 0,
        findings: Vec::new(),
        fresh: Vec::new(),
        next: Vec::new(),
        note: (!note.is_empty()).then(|| note.to_owned()),
    }
}
