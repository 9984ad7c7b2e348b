//! The handle to the engine: everything that other tasks ask of it.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rootwatch_core::alert::{Alert, Clock};
use rootwatch_core::detect::Detected;
use rootwatch_core::incident::IncidentId;
use rootwatch_store::{Resolution, StoreError, StoredIncident};
use tokio::sync::{mpsc, oneshot, watch};

use crate::command::{Command, IngestRequest};
use crate::drill::Drill;
use crate::intake::{BodyContent, CheckedRecord, Classifier};
use crate::metrics;
use crate::outcome::{IngestError, IntakeOutcome, RecordSource};
use crate::permit::{MemoryBudget, MemoryPermit};
use crate::settings::EngineSettings;

/// Seconds in which drills from one account and region raise one alert.
const DRILL_SECS: i64 = 60;
/// Approximate bytes of a finding in memory.
const FINDING_BYTES: usize = 2_048;

/// A handle to the engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
    inner: Arc<Inner>,
}

/// What the handle and the engine share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) classifier: Arc<Classifier>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: EngineSettings,
    pub(crate) waiting: MemoryBudget,
    /// Why the store cannot save now.
    pub(crate) trouble: watch::Sender<Option<String>>,
}

impl EngineHandle {
    pub(crate) fn new(commands: mpsc::Sender<Command>, inner: Arc<Inner>) -> Self {
        Self { commands, inner }
    }

    /// Takes a body in any shape that [`rootwatch_core::decode::decode_log`] reads, gzip or not, or a
    /// single drill. Everything is on disk when it returns; outcomes are in the order of the records.
    ///
    /// # Errors
    /// Nothing was saved.
    pub async fn take(
        &self,
        source: &RecordSource,
        body: Bytes,
    ) -> Result<Vec<IntakeOutcome>, IngestError> {
        let permit = self.permit(body.len())?;
        self.take_with_permit(source, body, permit).await
    }

    /// As [`EngineHandle::take`], for a body whose bytes already have a permit.
    ///
    /// # Errors
    /// Nothing was saved.
    pub async fn take_with_permit(
        &self,
        source: &RecordSource,
        body: Bytes,
        permit: MemoryPermit,
    ) -> Result<Vec<IntakeOutcome>, IngestError> {
        let received_at = self.inner.clock.now();
        let (content, permit) = self.inner.classifier.classify_body(body, permit).await?;
        match content {
            BodyContent::Records(checked) => {
                self.send(source, received_at, checked, None, permit).await
            }
            BodyContent::Drill(Drill { account, region }) => {
                self.drill(&account, &region).await?;
                Ok(vec![IntakeOutcome::Drill { account, region }])
            }
        }
    }

    /// Takes the findings of a scan. `position` (name and value: how far the source has been read) is
    /// saved in the same transaction.
    ///
    /// # Errors
    /// Nothing was saved.
    pub async fn take_detected(
        &self,
        source: &RecordSource,
        detected: Vec<Detected>,
        position: Option<(String, String)>,
    ) -> Result<Vec<IntakeOutcome>, IngestError> {
        let received_at = self.inner.clock.now();
        let permit = self.permit(detected.len() * FINDING_BYTES)?;
        let checked = self.inner.classifier.classify_detected(detected);
        self.send(source, received_at, checked, position, permit).await
    }

    /// A permit for this many bytes, which can grow. Refused before any work is done when too much waits.
    ///
    /// # Errors
    /// [`IngestError::Busy`] or [`IngestError::Closing`].
    pub fn permit(&self, bytes: usize) -> Result<MemoryPermit, IngestError> {
        self.permit_within(self.inner.settings.queue_bytes_max, bytes)
    }

    /// A permit for a sender that is not authenticated yet. All of them together get half of the
    /// budget, so that authenticated senders still find some.
    ///
    /// # Errors
    /// [`IngestError::Busy`] or [`IngestError::Closing`].
    pub fn permit_for_stranger(&self) -> Result<MemoryPermit, IngestError> {
        self.permit_within(self.inner.settings.queue_bytes_max / 2, 0)
    }

    fn permit_within(&self, bytes_max: usize, bytes: usize) -> Result<MemoryPermit, IngestError> {
        if self.commands.is_closed() {
            return Err(IngestError::Closing);
        }
        if self.commands.capacity() == 0 {
            return Err(IngestError::busy());
        }
        let mut permit = self.inner.waiting.permit(bytes_max);
        permit.grow(bytes)?;
        Ok(permit)
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
        let requests = self.commands.max_capacity().saturating_sub(self.commands.capacity()) as f64
            / self.commands.max_capacity().max(1) as f64;
        let bytes = self.inner.waiting.used_bytes() as f64 / settings.queue_bytes_max.max(1) as f64;
        requests.max(bytes).min(1.0)
    }

    /// Why the engine cannot save now; `None` if it can.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.commands.is_closed() {
            return Some("the engine has ended".to_owned());
        }
        self.inner.trouble.borrow().clone()
    }

    /// Acknowledges or resolves an incident, and enqueues the alert about it.
    ///
    /// # Errors
    /// When there is no such incident, or the store cannot save.
    pub async fn handle(
        &self,
        id: IncidentId,
        handled: Resolution,
    ) -> Result<StoredIncident, StoreError> {
        self.ask(|answer| Command::Handle { id, handled, answer }).await
    }

    /// Records that deliveries to a destination fail permanently (`Some` with the reason) or work again,
    /// as an incident about the hub itself.
    ///
    /// # Errors
    /// When the store cannot save.
    pub async fn set_outage(
        &self,
        destination: String,
        failure: Option<String>,
    ) -> Result<(), StoreError> {
        self.ask(|answer| Command::SetOutage { destination, failure, answer }).await
    }

    /// Enqueues an alert without an incident for its routes, or for one destination of them; returns the
    /// destinations.
    ///
    /// # Errors
    /// When the store cannot save.
    pub async fn raise(
        &self,
        alert: Alert,
        only: Option<String>,
    ) -> Result<Vec<String>, StoreError> {
        self.ask(|answer| Command::Raise { alert: Box::new(alert), only, answer }).await
    }

    /// Applies what time alone changes: closes quiet incidents, sends digests, prunes and evicts. For a hub
    /// that is called on a schedule ([`EngineSettings::ticks`] is false).
    ///
    /// # Errors
    /// When the store cannot be read or cannot save.
    pub async fn tick(&self) -> Result<(), StoreError> {
        self.ask(|answer| Command::Tick { answer }).await
    }

    /// Enqueues a test alert for a received drill. Limited to one per minute for each account and region,
    /// so that senders of drills cannot flood people.
    ///
    /// # Errors
    /// When the store cannot save.
    pub async fn drill(&self, account: &str, region: &str) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        let by = format!("a drill received from account {account} in {region}");
        let mut alert = rootwatch_notify::sample::test(&by, now);
        alert.id = format!("drill-{account}-{region}-{}", now.as_second() / DRILL_SECS);
        self.raise(alert, None).await.map(drop)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let closing = || StoreError::Unavailable { reason: "the hub is shutting down".to_owned() };
        let (answer, wait) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| closing())?;
        wait.await.map_err(|_| closing())?
    }

    async fn send(
        &self,
        source: &RecordSource,
        received_at: Timestamp,
        checked: Vec<CheckedRecord>,
        position: Option<(String, String)>,
        permit: MemoryPermit,
    ) -> Result<Vec<IntakeOutcome>, IngestError> {
        metrics::received(source, &checked, received_at);
        let needs_engine = position.is_some()
            || checked.iter().any(|checked| !matches!(checked, CheckedRecord::Done(_)));
        if !needs_engine {
            let done = |checked| match checked {
                CheckedRecord::Done(outcome) => Some(outcome),
                _ => None,
            };
            return Ok(checked.into_iter().filter_map(done).collect());
        }
        let (answer, wait) = oneshot::channel();
        let source = source.clone();
        let request =
            IngestRequest { source, received_at, checked, position, _permit: permit, answer };
        self.commands.try_send(Command::Records(Box::new(request))).map_err(
            |error| match error {
                mpsc::error::TrySendError::Full(_) => IngestError::busy(),
                mpsc::error::TrySendError::Closed(_) => IngestError::Closing,
            },
        )?;
        wait.await.map_err(|_| IngestError::Closing)?
    }
}
