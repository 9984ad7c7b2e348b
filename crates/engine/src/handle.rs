//! The handle to the engine: everything that other tasks ask of it.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rootwatch_core::alert::{Alert, Clock};
use rootwatch_core::detect::Detected;
use rootwatch_core::incident::IncidentId;
use rootwatch_store::{Resolution, StoreError, StoredIncident};
use tokio::sync::{mpsc, oneshot, watch};

use crate::command::{Job, Parcel};
use crate::drill::Drill;
use crate::intake::{BodyContent, Classifier, Judged};
use crate::metrics;
use crate::outcome::{IngestError, Origin, Outcome};
use crate::permit::{MemoryBudget, Room};
use crate::settings::Settings;

/// Seconds in which drills from one account and region raise one alert.
const DRILL_SECS: i64 = 60;
/// Approximate bytes of a finding in memory.
const FINDING_BYTES: usize = 2_048;

/// A handle to the engine, cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest {
    jobs: mpsc::Sender<Job>,
    inner: Arc<Inner>,
}

/// What the handle and the engine share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) classifier: Arc<Classifier>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) waiting: MemoryBudget,
    /// Why the store cannot save now.
    pub(crate) trouble: watch::Sender<Option<String>>,
}

impl Ingest {
    pub(crate) fn new(jobs: mpsc::Sender<Job>, inner: Arc<Inner>) -> Self {
        Self { jobs, inner }
    }

    /// Takes any shape of text that [`rootwatch_core::decode::decode_log`] knows, gzip or not, and a
    /// drill that stands alone. Durable when it returns; outcomes are in the order of the records.
    ///
    /// # Errors
    /// Nothing was saved.
    pub async fn take(&self, origin: &Origin, body: Bytes) -> Result<Vec<Outcome>, IngestError> {
        let room = self.room(body.len())?;
        self.take_in(origin, body, room).await
    }

    /// As [`Ingest::take`], for a body whose bytes already have a permit.
    ///
    /// # Errors
    /// Nothing was saved.
    pub async fn take_in(
        &self,
        origin: &Origin,
        body: Bytes,
        room: Room,
    ) -> Result<Vec<Outcome>, IngestError> {
        let received_at = self.inner.clock.now();
        let (content, room) = self.inner.classifier.classify_body(body, room).await?;
        match content {
            BodyContent::Records(judged) => {
                self.send(origin, received_at, judged, None, room).await
            }
            BodyContent::Drill(Drill { account, region }) => {
                self.drill(&account, &region).await?;
                Ok(vec![Outcome::Drill { account, region }])
            }
        }
    }

    /// Takes what a scan of a stream found; `position`, the name and mark of how far the source has
    /// been read, is saved in the same transaction.
    ///
    /// # Errors
    /// Nothing was saved.
    pub async fn take_detected(
        &self,
        origin: &Origin,
        detected: Vec<Detected>,
        position: Option<(String, String)>,
    ) -> Result<Vec<Outcome>, IngestError> {
        let received_at = self.inner.clock.now();
        let room = self.room(detected.len() * FINDING_BYTES)?;
        let judged = self.inner.classifier.classify_detected(detected);
        self.send(origin, received_at, judged, position, room).await
    }

    /// A permit for this many bytes, which can grow. Refused before any work is done when too much waits.
    ///
    /// # Errors
    /// [`IngestError::Busy`] or [`IngestError::Closing`].
    pub fn room(&self, bytes: usize) -> Result<Room, IngestError> {
        self.room_within(self.inner.settings.queue_bytes_max, bytes)
    }

    /// A permit for a sender that is not authenticated yet. All of them together get half of the
    /// budget, so that authenticated senders still find some.
    ///
    /// # Errors
    /// [`IngestError::Busy`] or [`IngestError::Closing`].
    pub fn room_for_strangers(&self) -> Result<Room, IngestError> {
        self.room_within(self.inner.settings.queue_bytes_max / 2, 0)
    }

    fn room_within(&self, bytes_max: usize, bytes: usize) -> Result<Room, IngestError> {
        if self.jobs.is_closed() {
            return Err(IngestError::Closing);
        }
        if self.jobs.capacity() == 0 {
            return Err(IngestError::busy());
        }
        let mut room = self.inner.waiting.permit(bytes_max);
        room.grow(bytes)?;
        Ok(room)
    }

    /// Bytes of one body at most.
    #[must_use]
    pub fn body_bytes_max(&self) -> usize {
        self.inner.settings.body_bytes_max
    }

    /// How full the queue is, 0 to 1.
    #[must_use]
    pub fn pressure(&self) -> f64 {
        let settings = &self.inner.settings;
        let requests = self.jobs.max_capacity().saturating_sub(self.jobs.capacity()) as f64
            / self.jobs.max_capacity().max(1) as f64;
        let bytes = self.inner.waiting.used_bytes() as f64 / settings.queue_bytes_max.max(1) as f64;
        requests.max(bytes).min(1.0)
    }

    /// Why the engine cannot save now; `None` when it can.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.jobs.is_closed() {
            return Some("the engine has ended".to_owned());
        }
        self.inner.trouble.borrow().clone()
    }

    /// Acknowledges or resolves an incident, and tells of it.
    ///
    /// # Errors
    /// When there is no such incident, or the store cannot save.
    pub async fn handle(
        &self,
        id: IncidentId,
        handled: Resolution,
    ) -> Result<StoredIncident, StoreError> {
        self.ask(|answer| Job::Handle { id, handled, answer }).await
    }

    /// Notes that deliveries to a destination fail for good (`Some` says why), or come through
    /// again, as an incident of our own.
    ///
    /// # Errors
    /// When the store cannot save.
    pub async fn telling(
        &self,
        destination: String,
        broken: Option<String>,
    ) -> Result<(), StoreError> {
        self.ask(|answer| Job::Telling { destination, broken, answer }).await
    }

    /// Owes an alert that is about no incident to whom it is routed, or to one of them only;
    /// returns the destinations.
    ///
    /// # Errors
    /// When the store cannot save.
    pub async fn raise(
        &self,
        alert: Alert,
        only: Option<String>,
    ) -> Result<Vec<String>, StoreError> {
        self.ask(|answer| Job::Raise { alert: Box::new(alert), only, answer }).await
    }

    /// Does what time alone asks for: incidents end in silence, digests fall due, old things are let
    /// go of. For a hub whose clock is elsewhere ([`Settings::ticks`] is false).
    ///
    /// # Errors
    /// When the store cannot be read or cannot save.
    pub async fn tick(&self) -> Result<(), StoreError> {
        self.ask(|answer| Job::Tick { answer }).await
    }

    /// Owes a test alert, since a drill came through from this account and region. One a minute and
    /// place is enough: who may send drills may not flood people.
    ///
    /// # Errors
    /// When the store cannot save.
    pub async fn drill(&self, account: &str, region: &str) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        let by = format!("a drill that came through from account {account} in {region}");
        let mut alert = rootwatch_notify::sample::test(&by, now);
        alert.id = format!("drill-{account}-{region}-{}", now.as_second() / DRILL_SECS);
        self.raise(alert, None).await.map(drop)
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let closing = || StoreError::Unavailable { reason: "the hub is closing".to_owned() };
        let (answer, wait) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| closing())?;
        wait.await.map_err(|_| closing())?
    }

    async fn send(
        &self,
        origin: &Origin,
        received_at: Timestamp,
        judged: Vec<Judged>,
        position: Option<(String, String)>,
        room: Room,
    ) -> Result<Vec<Outcome>, IngestError> {
        metrics::received(origin, &judged, received_at);
        let needs_engine =
            position.is_some() || judged.iter().any(|judged| !matches!(judged, Judged::Done(_)));
        if !needs_engine {
            let done = |judged| match judged {
                Judged::Done(outcome) => Some(outcome),
                _ => None,
            };
            return Ok(judged.into_iter().filter_map(done).collect());
        }
        let (answer, wait) = oneshot::channel();
        let origin = origin.clone();
        let parcel = Parcel { origin, received_at, judged, position, _room: room, answer };
        self.jobs.try_send(Job::Records(Box::new(parcel))).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IngestError::busy(),
            mpsc::error::TrySendError::Closed(_) => IngestError::Closing,
        })?;
        wait.await.map_err(|_| IngestError::Closing)?
    }
}
