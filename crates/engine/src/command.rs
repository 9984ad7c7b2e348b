//! What the handle asks of the engine's task.

use jiff::Timestamp;
use rootwatch_core::alert::Alert;
use rootwatch_core::incident::IncidentId;
use rootwatch_store::{Resolution, StoreError, StoredIncident};
use tokio::sync::oneshot;

use crate::intake::Judged;
use crate::outcome::{IngestError, Origin, Outcome};
use crate::permit::Room;

/// Something for the engine to do.
#[derive(Debug)]
pub(crate) enum Job {
    Records(Box<Parcel>),
    Handle {
        id: IncidentId,
        handled: Resolution,
        answer: oneshot::Sender<Result<StoredIncident, StoreError>>,
    },
    Telling {
        destination: String,
        /// Why it does not work; `None` when it works again.
        broken: Option<String>,
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
pub(crate) struct Parcel {
    pub(crate) origin: Origin,
    pub(crate) received_at: Timestamp,
    pub(crate) judged: Vec<Judged>,
    pub(crate) position: Option<(String, String)>,
    /// Held until the answer is given.
    pub(crate) _room: Room,
    pub(crate) answer: oneshot::Sender<Result<Vec<Outcome>, IngestError>>,
}
