//! Outages of destinations: one alert when deliveries start to fail and one when they succeed again,
//! even if the process crashes in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rootwatch_core::alert::{Alert, AlertKind};
use rootwatch_core::finding::Severity;
use rootwatch_core::window::Approval;

use crate::{Outbox, OutboxError};

/// Ends the note of an outage whose alert is enqueued. The word is part of the stored format.
const NOTIFIED: &str = " told";

/// The name of the note that says since when a destination has been failing. Its value is
/// `2026-05-04T14:03:00Z`, followed by ` told` once the alert about the outage is enqueued. The prefix
/// is part of the stored format.
pub(crate) fn note_name(destination: &str) -> String {
    format!("telling:{destination}")
}

/// An outage of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outage {
    /// When the outage began. Part of the ids of its alerts.
    pub(crate) since: Timestamp,
    /// True once the alert about the outage is enqueued.
    pub(crate) is_notified: bool,
}

impl Outage {
    fn write(self) -> String {
        format!("{}{}", self.since, if self.is_notified { NOTIFIED } else { "" })
    }

    /// A note that cannot be parsed is an outage since the epoch: rather one alert too many.
    fn read(text: &str) -> Self {
        let (since, is_notified) =
            text.strip_suffix(NOTIFIED).map_or((text, false), |since| (since, true));
        Self { since: since.parse().unwrap_or(Timestamp::UNIX_EPOCH), is_notified }
    }
}

/// The outages of all destinations, as their notes say; each note is read once.
#[derive(Debug)]
pub(crate) struct Outages {
    outbox: Arc<dyn Outbox>,
    known: Mutex<HashMap<String, Option<Outage>>>,
    /// Held while a note changes, so that simultaneous failures begin one outage.
    changing: tokio::sync::Mutex<()>,
}

impl Outages {
    pub(crate) fn new(outbox: Arc<dyn Outbox>) -> Self {
        Self { outbox, known: Mutex::default(), changing: tokio::sync::Mutex::default() }
    }

    /// The current outage of a destination.
    pub(crate) async fn of(&self, destination: &str) -> Result<Option<Outage>, OutboxError> {
        if let Some(known) = self.known(destination) {
            return Ok(known);
        }
        let note = self.outbox.note(&note_name(destination)).await?;
        let outage = note.as_deref().map(Outage::read);
        self.keep(destination, outage);
        Ok(outage)
    }

    /// Restores the outage of a destination from its note.
    pub(crate) fn restore(&self, destination: &str, note: Option<&str>) {
        self.keep(destination, note.map(Outage::read));
    }

    /// The outage of a destination; begins one if there is none.
    pub(crate) async fn begin(
        &self,
        destination: &str,
        now: Timestamp,
    ) -> Result<Outage, OutboxError> {
        let _changing = self.changing.lock().await;
        if let Some(outage) = self.of(destination).await? {
            return Ok(outage);
        }
        let outage = Outage { since: now, is_notified: false };
        self.set(destination, Some(outage)).await?;
        Ok(outage)
    }

    /// Records that the alert about an outage is enqueued.
    pub(crate) async fn mark_notified(
        &self,
        destination: &str,
        outage: Outage,
    ) -> Result<(), OutboxError> {
        let _changing = self.changing.lock().await;
        self.set(destination, Some(Outage { is_notified: true, ..outage })).await
    }

    /// Ends the outage of a destination.
    pub(crate) async fn end(&self, destination: &str) -> Result<(), OutboxError> {
        let _changing = self.changing.lock().await;
        self.set(destination, None).await
    }

    async fn set(&self, destination: &str, outage: Option<Outage>) -> Result<(), OutboxError> {
        let text = outage.map(Outage::write);
        self.outbox.put_note(&note_name(destination), text.as_deref()).await?;
        self.keep(destination, outage);
        Ok(())
    }

    fn known(&self, destination: &str) -> Option<Option<Outage>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(destination).copied()
    }

    fn keep(&self, destination: &str, outage: Option<Outage>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(destination.to_owned(), outage);
    }
}

/// The alert that deliveries to a destination fail permanently. `why` contains no secret.
pub(crate) fn failing(destination: &str, outage: Outage, why: &str, now: Timestamp) -> Alert {
    let kind = AlertKind::DeliveryFailing { destination: destination.to_owned() };
    alert(id(destination, outage, 1), kind, Severity::High, why, now)
}

/// The alert that deliveries to a destination succeed again.
pub(crate) fn recovered(destination: &str, outage: Outage, now: Timestamp) -> Alert {
    let kind = AlertKind::DeliveryRecovered { destination: destination.to_owned() };
    alert(id(destination, outage, 2), kind, Severity::Low, "", now)
}

fn id(destination: &str, outage: Outage, number: u32) -> String {
    format!("telling-{destination}-{}.{number}", outage.since.as_second())
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
        approval: Approval::Unknown,
        note: (!note.is_empty()).then(|| note.to_owned()),
    }
}
