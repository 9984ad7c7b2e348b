//! The commands that the handle sends to the engine's task.

use jiff::Timestamp;
use rootwatch_core::alert::Alert;
use rootwatch_core::incident::IncidentId;
use rootwatch_store::{Resolution, StoreError, StoredIncident};
use tokio::sync::oneshot;

use crate::intake::CheckedRecord;
use crate::outcome::{IngestError, IntakeOutcome, RecordSource};
use crate::permit::MemoryPermit;

/// A command to the engine.
#[derive(Debug)]
pub(crate) enum Command {
    Records(Box<IngestRequest>),
    Handle {
        id: IncidentId,
        handled: Resolution,
        answer: oneshot::Sender<Result<StoredIncident, StoreError>>,
    },
    SetOutage {
        destination: String,
        /// Why deliveries fail; `None` if they work again.
        failure: Option<String>,
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    Raise {
        alert: Box<Alert>,
        only: Option<String>,
        answer: oneshot::Sender<Result<Vec<String>, StoreError>>,
    },
    Tick {
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
}

/// The records of one request.
#[derive(Debug)]
pub(crate) struct IngestRequest {
    pub(crate) source: RecordSource,
    pub(crate) received_at: Timestamp,
    pub(crate) checked: Vec<CheckedRecord>,
    pub(crate) position: Option<(String, String)>,
    /// Held until the request is answered.
    pub(crate) _permit: MemoryPermit,
    pub(crate) answer: oneshot::Sender<Result<Vec<IntakeOutcome>, IngestError>>,
}
