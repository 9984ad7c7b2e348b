//! Alerts about telling itself, once an outage, whatever crashes in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rootwatch_core::alert::{Alert, AlertKind};
use rootwatch_core::finding::Severity;
use rootwatch_core::window::Approval;

use crate::{Outbox, OutboxError};

/// What follows the moment in the note of an outage that was told.
const TOLD: &str = " told";

/// The note that says since when a destination has been broken: `2026-05-04T14:03:00Z`, followed by
/// ` told` once the alert about it is owed.
pub(crate) fn note(destination: &str) -> String {
    format!("telling:{destination}")
}

/// Since when a destination has been broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outage {
    /// Names the outage: alerts about it have their ids from it.
    pub(crate) since: Timestamp,
    /// True once the alert that it began is owed.
    pub(crate) is_told: bool,
}

impl Outage {
    fn write(self) -> String {
        format!("{}{}", self.since, if self.is_told { TOLD } else { "" })
    }

    /// A note that cannot be read is an outage that began at the epoch: rather told once more.
    fn read(text: &str) -> Self {
        let (since, is_told) = text.strip_suffix(TOLD).map_or((text, false), |since| (since, true));
        Self { since: since.parse().unwrap_or(Timestamp::UNIX_EPOCH), is_told }
    }
}

/// The outages of all destinations: what the notes say, asked once.
#[derive(Debug)]
pub(crate) struct Outages {
    outbox: Arc<dyn Outbox>,
    known: Mutex<HashMap<String, Option<Outage>>>,
    /// Held while a note is changed, so that what ends together begins one outage.
    turn: tokio::sync::Mutex<()>,
}

impl Outages {
    pub(crate) fn new(outbox: Arc<dyn Outbox>) -> Self {
        Self { outbox, known: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The outage of a destination, if it is broken.
    pub(crate) async fn of(&self, destination: &str) -> Result<Option<Outage>, OutboxError> {
        if let Some(known) = self.known(destination) {
            return Ok(known);
        }
        let note = self.outbox.note(&note(destination)).await?;
        let outage = note.as_deref().map(Outage::read);
        self.keep(destination, outage);
        Ok(outage)
    }

    /// Takes up what the note of a destination says.
    pub(crate) fn recall(&self, destination: &str, note: Option<&str>) {
        self.keep(destination, note.map(Outage::read));
    }

    /// The outage of a destination, which begins now if there is none.
    pub(crate) async fn begin(
        &self,
        destination: &str,
        now: Timestamp,
    ) -> Result<Outage, OutboxError> {
        let _turn = self.turn.lock().await;
        if let Some(outage) = self.of(destination).await? {
            return Ok(outage);
        }
        let outage = Outage { since: now, is_told: false };
        self.set(destination, Some(outage)).await?;
        Ok(outage)
    }

    /// The alert that an outage began is owed.
    pub(crate) async fn told(&self, destination: &str, outage: Outage) -> Result<(), OutboxError> {
        let _turn = self.turn.lock().await;
        self.set(destination, Some(Outage { is_told: true, ..outage })).await
    }

    /// An outage is over, and that is owed too.
    pub(crate) async fn end(&self, destination: &str) -> Result<(), OutboxError> {
        let _turn = self.turn.lock().await;
        self.set(destination, None).await
    }

    async fn set(&self, destination: &str, outage: Option<Outage>) -> Result<(), OutboxError> {
        let text = outage.map(Outage::write);
        self.outbox.put_note(&note(destination), text.as_deref()).await?;
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

/// Deliveries to a destination fail for good. `why` holds no secret.
pub(crate) fn broken(destination: &str, outage: Outage, why: &str, now: Timestamp) -> Alert {
    let kind = AlertKind::DeliveryFailing { destination: destination.to_owned() };
    alert(id(destination, outage, 1), kind, Severity::High, why, now)
}

/// Deliveries to a destination come through again.
pub(crate) fn mended(destination: &str, outage: Outage, now: Timestamp) -> Alert {
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
